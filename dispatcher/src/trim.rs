//! Lets go of outcomes and clicks that everyone has followed and that are older than the retention, so
//! that the logs do not grow for ever.

use std::sync::Arc;
use std::time::Duration;

use prost::Message;
use schemas::proto::{Click, Outcome};
use serve::Shutdown;
use storage::analytics::Source;
use storage::state::{Group, Shard};
use storage::{Analytics, Error, Topic};

use crate::chain::chain;
use crate::partition::Shared;

/// How often the logs are looked at.
const EVERY: Duration = Duration::from_secs(60);

/// Trims the partitions of this process, again and again, until `shutdown`.
pub(crate) async fn run(shared: Arc<Shared>, analytics: Analytics, shutdown: Shutdown) {
    loop {
        tokio::select! {
            biased;
            () = shutdown.requested() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
        if let Err(error) = pass(&shared, &analytics).await {
            tracing::warn!(error = chain(&error), "logs are not trimmed for now");
        }
    }
}

/// One look at both logs.
pub(crate) async fn pass(shared: &Shared, analytics: &Analytics) -> Result<(), Error> {
    for partition in shared.board.owned() {
        let shard = Shard { group: Group::Webhooks, partition };
        let webhooks = shared.state.head(shard).await?.next_offset;
        let counted = analytics.position(Source::Outcomes, partition).await?.next;
        let clicks = analytics.position(Source::Clicks, partition).await?.next;
        // A position that a power cut could take back must not be trimmed to.
        analytics.sync().await?;
        trim(shared, Topic::Outcomes, partition, webhooks.min(counted)).await?;
        trim(shared, Topic::Clicks, partition, clicks).await?;
    }
    Ok(())
}

async fn trim(shared: &Shared, topic: Topic, partition: u16, followed: u64) -> Result<(), Error> {
    let bounds = shared.log.bounds(topic, partition).await?;
    if followed <= bounds.start {
        return Ok(());
    }
    let retention = i64::try_from(shared.config.log_retention.as_ms()).unwrap_or(i64::MAX);
    let horizon_ms = shared.clock.now_ms().saturating_sub(retention);
    // One that cannot be read counts as new: then less is let go of this time, and none too early.
    let is_old = |bytes| written_at_ms(topic, bytes).is_some_and(|at_ms| at_ms < horizon_ms);
    let offsets = bounds.start..followed.min(bounds.end);
    let before = shared.log.partition_point(topic, partition, offsets, is_old).await?;
    if before > bounds.start {
        shared.log.trim(topic, partition, before).await?;
    }
    Ok(())
}

/// When a record was caused; `None` where it cannot be read.
fn written_at_ms(topic: Topic, bytes: bytes::Bytes) -> Option<i64> {
    match topic {
        Topic::Clicks => Click::decode(bytes).ok().map(|click| click.clicked_at_ms),
        _ => Outcome::decode(bytes).ok().map(|outcome| outcome.accepted_at_ms),
    }
}
