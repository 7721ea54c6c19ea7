//! A request that has been admitted, and the answer to it.

use std::sync::Arc;

use access::Caller;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use bytes::Bytes;
use engine::decision::CommandCode;
use schemas::fault::{ApiError, Fault};
use schemas::id::OrganizationId;
use schemas::input::{self, Fields};
use schemas::partition::{Mode, Scope};
use schemas::time::Timestamp;
use serde::Serialize;
use serde_json::Value;

use crate::query::Query;
use crate::route::{Parameter, parameter};
use crate::{Config, ControlParts};

/// The query parameter of [`Call::organization_scope`].
pub(crate) const MODE: Parameter = parameter("mode", "live or test; for the operator only.");

/// What a handler gets: who asks, for what, and everything it may use.
pub(crate) struct Call {
    pub(crate) parts: Arc<ControlParts>,
    /// `None` on open routes.
    pub(crate) caller: Option<Arc<Caller>>,
    pub(crate) params: Vec<(String, String)>,
    pub(crate) query: Query,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) now: Timestamp,
}

/// A request body: read once, with every fault.
pub(crate) trait Input: Sized {
    /// Reads what it needs from `fields`; `None` where a fault was noted.
    fn read(fields: &mut Fields<'_, '_>, config: &Config) -> Option<Self>;
}

/// A body that says nothing: absent, or `{}`.
pub(crate) struct Nothing;

impl Input for Nothing {
    fn read(_: &mut Fields<'_, '_>, _: &Config) -> Option<Self> {
        Some(Self)
    }
}

impl Call {
    /// A path parameter, as text.
    pub(crate) fn param(&self, name: &str) -> &str {
        self.params.iter().find(|(n, _)| n == name).map_or("", |(_, value)| value.as_str())
    }

    /// A path parameter that is an id.
    ///
    /// # Errors
    /// 404 where it is not one: nothing has such an id.
    pub(crate) fn id<T: std::str::FromStr>(&self, name: &str, noun: &str) -> Result<T, ApiError> {
        self.param(name).parse().map_err(|_| ApiError::not_found(noun))
    }

    /// Whose call this is.
    ///
    /// # Errors
    /// 403 for the operator, who has no organization.
    pub(crate) fn scope(&self) -> Result<Scope, ApiError> {
        match self.caller.as_deref() {
            Some(Caller::Key(principal)) => Ok(principal.scope),
            _ => Err(ApiError::new(403, "key_required", "This call needs an organization's key.")),
        }
    }

    /// The organization in the path: any for the operator, its own for a key.
    ///
    /// # Errors
    /// 404 for a foreign one, as for a missing one.
    pub(crate) fn organization(&self) -> Result<OrganizationId, ApiError> {
        let id = self.id("id", "organization")?;
        match self.caller.as_deref() {
            Some(Caller::Operator) => Ok(id),
            Some(Caller::Key(principal)) if principal.scope.organization == id => Ok(id),
            _ => Err(ApiError::not_found("organization")),
        }
    }

    /// The organization in the path, in the key's mode; the operator names the mode by `?mode=`.
    ///
    /// # Errors
    /// 404 for a foreign organization; 400 where the operator names no mode.
    pub(crate) fn organization_scope(&mut self) -> Result<Scope, ApiError> {
        let organization = self.organization()?;
        let asked = self.query.choice("mode", &[("live", Mode::Live), ("test", Mode::Test)]);
        let mode = match self.caller.as_deref() {
            Some(Caller::Key(principal)) => {
                let own = principal.scope.mode;
                if asked.is_some_and(|mode| mode != own) {
                    self.query.fault("mode", "invalid_choice", "is not the mode of this key");
                }
                Some(own)
            }
            _ => asked,
        };
        mode.map(|mode| Scope { organization, mode }).ok_or_else(|| {
            ApiError::invalid("mode", "required", "must be live or test for the operator")
        })
    }

    /// The body as JSON; an empty one counts as `{}`.
    ///
    /// # Errors
    /// 400 where it is not strict JSON.
    pub(crate) fn json(&self) -> Result<Value, ApiError> {
        if self.body.is_empty() {
            return Ok(Value::Object(serde_json::Map::new()));
        }
        input::parse(&self.body).map_err(|fault| ApiError::validation(vec![fault]))
    }

    /// The body as a `T`, and the query without faults.
    ///
    /// # Errors
    /// 400 with every fault of both.
    pub(crate) fn input<T: Input>(&mut self) -> Result<T, ApiError> {
        let value = self.json()?;
        let mut faults: Vec<Fault> = match self.query.finish() {
            Ok(()) => Vec::new(),
            Err(error) => error.errors,
        };
        let mut fields = Fields::of(&value, "", &mut faults);
        let read = T::read(&mut fields, &self.parts.config);
        fields.finish();
        match read {
            Some(read) if faults.is_empty() => Ok(read),
            _ => Err(ApiError::validation(faults)),
        }
    }

    /// Does `If-Match`, when there is one, name `version`?
    ///
    /// # Errors
    /// 412 where it does not.
    pub(crate) fn if_match(&self, version: u64) -> Result<(), ApiError> {
        let mut wanted = self.headers.get_all(header::IF_MATCH).iter().peekable();
        if wanted.peek().is_none() {
            return Ok(());
        }
        let tag = format!("\"{version}\"");
        let named = wanted
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .any(|value| value.trim() == "*" || value.trim() == tag);
        if named {
            return Ok(());
        }
        Err(ApiError::new(
            412,
            "stale",
            format!("It has changed since; it is at version {version} now."),
        ))
    }
}

/// A successful answer.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    pub(crate) body: Bytes,
}

impl Reply {
    /// JSON.
    ///
    /// # Errors
    /// 500 where the value cannot be written as JSON.
    pub(crate) fn json(status: u16, value: &impl Serialize) -> Result<Self, ApiError> {
        let body = serde_json::to_vec(value).map_err(|error| {
            tracing::error!(%error, "answer cannot be written as json");
            ApiError::internal()
        })?;
        Ok(Self::bytes(status, "application/json", body.into()))
    }

    /// What became of a command about `value`, which is shown: 200 where it was applied, 202 where it is not decided
    /// yet.
    ///
    /// # Errors
    /// 409 with `refusal` where the fold refused it.
    pub(crate) fn decided(
        code: Option<&str>,
        value: &impl Serialize,
        refusal: impl FnOnce() -> String,
    ) -> Result<Self, ApiError> {
        match code {
            Some(code) if code == CommandCode::Applied.as_str() => Self::json(200, value),
            Some(_) => Err(ApiError::conflict("invalid_transition", refusal())),
            None => Self::json(202, value),
        }
    }

    /// Bytes of another kind.
    pub(crate) fn bytes(status: u16, content_type: &'static str, body: Bytes) -> Self {
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::OK);
        let content_type = (header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        Self { status, headers: vec![content_type], body }
    }

    /// 204.
    pub(crate) fn nothing() -> Self {
        Self { status: StatusCode::NO_CONTENT, headers: Vec::new(), body: Bytes::new() }
    }

    /// With an `ETag` that `If-Match` can name.
    pub(crate) fn version(mut self, version: u64) -> Self {
        if let Ok(tag) = HeaderValue::from_str(&format!("\"{version}\"")) {
            self.headers.push((header::ETAG, tag));
        }
        self
    }
}
