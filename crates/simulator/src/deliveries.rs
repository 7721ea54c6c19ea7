//! Webhook deliveries as they stand in the state store.

use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use schemas::proto::DeliveryRow;
use storage::error::Error;
use storage::log::Topic;
use storage::state::{Group, KeyRange, Shard};
use storage::{EventLog, StateStore};

use crate::world::PARTITIONS;

/// The first byte of a delivery's key, and the byte after it.
const KIND: (&[u8], &[u8]) = (&[1], &[2]);
/// How often it is looked whether all are finished.
const LOOK_EVERY: Duration = Duration::from_secs(600);

/// Every delivery of a partition.
pub(crate) async fn all(state: &StateStore, partition: u16) -> Result<Vec<DeliveryRow>, Error> {
    let shard = Shard { group: Group::Webhooks, partition };
    let range = KeyRange { from: Bytes::from_static(KIND.0), to: Bytes::from_static(KIND.1) };
    let rows = state.scan(shard, range, false, usize::MAX).await?;
    Ok(rows.into_iter().filter_map(|(_, row)| DeliveryRow::decode(row).ok()).collect())
}

/// Returns once all outcomes were taken in and no delivery is pending.
pub(crate) async fn finished(log: &EventLog, state: &StateStore) {
    for partition in 0..PARTITIONS {
        while !is_finished(log, state, partition).await.unwrap_or(false) {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

async fn is_finished(log: &EventLog, state: &StateStore, partition: u16) -> Result<bool, Error> {
    let shard = Shard { group: Group::Webhooks, partition };
    let end = log.bounds(Topic::Outcomes, partition).await?.end;
    let taken = state.head(shard).await?.next_offset;
    let rows = all(state, partition).await?;
    Ok(taken == end && rows.iter().all(|row| row.status != "pending"))
}
