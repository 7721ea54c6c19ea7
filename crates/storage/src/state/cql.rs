//! State on CQL: redo logging with a fenced head row, as DESIGN section 4 and
//! `docs/adr/0006-cql-layout.md` have it.

mod blobs;
mod head_row;
mod heads;
mod owner;
mod place;
mod redo;
mod rows;
mod scan;
mod sources;
mod store;
mod tables;

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::{Mutex, mpsc, oneshot};

pub(crate) use self::head_row::HeadRow;
pub(crate) use self::heads::Advance;
use self::owner::{Answer, Request};
pub(crate) use self::place::Place;
pub(crate) use self::redo::Redo;
pub(crate) use self::scan::Way;
pub(crate) use self::sources::Sources;
pub(crate) use self::store::Store;
pub(crate) use self::tables::{Cells, MemoryTables, SessionTables, Tables};
use super::{Epoch, Group, Head, KeyRange, Shard, WriteSet};
use crate::error::no_partition;
use crate::marks::Mark;
use crate::{Error, Kind};

/// Between looks at how far another process has applied a shard.
const LOOK_MIN: Duration = Duration::from_millis(5);
const LOOK_MAX: Duration = Duration::from_millis(100);

/// The state store on a CQL cluster.
#[derive(Clone)]
pub struct CqlState {
    store: Arc<Store>,
    slots: Arc<BTreeMap<Shard, Slot>>,
    runtime: Handle,
}

/// What this process has of one shard.
#[derive(Default)]
struct Slot {
    /// To its tasks, which are started when they are first needed.
    owner: OnceLock<mpsc::Sender<Request>>,
    /// The `next_offset` below which everything can be read, as far as this process knows.
    applied: Arc<Mark>,
    /// Held by the one caller who asks the cluster for all that wait.
    looking: Mutex<()>,
}

impl CqlState {
    /// On the runtime this is called on.
    pub(crate) fn start(store: Arc<Store>) -> Self {
        let shards = (0..store.partitions())
            .flat_map(|partition| Group::ALL.map(|group| Shard { group, partition }));
        let slots = shards.map(|shard| (shard, Slot::default())).collect();
        Self { store, slots: Arc::new(slots), runtime: Handle::current() }
    }

    pub(crate) async fn acquire(&self, shard: Shard) -> Result<(Epoch, Head), Error> {
        self.ask("acquire", shard, |answer| Request::Acquire { answer }).await
    }

    pub(crate) async fn commit(
        &self,
        shard: Shard,
        epoch: Epoch,
        set: WriteSet,
    ) -> Result<(), Error> {
        self.ask("commit", shard, |answer| Request::Commit { epoch, set, answer }).await
    }

    pub(crate) async fn get(
        &self,
        shard: Shard,
        keys: &[Bytes],
    ) -> Result<Vec<Option<Bytes>>, Error> {
        self.store.rows.get(shard.into(), keys).await
    }

    pub(crate) async fn scan(
        &self,
        shard: Shard,
        range: &KeyRange,
        reverse: bool,
        limit: usize,
    ) -> Result<Vec<(Bytes, Bytes)>, Error> {
        let way = if reverse { Way::Down } else { Way::Up };
        self.store.rows.scan(shard.into(), range, way, limit).await
    }

    pub(crate) async fn head(&self, shard: Shard) -> Result<Head, Error> {
        let slot = self.slot("head", shard)?;
        if slot.owner.get().is_some() {
            return self.ask("head", shard, |answer| Request::Head { answer }).await;
        }
        let row = self.store.heads.read("head", shard.into()).await?;
        Ok(row.unwrap_or_default().head())
    }

    pub(crate) async fn committed(&self, shard: Shard, next_offset: u64) -> Result<(), Error> {
        let slot = self.slot("committed", shard)?;
        let mut pause = LOOK_MIN;
        loop {
            if slot.applied.get() >= next_offset {
                return Ok(());
            }
            tokio::select! {
                biased;
                () = slot.applied.reaches(next_offset) => return Ok(()),
                looking = slot.looking.lock() => {
                    self.look(shard, slot).await;
                    if slot.applied.get() < next_offset {
                        // Another caller's turn comes after the pause: one looks for all.
                        tokio::select! {
                            biased;
                            () = slot.applied.reaches(next_offset) => return Ok(()),
                            () = tokio::time::sleep(pause) => {}
                        }
                        pause = (pause * 2).min(LOOK_MAX);
                    }
                    drop(looking);
                }
            }
        }
    }

    /// Who waits for a cluster that is out of reach goes on waiting, as for a commit that does not
    /// come.
    async fn look(&self, shard: Shard, slot: &Slot) {
        match self.store.heads.applied(shard.into()).await {
            Ok(next_offset) => slot.applied.raise(next_offset),
            Err(e) => tracing::debug!(?shard, error = %e, "not known how far a shard is"),
        }
    }

    async fn ask<T>(
        &self,
        op: &'static str,
        shard: Shard,
        request: impl FnOnce(Answer<T>) -> Request,
    ) -> Result<T, Error> {
        let slot = self.slot(op, shard)?;
        let owner = slot.owner.get_or_init(|| {
            owner::start(shard, self.store.clone(), slot.applied.clone(), &self.runtime)
        });
        let (answer, answered) = oneshot::channel();
        owner.try_send(request(answer)).map_err(|_| Error::determinate(op, Kind::Full))?;
        let ended =
            |_| Error::indeterminate(op, Kind::Unavailable).because("the runtime has ended");
        answered.await.map_err(ended)?
    }

    fn slot(&self, op: &'static str, shard: Shard) -> Result<&Slot, Error> {
        self.slots.get(&shard).ok_or_else(|| no_partition(op))
    }
}
