//! The deciding heart: pure, synchronous, deterministic.
//!
//! The evaluator reads the `events` log, and for each batch of [`entry::Entry`] asks
//! [`plan`](plan::plan) which rows it may touch, fetches them into a [`snapshot::Snapshot`], and
//! commits what [`decide`](decide::decide) answers. Nothing here waits, reads a clock, draws a random
//! number, logs or fails: a refusal is a decision with a [`decision::Code`].
//!
//! Invariants: one decision per (organization, mode, idempotency key); the same log gives the same
//! bytes, however it is cut into batches (index and ledger rows group by batch); no cap is exceeded;
//! ledger entries sum to zero and the available balance is never below zero.
//!
//! Start reading at [`decide`], which knows the order of everything; then [`rulebook`] for what rules
//! may say, `resolve` and `attribution` for whose an event is, `judge` for what it earns, `cap`,
//! `amount` and `wallet` for the arithmetic, `command` for everything that is not an event.

pub mod admission;
pub mod calendar;
pub mod decide;
pub mod decision;
pub mod entry;
pub mod key;
pub mod plan;
pub mod row;
pub mod rulebook;
pub mod schedule;
pub mod snapshot;

mod amount;
mod attribution;
mod cap;
mod claim;
mod command;
mod condition;
mod decimal;
mod facts;
mod judge;
mod lookup;
mod resolve;
mod wallet;

/// A decision's figures as lines of text.
pub use schemas::explain;

pub use claim::EXPIRY_MARGIN_MS;
pub use decide::{Settings, Verdict, decide};
pub use entry::{Entry, Undecodable};
pub use key::{IndexKind, Key};
pub use plan::{Plan, batch_len};
pub use row::Row;
pub use rulebook::Rulebook;
pub use snapshot::{Snapshot, Write};
