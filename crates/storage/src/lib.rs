//! Four ports, each a closed enum of backends of equal rank: [`EventLog`], [`StateStore`],
//! [`Catalog`], [`Analytics`].
//!
//! What it is not: nothing here decides anything, knows a rule, or reads the environment. Keys and
//! values are opaque bytes; vendor types stay in the backend's file; an [`Error`] says whether the
//! write may have happened.
//!
//! Invariant: what was answered `Ok` is durable. Each port has one conformance suite that every
//! backend passes (`tests/it`). Start reading at [`log`] and [`state`]; [`embedded`], [`kafka`],
//! [`memory`] and [`fault`] open them.

pub mod analytics;
pub mod catalog;
pub mod clickhouse;
pub mod cql;
pub mod embedded;
pub mod error;
pub mod fault;
pub mod kafka;
pub mod log;
mod marks;
pub mod memory;
pub mod metrics;
mod sqlite;
pub mod state;

pub use analytics::Analytics;
pub use catalog::Catalog;
pub use error::{Certainty, Error, Kind};
pub use log::{EventLog, Topic};
pub use state::{Shard, StateStore};
