//! The event log: topics cut into partitions, each a dense sequence of opaque records.
//!
//! The contract stands on [`EventLog`]'s methods, once; `tests/it/log.rs` has a case for each
//! sentence of it, and every backend passes all of them.

mod embedded;
mod fault;
mod memory;

use bytes::Bytes;

pub use self::embedded::EmbeddedLog;
pub use self::fault::FaultLog;
pub use self::memory::MemoryLog;
use crate::error::no_partition;
use crate::{Error, Kind};

/// What a sequence of records is about. All topics have the same number of partitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Topic {
    /// Conversion events and commands, in the order they are folded.
    Events,
    /// What was decided. Written only by [`crate::StateStore::commit`], read here.
    Outcomes,
    /// Redirects through links.
    Clicks,
    /// For changes of the catalog, in deployments of several processes. Nothing is appended to it
    /// yet: in one process [`crate::Catalog::revision`] serves.
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
    /// Drawn when the log was created. Offsets of another identity mean nothing here.
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
    /// Any of them with scripted failures.
    Fault(FaultLog),
}

impl EventLog {
    /// Number of partitions of every topic; fixed when the log is created.
    pub fn partitions(&self) -> u16 {
        match self {
            Self::Embedded(log) => log.partitions(),
            Self::Memory(log) => log.partitions(),
            Self::Fault(log) => log.partitions(),
        }
    }

    /// Appends records, each to the partition named with it, and returns their offsets in the
    /// order given.
    ///
    /// When it returns `Ok` the records MUST be durable. Records of one call that go to one
    /// partition are contiguous there. All calls waiting share one fsync. Records of one call
    /// become visible together. A caller that gives up waiting does not withdraw them.
    ///
    /// # Errors
    /// Determinate `Full` when the queue is at its bound or the disk is short of room: nothing was
    /// stored. Determinate `OutOfRange` for a partition that does not exist, determinate `Conflict` for
    /// [`Topic::Outcomes`]. Indeterminate when the write failed half way.
    pub async fn append(
        &self,
        topic: Topic,
        records: Vec<(u16, Bytes)>,
    ) -> Result<Vec<u64>, Error> {
        match self {
            Self::Embedded(log) => log.append(topic, records).await,
            Self::Memory(log) => log.append(topic, records).await,
            Self::Fault(log) => log.append(topic, records).await,
        }
    }

    /// Reads durable records from `from` on, in order and without gaps; empty at the end.
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
            Self::Fault(log) => log.read(topic, partition, from, limit).await,
        }
    }

    /// Returns once the partition's end is above `from`; never for a partition that does not
    /// exist.
    pub async fn wait(&self, topic: Topic, partition: u16, from: u64) {
        match self {
            Self::Embedded(log) => log.wait(topic, partition, from).await,
            Self::Memory(log) => log.wait(topic, partition, from).await,
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

    /// Lets go of stored batches whose records are all below `before`. The newest batch stays, so
    /// offsets never start again; records at or above `before` stay always.
    ///
    /// # Errors
    /// As [`EventLog::append`]. Trying again is harmless.
    pub async fn trim(&self, topic: Topic, partition: u16, before: u64) -> Result<(), Error> {
        match self {
            Self::Embedded(log) => log.trim(topic, partition, before).await,
            Self::Memory(log) => log.trim(topic, partition, before).await,
            Self::Fault(log) => log.trim(topic, partition, before).await,
        }
    }
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
