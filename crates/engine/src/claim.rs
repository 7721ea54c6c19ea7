//! Claims on idempotency keys: an event is decided once, and claims that led to no reward are
//! forgotten after the retention.

use schemas::proto;

use crate::entry::{Conversion, Entry};
use crate::fold::Settings;

/// What an earlier claim makes of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// The earlier claim has expired.
    New,
    /// The same event again.
    Duplicate,
    /// Another event under the same key.
    Conflict,
}

/// What `row`, an earlier claim on its key, makes of `event`.
pub(crate) fn standing(
    row: &proto::EventRow,
    entry: &Entry,
    event: &Conversion,
    settings: &Settings,
) -> Standing {
    if expired(row, entry.accepted_at_ms, settings.claim_retention_ms) {
        Standing::New
    } else if row.fingerprint == event.event.fingerprint {
        Standing::Duplicate
    } else {
        Standing::Conflict
    }
}

/// How much later than it expires, in milliseconds, a claim is deleted: a record may be accepted
/// earlier than the latest that was seen, and must find the claim that stands for it. One day.
pub const EXPIRY_MARGIN_MS: i64 = 86_400_000;

/// May the claim be deleted, now that fold time is `now_ms`?
pub(crate) fn is_forgettable(row: &proto::EventRow, now_ms: i64, retention_ms: i64) -> bool {
    expired(row, now_ms, retention_ms.saturating_add(EXPIRY_MARGIN_MS))
}

/// Claims that led to a reward never expire; others do by the difference of `acceptedAt`.
fn expired(row: &proto::EventRow, now_ms: i64, retention_ms: i64) -> bool {
    let rules = row.decision.iter().flat_map(|decision| &decision.rules);
    let rewarded = rules.into_iter().any(|rule| rule.reward_id.is_some());
    !rewarded && now_ms.saturating_sub(row.accepted_at_ms) > retention_ms
}
