//! Drives the engine over the partitions of the events log: read, decide, fetch what is missing, commit.
//!
//! What it is not: no rule, no order of checks and no arithmetic is here (that is `engine`), and nobody
//! is told of a decision from here (that is `dispatcher`, which follows the outcomes).
//!
//! Invariants:
//! - A partition has one owner at a time; what an earlier owner still commits is refused by its epoch.
//!   Which partitions are this process's, the log says ([`storage::log::Assignments`]); nothing is
//!   kept on disk here, so a partition can move at any moment.
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
mod due;
mod filter;
mod intake;
pub mod metrics;
mod partition;
mod rows;
mod running;
mod stop;
mod sweep;
mod term;
mod troubles;

use std::sync::Arc;

use engine::Settings;
use serve::{Clock, Crew, Health, Shutdown};
use storage::{EventLog, StateStore};

pub use crate::config::Config;
use crate::partition::Context;
use crate::troubles::Troubles;

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

/// The name under which evaluators share the partitions among themselves.
const GROUP: &str = "evaluator";

/// Owns the partitions of the log that are this process's until `shutdown` is requested; returns when
/// everything decided is committed. Dropped, it ends as a process does that dies.
pub async fn run(parts: EvaluatorParts, shutdown: Shutdown) {
    let EvaluatorParts { log, state, clock, health, config } = parts;
    let settings = Settings {
        claim_retention_ms: i64::try_from(config.claim_retention.as_ms()).unwrap_or(i64::MAX),
        holds_per_step: config.holds_per_step,
    };
    let mut assignments = log.assignments(GROUP);
    let troubles = Troubles::new(health.register("evaluator"));
    let board = board::Board::default();
    let context = Arc::new(Context { log, state, clock, config, settings, troubles, board });
    let mut owners = Crew::new();
    let _sampler = running::Running::spawn("evaluator-gauges", metrics::sample(context.clone()));
    while !shutdown.is_requested() {
        owners.keep(&assignments.borrow(), |partition, stop| {
            serve::spawn("partition", partition::work(context.clone(), partition, stop))
        });
        tokio::select! {
            biased;
            () = shutdown.requested() => {}
            () = assignments.changed() => {}
            partition = owners.ended() => assignments.release(partition),
        }
    }
    owners.finish().await;
}
