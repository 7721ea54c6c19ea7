//! A log that follows a script of failures; see [`crate::fault`].

use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::watch;

use super::{Assignments, Bounds, EventLog, LogRecord, ReadLimit, Topic};
use crate::Error;
use crate::fault::{Faults, Op, Process};

/// What a reader takes a record for.
type Sight = Arc<dyn Fn(Topic, Bytes) -> Bytes + Send + Sync>;

/// Any log, with scripted failures. Calls are boxed because they go to the enum this is a variant of.
#[derive(Clone)]
pub struct FaultLog {
    inner: Box<EventLog>,
    process: Arc<Process>,
    sight: Option<Sight>,
    /// What it works on, where the inner log does not say.
    assigned: Option<watch::Receiver<Vec<u16>>>,
}

impl FaultLog {
    pub(crate) fn new(
        inner: EventLog,
        process: Arc<Process>,
        assigned: Option<watch::Receiver<Vec<u16>>>,
    ) -> Self {
        Self { inner: Box::new(inner), process, sight: None, assigned }
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
        let read = Box::pin(self.inner.read(topic, partition, from, limit));
        let mut records = self.run(Op::Read, read).await?;
        if let Some(sight) = &self.sight {
            for record in &mut records {
                record.bytes = sight(topic, std::mem::take(&mut record.bytes));
            }
        }
        Ok(records)
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

    /// Boxed as a whole, so that it is known to be `Send` when it goes to itself.
    pub(crate) fn publish(
        &self,
        partition: u16,
        first_seq: u64,
        outcomes: Vec<Bytes>,
    ) -> BoxFuture<'_, Result<(), Error>> {
        let inner = self.inner.clone();
        let call = async move { inner.publish(partition, first_seq, outcomes).await };
        self.process.send(Op::Publish, || self.inner.crash(), call).boxed()
    }

    pub(crate) fn assignments(&self, group: &'static str) -> Assignments {
        match &self.assigned {
            Some(assigned) => Assignments::scripted(assigned.clone()),
            None => self.inner.assignments(group),
        }
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
    /// The same log for a reader that takes its records for what `sight` makes of them, as an older
    /// program does that does not know all kinds of them.
    #[must_use]
    pub fn seen_as(self, sight: impl Fn(Topic, Bytes) -> Bytes + Send + Sync + 'static) -> Self {
        let process = Faults::default().process();
        let log = FaultLog::new(self, process, None);
        Self::Fault(FaultLog { sight: Some(Arc::new(sight)), ..log })
    }

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
