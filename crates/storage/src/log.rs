//! The event log: topics cut into partitions, each a dense sequence of opaque records.
//!
//! The contract stands on [`EventLog`]'s methods, once; `tests/it/log.rs` has a case for each
//! sentence of it, and every backend passes all of them.

mod assignments;
mod embedded;
mod fault;
mod kafka;
mod memory;

use bytes::Bytes;

pub use self::assignments::Assignments;
pub use self::embedded::EmbeddedLog;
pub use self::fault::FaultLog;
pub use self::kafka::KafkaLog;
pub(crate) use self::kafka::Quiet;
pub(crate) use self::kafka::metadata::{self, TopicFacts};
pub use self::memory::MemoryLog;
use crate::error::no_partition;
use crate::{Error, Kind};

/// What a sequence of records is about. All topics have the same number of partitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Topic {
    /// Conversion events and commands, in the order they are folded.
    Events,
    /// What was decided. Written only by [`crate::StateStore::commit`], read here. Offsets are the
    /// outcomes' own numbers, also where a broker may hold one twice.
    Outcomes,
    /// Redirects through links.
    Clicks,
    /// That the catalog was changed, for the other processes of a deployment; see
    /// [`crate::Catalog::revision`].
    CatalogChanges,
    /// Records that could not be decoded, with the reason. Never trimmed: they are rare, and the
    /// operator's evidence.
    DeadLetters,
}

impl Topic {
    /// Every topic.
    pub const ALL: [Topic; 5] =
        [Self::Events, Self::Outcomes, Self::Clicks, Self::CatalogChanges, Self::DeadLetters];

    /// The name, as in logs and on other brokers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Events => "events",
            Self::Outcomes => "outcomes",
            Self::Clicks => "clicks",
            Self::CatalogChanges => "catalog-changes",
            Self::DeadLetters => "dead-letters",
        }
    }

    /// The byte stored keys begin with; never reused for another topic.
    pub(crate) fn tag(self) -> u8 {
        match self {
            Self::Events => 1,
            Self::Outcomes => 2,
            Self::Clicks => 3,
            Self::CatalogChanges => 4,
            Self::DeadLetters => 5,
        }
    }
}

/// One record as read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogRecord {
    /// Its place in the partition; dense from 0.
    pub offset: u64,
    /// What was appended.
    pub bytes: Bytes,
}

/// How much one read may return. At least one record comes back if there is one, however long.
#[derive(Clone, Copy, Debug)]
pub struct ReadLimit {
    /// Most records.
    pub records: usize,
    /// Most bytes of records; the one that would exceed it is left for the next read.
    pub bytes: usize,
}

/// What a partition holds: records with `start <= offset < end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Drawn when the log, or on a broker its topic, was created. Offsets of another identity mean
    /// nothing here.
    pub identity: u64,
    /// Offset of the oldest record still held.
    pub start: u64,
    /// Offset the next record will get.
    pub end: u64,
}

/// The log. Clones share one log.
#[derive(Clone)]
pub enum EventLog {
    /// fjall files under the data directory.
    Embedded(EmbeddedLog),
    /// In memory, deterministic; forgets on a crash what was not synced.
    Memory(MemoryLog),
    /// Apache Kafka, shared by several processes.
    Kafka(KafkaLog),
    /// Any of them with scripted failures.
    Fault(FaultLog),
}

impl EventLog {
    /// Number of partitions of every topic; fixed when the log is created.
    pub fn partitions(&self) -> u16 {
        match self {
            Self::Embedded(log) => log.partitions(),
            Self::Memory(log) => log.partitions(),
            Self::Kafka(log) => log.partitions(),
            Self::Fault(log) => log.partitions(),
        }
    }

    /// Appends records, each to the partition named with it, and returns their offsets in the
    /// order given.
    ///
    /// When it returns `Ok` the records MUST be durable. Records of one call that go to one
    /// partition keep their order there; others may come between them. Calls waiting share what
    /// makes them durable: one fsync, or few requests to the brokers. A caller that gives up waiting
    /// does not withdraw them.
    ///
    /// # Errors
    /// Determinate `Full` when the queue is at its bound or the disk is short of room: nothing was
    /// stored. Determinate `OutOfRange` for a partition that does not exist, determinate `Conflict` for
    /// [`Topic::Outcomes`] or a record too long for the backend. Indeterminate when the write failed
    /// half way: some records of the call may be there and others not.
    pub async fn append(
        &self,
        topic: Topic,
        records: Vec<(u16, Bytes)>,
    ) -> Result<Vec<u64>, Error> {
        match self {
            Self::Embedded(log) => log.append(topic, records).await,
            Self::Memory(log) => log.append(topic, records).await,
            Self::Kafka(log) => log.append(topic, records).await,
            Self::Fault(log) => log.append(topic, records).await,
        }
    }

    /// Reads durable records from `from` on, in order and without gaps; empty at the end. What another
    /// process has appended is seen once [`EventLog::wait`] or [`EventLog::bounds`] has told of it.
    ///
    /// # Errors
    /// `OutOfRange` if `from` is below the start or above the end, `Corrupt` if stored bytes are
    /// damaged, `Unavailable` while the store cannot be read.
    pub async fn read(
        &self,
        topic: Topic,
        partition: u16,
        from: u64,
        limit: ReadLimit,
    ) -> Result<Vec<LogRecord>, Error> {
        match self {
            Self::Embedded(log) => log.read(topic, partition, from, limit),
            Self::Memory(log) => log.read(topic, partition, from, limit),
            Self::Kafka(log) => log.read(topic, partition, from, limit).await,
            Self::Fault(log) => log.read(topic, partition, from, limit).await,
        }
    }

    /// Returns once the partition's end is above `from`, or a read there would tell that the log is
    /// no longer what it was; never for a partition that does not exist.
    pub async fn wait(&self, topic: Topic, partition: u16, from: u64) {
        match self {
            Self::Embedded(log) => log.wait(topic, partition, from).await,
            Self::Memory(log) => log.wait(topic, partition, from).await,
            Self::Kafka(log) => log.wait(topic, partition, from).await,
            Self::Fault(log) => log.wait(topic, partition, from).await,
        }
    }

    /// What the partition holds. The end rises only when records are durable.
    ///
    /// # Errors
    /// `OutOfRange` for a partition that does not exist; `Unavailable` while it is not known what
    /// a failed append has left.
    pub async fn bounds(&self, topic: Topic, partition: u16) -> Result<Bounds, Error> {
        match self {
            Self::Embedded(log) => log.bounds(topic, partition),
            Self::Memory(log) => log.bounds(topic, partition),
            Self::Kafka(log) => log.bounds(topic, partition).await,
            Self::Fault(log) => log.bounds(topic, partition).await,
        }
    }

    /// The first offset in `offsets` whose record does not satisfy `before`, by halving: the records must
    /// satisfy it up to there and not after. The end of `offsets` where all do.
    ///
    /// # Errors
    /// As [`EventLog::read`].
    pub async fn partition_point(
        &self,
        topic: Topic,
        partition: u16,
        offsets: std::ops::Range<u64>,
        before: impl Fn(Bytes) -> bool,
    ) -> Result<u64, Error> {
        let (mut low, mut high) = (offsets.start, offsets.end);
        while low < high {
            let middle = low + (high - low) / 2;
            let limit = ReadLimit { records: 1, bytes: 1 };
            let record = self.read(topic, partition, middle, limit).await?.pop();
            if record.is_some_and(|record| before(record.bytes)) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok(low)
    }

    /// Lets go of records below `before`, singly or in the batches they are stored in. The newest
    /// record stays, so offsets never start again; records at or above `before` stay always.
    ///
    /// # Errors
    /// As [`EventLog::append`]. Trying again is harmless.
    pub async fn trim(&self, topic: Topic, partition: u16, before: u64) -> Result<(), Error> {
        match self {
            Self::Embedded(log) => log.trim(topic, partition, before).await,
            Self::Memory(log) => log.trim(topic, partition, before).await,
            Self::Kafka(log) => log.trim(topic, partition, before).await,
            Self::Fault(log) => log.trim(topic, partition, before).await,
        }
    }
}

impl EventLog {
    /// The partitions this process owns for a group of consumers of [`Topic::Events`] or of what
    /// comes from it: all of them where one process has the log for itself, else its share among
    /// the processes that ask for the same group.
    pub fn assignments(&self, group: &'static str) -> Assignments {
        match self {
            Self::Kafka(log) => log.assignments(group),
            Self::Fault(log) => log.assignments(group),
            Self::Embedded(_) => Assignments::all(self.partitions()),
            Self::Memory(log) => log.assignments(),
        }
    }

    /// Appends outcomes numbered from `first_seq` on to [`Topic::Outcomes`], for a state store that
    /// does not keep them itself. Those already there are dropped, so trying again is harmless.
    ///
    /// # Errors
    /// Determinate `Conflict` when `first_seq` is above the number the next outcome gets, or the
    /// backend's own commits write the outcomes. Else as [`EventLog::append`].
    pub(crate) async fn publish(
        &self,
        partition: u16,
        first_seq: u64,
        outcomes: Vec<Bytes>,
    ) -> Result<(), Error> {
        match self {
            Self::Embedded(_) => Err(not_published()),
            Self::Memory(log) => log.publish(partition, first_seq, outcomes).await,
            Self::Kafka(log) => log.publish(partition, first_seq, outcomes).await,
            Self::Fault(log) => log.publish(partition, first_seq, outcomes).await,
        }
    }
}

fn not_published() -> Error {
    let why = "outcomes are appended by commits";
    Error::determinate("publish", Kind::Conflict).because(why)
}

/// What every backend refuses in the same way.
fn check_append(topic: Topic, records: &[(u16, Bytes)], partitions: u16) -> Result<(), Error> {
    if topic == Topic::Outcomes {
        let why = "outcomes are appended by commits";
        return Err(Error::determinate("append", Kind::Conflict).because(why));
    }
    if records.iter().any(|(partition, _)| *partition >= partitions) {
        return Err(no_partition("append"));
    }
    Ok(())
}
