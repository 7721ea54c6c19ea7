//! Who calls, and what they may do.

use std::sync::Arc;

use schemas::entity::Limits;
use schemas::fault::ApiError;
use schemas::id::ApiKeyId;
use schemas::partition::Scope;

use crate::admission::{Buckets, Quotas};

/// Every scope a key can have. `write` does not include `read`; `*` includes all.
pub const SCOPES: &[&str] = &[
    "*",
    "aktvators:read",
    "aktvators:write",
    "analytics:read",
    "campaigns:read",
    "campaigns:write",
    "events:ingest",
    "events:read",
    "events:write",
    "gigs:read",
    "gigs:write",
    "keys:read",
    "keys:write",
    "links:read",
    "links:write",
    "organization:read",
    "organization:write",
    "payouts:read",
    "payouts:write",
    "rewards:read",
    "rewards:write",
    "rules:read",
    "rules:write",
    "wallet:read",
    "wallet:write",
    "webhooks:read",
    "webhooks:write",
];

/// Who sent a request.
#[derive(Clone, Debug)]
pub enum Caller {
    /// An organization's backend.
    Key(Principal),
    /// Whoever runs the installation; may do everything, in every organization.
    Operator,
}

/// The holder of an API key.
#[derive(Clone, Debug)]
pub struct Principal {
    /// The organization and mode the key is bound to.
    pub scope: Scope,
    /// The key's id, not its token.
    pub key: ApiKeyId,
    /// What it may do: some of [`SCOPES`].
    pub scopes: Vec<String>,
    /// Its rate limits.
    pub limits: Limits,
    /// The first eight bytes of the token's SHA-256: tells keys apart where an id is too long.
    pub tag: u64,
    pub(crate) quotas: Arc<Quotas>,
    pub(crate) buckets: Arc<Buckets>,
}

impl Caller {
    /// The holder of a key; `None` for the operator.
    pub const fn principal(&self) -> Option<&Principal> {
        match self {
            Self::Key(principal) => Some(principal),
            Self::Operator => None,
        }
    }

    /// Whether the caller has `scope`, one of [`SCOPES`].
    pub fn has(&self, scope: &str) -> bool {
        match self {
            Self::Operator => true,
            Self::Key(principal) => principal.scopes.iter().any(|s| s == scope || s == "*"),
        }
    }
}

/// Refuses a caller who lacks `scope`, one of [`SCOPES`].
///
/// # Errors
/// 403 `insufficient_scope`, naming what is missing.
pub fn require(caller: &Caller, scope: &str) -> Result<(), ApiError> {
    if caller.has(scope) {
        return Ok(());
    }
    let message = format!("This API key lacks the scope `{scope}`.");
    Err(ApiError::new(403, "insufficient_scope", message))
}
