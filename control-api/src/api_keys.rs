//! `/organizations/:id/api-keys`: made, shown once, renamed, revoked.

use access::{Caller, SCOPES, Token};
use http::Method;
use schemas::entity::ApiKey;
use schemas::fault::ApiError;
use schemas::id::{ApiKeyId, OrganizationId};
use schemas::input::Fields;
use schemas::partition::{Mode, Scope};
use schemas::time::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use crate::Config;
use crate::call::{Call, Input, Reply};
use crate::fields::{self, Patch};
use crate::organizations;
use crate::page::{Listing, PAGE};
use crate::route::{Access, Answer, Replay, Route};
use crate::stored::{Edit, Stored as _, Within};

/// Bytes of a name.
const NAME_LEN_MAX: usize = 100;
/// Bytes of a scope's name.
const SCOPE_LEN_MAX: usize = 64;

/// The operations.
pub(crate) fn routes() -> Vec<Route> {
    const LIST: &str = "/organizations/{id}/api-keys";
    const ONE: &str = "/organizations/{id}/api-keys/{keyId}";
    let read = Access::KeyOrOperator("keys:read");
    let write = Access::KeyOrOperator("keys:write");
    vec![
        Route::new(Method::GET, LIST, "listApiKeys", read, list)
            .summary("List API keys of your mode (tokens are not exposed after creation).")
            .query(PAGE)
            .gives_page::<ApiKeyView>(),
        Route::new(Method::POST, LIST, "createApiKey", write, create)
            .summary("Create an API key. Its token is in this answer and never again.")
            .replay(Replay::Refused)
            .takes::<NewApiKey>()
            .gives::<CreatedApiKey>(201),
        Route::new(Method::PATCH, ONE, "updateApiKey", write, update)
            .summary("Rename a key, or change when it expires.")
            .takes::<ApiKeyChanges>()
            .gives::<ApiKeyView>(200),
        Route::new(Method::DELETE, ONE, "revokeApiKey", write, revoke)
            .summary("Revoke a key for good.")
            .gives::<ApiKeyView>(200),
    ]
}

/// An API key, without its token.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct ApiKeyView {
    /// Not the token.
    id: ApiKeyId,
    /// Whose.
    organization_id: OrganizationId,
    /// Live or test.
    mode: Mode,
    /// For people.
    name: String,
    /// What it may do.
    scopes: Vec<String>,
    /// The first characters of the token.
    prefix: String,
    /// The last four characters of the token.
    last4: String,
    /// From when on it is refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<Timestamp>,
    /// Since when it is refused for good.
    #[serde(skip_serializing_if = "Option::is_none")]
    revoked_at: Option<Timestamp>,
    /// When it was made.
    created_at: Timestamp,
}

impl From<ApiKey> for ApiKeyView {
    fn from(key: ApiKey) -> Self {
        Self {
            id: key.id,
            organization_id: key.organization_id,
            mode: key.mode,
            name: key.name,
            scopes: key.scopes,
            prefix: key.prefix,
            last4: key.last4,
            expires_at: key.expires_at,
            revoked_at: key.revoked_at,
            created_at: key.created_at,
        }
    }
}

/// A new key, with the only sight of its token.
#[derive(Debug, Serialize, ToSchema)]
struct CreatedApiKey {
    /// Store it in your secrets manager: it is not shown again.
    token: String,
    #[serde(flatten)]
    key: ApiKeyView,
}

/// A new API key.
#[derive(Debug, ToSchema)]
#[schema(rename_all = "camelCase")]
struct NewApiKey {
    /// 1 to 100 bytes.
    name: String,
    /// Live or test: that of the calling key.
    mode: Mode,
    /// What it may do; ingest and every read when absent. None that the calling key lacks.
    #[schema(value_type = Option<Vec<String>>)]
    scopes: Vec<String>,
    /// From when on it is refused; never when absent.
    expires_at: Option<Timestamp>,
}

impl Input for NewApiKey {
    fn read(fields: &mut Fields<'_, '_>, _: &Config) -> Option<Self> {
        let name = fields::name(fields, "name", NAME_LEN_MAX);
        let mode = fields.optional_choice("mode", &[("live", Mode::Live), ("test", Mode::Test)]);
        if mode.is_none() && !fields.has_faults_at("mode") {
            fields.fault("mode", "required", "is required: live or test");
        }
        let scopes = scopes(fields);
        let expires_at = fields.optional_parsed("expiresAt");
        Some(Self { name: name?, mode: mode?, scopes: scopes?, expires_at })
    }
}

/// The scopes asked for, without repeats, or those a key has when none are.
fn scopes(fields: &mut Fields<'_, '_>) -> Option<Vec<String>> {
    let Some(asked) = fields.optional_texts("scopes", 1..=SCOPES.len(), 1..=SCOPE_LEN_MAX) else {
        let default = |scope: &&&str| scope.ends_with(":read") || **scope == "events:ingest";
        return Some(SCOPES.iter().filter(default).map(|scope| (*scope).to_owned()).collect());
    };
    for scope in asked.iter().filter(|scope| !SCOPES.contains(scope)) {
        let message = format!("`{scope}` is no scope; they are: {}", SCOPES.join(", "));
        fields.fault("scopes", "invalid_choice", message);
    }
    let mut scopes: Vec<String> = asked.into_iter().map(str::to_owned).collect();
    scopes.sort_unstable();
    scopes.dedup();
    Some(scopes)
}

/// What may change. `null` takes the expiry away.
#[derive(Debug, ToSchema)]
#[schema(rename_all = "camelCase")]
struct ApiKeyChanges {
    /// 1 to 100 bytes.
    name: Option<String>,
    /// From when on it is refused.
    #[schema(value_type = Option<Timestamp>)]
    expires_at: Patch<Timestamp>,
}

impl Input for ApiKeyChanges {
    fn read(fields: &mut Fields<'_, '_>, _: &Config) -> Option<Self> {
        Some(Self {
            name: fields::optional_name(fields, "name", NAME_LEN_MAX),
            expires_at: fields::patch(fields, "expiresAt", |fields| {
                fields.optional_parsed("expiresAt")
            }),
        })
    }
}

async fn list(mut call: Call) -> Answer {
    let organization = organizations::own(&call).await?;
    let asked = call.query.page_of::<ApiKeyId>()?;
    let within = match own_mode(&call) {
        Some(mode) => Within::Scope(Scope { organization: organization.id, mode }),
        None => Within::Organization(organization.id),
    };
    let page: Listing<ApiKey> = call.parts.page(within, None, Vec::new(), asked).await?;
    Reply::json(200, &page.map(ApiKeyView::from))
}

async fn create(mut call: Call) -> Answer {
    let organization = organizations::own(&call).await?;
    let new: NewApiKey = call.input()?;
    may_touch(&call, new.mode)?;
    may_mint(&call, &new.scopes)?;
    let token = Token::generate(new.mode, call.parts.random.bytes());
    let sha256 = Token::sha256_hex(&token);
    let (prefix, last4) = Token::shown(&token);
    let key = ApiKey {
        id: ApiKeyId::new(call.now.as_ms(), call.parts.random.bits()),
        organization_id: organization.id,
        mode: new.mode,
        name: new.name,
        scopes: new.scopes,
        prefix: prefix.to_owned(),
        last4: last4.to_owned(),
        sha256: sha256.clone(),
        expires_at: new.expires_at,
        revoked_at: None,
        created_at: call.now,
        version: 1,
    };
    let created = call.parts.create(call.now, &key, vec![Token::unique_name(&sha256)]).await;
    created.map_err(|e| e.into_api(ApiKey::NOUN))?;
    Reply::json(201, &CreatedApiKey { token, key: key.into() })
}

/// The mode a key is bound to; `None` for the operator, who has both.
fn own_mode(call: &Call) -> Option<Mode> {
    let principal = call.caller.as_deref().and_then(Caller::principal);
    principal.map(|principal| principal.scope.mode)
}

/// A key has to do with keys of its own mode only: a test key must never lead to live money.
fn may_touch(call: &Call, mode: Mode) -> Result<(), ApiError> {
    match own_mode(call) {
        Some(own) if own != mode => {
            let message = format!("A {0} key has to do with {0} keys only.", own.as_str());
            Err(ApiError::new(403, "other_mode", message))
        }
        _ => Ok(()),
    }
}

/// A key hands on only what it has itself.
fn may_mint(call: &Call, scopes: &[String]) -> Result<(), ApiError> {
    let lacks = |scope: &&String| call.caller.as_ref().is_some_and(|own| !own.has(scope));
    match scopes.iter().find(lacks) {
        None => Ok(()),
        Some(scope) => Err(ApiError::new(
            403,
            "insufficient_scope",
            format!("A key cannot give another key `{scope}`, which it lacks itself."),
        )),
    }
}

async fn update(mut call: Call) -> Answer {
    let within = Within::Organization(organizations::own(&call).await?.id);
    let id: ApiKeyId = call.id("keyId", ApiKey::NOUN)?;
    let ApiKeyChanges { name, expires_at } = call.input()?;
    let edit = |key: &mut ApiKey| {
        may_touch(&call, key.mode)?;
        may_mint(&call, &key.scopes)?;
        if let Some(name) = name.clone() {
            key.name = name;
        }
        expires_at.clone().apply(&mut key.expires_at);
        Ok(Edit::Store(Vec::new()))
    };
    let stored = call.parts.update(call.now, within, &id.to_string(), edit).await?;
    Reply::json(200, &ApiKeyView::from(stored))
}

async fn revoke(mut call: Call) -> Answer {
    call.query.finish()?;
    let within = Within::Organization(organizations::own(&call).await?.id);
    let id: ApiKeyId = call.id("keyId", ApiKey::NOUN)?;
    let now = call.now;
    let edit = |key: &mut ApiKey| {
        may_touch(&call, key.mode)?;
        if key.revoked_at.is_some() {
            return Ok(Edit::Keep);
        }
        key.revoked_at = Some(now);
        Ok(Edit::Store(Vec::new()))
    };
    let stored = call.parts.update(now, within, &id.to_string(), edit).await?;
    Reply::json(200, &ApiKeyView::from(stored))
}
