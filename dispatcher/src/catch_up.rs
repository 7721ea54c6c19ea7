//! Takes in what is decided and clicked, and sends nothing: what a store that is about to be closed
//! needs, so that nothing is left that only its logs know.

use std::sync::Arc;

use storage::state::{Group, Shard, WriteSet};
use storage::{Analytics, Error};

use crate::analytics::{self, Follower};
use crate::board::Consumer;
use crate::commit::{Lost, commit};
use crate::follow::{self, Expanded};
use crate::notice::Place;
use crate::partition::{self, Shared};
use crate::{DispatcherParts, chain};

/// What keeps a consumer from the end of its log.
#[derive(Debug, thiserror::Error)]
#[error("{consumer} of partition {partition} cannot be followed to the end: {why}")]
pub struct Behind {
    consumer: &'static str,
    partition: u16,
    why: String,
}

/// Makes the deliveries of all outcomes, and counts all outcomes and clicks, as of now. Nobody else may
/// be working on these stores.
///
/// # Errors
/// Where one of them cannot be; what was done stays done.
pub async fn catch_up(parts: DispatcherParts) -> Result<(), Behind> {
    let (shared, analytics) = parts.shared();
    for partition in 0..shared.log.partitions() {
        for consumer in Consumer::ALL {
            one(&shared, &analytics, consumer, partition).await.map_err(|why| Behind {
                consumer: consumer.as_str(),
                partition,
                why,
            })?;
        }
    }
    analytics.sync().await.map_err(|e| Behind {
        consumer: "analytics",
        partition: 0,
        why: chain::chain(&e),
    })
}

async fn one(
    shared: &Arc<Shared>,
    analytics: &Analytics,
    consumer: Consumer,
    partition: u16,
) -> Result<(), String> {
    match consumer.source() {
        None => deliveries(shared, partition).await.map_err(|e| chain::chain(&e)),
        Some(source) => {
            let (shared, analytics) = (shared.clone(), analytics.clone());
            let follower = Follower { shared, analytics, consumer, source, partition };
            follower.catch_up().await.map_err(|e: analytics::Failure| chain::chain(&e))
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("the shard cannot be read or written")]
    Storage(#[from] Error),
    #[error("outcomes cannot be expanded")]
    Follow(#[from] follow::Failure),
    #[error(transparent)]
    Lost(#[from] Lost),
}

async fn deliveries(shared: &Shared, partition: u16) -> Result<(), Failure> {
    let shard = Shard { group: Group::Webhooks, partition };
    let (epoch, mut head) = partition::acquire(shared, shard).await?;
    loop {
        let from = Place { identity: head.log_identity, partition, offset: head.next_offset };
        let Expanded { next, as_of_ms, writes, .. } = follow::read(shared, from).await?;
        if next == head.next_offset {
            return Ok(());
        }
        head.seq += 1;
        head.next_offset = next;
        head.fold_time_ms = head.fold_time_ms.max(as_of_ms);
        let set = WriteSet {
            seq: head.seq,
            next_offset: head.next_offset,
            log_identity: head.log_identity,
            fold_time_ms: head.fold_time_ms,
            rows: writes,
            outcomes: Vec::new(),
        };
        commit(&shared.state, shard, epoch, set).await?;
    }
}
