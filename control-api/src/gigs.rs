//! `/gigs`: the rewarded actions of a campaign.

use http::Method;
use schemas::entity::{Campaign, CampaignStatus, Gig, GigStatus};
use schemas::fault::ApiError;
use schemas::id::{CampaignId, GigId};
use schemas::input::Fields;
use utoipa::ToSchema;

use crate::Config;
use crate::call::{Call, Input, Nothing, Reply};
use crate::campaigns::invalid_transition;
use crate::fields;
use crate::page::{self, Listing, PAGE};
use crate::query::Filter;
use crate::route::{Access, Answer, Route, parameter};
use crate::stored::{Edit, Stored as _, Within};

/// Bytes of a title.
const TITLE_LEN_MAX: usize = 200;
/// Bytes of an action type.
const ACTION_TYPE_LEN_MAX: usize = 100;

/// The operations.
pub(crate) fn routes() -> Vec<Route> {
    const ONE: &str = "/gigs/{id}";
    let (read, write) = (Access::Key("gigs:read"), Access::Key("gigs:write"));
    vec![
        Route::new(Method::GET, "/gigs", "listGigs", read, list)
            .summary("List gigs across your campaigns.")
            .query(PAGE)
            .query(&[
                parameter("campaignId", "Only those of this campaign."),
                parameter("status", "draft, published, paused, closed."),
                parameter("actionType", "What `eventType` must equal."),
            ])
            .gives_page::<Gig>(),
        Route::new(Method::POST, "/gigs", "createGig", write, create)
            .summary("Create a gig inside an existing campaign.")
            .takes::<NewGig>()
            .gives::<Gig>(201),
        Route::new(Method::GET, ONE, "getGig", read, get)
            .summary("Fetch a single gig.")
            .gives::<Gig>(200),
        Route::new(Method::PATCH, ONE, "updateGig", write, update)
            .if_match()
            .summary("Change the title; in a draft also the action type.")
            .takes::<GigChanges>()
            .gives::<Gig>(200),
        Route::new(Method::DELETE, ONE, "deleteGig", write, delete)
            .summary("Remove a draft for good; what has been published is closed instead.")
            .if_match()
            .gives_nothing(),
        Route::new(Method::PATCH, "/gigs/{id}/status/{status}", "setGigStatus", write, set_status)
            .also([Method::POST, Method::PUT])
            .if_match()
            .summary("Publish, pause, or close a gig.")
            .gives::<Gig>(200),
    ]
}

/// A new gig; a draft at first.
#[derive(Debug, ToSchema)]
#[schema(rename_all = "camelCase")]
struct NewGig {
    /// Its campaign.
    campaign_id: CampaignId,
    /// 1 to 200 bytes.
    title: String,
    /// What `eventType` must equal: 1 to 100 letters, digits, dots, hyphens and underscores.
    action_type: String,
}

impl Input for NewGig {
    fn read(fields: &mut Fields<'_, '_>, _: &Config) -> Option<Self> {
        let campaign_id = fields.parsed("campaignId");
        let title = fields::name(fields, "title", TITLE_LEN_MAX);
        let text = fields.text("actionType", 1..=ACTION_TYPE_LEN_MAX);
        let action_type = text.and_then(|text| action_type(fields, text));
        // The grammar has them, this version has not.
        fields.unsupported("proof");
        fields.unsupported("budget");
        Some(Self { campaign_id: campaign_id?, title: title?, action_type: action_type? })
    }
}

fn action_type(fields: &mut Fields<'_, '_>, text: &str) -> Option<String> {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    if text.bytes().all(fits) {
        return Some(text.to_owned());
    }
    let message = "must have letters, digits, dots, hyphens and underscores only";
    fields.fault("actionType", "invalid_format", message);
    None
}

/// What may change.
#[derive(Debug, ToSchema)]
#[schema(rename_all = "camelCase")]
struct GigChanges {
    /// 1 to 200 bytes.
    title: Option<String>,
    /// In a draft only.
    action_type: Option<String>,
}

impl Input for GigChanges {
    fn read(fields: &mut Fields<'_, '_>, _: &Config) -> Option<Self> {
        let title = fields::optional_name(fields, "title", TITLE_LEN_MAX);
        let text = fields.optional_text("actionType", 1..=ACTION_TYPE_LEN_MAX);
        Some(Self { title, action_type: text.and_then(|text| action_type(fields, text)) })
    }
}

async fn list(mut call: Call) -> Answer {
    let scope = call.scope()?;
    let campaign: Option<Filter<CampaignId>> = call.query.filter("campaignId");
    let status: Option<Filter<String>> = call.query.filter("status");
    let action_type: Option<Filter<String>> = call.query.filter("actionType");
    let asked = call.query.page_of::<GigId>()?;
    let fields = [
        page::field("campaignId", campaign),
        page::field("status", status),
        page::field("actionType", action_type),
    ];
    let fields = fields.into_iter().flatten().chain([page::not_deleted()]).collect();
    let page: Listing<Gig> = call.parts.page(Within::Scope(scope), None, fields, asked).await?;
    Reply::json(200, &page)
}

async fn create(mut call: Call) -> Answer {
    let scope = call.scope()?;
    let NewGig { campaign_id, title, action_type } = call.input()?;
    let campaign: Campaign =
        call.parts.find(Within::Scope(scope), &campaign_id.to_string()).await?;
    if campaign.status == CampaignStatus::Ended {
        return Err(ApiError::conflict("campaign_ended", "The campaign has ended."));
    }
    let gig = Gig {
        id: GigId::new(call.now.as_ms(), call.parts.random.bits()),
        organization_id: scope.organization,
        mode: scope.mode,
        campaign_id,
        title,
        action_type,
        status: GigStatus::Draft,
        deleted: false,
        created_at: call.now,
        version: 1,
    };
    let created = call.parts.create(call.now, &gig, Vec::new()).await;
    created.map_err(|e| e.into_api(Gig::NOUN))?;
    Ok(Reply::json(201, &gig)?.version(gig.version))
}

async fn get(mut call: Call) -> Answer {
    call.query.finish()?;
    let gig = own(&call).await?;
    Ok(Reply::json(200, &gig)?.version(gig.version))
}

async fn update(mut call: Call) -> Answer {
    let id = own(&call).await?.id.to_string();
    let GigChanges { title, action_type } = call.input()?;
    let edit = |gig: &mut Gig| {
        call.if_match(gig.version)?;
        if let Some(title) = title.clone() {
            gig.title = title;
        }
        if let Some(action_type) = action_type.clone().filter(|text| *text != gig.action_type) {
            if gig.status != GigStatus::Draft {
                let message = "The action type of a gig can be changed in a draft only.";
                return Err(ApiError::conflict("not_a_draft", message));
            }
            gig.action_type = action_type;
        }
        Ok(Edit::Store(Vec::new()))
    };
    let within = Within::Scope(call.scope()?);
    let stored = call.parts.update(call.now, within, &id, edit).await?;
    Ok(Reply::json(200, &stored)?.version(stored.version))
}

async fn delete(mut call: Call) -> Answer {
    call.query.finish()?;
    let id = own(&call).await?.id.to_string();
    let edit = |gig: &mut Gig| {
        call.if_match(gig.version)?;
        if gig.status != GigStatus::Draft {
            let message = "Only a draft can be removed. Close the gig instead.";
            return Err(ApiError::conflict("not_a_draft", message));
        }
        gig.deleted = true;
        Ok(Edit::Store(Vec::new()))
    };
    call.parts.update::<Gig>(call.now, Within::Scope(call.scope()?), &id, edit).await?;
    Ok(Reply::nothing())
}

async fn set_status(mut call: Call) -> Answer {
    let id = own(&call).await?.id.to_string();
    let Nothing = call.input()?;
    let wanted = status(call.param("status"))?;
    let edit = |gig: &mut Gig| {
        call.if_match(gig.version)?;
        if gig.status == wanted {
            return Ok(Edit::Keep);
        }
        let next = gig.status.next();
        if !next.contains(&wanted) {
            let next: Vec<_> = next.iter().map(|status| status.as_str()).collect();
            return Err(invalid_transition(gig.status.as_str(), wanted.as_str(), &next));
        }
        gig.status = wanted;
        Ok(Edit::Store(Vec::new()))
    };
    let within = Within::Scope(call.scope()?);
    let stored = call.parts.update(call.now, within, &id, edit).await?;
    Ok(Reply::json(200, &stored)?.version(stored.version))
}

fn status(text: &str) -> Result<GigStatus, ApiError> {
    use GigStatus::{Closed, Draft, Paused, Published};
    let found = [Draft, Published, Paused, Closed].into_iter().find(|s| s.as_str() == text);
    found.ok_or_else(|| {
        let message = "must be one of: draft, published, paused, closed";
        ApiError::invalid("status", "invalid_choice", message)
    })
}

async fn own(call: &Call) -> Result<Gig, ApiError> {
    let id: GigId = call.id("id", Gig::NOUN)?;
    call.parts.find(Within::Scope(call.scope()?), &id.to_string()).await
}
