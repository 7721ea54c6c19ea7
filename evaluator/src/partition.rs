//! One partition for as long as the process lives: take over, work, and on failure wait and take over
//! again.

use std::sync::Arc;

use engine::Settings;
use serve::{Check, Clock, Shutdown};
use storage::EventLog;
use storage::state::{Group, Shard, StateStore};

use crate::board::Board;
use crate::config::Config;
use crate::metrics;
use crate::stop::Stop;
use crate::term::Term;

/// What all partitions share.
pub(crate) struct Context {
    pub(crate) log: EventLog,
    pub(crate) state: StateStore,
    pub(crate) clock: Clock,
    pub(crate) config: Config,
    pub(crate) settings: Settings,
    pub(crate) check: Check,
    pub(crate) board: Board,
}

/// Works on `partition` until `shutdown` is requested, or it must be left to another owner.
pub(crate) async fn work(context: Arc<Context>, partition: u16, shutdown: Shutdown) {
    let shard = Shard { group: Group::Evaluator, partition };
    let mut wait = context.config.retry_first.0;
    loop {
        let (stop, committed_any) = own(&context, shard, &shutdown).await;
        if committed_any {
            wait = context.config.retry_first.0;
        }
        match stop {
            Stop::Drained => return,
            Stop::SteppedDown => {
                tracing::warn!(partition, "another owner has taken over, stepping down");
                context.check.set_ready(false, "a partition was taken over by another owner");
                return;
            }
            Stop::Halted(halt) => return halted(&context, partition, &halt, &shutdown).await,
            Stop::Failed(error) => {
                tracing::warn!(
                    partition,
                    error = &error as &dyn std::error::Error,
                    "partition failed, taking over again"
                );
            }
        }
        tokio::select! {
            biased;
            () = shutdown.requested() => return,
            () = tokio::time::sleep(wait) => {}
        }
        wait = (wait * 2).min(context.config.retry_max.0);
    }
}

/// One ownership term, and whether it committed anything.
async fn own(context: &Arc<Context>, shard: Shard, shutdown: &Shutdown) -> (Stop, bool) {
    match Term::open(context.clone(), shard).await {
        Ok(mut term) => {
            let stop = term.run(shutdown).await;
            (stop, term.committed_any())
        }
        Err(stop) => (stop, false),
    }
}

/// Says so, loudly, and stays so: an operator must look, and the other partitions go on.
async fn halted(context: &Context, partition: u16, halt: &crate::stop::Halt, shutdown: &Shutdown) {
    tracing::error!(partition, error = halt as &dyn std::error::Error, "partition halted");
    context.check.set_ready(false, "a partition is halted, see the log");
    metrics::halted();
    shutdown.requested().await;
}
