//! What the evaluator tells of itself: names, and the calls that emit them once a write set.

use std::collections::BTreeMap;
use std::sync::Arc;

use ::metrics::{counter, gauge, histogram};
use engine::decision::Code;
use schemas::proto::{Outcome, outcome};
use storage::log::Topic;
use tokio::time::Instant;

use crate::board::Figures;
use crate::commit::Draft;
use crate::intake::Batch;
use crate::partition::Context;
use crate::rows::Sources;

/// Counter: events decided, by decision code (label `code`).
pub const DECISIONS: &str = "aktvator_evaluator_decisions_total";
/// Counter: records taken from the events log, of any kind.
pub const RECORDS: &str = "aktvator_evaluator_records_total";
/// Counter: records that could not be decoded and went to the dead letters.
pub const DEAD_LETTERS: &str = "aktvator_evaluator_dead_letters_total";
/// Counter: keys asked for that were not in memory, by where the answer came from (label `source`).
pub const FETCHES: &str = "aktvator_evaluator_fetches_total";
/// Counter: partitions taken over, the first time included.
pub const TAKEOVERS: &str = "aktvator_evaluator_takeovers_total";
/// Histogram: records in a write set.
pub const BATCH_RECORDS: &str = "aktvator_evaluator_batch_records";
/// Histogram: deciding one write set and fetching what it needs, in seconds.
pub const DECIDE_SECONDS: &str = "aktvator_evaluator_decide_seconds";
/// Histogram: encoding and committing one write set, in seconds.
pub const COMMIT_SECONDS: &str = "aktvator_evaluator_commit_seconds";
/// Histogram: from acceptance to durable decision of the oldest event of a write set, in seconds.
pub const EVENT_TO_DECISION_SECONDS: &str = "aktvator_evaluator_event_to_decision_seconds";
/// Gauge: records in the events log that are not decided, over all partitions.
pub const LAG_RECORDS: &str = "aktvator_evaluator_lag_records";
/// Gauge: age of the oldest undecided record's predecessor, the worst of all partitions, in seconds.
pub const LAG_SECONDS: &str = "aktvator_evaluator_lag_seconds";
/// Gauge: partitions that stopped and need an operator.
pub const HALTED: &str = "aktvator_evaluator_halted_partitions";
/// Gauge: rows decided and not yet committed, over all partitions.
pub const OVERLAY_ROWS: &str = "aktvator_evaluator_overlay_rows";
/// Gauge: rows kept in memory, committed or not, over all partitions.
pub const CACHE_ROWS: &str = "aktvator_evaluator_cache_rows";
/// Gauge: bytes the claim filters take, over all partitions.
pub const FILTER_BYTES: &str = "aktvator_evaluator_filter_bytes";

/// A partition was taken over.
pub(crate) fn taken_over() {
    counter!(TAKEOVERS).increment(1);
}

/// So many partitions of this process need an operator.
pub(crate) fn halted(partitions: usize) {
    gauge!(HALTED).set(partitions as f64);
}

/// A batch was decided.
pub(crate) fn decided(batch: &Batch, sources: Sources, started: Instant) {
    histogram!(DECIDE_SECONDS).record(started.elapsed().as_secs_f64());
    histogram!(BATCH_RECORDS).record(batch.entries.len() as f64);
    counter!(RECORDS).increment((batch.entries.len() + batch.dead_letters) as u64);
    if batch.dead_letters > 0 {
        counter!(DEAD_LETTERS).increment(batch.dead_letters as u64);
    }
    let Sources { filter, store } = sources;
    let by = [("filter", filter), ("store", store)];
    for (source, keys) in by {
        counter!(FETCHES, "source" => source).increment(keys);
    }
}

/// A write set, begun at `started`, became durable at `now_ms`.
pub(crate) fn committed(draft: &Draft, started: Instant, now_ms: i64) {
    histogram!(COMMIT_SECONDS).record(started.elapsed().as_secs_f64());
    if let Some(accepted_ms) = draft.oldest_accepted_ms {
        let seconds = (now_ms - accepted_ms).max(0) as f64 / 1_000.0;
        histogram!(EVENT_TO_DECISION_SECONDS).record(seconds);
    }
    for (code, count) in &draft.decisions {
        counter!(DECISIONS, "code" => *code).increment(*count);
    }
}

/// Keeps the gauges up to date, for as long as it is polled.
pub(crate) async fn sample(context: Arc<Context>) {
    loop {
        tokio::time::sleep(context.config.sample_every.0).await;
        let (mut records, mut seconds) = (0, 0.0_f64);
        let mut total = Figures::default();
        for (partition, figures) in context.board.all() {
            let Ok(bounds) = context.log.bounds(Topic::Events, partition).await else {
                continue;
            };
            let behind = bounds.end.saturating_sub(figures.next_offset);
            if behind > 0 {
                let age = (context.clock.now_ms() - figures.accepted_ms).max(0);
                seconds = seconds.max(age as f64 / 1_000.0);
            }
            records += behind;
            total.overlay_rows += figures.overlay_rows;
            total.cache_rows += figures.cache_rows;
            total.filter_bytes += figures.filter_bytes;
        }
        gauge!(LAG_RECORDS).set(records as f64);
        gauge!(LAG_SECONDS).set(seconds);
        gauge!(OVERLAY_ROWS).set(total.overlay_rows as f64);
        gauge!(CACHE_ROWS).set(total.cache_rows as f64);
        gauge!(FILTER_BYTES).set(total.filter_bytes as f64);
    }
}

/// Decisions by code; a repeat counts as what the repeat was, not as what it repeats.
pub(crate) fn count(outcomes: &[Outcome]) -> BTreeMap<&'static str, u64> {
    let mut decisions = BTreeMap::new();
    for outcome in outcomes {
        if let Some(outcome::Body::EventDecided(decided)) = &outcome.body {
            *decisions.entry(label(&decided.code)).or_default() += 1;
        }
    }
    decisions
}

/// The code as a label of the closed set.
fn label(code: &str) -> &'static str {
    CODES.iter().map(|known| known.as_str()).find(|known| *known == code).unwrap_or("other")
}

/// The codes this version gives out, the most frequent first.
const CODES: [Code; 19] = [
    Code::Rewarded,
    Code::Duplicate,
    Code::Clipped,
    Code::CapExceeded,
    Code::ConditionsNotMet,
    Code::NotEligible,
    Code::UnknownAttribution,
    Code::AlreadyRewarded,
    Code::IdempotencyConflict,
    Code::CampaignNotActive,
    Code::GigClosed,
    Code::EventTypeMismatch,
    Code::AttributionConflict,
    Code::AttributionExpired,
    Code::ZeroAmount,
    Code::AmountMissing,
    Code::CurrencyMismatch,
    Code::LateEvent,
    Code::EventInFuture,
];
