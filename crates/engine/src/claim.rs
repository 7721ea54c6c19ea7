//! Claims on idempotency keys: an event is decided once, and claims that led to no reward are
//! forgotten after the retention.

use schemas::proto;

use crate::decide::Settings;
use crate::entry::{Conversion, Entry};

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

/// Claims that led to a reward never expire; others do by the difference of `acceptedAt`.
pub(crate) fn expired(row: &proto::EventRow, now_ms: i64, retention_ms: i64) -> bool {
    let rules = row.decision.iter().flat_map(|decision| &decision.rules);
    let rewarded = rules.into_iter().any(|rule| rule.reward_id.is_some());
    !rewarded && now_ms.saturating_sub(row.accepted_at_ms) > retention_ms
}
