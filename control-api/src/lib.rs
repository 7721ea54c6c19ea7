//! The control API: CRUD over the catalog, reads of what the fold decided, OpenAPI.
//!
//! What it is not: it decides no money. What the fold must hear of a change goes through the
//! catalog's outbox ([`relay`]) or, for a wallet credit, onto the log; the call answers once it is
//! there, and money's yes or no is the fold's.
//!
//! One row of the route table makes routing, access, limits and the OpenAPI document. Start reading
//! at `gateway` (the way of a request), `route` (the table) and `campaigns` (a typical resource).
//!
//! Invariants: a foreign organization's thing answers exactly like a missing one; every answer,
//! whatever went wrong, has the one error shape and a request id; all faults of a request are
//! reported at once.

use std::sync::Arc;

mod action_attempts;
mod aktvators;
mod api_keys;
mod balances;
mod call;
mod campaigns;
mod codes;
mod config;
mod deliveries;
mod error;
mod event_types;
mod events;
mod fields;
mod fold;
mod gateway;
mod gigs;
mod history;
mod ingest;
mod links;
pub mod metrics;
mod openapi;
mod organizations;
mod page;
mod payouts;
mod performance;
mod query;
mod random;
mod relay;
mod replay;
mod reversals;
mod reward_rules;
mod rewards;
mod route;
mod rulebook_version;
mod sandbox;
mod simulate;
mod stored;
mod sweep;
mod usage;
mod wallet;
mod webhook_endpoints;

pub use config::Config;
pub use random::{Random, SeededBits};
pub use relay::relay;

/// What the control API is made of.
#[derive(Clone)]
pub struct ControlParts {
    /// Documents and their outbox.
    pub catalog: storage::Catalog,
    /// Commands of the fold go on `events`.
    pub log: storage::EventLog,
    /// Rows of the fold and of the dispatcher.
    pub state: storage::StateStore,
    /// Figures of campaigns.
    pub analytics: storage::Analytics,
    /// Who calls, and how often.
    pub gate: Arc<access::Gate>,
    /// The time.
    pub clock: serve::Clock,
    /// What the operator set.
    pub config: Config,
    /// Bits for ids, tokens and secrets.
    pub random: Random,
}

/// Every operation as an axum router, each under its path and under `/v1`. It answers whatever is
/// sent to it; [`relay`] must run beside it.
pub fn router(parts: ControlParts) -> axum::Router {
    gateway::router(parts)
}
