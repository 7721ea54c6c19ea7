//! One partition for as long as it is this process's: take over, work, and on failure wait and take
//! over again.

use std::sync::Arc;
use std::time::Duration;

use engine::Settings;
use serve::{Clock, Shutdown};
use storage::EventLog;
use storage::state::{Group, Shard, StateStore};

use crate::board::Board;
use crate::config::Config;
use crate::stop::{Halt, Stop};
use crate::term::Term;
use crate::troubles::{Trouble, Troubles};

/// Terms in a row that end with torn rows before that is no other owner's doing.
const TORN_MAX: u32 = 3;

/// What all partitions share.
pub(crate) struct Context {
    pub(crate) log: EventLog,
    pub(crate) state: StateStore,
    pub(crate) clock: Clock,
    pub(crate) config: Config,
    pub(crate) settings: Settings,
    pub(crate) troubles: Troubles,
    pub(crate) board: Board,
}

/// Works on `partition` until `stop` is requested, because the process ends or the partition moves to
/// another one; whatever else ends a term, the next one follows.
pub(crate) async fn work(context: Arc<Context>, partition: u16, stop: Shutdown) {
    let shard = Shard { group: Group::Evaluator, partition };
    let mut wait = context.config.retry_first.0;
    let mut torn = 0;
    while !stop.is_requested() {
        let (mut end, committed_any) = own(&context, shard, &stop).await;
        if committed_any {
            (wait, torn) = (context.config.retry_first.0, 0);
        }
        if let Stop::Torn = end {
            torn += 1;
            if torn == TORN_MAX {
                end = Stop::Halted(Halt::Torn);
            }
        }
        let Some(pause) = pause_after(&context, partition, end, &mut wait) else { break };
        tokio::select! {
            biased;
            () = stop.requested() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
    context.troubles.clear(partition);
    context.board.remove(partition);
}

/// One ownership term, and whether it committed anything.
async fn own(context: &Arc<Context>, shard: Shard, stop: &Shutdown) -> (Stop, bool) {
    match Term::open(context.clone(), shard).await {
        Ok(mut term) => {
            context.troubles.clear(shard.partition);
            let end = term.run(stop).await;
            (end, term.committed_any())
        }
        Err(end) => (end, false),
    }
}

/// How long to wait before the next term; `None` where none is to follow. `wait` is the pause after a
/// failure, which doubles.
fn pause_after(
    context: &Context,
    partition: u16,
    end: Stop,
    wait: &mut Duration,
) -> Option<Duration> {
    match end {
        Stop::Drained => None,
        Stop::SteppedDown | Stop::Torn => {
            tracing::warn!(partition, ?end, "another owner has taken over, stepping down");
            context.troubles.put(partition, Trouble::Fenced);
            // Who of the two it is to be is known by then: one of them is asked to stop.
            Some(context.config.retry_max.0)
        }
        Stop::Halted(halt) => {
            let error = &halt as &dyn std::error::Error;
            tracing::error!(partition, error, "partition halted");
            context.troubles.put(partition, Trouble::Halted);
            // For as long as the process has the partition: an operator must look.
            Some(Duration::MAX)
        }
        Stop::Failed(error) => {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(partition, error, "partition failed, taking over again");
            let pause = *wait;
            *wait = (pause * 2).min(context.config.retry_max.0);
            Some(pause)
        }
    }
}
