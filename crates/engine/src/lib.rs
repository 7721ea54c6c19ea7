//! The deciding heart: pure, synchronous, deterministic.
//!
//! The evaluator reads the `events` log, hands each batch of [`entry::Entry`] to the [`fold::Fold`], fetches
//! the rows it [wants](Fold::wants), and commits what it [takes](Fold::take) from it. Nothing here waits, reads a
//! clock, draws a random number, logs or fails: a refusal is a decision with a [`decision::Code`].
//!
//! Invariants: one decision per (organization, mode, idempotency key); the same log gives the same
//! bytes, however it is cut into batches; no cap is exceeded; ledger entries sum to zero and the available balance is never below zero.
//!
//! Start reading at [`fold`], then `conversion` for what an event changes and `command` for everything that
//! is not an event; [`rulebook`] for what rules may say, `resolve` and `attribution` for whose an event is,
//! `judge` and `reward` for what it earns, `amount`, `tier`, `cap` and `wallet` for the arithmetic, `life`, `moves`,
//! `reversal` and `payout` for what becomes of a reward, `account` for what is one aktvator's, `attempt`
//! for work that someone verifies.

pub mod admission;
pub mod calendar;
pub mod decision;
pub mod entry;
pub mod fold;
pub mod key;
pub mod lint;
pub mod row;
pub mod rulebook;
pub mod schedule;
pub mod simulation;
pub mod usage;

mod account;
mod active;
mod amount;
mod attempt;
mod attribution;
mod books;
mod cap;
mod claim;
mod command;
mod condition;
mod conversion;
mod counter;
mod decimal;
mod facts;
mod judge;
mod known;
mod life;
mod lookup;
mod metric;
mod moves;
mod payout;
mod recurring;
mod resolve;
mod reversal;
mod reward;
mod tier;
mod undo;
mod wallet;

/// A decision's figures as lines of text.
pub use schemas::explain;

pub use claim::EXPIRY_MARGIN_MS;
pub use entry::{Entry, Undecodable};
pub use fold::{Fold, Settings, Verdict};
pub use key::{IndexKind, Key};
pub use known::Write;
pub use reversal::command_id as reversal_id;
pub use row::Row;
pub use rulebook::Rulebook;
pub use undo::external as external_ref;
