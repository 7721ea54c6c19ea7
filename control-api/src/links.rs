//! `/attribution/links`: links that redirect, each with its code.

use http::Method;
use schemas::entity::Link;
use schemas::fault::ApiError;
use schemas::hash::hash128;
use schemas::id::{AktvatorId, CampaignId, LinkId, OrganizationId};
use schemas::input::Fields;
use schemas::partition::{Mode, Scope};
use schemas::target;
use schemas::time::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use crate::Config;
use crate::call::{Call, Input, Reply};
use crate::codes::{self, GENERATE_TRIES_MAX};
use crate::error;
use crate::fields;
use crate::page::{self, Listing, PAGE};
use crate::query::Filter;
use crate::route::{Access, Answer, Route, parameter};
use crate::stored::{CreateError, Edit, Stored as _, Within, decode};

/// The operations.
pub(crate) fn routes() -> Vec<Route> {
    const LIST: &str = "/attribution/links";
    const ONE: &str = "/attribution/links/{id}";
    let (read, write) = (Access::Key("links:read"), Access::Key("links:write"));
    vec![
        Route::new(Method::GET, LIST, "listLinks", read, list)
            .summary("List links.")
            .query(PAGE)
            .query(&[
                parameter("campaignId", "Only those of this campaign."),
                parameter("aktvatorId", "Only those of this aktvator."),
                parameter("code", "The code."),
                parameter("archived", "true or false."),
            ])
            .gives_page::<LinkView>(),
        Route::new(Method::POST, LIST, "createLink", write, create)
            .summary("Create a link that records a click before it redirects.")
            .query(&[parameter(
                "upsert",
                "true: the first link for the same campaign, aktvator and target, where there is \
                 one, with status 200.",
            )])
            .takes::<NewLink>()
            .gives::<LinkView>(201)
            .also_answers(200, "With `upsert`: the link that was made before."),
        Route::new(Method::GET, ONE, "getLink", read, get)
            .summary("Fetch a single link.")
            .gives::<LinkView>(200),
        Route::new(Method::DELETE, ONE, "archiveLink", write, archive)
            .summary("Archive a link. It still attributes; its code is never given out again.")
            .gives::<LinkView>(200),
    ]
}

/// A link that redirects.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct LinkView {
    /// Its id.
    id: LinkId,
    /// What the aktvator shares.
    short_url: String,
    /// Where the customer is sent.
    target_url: String,
    /// The code in it.
    code: String,
    /// Its campaign.
    campaign_id: CampaignId,
    /// Who earns by it.
    aktvator_id: AktvatorId,
    /// Whose.
    organization_id: OrganizationId,
    /// Live or test.
    mode: Mode,
    /// No longer listed by default; still attributes.
    archived: bool,
    /// When it was made.
    created_at: Timestamp,
}

impl LinkView {
    fn of(link: Link, base: &str) -> Self {
        Self {
            short_url: format!("{}/{}", base.trim_end_matches('/'), link.code),
            id: link.id,
            target_url: link.target_url,
            code: link.code,
            campaign_id: link.campaign_id,
            aktvator_id: link.aktvator_id,
            organization_id: link.organization_id,
            mode: link.mode,
            archived: link.archived,
            created_at: link.created_at,
        }
    }
}

/// A new link.
#[derive(Debug, ToSchema)]
#[schema(rename_all = "camelCase")]
struct NewLink {
    /// Its campaign.
    campaign_id: CampaignId,
    /// An https URL of at most 2,048 bytes.
    target_url: String,
    /// Who earns by it.
    aktvator_id: AktvatorId,
    /// 3 to 32 letters and digits, unique everywhere, in either case; generated when absent.
    code: Option<String>,
}

impl Input for NewLink {
    fn read(fields: &mut Fields<'_, '_>, config: &Config) -> Option<Self> {
        let campaign_id = fields.parsed("campaignId");
        let target_url = fields.text("targetUrl", 1..=target::URL_LEN_MAX).and_then(|text| {
            let allow_http = config.allow_loopback_targets;
            fields::url(fields, "targetUrl", text, |text| target::web_page(text, allow_http))
        });
        let aktvator_id = fields.parsed("aktvatorId");
        let code = codes::custom(fields);
        for name in UNSUPPORTED {
            fields.unsupported(name);
        }
        Some(Self {
            campaign_id: campaign_id?,
            target_url: target_url?,
            aktvator_id: aktvator_id?,
            code,
        })
    }
}

/// Fields that links will have.
const UNSUPPORTED: [&str; 11] = [
    "externalId",
    "expiresAt",
    "expiredUrl",
    "maxClicks",
    "maxConversions",
    "exhaustedUrl",
    "geo",
    "abVariants",
    "password",
    "tags",
    "metadata",
];

impl NewLink {
    /// The unique name under which an upsert finds the link it made before.
    fn upsert_name(&self, scope: Scope) -> String {
        let parts: [&[u8]; 4] = [
            &scope.to_bytes(),
            &self.campaign_id.to_bytes(),
            &self.aktvator_id.to_bytes(),
            self.target_url.as_bytes(),
        ];
        format!("link:{:032x}", hash128("link", &parts))
    }
}

async fn list(mut call: Call) -> Answer {
    let scope = call.scope()?;
    let campaign: Option<Filter<CampaignId>> = call.query.filter("campaignId");
    let aktvator: Option<Filter<AktvatorId>> = call.query.filter("aktvatorId");
    let code: Option<Filter<String>> = call.query.filter("code");
    let archived: Option<Filter<bool>> = call.query.filter("archived");
    let asked = call.query.page_of::<LinkId>()?;
    let code = code.map(|code| Filter {
        values: code.values.iter().map(|code| code.to_ascii_uppercase()).collect(),
        exclude: code.exclude,
    });
    let fields = [
        page::field("campaignId", campaign),
        page::field("aktvatorId", aktvator),
        page::field("code", code),
        page::field("archived", archived),
    ];
    let fields = fields.into_iter().flatten().collect();
    let page: Listing<Link> = call.parts.page(Within::Scope(scope), None, fields, asked).await?;
    let base = &call.parts.config.redirect_base_url;
    Reply::json(200, &page.map(|link| LinkView::of(link, base)))
}

async fn create(mut call: Call) -> Answer {
    let scope = call.scope()?;
    let upsert = call.query.flag("upsert");
    let new: NewLink = call.input()?;
    call.parts.check_owner(Within::Scope(scope), new.campaign_id, new.aktvator_id).await?;
    let name = new.upsert_name(scope);
    let mut is_first_such = true;
    for _ in 0..GENERATE_TRIES_MAX {
        if upsert && let Some(link) = made_before(&call, &new, &name).await? {
            return shown(&call, 200, link);
        }
        let link = link(&call, scope, &new);
        let mut uniques = vec![codes::unique(&link.code)];
        uniques.extend(is_first_such.then(|| name.clone()));
        match call.parts.create(call.now, &link, uniques).await {
            Ok(()) => return shown(&call, 201, link),
            Err(CreateError::Api(error)) => return Err(error),
            Err(CreateError::Taken(name)) if new.code.is_some() && name.starts_with("code:") => {
                return Err(codes::taken());
            }
            Err(CreateError::Taken(taken)) if taken == name => is_first_such = false,
            Err(CreateError::Taken(_) | CreateError::Exists) => {}
        }
    }
    Err(ApiError::unavailable("No free code was found. Send the request again."))
}

/// The link an upsert made for the same campaign, aktvator and target.
async fn made_before(call: &Call, new: &NewLink, name: &str) -> Result<Option<Link>, ApiError> {
    let found = call.parts.catalog.named(name).await.map_err(|e| error::storage(&e))?;
    let Some(link) = found.as_ref().map(decode::<Link>).transpose()? else { return Ok(None) };
    match &new.code {
        Some(code) if *code != link.code => {
            let message = format!("The link was made before, with the code {}.", link.code);
            Err(ApiError::conflict("code_differs", message))
        }
        _ => Ok(Some(link)),
    }
}

fn link(call: &Call, scope: Scope, new: &NewLink) -> Link {
    let random = &call.parts.random;
    Link {
        id: LinkId::new(call.now.as_ms(), random.bits()),
        organization_id: scope.organization,
        mode: scope.mode,
        campaign_id: new.campaign_id,
        aktvator_id: new.aktvator_id,
        target_url: new.target_url.clone(),
        code: new.code.clone().unwrap_or_else(|| codes::generate(random)),
        archived: false,
        created_at: call.now,
        version: 1,
    }
}

fn shown(call: &Call, status: u16, link: Link) -> Answer {
    Reply::json(status, &LinkView::of(link, &call.parts.config.redirect_base_url))
}

async fn get(mut call: Call) -> Answer {
    call.query.finish()?;
    let id: LinkId = call.id("id", Link::NOUN)?;
    let link = call.parts.find(Within::Scope(call.scope()?), &id.to_string()).await?;
    shown(&call, 200, link)
}

async fn archive(mut call: Call) -> Answer {
    call.query.finish()?;
    let id: LinkId = call.id("id", Link::NOUN)?;
    let edit = |link: &mut Link| {
        if link.archived {
            return Ok(Edit::Keep);
        }
        link.archived = true;
        Ok(Edit::Store(Vec::new()))
    };
    let within = Within::Scope(call.scope()?);
    let link = call.parts.update(call.now, within, &id.to_string(), edit).await?;
    shown(&call, 200, link)
}
