//! Drives the engine over the partitions of the events log: read, plan, fetch, decide, commit.
//!
//! What it is not: no rule, no order of checks and no arithmetic is here (that is `engine`), and nobody
//! is told of a decision from here (that is `dispatcher`, which follows the outcomes).
//!
//! Invariants:
//! - A partition has one owner at a time; what an earlier owner still commits is refused by its epoch.
//! - Records are decided in log order, each once: the offset moves in the same atomic write set as
//!   the rows and outcomes it led to (F1). What fails is dropped and decided again from the head.
//! - Nothing is ever skipped: a record of an unknown kind or version, another log's identity, or an
//!   offset that is not in the log halts the partition. Only bytes that cannot be decoded are passed
//!   over, after they are durable in the dead letters.
//! - Decisions wait for the log and the state store, for nothing else (M1).
//!
//! Start reading at `term.rs`, the ordered loop.

mod board;
mod chores;
mod claims;
mod commit;
mod config;
mod filter;
mod intake;
pub mod metrics;
mod partition;
mod rows;
mod running;
mod stop;
mod sweep;
mod term;

use std::sync::Arc;

use engine::Settings;
use serve::{Clock, Health, Shutdown};
use storage::{EventLog, StateStore};

pub use crate::config::Config;
use crate::partition::Context;

/// What the evaluator works with.
#[derive(Clone)]
pub struct EvaluatorParts {
    /// Where events and commands come from.
    pub log: EventLog,
    /// Where rows and outcomes go.
    pub state: StateStore,
    /// Stamps ticks and measures delays; decisions do not see it.
    pub clock: Clock,
    /// Hears of halted partitions, as check `evaluator`.
    pub health: Health,
    /// Bounds and intervals.
    pub config: Config,
}

/// Owns every partition of the log until `shutdown` is requested; returns when everything decided is
/// committed.
pub async fn run(parts: EvaluatorParts, shutdown: Shutdown) {
    let EvaluatorParts { log, state, clock, health, config } = parts;
    let check = health.register("evaluator");
    check.set_ready(true, "");
    let settings = Settings {
        claim_retention_ms: i64::try_from(config.claim_retention.as_ms()).unwrap_or(i64::MAX),
        holds_per_step: config.holds_per_step,
    };
    let partitions = log.partitions();
    let board = board::Board::default();
    let context = Arc::new(Context { log, state, clock, config, settings, check, board });
    let owners: Vec<_> = (0..partitions)
        .map(|number| {
            let work = partition::work(context.clone(), number, shutdown.clone());
            serve::spawn("partition", work)
        })
        .collect();
    let _sampler = running::Running::spawn("evaluator-gauges", metrics::sample(context));
    for owner in owners {
        // A panic was logged and made health bad where it happened; the others still drain.
        let _ = owner.await;
    }
}
