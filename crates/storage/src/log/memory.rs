//! The log in memory; see [`crate::memory`].

use std::collections::BTreeMap;

use bytes::Bytes;
use tokio::sync::watch;
use tokio::task::yield_now;

use super::{Assignments, Bounds, LogRecord, ReadLimit, Topic};
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
    /// What the process works on; `None`: all of it.
    assigned: Option<watch::Receiver<Vec<u16>>>,
}

impl MemoryLog {
    pub(crate) fn new(handle: Handle, assigned: Option<watch::Receiver<Vec<u16>>>) -> Self {
        Self { handle, assigned }
    }

    pub(crate) fn assignments(&self) -> Assignments {
        match &self.assigned {
            Some(assigned) => Assignments::scripted(assigned.clone()),
            None => Assignments::all(self.partitions()),
        }
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

    pub(crate) async fn publish(
        &self,
        partition: u16,
        first_seq: u64,
        outcomes: Vec<Bytes>,
    ) -> Result<(), Error> {
        self.extent("publish", Topic::Outcomes, partition)?;
        self.handle.contents("publish").map(drop)?;
        yield_now().await;
        self.store_outcomes(partition, first_seq, outcomes)?;
        yield_now().await;
        self.alive().map(drop)
    }

    fn store_outcomes(
        &self,
        partition: u16,
        first_seq: u64,
        outcomes: Vec<Bytes>,
    ) -> Result<(), Error> {
        let mut contents = self.handle.contents("publish")?;
        contents.publish(&self.handle.disk, partition, first_seq, outcomes)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::EventLog;
    use crate::memory::Memory;

    fn outcomes(from: u64, to: u64) -> Vec<Bytes> {
        (from..to).map(|seq| Bytes::from(format!("outcome {seq}"))).collect()
    }

    async fn published(log: &EventLog) -> Vec<Bytes> {
        let all = ReadLimit { records: usize::MAX, bytes: usize::MAX };
        let read = log.read(Topic::Outcomes, 1, 0, all).await.unwrap();
        read.into_iter().map(|record| record.bytes).collect()
    }

    #[tokio::test]
    async fn published_outcomes_continue_the_end_whatever_is_repeated() {
        let (log, _) = Memory::new(2, 7).open();
        log.publish(1, 0, outcomes(0, 3)).await.unwrap();
        log.publish(1, 1, outcomes(1, 5)).await.unwrap();
        log.publish(1, 0, outcomes(0, 2)).await.unwrap();
        assert_eq!(published(&log).await, outcomes(0, 5));
        let e = log.publish(1, 6, outcomes(6, 7)).await.unwrap_err();
        assert_eq!((e.kind, e.certainty), (Kind::Conflict, Certainty::Determinate));
        let e = log.publish(2, 0, outcomes(0, 1)).await.unwrap_err();
        assert_eq!(e.kind, Kind::OutOfRange);
        assert_eq!(published(&log).await, outcomes(0, 5));
    }
}
