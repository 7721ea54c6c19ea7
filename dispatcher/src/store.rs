//! Reads what the owner of a partition needs from the store, in bounded pieces.

use schemas::delivery_key::{self, DeliveryKey};
use storage::state::{KeyRange, Shard};
use storage::{Error, StateStore};

use crate::backoff::Backoff;
use crate::chain::chain;
use crate::expand::Due;
use crate::lanes::{LaneId, PageWanted, WINDOW_MAX};
use crate::rows::{self, Writes};

/// Finished deliveries that one step forgets.
const FORGET_MAX: usize = 512;

/// The endpoints that have pending deliveries: one short scan for each.
pub(crate) async fn lanes(state: &StateStore, shard: Shard) -> Result<Vec<LaneId>, Error> {
    let mut found = Vec::new();
    let (mut from, to) = delivery_key::due_all();
    loop {
        let range = KeyRange { from, to: to.clone() };
        let first = state.scan(shard, range, false, 1).await?.into_iter().next();
        let Some((_, key)) = first.and_then(|(key, _)| delivery_key::decode_due(&key)) else {
            return Ok(found);
        };
        let lane = LaneId::of(&key);
        found.push(lane);
        (_, from) = delivery_key::due_of(lane.scope, lane.endpoint);
    }
}

/// What a lane asked for, and whether that was all of it. Tries again while the store is away.
pub(crate) async fn page(
    state: &StateStore,
    shard: Shard,
    wanted: &PageWanted,
) -> (Vec<Due>, bool) {
    let mut backoff = Backoff::new();
    loop {
        let range = KeyRange { from: wanted.from.clone(), to: wanted.to.clone() };
        match state.scan(shard, range, false, WINDOW_MAX).await {
            Ok(found) => {
                let due = |(at_ms, key): (i64, DeliveryKey)| Due { at_ms, key };
                let complete = found.len() < WINDOW_MAX;
                let dues = found.iter().filter_map(|(key, _)| delivery_key::decode_due(key));
                return (dues.map(due).collect(), complete);
            }
            Err(e) => {
                tracing::warn!(
                    partition = shard.partition,
                    error = chain(&e),
                    "due deliveries cannot be read"
                );
                backoff.wait().await;
            }
        }
    }
}

/// What forgets deliveries that finished before `before_ms`, the oldest first, and whether there
/// may be more of them.
pub(crate) async fn forgettable(
    state: &StateStore,
    shard: Shard,
    before_ms: i64,
) -> Result<(Writes, bool), Error> {
    let (from, to) = delivery_key::finished_before(before_ms);
    let found = state.scan(shard, KeyRange { from, to }, false, FORGET_MAX).await?;
    let mut writes = Writes::new();
    for (finished_at_ms, key) in found.iter().filter_map(|(k, _)| delivery_key::decode_finished(k))
    {
        rows::forget(finished_at_ms, &key, &mut writes);
    }
    Ok((writes, found.len() == FORGET_MAX))
}
