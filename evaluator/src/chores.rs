//! What the owner of a partition does beside deciding: moves fold time on, says what has become due, has old
//! claims forgotten, and lets go of old log records. Fold time moves only after something was decided, so
//! an idle partition has a look at what is due now and then, and writes nothing.

use std::sync::Arc;

use schemas::proto::{Record, Tick, record::Body};
use storage::error::Error;
use storage::state::Shard;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::commit::append;
use crate::due;
use crate::partition::Context;
use crate::running::Running;
use crate::sweep::Sweep;

/// The task that does them.
pub(crate) struct Chores {
    nudge: Arc<Notify>,
    _task: Running,
}

impl Chores {
    /// Waits for the first decision.
    pub(crate) fn start(context: Arc<Context>, shard: Shard) -> Self {
        let nudge = Arc::new(Notify::new());
        let task = Running::spawn("chores", run(context, shard, nudge.clone()));
        Self { nudge, _task: task }
    }

    /// Something other than a tick was decided.
    pub(crate) fn decided(&self) {
        self.nudge.notify_one();
    }
}

async fn run(context: Arc<Context>, shard: Shard, nudge: Arc<Notify>) {
    let mut sweep = Sweep::default();
    let mut swept = Instant::now();
    let mut more = false;
    loop {
        // Also while nothing is decided, something may become due.
        let nudged = tokio::time::timeout(context.config.sweep_every.0, nudge.notified()).await;
        if nudged.is_ok() {
            tokio::time::sleep(context.config.tick_every.0).await;
            if let Err(error) = tick(&context, shard).await {
                tracing::warn!(partition = shard.partition, %error, "tick not appended");
            }
        }
        if let Err(error) = due::mature(&context, shard).await {
            tracing::warn!(partition = shard.partition, %error, "what is due was not appended");
        }
        // While a pass leaves some, the next comes with the next tick, so that forgetting keeps up.
        if !more && swept.elapsed() < context.config.sweep_every.0 {
            continue;
        }
        swept = Instant::now();
        more = sweep.pass(&context, shard).await.unwrap_or_else(|error| {
            tracing::warn!(partition = shard.partition, %error, "sweep failed");
            false
        });
    }
}

async fn tick(context: &Context, shard: Shard) -> Result<(), Error> {
    let body = Some(Body::Tick(Tick {}));
    let record = Record { accepted_at_ms: context.clock.now_ms(), body, ..Record::default() };
    append(&context.log, shard, std::iter::once(record)).await
}
