//! The log in fjall files: one writer thread, one value per partition and group commit.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use fjall::KeyspaceCreateOptions;

use super::{Bounds, LogRecord, ReadLimit, Topic};
use crate::embedded::disk::{Disk, Layout};
use crate::embedded::extents::Extents;
use crate::embedded::format::Format;
use crate::embedded::inbox::{Inbox, Job};
use crate::embedded::segments::Segment;
use crate::embedded::writer::{Answer, Writer, reply};
use crate::embedded::{OpenOptions, batch};
use crate::error::no_partition;
use crate::marks::Extent;
use crate::state::EmbeddedState;
use crate::{Error, Kind, metrics};

/// What metrics and threads call it.
const NAME: &str = "log";
/// Bytes of log blocks kept in memory: consumers read near the end, which memtables hold.
const CACHE_BYTES: u64 = 16 * 1024 * 1024;
/// Bounds memory and the replay at start.
const MEMTABLE_BYTES: u64 = 32 * 1024 * 1024;
/// Index of the one keyspace.
const RECORDS: usize = 0;

fn records_options() -> KeyspaceCreateOptions {
    KeyspaceCreateOptions::default().max_memtable_size(MEMTABLE_BYTES)
}

/// The embedded event log.
#[derive(Clone)]
pub struct EmbeddedLog {
    shared: Arc<Shared>,
    writer: Arc<Writer<Request>>,
    /// Keeps the topic that is written with the state.
    state: EmbeddedState,
}

/// What readers and the writer thread both look at.
struct Shared {
    disk: Disk,
    format: Format,
    extents: Extents,
}

impl Shared {
    fn load(disk: Disk, format: Format) -> Result<Self, Error> {
        let shared = Self { extents: Extents::new(&Topic::ALL, format.partitions), disk, format };
        shared.reload("open")?;
        Ok(shared)
    }

    /// Makes what is kept in memory true again after the database was recovered in place: a write
    /// of unknown result may be there or not.
    fn reload(&self, op: &'static str) -> Result<(), Error> {
        self.disk.reload(op, |open| self.extents.load(&open.keyspaces[RECORDS]))
    }
}

/// An opened log whose writer has not started.
pub(crate) struct OpenedLog(Shared);

impl OpenedLog {
    /// Whether nothing was ever appended.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.extents.is_empty()
    }

    /// The facts fixed at creation.
    pub(crate) fn format(&self) -> Format {
        self.0.format
    }

    /// Starts the writer thread.
    pub(crate) fn start(self, state: EmbeddedState) -> Result<EmbeddedLog, Error> {
        let shared = Arc::new(self.0);
        let run = Run { shared: shared.clone() };
        let writer = Arc::new(Writer::start(NAME, |inbox| run.run(&inbox))?);
        Ok(EmbeddedLog { shared, writer, state })
    }
}

impl EmbeddedLog {
    /// Opens or creates the log's database.
    pub(crate) fn open(dir: &Path, options: &OpenOptions) -> Result<OpenedLog, Error> {
        let layout = Layout {
            name: NAME,
            keyspaces: &[("records", records_options)],
            cache_bytes: CACHE_BYTES,
            min_free_bytes: options.min_free_bytes,
        };
        let disk = Disk::open(dir, layout)?;
        let format = Format::of(&disk, options.format())?;
        Ok(OpenedLog(Shared::load(disk, format)?))
    }

    pub(crate) fn partitions(&self) -> u16 {
        self.shared.format.partitions
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
        let bytes = records.iter().map(|(_, bytes)| bytes.len()).sum();
        self.writer
            .ask("append", |answer| Request::Append(Append { topic, records, bytes, answer }))
            .await
    }

    pub(crate) fn read(
        &self,
        topic: Topic,
        partition: u16,
        from: u64,
        limit: ReadLimit,
    ) -> Result<Vec<LogRecord>, Error> {
        if topic == Topic::Outcomes {
            return self.state.read_outcomes(partition, from, limit);
        }
        let shared = &self.shared;
        shared.disk.read("read", |open| {
            shared.extents.read(&open.keyspaces[RECORDS], topic, partition, from, limit)
        })
    }

    pub(crate) async fn wait(&self, topic: Topic, partition: u16, from: u64) {
        match self.extent(topic, partition) {
            Some(extent) => extent.end.reaches(from.saturating_add(1)).await,
            None => std::future::pending().await,
        }
    }

    pub(crate) fn bounds(&self, topic: Topic, partition: u16) -> Result<Bounds, Error> {
        let extent = self.extent(topic, partition).ok_or_else(|| no_partition("bounds"))?;
        match topic {
            Topic::Outcomes => self.state.check_loaded("bounds")?,
            _ => self.shared.disk.check_loaded("bounds")?,
        }
        let identity = self.shared.format.identity;
        Ok(Bounds { identity, start: extent.start.get(), end: extent.end.get() })
    }

    pub(crate) async fn trim(
        &self,
        topic: Topic,
        partition: u16,
        before: u64,
    ) -> Result<(), Error> {
        if topic == Topic::Outcomes {
            return self.state.trim_outcomes(partition, before).await;
        }
        self.extent(topic, partition).ok_or_else(|| no_partition("trim"))?;
        let ask = || {
            self.writer
                .ask("trim", |answer| Request::Trim(Trim { topic, partition, before, answer }))
        };
        while !ask().await? {}
        Ok(())
    }

    fn extent(&self, topic: Topic, partition: u16) -> Option<&Extent> {
        match topic {
            Topic::Outcomes => self.state.outcomes_extent(partition),
            _ => self.shared.extents.get(topic, partition),
        }
    }
}

enum Request {
    Append(Append),
    Trim(Trim),
}

struct Append {
    topic: Topic,
    records: Vec<(u16, Bytes)>,
    bytes: usize,
    answer: Answer<Vec<u64>>,
}

/// One step of a trim; the answer says whether it is complete.
struct Trim {
    topic: Topic,
    partition: u16,
    before: u64,
    answer: Answer<bool>,
}

impl Job for Request {
    fn weight(&self) -> usize {
        match self {
            Self::Append(append) => append.bytes,
            Self::Trim(_) => 0,
        }
    }
}

/// The writer thread.
struct Run {
    shared: Arc<Shared>,
}

impl Run {
    fn run(self, inbox: &Inbox<Request>) {
        let mut group = Vec::new();
        while inbox.fill(&mut group) {
            let mut appends = Vec::with_capacity(group.len());
            for request in group.drain(..) {
                match request {
                    Request::Append(append) => appends.push(append),
                    Request::Trim(trim) => {
                        let result = self.trim(&trim);
                        reply(trim.answer, result);
                    }
                }
            }
            if !appends.is_empty() {
                self.append(appends);
            }
        }
    }

    fn append(&self, mut appends: Vec<Append>) {
        metrics::grouped(NAME, appends.len());
        match self.write(&mut appends) {
            Ok(offsets) => {
                for (append, offsets) in appends.into_iter().zip(offsets) {
                    reply(append.answer, Ok(offsets));
                }
            }
            Err(e) => {
                self.failed(&e);
                for append in appends {
                    reply(append.answer, Err(e.again()));
                }
            }
        }
    }

    /// Writes the group and lets readers see it; the offsets by append.
    fn write(&self, appends: &mut [Append]) -> Result<Vec<Vec<u64>>, Error> {
        self.refresh("append", appends.len())?;
        let shared = &self.shared;
        let staged = Staged::new(&shared.extents, appends);
        shared.disk.write("append", |open, batch| {
            for ((topic, partition), staged) in &staged.partitions {
                let key = Segment::new(*topic, *partition).key(staged.first);
                batch.insert(&open.keyspaces[RECORDS], key, batch::encode(&staged.records));
            }
        })?;
        staged.publish(&shared.extents);
        Ok(staged.offsets)
    }

    fn trim(&self, trim: &Trim) -> Result<bool, Error> {
        self.refresh("trim", 1)?;
        let segment = Segment::new(trim.topic, trim.partition);
        let Some(extent) = self.shared.extents.get(trim.topic, trim.partition) else {
            return Err(no_partition("trim"));
        };
        let result = segment.trim(&self.shared.disk, RECORDS, extent, trim.before);
        result.inspect_err(|e| self.failed(e))
    }

    /// Before the error is answered: who is told that his write may have happened must be able to
    /// see whether it did.
    fn failed(&self, e: &Error) {
        if let Err(e) = self.shared.reload(e.op) {
            tracing::error!(error = %e, "log bounds not loaded again");
        }
    }

    /// Sees that a write can go ahead.
    fn refresh(&self, op: &'static str, requests: usize) -> Result<(), Error> {
        self.shared.disk.prepare(op, Kind::Full, requests)?;
        self.shared.reload(op)
    }
}

/// A group of appends with their offsets.
struct Staged {
    partitions: BTreeMap<(Topic, u16), StagedPartition>,
    /// By append, in its order.
    offsets: Vec<Vec<u64>>,
}

struct StagedPartition {
    first: u64,
    records: Vec<Bytes>,
}

impl Staged {
    /// Takes the records out of the appends.
    fn new(extents: &Extents, appends: &mut [Append]) -> Self {
        let mut partitions = BTreeMap::new();
        let offsets = appends.iter_mut().map(|append| {
            let records = std::mem::take(&mut append.records).into_iter();
            let offsets = records.map(|(partition, bytes)| {
                let to = partitions.entry((append.topic, partition)).or_insert_with(|| {
                    let first = extents.get(append.topic, partition).map_or(0, |e| e.end.get());
                    StagedPartition { first, records: Vec::new() }
                });
                to.records.push(bytes);
                to.first + to.records.len() as u64 - 1
            });
            offsets.collect()
        });
        let offsets = offsets.collect();
        Self { partitions, offsets }
    }

    /// Lets readers see them.
    fn publish(&self, extents: &Extents) {
        for ((topic, partition), staged) in &self.partitions {
            if let Some(extent) = extents.get(*topic, *partition) {
                extent.end.set(staged.first + staged.records.len() as u64);
            }
        }
    }
}

#[cfg(test)]
mod tests;
