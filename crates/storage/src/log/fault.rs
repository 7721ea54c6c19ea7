//! A log that follows a script of failures; see [`crate::fault`].

use std::sync::Arc;

use bytes::Bytes;

use super::{Assignments, Bounds, EventLog, LogRecord, ReadLimit, Topic};
use crate::Error;
use crate::fault::{Faults, Op, Process};

/// Any log, with scripted failures. Calls are boxed because they go to the enum this is a variant of.
#[derive(Clone)]
pub struct FaultLog {
    inner: Box<EventLog>,
    process: Arc<Process>,
}

impl FaultLog {
    pub(crate) fn new(inner: EventLog, process: Arc<Process>) -> Self {
        Self { inner: Box::new(inner), process }
    }

    pub(crate) fn partitions(&self) -> u16 {
        self.inner.partitions()
    }

    pub(crate) async fn append(
        &self,
        topic: Topic,
        records: Vec<(u16, Bytes)>,
    ) -> Result<Vec<u64>, Error> {
        self.run(Op::Append, Box::pin(self.inner.append(topic, records))).await
    }

    pub(crate) async fn read(
        &self,
        topic: Topic,
        partition: u16,
        from: u64,
        limit: ReadLimit,
    ) -> Result<Vec<LogRecord>, Error> {
        self.run(Op::Read, Box::pin(self.inner.read(topic, partition, from, limit))).await
    }

    pub(crate) async fn wait(&self, topic: Topic, partition: u16, from: u64) {
        Box::pin(self.inner.wait(topic, partition, from)).await;
    }

    pub(crate) async fn bounds(&self, topic: Topic, partition: u16) -> Result<Bounds, Error> {
        self.run(Op::Bounds, Box::pin(self.inner.bounds(topic, partition))).await
    }

    pub(crate) async fn trim(
        &self,
        topic: Topic,
        partition: u16,
        before: u64,
    ) -> Result<(), Error> {
        self.run(Op::Trim, Box::pin(self.inner.trim(topic, partition, before))).await
    }

    pub(crate) async fn publish(
        &self,
        partition: u16,
        first_seq: u64,
        outcomes: Vec<Bytes>,
    ) -> Result<(), Error> {
        let call = Box::pin(self.inner.publish(partition, first_seq, outcomes));
        self.run(Op::Publish, call).await
    }

    pub(crate) fn assignments(&self, group: &'static str) -> Assignments {
        self.inner.assignments(group)
    }

    async fn run<T>(
        &self,
        op: Op,
        call: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        self.process.run(op, || self.inner.crash(), call).await
    }
}

impl EventLog {
    /// The same log, asking the script at steps only the backend knows of.
    pub(crate) fn following(self, faults: &Faults) -> Self {
        match self {
            Self::Memory(log) => Self::Memory(log.following(faults)),
            other => other,
        }
    }

    /// Forgets what was not synced, where there is such a thing.
    fn crash(&self) {
        if let Self::Memory(log) = self {
            log.crash();
        }
    }
}
