//! `/organizations/:id/webhook-endpoints`: where notices are sent.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Method;
use schemas::entity::Endpoint;
use schemas::fault::ApiError;
use schemas::id::{EndpointId, OrganizationId};
use schemas::input::Fields;
use schemas::notice::{EVERY_TYPE, NoticeType};
use schemas::partition::{Mode, Scope};
use schemas::target;
use schemas::time::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use crate::Config;
use crate::call::{Call, Input, MODE, Reply};
use crate::fields;
use crate::page::{self, Listing, PAGE};
use crate::query::PageAsked;
use crate::route::{Access, Answer, Replay, Route};
use crate::stored::{Edit, Stored as _, Within};

/// Endpoints of an organization in one mode.
const ENDPOINTS_MAX: usize = 25;
/// Bytes of a name.
const NAME_LEN_MAX: usize = 100;
/// Bytes of a notice type's name.
const TYPE_LEN_MAX: usize = 64;

/// The operations.
pub(crate) fn routes() -> Vec<Route> {
    const LIST: &str = "/organizations/{id}/webhook-endpoints";
    const ONE: &str = "/organizations/{id}/webhook-endpoints/{endpointId}";
    let read = Access::KeyOrOperator("webhooks:read");
    let write = Access::KeyOrOperator("webhooks:write");
    vec![
        Route::new(Method::GET, LIST, "listWebhookEndpoints", read, list)
            .summary("List webhook endpoints.")
            .query(PAGE)
            .query(&[MODE])
            .gives_page::<EndpointView>(),
        Route::new(Method::POST, LIST, "createWebhookEndpoint", write, create)
            .summary("Register an endpoint. Its secret is in this answer and never again.")
            .query(&[MODE])
            .replay(Replay::Refused)
            .takes::<NewEndpoint>()
            .gives::<CreatedEndpoint>(201),
        Route::new(Method::GET, ONE, "getWebhookEndpoint", read, get)
            .summary("Fetch a single endpoint.")
            .query(&[MODE])
            .gives::<EndpointView>(200),
        Route::new(Method::PATCH, ONE, "updateWebhookEndpoint", write, update)
            .summary("Change an endpoint, or stop and start it.")
            .query(&[MODE])
            .takes::<EndpointChanges>()
            .gives::<EndpointView>(200),
        Route::new(Method::DELETE, ONE, "deleteWebhookEndpoint", write, delete)
            .summary("Remove an endpoint for good. What is on its way to it is canceled.")
            .query(&[MODE])
            .gives_nothing(),
    ]
}

/// A registered endpoint, without its secret.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct EndpointView {
    /// Its id.
    id: EndpointId,
    /// Whose.
    organization_id: OrganizationId,
    /// Live or test.
    mode: Mode,
    /// For people.
    name: String,
    /// Where notices are sent.
    target_url: String,
    /// Which.
    subscribed_events: Vec<String>,
    /// Does it get any?
    active: bool,
    /// When it was made.
    created_at: Timestamp,
}

impl From<Endpoint> for EndpointView {
    fn from(endpoint: Endpoint) -> Self {
        Self {
            id: endpoint.id,
            organization_id: endpoint.organization_id,
            mode: endpoint.mode,
            name: endpoint.name,
            target_url: endpoint.target_url,
            subscribed_events: endpoint.subscribed_events,
            active: endpoint.active,
            created_at: endpoint.created_at,
        }
    }
}

/// A new endpoint, with the only sight of its secret.
#[derive(Debug, Serialize, ToSchema)]
struct CreatedEndpoint {
    /// `whsec_` and base64 of 32 bytes: what signatures are made with.
    secret: String,
    #[serde(flatten)]
    endpoint: EndpointView,
}

/// A new endpoint.
#[derive(Debug, ToSchema)]
#[schema(rename_all = "camelCase")]
struct NewEndpoint {
    /// 1 to 100 bytes.
    name: String,
    /// https and public, at most 2,048 bytes.
    target_url: String,
    /// Notice types as `/webhook-event-types` lists them, or `*`.
    subscribed_events: Vec<String>,
    /// `true` when absent.
    #[schema(value_type = Option<bool>)]
    active: bool,
}

impl Input for NewEndpoint {
    fn read(fields: &mut Fields<'_, '_>, config: &Config) -> Option<Self> {
        let name = fields::name(fields, "name", NAME_LEN_MAX);
        let target = fields.text("targetUrl", 1..=target::URL_LEN_MAX);
        let target_url = target.and_then(|text| target_url(fields, text, config));
        let subscribed_events = subscribed(fields);
        if subscribed_events.is_none() && !fields.has_faults_at("subscribedEvents") {
            fields.fault("subscribedEvents", "required", "is required");
        }
        let active = fields.optional_bool("active").unwrap_or(true);
        fields.unsupported("campaignIds");
        Some(Self {
            name: name?,
            target_url: target_url?,
            subscribed_events: subscribed_events?,
            active,
        })
    }
}

/// What may change.
#[derive(Debug, ToSchema)]
#[schema(rename_all = "camelCase")]
struct EndpointChanges {
    /// 1 to 100 bytes.
    name: Option<String>,
    /// https and public.
    target_url: Option<String>,
    /// All of them.
    subscribed_events: Option<Vec<String>>,
    /// Does it get any?
    active: Option<bool>,
}

impl Input for EndpointChanges {
    fn read(fields: &mut Fields<'_, '_>, config: &Config) -> Option<Self> {
        let name = fields::optional_name(fields, "name", NAME_LEN_MAX);
        let target = fields.optional_text("targetUrl", 1..=target::URL_LEN_MAX);
        let target_url = target.and_then(|text| target_url(fields, text, config));
        let subscribed_events = subscribed(fields);
        let active = fields.optional_bool("active");
        Some(Self { name, target_url, subscribed_events, active })
    }
}

fn target_url(fields: &mut Fields<'_, '_>, text: &str, config: &Config) -> Option<String> {
    let allow_loopback = config.allow_loopback_targets;
    fields::url(fields, "targetUrl", text, |text| target::webhook(text, allow_loopback))
}

/// The types subscribed to, without repeats.
fn subscribed(fields: &mut Fields<'_, '_>) -> Option<Vec<String>> {
    let most = NoticeType::ALL.len() + 1;
    let names = fields.optional_texts("subscribedEvents", 1..=most, 1..=TYPE_LEN_MAX)?;
    let known =
        |name: &str| name == EVERY_TYPE || NoticeType::ALL.iter().any(|kind| kind.as_str() == name);
    for (i, name) in names.iter().enumerate().filter(|(_, name)| !known(name)) {
        let path = format!("{}/{i}", fields.pointer("subscribedEvents"));
        let message = format!("`{name}` is no type of /webhook-event-types");
        fields.faults().push(schemas::fault::Fault::new(path, "invalid_choice", message));
    }
    let mut names: Vec<String> = names.into_iter().map(str::to_owned).collect();
    names.sort_unstable();
    names.dedup();
    Some(names)
}

async fn list(mut call: Call) -> Answer {
    let scope = known_scope(&mut call).await?;
    let asked = call.query.page_of::<EndpointId>()?;
    let page: Listing<Endpoint> =
        call.parts.page(Within::Scope(scope), None, vec![page::not_deleted()], asked).await?;
    Reply::json(200, &page.map(EndpointView::from))
}

async fn create(mut call: Call) -> Answer {
    let scope = known_scope(&mut call).await?;
    let new: NewEndpoint = call.input()?;
    let asked = PageAsked { limit: ENDPOINTS_MAX, after: None, before: None };
    let there: Listing<Endpoint> =
        call.parts.page(Within::Scope(scope), None, vec![page::not_deleted()], asked).await?;
    if there.data.len() >= ENDPOINTS_MAX {
        let message = format!("An organization may have {ENDPOINTS_MAX} endpoints.");
        return Err(ApiError::conflict("too_many_endpoints", message));
    }
    let secret = format!("whsec_{}", STANDARD.encode(call.parts.random.bytes()));
    let endpoint = Endpoint {
        id: EndpointId::new(call.now.as_ms(), call.parts.random.bits()),
        organization_id: scope.organization,
        mode: scope.mode,
        name: new.name,
        target_url: new.target_url,
        subscribed_events: new.subscribed_events,
        active: new.active,
        secret: secret.clone(),
        deleted: false,
        created_at: call.now,
        version: 1,
    };
    let created = call.parts.create(call.now, &endpoint, Vec::new()).await;
    created.map_err(|e| e.into_api(Endpoint::NOUN))?;
    Reply::json(201, &CreatedEndpoint { secret, endpoint: endpoint.into() })
}

async fn get(mut call: Call) -> Answer {
    let scope = known_scope(&mut call).await?;
    call.query.finish()?;
    Reply::json(200, &EndpointView::from(own(&call, scope).await?))
}

async fn update(mut call: Call) -> Answer {
    let scope = known_scope(&mut call).await?;
    let id = own(&call, scope).await?.id.to_string();
    let EndpointChanges { name, target_url, subscribed_events, active } = call.input()?;
    let edit = |endpoint: &mut Endpoint| {
        if let Some(name) = name.clone() {
            endpoint.name = name;
        }
        if let Some(target_url) = target_url.clone() {
            endpoint.target_url = target_url;
        }
        if let Some(subscribed_events) = subscribed_events.clone() {
            endpoint.subscribed_events = subscribed_events;
        }
        endpoint.active = active.unwrap_or(endpoint.active);
        Ok(Edit::Store(Vec::new()))
    };
    let stored = call.parts.update(call.now, Within::Scope(scope), &id, edit).await?;
    Reply::json(200, &EndpointView::from(stored))
}

async fn delete(mut call: Call) -> Answer {
    let scope = known_scope(&mut call).await?;
    call.query.finish()?;
    let id = own(&call, scope).await?.id.to_string();
    let edit = |endpoint: &mut Endpoint| {
        endpoint.deleted = true;
        endpoint.active = false;
        Ok(Edit::Store(Vec::new()))
    };
    call.parts.update(call.now, Within::Scope(scope), &id, edit).await?;
    Ok(Reply::nothing())
}

/// The scope of the organization in the path, which is there.
pub(crate) async fn known_scope(call: &mut Call) -> Result<Scope, ApiError> {
    crate::organizations::own(call).await?;
    call.organization_scope()
}

/// The endpoint in the path, unless it was removed.
pub(crate) async fn own(call: &Call, scope: Scope) -> Result<Endpoint, ApiError> {
    let id: EndpointId = call.id("endpointId", Endpoint::NOUN)?;
    call.parts.find(Within::Scope(scope), &id.to_string()).await
}
