//! `/campaigns`: made, described, moved through their life.

use http::Method;
use schemas::entity::{Campaign, CampaignStatus, Gig, GigStatus};
use schemas::fault::ApiError;
use schemas::id::CampaignId;
use schemas::input::Fields;
use schemas::partition::Scope;
use storage::catalog::FieldFilter;
use utoipa::ToSchema;

use crate::Config;
use crate::call::{Call, Input, Nothing, Reply};
use crate::fields::{self, Patch};
use crate::page::{self, Listing, PAGE};
use crate::query::{Filter, PageAsked};
use crate::route::{Access, Answer, Route, parameter};
use crate::rulebook_version::{self, Readiness};
use crate::stored::{Edit, Stored as _, Within};

/// Bytes of a name.
const NAME_LEN_MAX: usize = 200;
/// Bytes of a description.
const DESCRIPTION_LEN_MAX: usize = 2_000;

/// The operations.
pub(crate) fn routes() -> Vec<Route> {
    const ONE: &str = "/campaigns/{id}";
    let (read, write) = (Access::Key("campaigns:read"), Access::Key("campaigns:write"));
    vec![
        Route::new(Method::GET, "/campaigns", "listCampaigns", read, list)
            .summary("List all campaigns for your organization.")
            .query(PAGE)
            .query(&[
                parameter("status", "draft, active, paused, ended."),
                parameter("name", "The whole name."),
            ])
            .gives_page::<Campaign>(),
        Route::new(Method::POST, "/campaigns", "createCampaign", write, create)
            .summary("Create a new campaign.")
            .takes::<NewCampaign>()
            .gives::<Campaign>(201),
        Route::new(Method::GET, ONE, "getCampaign", read, get)
            .summary("Fetch a single campaign.")
            .gives::<Campaign>(200),
        Route::new(Method::PATCH, ONE, "updateCampaign", write, update)
            .if_match()
            .summary("Change name and description.")
            .takes::<CampaignChanges>()
            .gives::<Campaign>(200),
        Route::new(Method::DELETE, ONE, "deleteCampaign", write, delete)
            .summary("Remove a draft for good; what has been active is ended instead.")
            .if_match()
            .gives_nothing(),
        Route::new(
            Method::PATCH,
            "/campaigns/{id}/status/{status}",
            "setCampaignStatus",
            write,
            set_status,
        )
        .also([Method::POST, Method::PUT])
        .if_match()
        .summary("Update campaign status (draft, active, paused, ended).")
        .gives::<Campaign>(200),
    ]
}

/// A new campaign; a draft at first.
#[derive(Debug, ToSchema)]
#[schema(rename_all = "camelCase")]
struct NewCampaign {
    /// 1 to 200 bytes.
    name: String,
    /// Up to 2,000 bytes.
    description: Option<String>,
}

impl Input for NewCampaign {
    fn read(fields: &mut Fields<'_, '_>, _: &Config) -> Option<Self> {
        let name = fields::name(fields, "name", NAME_LEN_MAX);
        let description = fields::text(fields, "description", DESCRIPTION_LEN_MAX);
        Some(Self { name: name?, description })
    }
}

/// What may change. `null` takes the description away.
#[derive(Debug, ToSchema)]
#[schema(rename_all = "camelCase")]
struct CampaignChanges {
    /// 1 to 200 bytes.
    name: Option<String>,
    /// Up to 2,000 bytes.
    #[schema(value_type = Option<String>)]
    description: Patch<String>,
}

impl Input for CampaignChanges {
    fn read(fields: &mut Fields<'_, '_>, _: &Config) -> Option<Self> {
        Some(Self {
            name: fields::optional_name(fields, "name", NAME_LEN_MAX),
            description: fields::patch(fields, "description", |fields| {
                fields::text(fields, "description", DESCRIPTION_LEN_MAX)
            }),
        })
    }
}

async fn list(mut call: Call) -> Answer {
    let scope = call.scope()?;
    let status: Option<Filter<String>> = call.query.filter("status");
    let name = call.query.text("name").map(str::to_owned);
    let asked = call.query.page_of::<CampaignId>()?;
    let name = name.map(|name| Filter { values: vec![name], exclude: false });
    let fields = [page::field("status", status), page::field("name", name)];
    let fields = fields.into_iter().flatten().chain([page::not_deleted()]).collect();
    let page: Listing<Campaign> =
        call.parts.page(Within::Scope(scope), None, fields, asked).await?;
    Reply::json(200, &page)
}

async fn create(mut call: Call) -> Answer {
    let scope = call.scope()?;
    let NewCampaign { name, description } = call.input()?;
    let campaign = Campaign {
        id: CampaignId::new(call.now.as_ms(), call.parts.random.bits()),
        organization_id: scope.organization,
        mode: scope.mode,
        name,
        description,
        status: CampaignStatus::Draft,
        deleted: false,
        created_at: call.now,
        version: 1,
    };
    let created = call.parts.create(call.now, &campaign, Vec::new()).await;
    created.map_err(|e| e.into_api(Campaign::NOUN))?;
    Ok(Reply::json(201, &campaign)?.version(campaign.version))
}

async fn get(mut call: Call) -> Answer {
    call.query.finish()?;
    let campaign = own(&call).await?;
    Ok(Reply::json(200, &campaign)?.version(campaign.version))
}

async fn update(mut call: Call) -> Answer {
    let scope = call.scope()?;
    let id: CampaignId = call.id("id", Campaign::NOUN)?;
    let CampaignChanges { name, description } = call.input()?;
    let edit = |campaign: &mut Campaign| {
        call.if_match(campaign.version)?;
        if let Some(name) = name.clone() {
            campaign.name = name;
        }
        description.clone().apply(&mut campaign.description);
        Ok(Edit::Store(Vec::new()))
    };
    let stored = call.parts.update(call.now, Within::Scope(scope), &id.to_string(), edit).await?;
    Ok(Reply::json(200, &stored)?.version(stored.version))
}

async fn delete(mut call: Call) -> Answer {
    call.query.finish()?;
    let id = own(&call).await?.id.to_string();
    let edit = |campaign: &mut Campaign| {
        call.if_match(campaign.version)?;
        if campaign.status != CampaignStatus::Draft {
            let message = "Only a draft can be removed. End the campaign instead.";
            return Err(ApiError::conflict("not_a_draft", message));
        }
        campaign.deleted = true;
        Ok(Edit::Store(Vec::new()))
    };
    call.parts.update::<Campaign>(call.now, Within::Scope(call.scope()?), &id, edit).await?;
    Ok(Reply::nothing())
}

async fn set_status(mut call: Call) -> Answer {
    let scope = call.scope()?;
    let campaign = own(&call).await?;
    let Nothing = call.input()?;
    let wanted = status(call.param("status"))?;
    if wanted == CampaignStatus::Active && campaign.status.next().contains(&wanted) {
        ready(&call, scope, campaign.id).await?;
    }
    let edit = |campaign: &mut Campaign| {
        call.if_match(campaign.version)?;
        if campaign.status == wanted {
            return Ok(Edit::Keep);
        }
        let next = campaign.status.next();
        if !next.contains(&wanted) {
            let next: Vec<_> = next.iter().map(|status| status.as_str()).collect();
            return Err(invalid_transition(campaign.status.as_str(), wanted.as_str(), &next));
        }
        campaign.status = wanted;
        Ok(Edit::Store(Vec::new()))
    };
    let id = campaign.id.to_string();
    let stored = call.parts.update(call.now, Within::Scope(scope), &id, edit).await?;
    Ok(Reply::json(200, &stored)?.version(stored.version))
}

fn status(text: &str) -> Result<CampaignStatus, ApiError> {
    use CampaignStatus::{Active, Draft, Ended, Paused};
    let found = [Draft, Active, Paused, Ended].into_iter().find(|status| status.as_str() == text);
    found.ok_or_else(|| {
        let message = "must be one of: draft, active, paused, ended";
        ApiError::invalid("status", "invalid_choice", message)
    })
}

/// May the campaign begin? Every reason why not, at once.
async fn ready(call: &Call, scope: Scope, id: CampaignId) -> Result<(), ApiError> {
    let parts = &call.parts;
    let published = FieldFilter {
        field: "status".to_owned(),
        values: vec![GigStatus::Published.as_str().to_owned()],
        exclude: false,
    };
    let first = || PageAsked { limit: 1, after: None, before: None };
    let parent = Some(id.to_string());
    let gigs: Listing<Gig> =
        parts.page(Within::Scope(scope), parent, vec![published], first()).await?;
    let rules = rulebook_version::readiness(parts, scope, id, call.now).await?;
    let mut reasons = Vec::new();
    if gigs.data.is_empty() {
        reasons.push("it has no published gig");
    }
    match rules {
        Readiness::InForce => {}
        Readiness::Scheduled => reasons.push("its reward rules are not in force yet"),
        Readiness::None => reasons.push("it has no reward rules"),
    }
    if reasons.is_empty() {
        return Ok(());
    }
    let message = format!("The campaign cannot become active: {}.", reasons.join(" and "));
    Err(ApiError::conflict("not_ready", message))
}

/// 409 that names where it may go.
pub(crate) fn invalid_transition(from: &str, to: &str, next: &[&str]) -> ApiError {
    let allowed = if next.is_empty() { "nothing".to_owned() } else { next.join(", ") };
    ApiError::conflict(
        "invalid_transition",
        format!("From {from} it may become {allowed}, not {to}."),
    )
}

/// The campaign in the path.
///
/// # Errors
/// 404 where it is foreign or missing.
pub(crate) async fn own(call: &Call) -> Result<Campaign, ApiError> {
    let id: CampaignId = call.id("id", Campaign::NOUN)?;
    call.parts.find(Within::Scope(call.scope()?), &id.to_string()).await
}
