//! The evaluator's bounds and intervals.

use serde::{Deserialize, Serialize};
use serve::config::{Size, Span};

/// Bounds and intervals; every one has a default that suits a small machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Records read from the log at once, and decided in one write set.
    pub batch_records_max: usize,
    /// Bytes of records read from the log at once.
    pub batch_bytes_max: Size,
    /// Records decided between two chances for other tasks to run.
    pub slice_records_max: usize,
    /// The time from the beginning of a write set that is smaller than a slice to that of the next: in a
    /// trickle several records share an fsync. What comes alone is decided at once.
    pub linger: Span,
    /// Write sets decided and not yet committed, per partition.
    pub write_sets_in_flight_max: usize,
    /// Committed rows kept in memory, per partition.
    pub cache_rows_max: usize,
    /// Bytes of the claim filter, per partition; beyond it every key is read.
    pub filter_bytes_max: Size,
    /// Held rewards released by one record.
    pub holds_per_step: u32,
    /// How long a claim that led to no reward is kept, by the difference of `acceptedAt`.
    pub claim_retention: Span,
    /// How long decided records stay in the events log.
    pub log_retention: Span,
    /// How long after a decision fold time is moved on.
    pub tick_every: Span,
    /// How often old claims and old log records are looked for.
    pub sweep_every: Span,
    /// Index rows whose claims are forgotten in one sweep of a partition.
    pub sweep_rows_max: usize,
    /// How often gauges are brought up to date.
    pub sample_every: Span,
    /// The first wait after a failure; it doubles.
    pub retry_first: Span,
    /// The longest wait after a failure.
    pub retry_max: Span,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            batch_records_max: 2_000,
            batch_bytes_max: Size(4 << 20),
            slice_records_max: 500,
            linger: Span::from_ms(5),
            write_sets_in_flight_max: 3,
            cache_rows_max: 65_536,
            filter_bytes_max: Size(64 << 20),
            holds_per_step: 256,
            claim_retention: Span::from_secs(90 * DAY_S),
            log_retention: Span::from_secs(7 * DAY_S),
            tick_every: Span::from_secs(1),
            sweep_every: Span::from_secs(60),
            sweep_rows_max: 256,
            sample_every: Span::from_secs(1),
            retry_first: Span::from_ms(100),
            retry_max: Span::from_secs(5),
        }
    }
}

const DAY_S: u64 = 86_400;
