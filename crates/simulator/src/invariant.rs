//! What must always hold, by the names DESIGN gives it, and how a breach is told.

use std::fmt;

/// An invariant of the product.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Invariant {
    /// One decision per (organization, mode, idempotency key).
    D1,
    /// The same log gives the same bytes.
    D2,
    /// A cap is never exceeded.
    C1,
    /// Ledger entries sum to zero, and no available balance goes below zero.
    L1,
    /// An offset is committed only when all below it are durable, and never goes back; nothing is told
    /// that is not committed.
    F1,
    /// Every event answered "queued" is decided.
    A1,
    /// Every notice is delivered or exhausted, attempts are numbered from 1 without a gap.
    N1,
    /// Decisions never wait for analytics or webhooks.
    M1,
    /// Decisions, balances and sums are those of the naive model over the log's order.
    Model,
    /// What is asked of the product is done in bounded time once nothing fails any more.
    Liveness,
}

/// A breach of an invariant.
#[derive(Clone, Debug)]
pub struct Violation {
    /// Which one.
    pub invariant: Invariant,
    /// What was found.
    pub message: String,
}

impl Violation {
    /// A breach of `invariant`.
    pub(crate) fn new(invariant: Invariant, message: impl Into<String>) -> Self {
        Self { invariant, message: message.into() }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.invariant, self.message)
    }
}

/// Nothing, or the first breach.
pub(crate) type Checked = Result<(), Violation>;

/// `Ok` where `holds`.
pub(crate) fn ensure(
    holds: bool,
    invariant: Invariant,
    message: impl FnOnce() -> String,
) -> Checked {
    if holds { Ok(()) } else { Err(Violation::new(invariant, message())) }
}
