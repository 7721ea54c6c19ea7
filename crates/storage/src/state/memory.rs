//! State in memory; see [`crate::memory`].

use bytes::Bytes;
use tokio::task::yield_now;

use super::head::Ownership;
use super::{Epoch, Head, KeyRange, Shard, WriteSet};
use crate::error::no_partition;
use crate::fault::{Faults, Op};
use crate::marks::Mark;
use crate::memory::Handle;
use crate::memory::contents::{Contents, WrittenSet};
use crate::memory::journal::Ticket;
use crate::{Certainty, Error, Kind};

/// The state store in memory.
#[derive(Clone)]
pub struct MemoryState {
    handle: Handle,
}

impl MemoryState {
    pub(crate) fn new(handle: Handle) -> Self {
        Self { handle }
    }

    pub(crate) fn following(mut self, faults: &Faults) -> Self {
        self.handle.faults = faults.clone();
        self
    }

    pub(crate) fn crash(&self) {
        self.handle.crash();
    }

    pub(crate) async fn acquire(&self, shard: Shard) -> Result<(Epoch, Head), Error> {
        self.mark("acquire", shard)?;
        let (row, ticket) = {
            let mut contents = self.handle.contents("acquire")?;
            let row = contents.latest(shard).acquired();
            (row, write(&mut contents, shard, row, WriteSet::default()))
        };
        self.finish(Op::Acquire, ticket).await?;
        Ok((Epoch(row.epoch), row.head))
    }

    pub(crate) async fn commit(
        &self,
        shard: Shard,
        epoch: Epoch,
        set: WriteSet,
    ) -> Result<(), Error> {
        self.mark("commit", shard)?;
        let ticket = {
            let mut contents = self.handle.contents("commit")?;
            let row = contents.latest(shard).committed(epoch, &set)?;
            write(&mut contents, shard, row, set)
        };
        self.finish(Op::Commit, ticket).await
    }

    /// Syncs what was written under this ticket, with whatever else is waiting.
    async fn finish(&self, op: Op, ticket: Ticket) -> Result<(), Error> {
        self.handle.written(op, |contents| contents.state.forget()).await?;
        yield_now().await;
        {
            let mut contents = self.alive(op)?;
            if contents.state.is_forgotten(ticket) {
                return Err(Error::indeterminate(op.as_str(), Kind::Unavailable));
            }
            contents.sync_state(&self.handle.disk);
        }
        yield_now().await;
        self.alive(op).map(drop)
    }

    /// After something was written, the death of the process leaves its fate unknown.
    fn alive(&self, op: Op) -> Result<std::sync::MutexGuard<'_, Contents>, Error> {
        let contents = self.handle.contents(op.as_str());
        contents.map_err(|e| e.with(Certainty::Indeterminate))
    }

    pub(crate) fn get(&self, shard: Shard, keys: &[Bytes]) -> Result<Vec<Option<Bytes>>, Error> {
        let contents = self.handle.contents("get")?;
        let stored = contents.shards.get(&shard);
        Ok(keys.iter().map(|key| stored?.rows.get(key).cloned()).collect())
    }

    pub(crate) fn scan(
        &self,
        shard: Shard,
        range: &KeyRange,
        reverse: bool,
        limit: usize,
    ) -> Result<Vec<(Bytes, Bytes)>, Error> {
        let contents = self.handle.contents("scan")?;
        let Some(stored) = contents.shards.get(&shard).filter(|_| range.from < range.to) else {
            return Ok(Vec::new());
        };
        let rows = stored.rows.range(range.from.clone()..range.to.clone());
        let row = |(key, value): (&Bytes, &Bytes)| (key.clone(), value.clone());
        Ok(match reverse {
            false => rows.take(limit).map(row).collect(),
            true => rows.rev().take(limit).map(row).collect(),
        })
    }

    pub(crate) fn head(&self, shard: Shard) -> Result<Head, Error> {
        self.mark("head", shard)?;
        let contents = self.handle.contents("head")?;
        Ok(contents.shards.get(&shard).map(|stored| stored.row.head).unwrap_or_default())
    }

    pub(crate) async fn committed(&self, shard: Shard, next_offset: u64) -> Result<(), Error> {
        self.mark("committed", shard)?.reaches(next_offset).await;
        Ok(())
    }

    fn mark(&self, op: &'static str, shard: Shard) -> Result<&Mark, Error> {
        self.handle.disk.next_offset(shard).ok_or_else(|| no_partition(op))
    }
}

fn write(contents: &mut Contents, shard: Shard, row: Ownership, set: WriteSet) -> Ticket {
    let WriteSet { rows, outcomes, .. } = set;
    contents.state.write(WrittenSet { shard, row, rows, outcomes })
}
