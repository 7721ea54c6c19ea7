//! The log in memory; see [`crate::memory`].

use std::collections::BTreeMap;

use bytes::Bytes;
use tokio::task::yield_now;

use super::{Bounds, LogRecord, ReadLimit, Topic};
use crate::error::no_partition;
use crate::fault::{Faults, Op};
use crate::marks::Extent;
use crate::memory::Handle;
use crate::memory::contents::{Contents, WrittenAppend};
use crate::memory::journal::Ticket;
use crate::{Certainty, Error, Kind};

/// The event log in memory.
#[derive(Clone)]
pub struct MemoryLog {
    handle: Handle,
}

impl MemoryLog {
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

    pub(crate) fn partitions(&self) -> u16 {
        self.handle.disk.partitions
    }

    pub(crate) async fn append(
        &self,
        topic: Topic,
        records: Vec<(u16, Bytes)>,
    ) -> Result<Vec<u64>, Error> {
        super::check_append(topic, &records, self.partitions())?;
        if records.is_empty() {
            return Ok(Vec::new());
        }
        let (offsets, ticket) = self.write(topic, records)?;
        self.handle.written(Op::Append, |contents| contents.log.forget()).await?;
        yield_now().await;
        self.sync(ticket)?;
        yield_now().await;
        self.alive().map(|_| offsets)
    }

    fn write(&self, topic: Topic, records: Vec<(u16, Bytes)>) -> Result<(Vec<u64>, Ticket), Error> {
        let mut contents = self.handle.contents("append")?;
        let mut partitions: BTreeMap<u16, Vec<Bytes>> = BTreeMap::new();
        let offsets = records.into_iter().map(|(partition, bytes)| {
            let batch = partitions.entry(partition).or_default();
            batch.push(bytes);
            let first = contents.next_offset(&self.handle.disk, topic, partition);
            first + batch.len() as u64 - 1
        });
        let offsets = offsets.collect();
        Ok((offsets, contents.log.write(WrittenAppend { topic, partitions })))
    }

    fn sync(&self, ticket: Ticket) -> Result<(), Error> {
        let mut contents = self.alive()?;
        if contents.log.is_forgotten(ticket) {
            return Err(Error::indeterminate("append", Kind::Unavailable));
        }
        contents.sync_log(&self.handle.disk);
        Ok(())
    }

    /// After something was written, the death of the process leaves its fate unknown.
    fn alive(&self) -> Result<std::sync::MutexGuard<'_, Contents>, Error> {
        let contents = self.handle.contents("append");
        contents.map_err(|e| e.with(Certainty::Indeterminate))
    }

    pub(crate) fn read(
        &self,
        topic: Topic,
        partition: u16,
        from: u64,
        limit: ReadLimit,
    ) -> Result<Vec<LogRecord>, Error> {
        let extent = self.extent("read", topic, partition)?;
        let contents = self.handle.contents("read")?;
        if from < extent.start.get() || from > extent.end.get() {
            return Err(Error::determinate("read", Kind::OutOfRange));
        }
        Ok(contents.read(topic, partition, from, limit))
    }

    pub(crate) async fn wait(&self, topic: Topic, partition: u16, from: u64) {
        match self.handle.disk.extent(topic, partition) {
            Some(extent) => extent.end.reaches(from.saturating_add(1)).await,
            None => std::future::pending().await,
        }
    }

    pub(crate) fn bounds(&self, topic: Topic, partition: u16) -> Result<Bounds, Error> {
        let extent = self.extent("bounds", topic, partition)?;
        let identity = self.handle.disk.identity;
        Ok(Bounds { identity, start: extent.start.get(), end: extent.end.get() })
    }

    pub(crate) async fn trim(
        &self,
        topic: Topic,
        partition: u16,
        before: u64,
    ) -> Result<(), Error> {
        self.extent("trim", topic, partition)?;
        yield_now().await;
        self.handle.contents("trim")?.trim(&self.handle.disk, topic, partition, before);
        yield_now().await;
        Ok(())
    }

    fn extent(&self, op: &'static str, topic: Topic, partition: u16) -> Result<&Extent, Error> {
        self.handle.disk.extent(topic, partition).ok_or_else(|| no_partition(op))
    }
}
