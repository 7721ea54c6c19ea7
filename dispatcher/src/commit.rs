//! Makes a write set durable, or finds out that someone else owns the shard.

use storage::state::{Epoch, Shard, WriteSet};
use storage::{Certainty, Error, Kind, StateStore};

use crate::backoff::Backoff;
use crate::chain::chain;

/// The shard is no longer ours, or its rows are damaged: give up what is in memory.
#[derive(Debug, thiserror::Error)]
#[error("the shard is lost")]
pub(crate) struct Lost(#[from] Error);

/// Commits `set`, trying again for as long as the store is away.
///
/// Whether an attempt of unknown result happened is read from the head, so that the set is applied
/// exactly once.
pub(crate) async fn commit(
    state: &StateStore,
    shard: Shard,
    epoch: Epoch,
    set: WriteSet,
) -> Result<(), Lost> {
    let mut backoff = Backoff::new();
    let mut unknown = false;
    loop {
        if unknown && happened(state, shard, set.seq).await {
            return Ok(());
        }
        match state.commit(shard, epoch, set.clone()).await {
            Ok(()) => return Ok(()),
            Err(e) if matches!(e.kind, Kind::Fenced | Kind::Corrupt) => return Err(Lost(e)),
            Err(e) => {
                unknown |= e.certainty == Certainty::Indeterminate;
                let seq = set.seq;
                tracing::warn!(
                    partition = shard.partition,
                    seq,
                    error = chain(&e),
                    "commit failed, trying again"
                );
                backoff.wait().await;
            }
        }
    }
}

/// Is the head at `seq`? It cannot be beyond: sets are committed one at a time.
async fn happened(state: &StateStore, shard: Shard, seq: u64) -> bool {
    let mut backoff = Backoff::new();
    loop {
        match state.head(shard).await {
            Ok(head) => return head.seq == seq,
            Err(e) => {
                tracing::warn!(
                    partition = shard.partition,
                    error = chain(&e),
                    "head cannot be read, trying again"
                );
                backoff.wait().await;
            }
        }
    }
}
