//! The state store: rows by shard, committed together with outcomes and a head.
//!
//! The contract stands on [`StateStore`]'s methods, once; `tests/it/state.rs` has a case for each
//! sentence of it, and every backend passes all of them.

pub(crate) mod cql;
mod embedded;
mod fault;
mod head;
mod memory;

use bytes::Bytes;

pub use self::cql::CqlState;
pub use self::embedded::EmbeddedState;
pub use self::fault::FaultState;
pub(crate) use self::head::Ownership;
pub use self::memory::MemoryState;
use crate::Error;

/// Who keeps rows; groups do not see each other's rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Group {
    /// The fold of the event log.
    Evaluator,
    /// Deliveries to webhook endpoints.
    Webhooks,
    /// How far analytics has taken in outcomes and clicks.
    Analytics,
}

impl Group {
    /// Every group.
    pub const ALL: [Group; 3] = [Self::Evaluator, Self::Webhooks, Self::Analytics];

    /// The byte stored keys begin with; never reused for another group.
    pub(crate) fn tag(self) -> u8 {
        match self {
            Self::Evaluator => 1,
            Self::Webhooks => 2,
            Self::Analytics => 3,
        }
    }
}

/// The unit of ownership: one group's rows for one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Shard {
    /// Whose rows.
    pub group: Group,
    /// Of which partition.
    pub partition: u16,
}

/// How far a shard has come. All zero: nothing was committed yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// Number of the last write set; dense from 1.
    pub seq: u64,
    /// Offset of the first log record not yet folded in.
    pub next_offset: u64,
    /// Identity of the log that `next_offset` belongs to.
    pub log_identity: u64,
    /// Largest time the fold has seen, in milliseconds since 1970.
    pub fold_time_ms: i64,
}

/// One ownership of a shard; a later one fences it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Epoch(pub(crate) u64);

/// Everything one batch changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WriteSet {
    /// One more than the head's.
    pub seq: u64,
    /// The head's new `next_offset`.
    pub next_offset: u64,
    /// The head's new `log_identity`.
    pub log_identity: u64,
    /// The head's new `fold_time_ms`.
    pub fold_time_ms: i64,
    /// Rows to put (`Some`) or delete (`None`). If a key occurs twice the later one holds.
    pub rows: Vec<(Bytes, Option<Bytes>)>,
    /// Records to append to [`crate::Topic::Outcomes`], same partition number.
    pub outcomes: Vec<Bytes>,
}

/// Keys with `from <= key < to`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRange {
    /// Inclusive.
    pub from: Bytes,
    /// Exclusive.
    pub to: Bytes,
}

/// The store. Clones share one store.
#[derive(Clone)]
pub enum StateStore {
    /// fjall files under the data directory.
    Embedded(EmbeddedState),
    /// Tables of a CQL cluster, shared by several processes.
    Cql(CqlState),
    /// In memory, deterministic; forgets on a crash what was not synced.
    Memory(MemoryState),
    /// Any of them with scripted failures.
    Fault(FaultState),
}

impl StateStore {
    /// Takes the shard: durably raises its epoch, so that earlier owners are fenced, and returns
    /// the head to go on from.
    ///
    /// # Errors
    /// `OutOfRange` for a partition that does not exist; `Full` or `Unavailable` when the store
    /// cannot be written; `Fenced` when another owner came in between. Trying again is harmless.
    pub async fn acquire(&self, shard: Shard) -> Result<(Epoch, Head), Error> {
        match self {
            Self::Embedded(state) => state.acquire(shard).await,
            Self::Cql(state) => state.acquire(shard).await,
            Self::Memory(state) => state.acquire(shard).await,
            Self::Fault(state) => state.acquire(shard).await,
        }
    }

    /// Puts rows, outcomes and head in one atomic step, durable when it returns `Ok`.
    ///
    /// Outcomes are appended to [`crate::Topic::Outcomes`] of the same partition number, dense and in order.
    /// Write sets in flight together are taken in the order of the calls. Either all of the write set is seen afterwards or nothing of it, whatever happens.
    /// Only [`Group::Evaluator`] has outcomes.
    ///
    /// # Errors
    /// Determinate `Fenced` when the epoch is old or `seq` is not one more than the head's.
    /// Determinate `Unavailable` when the disk is short of room, determinate `Full` when the queue is at its
    /// bound. Indeterminate when the write failed half way: read the head before going on.
    pub async fn commit(&self, shard: Shard, epoch: Epoch, set: WriteSet) -> Result<(), Error> {
        match self {
            Self::Embedded(state) => state.commit(shard, epoch, set).await,
            Self::Cql(state) => state.commit(shard, epoch, set).await,
            Self::Memory(state) => state.commit(shard, epoch, set).await,
            Self::Fault(state) => state.commit(shard, epoch, set).await,
        }
    }

    /// The committed rows of these keys, in their order. All from one moment, but on servers, which
    /// have no such thing across partitions, rows of a write set whose commit has not returned may
    /// be among them in part.
    ///
    /// # Errors
    /// `Corrupt` if stored bytes are damaged, `Unavailable` while the store cannot be read.
    pub async fn get(&self, shard: Shard, keys: &[Bytes]) -> Result<Vec<Option<Bytes>>, Error> {
        match self {
            Self::Embedded(state) => state.get(shard, keys),
            Self::Cql(state) => state.get(shard, keys).await,
            Self::Memory(state) => state.get(shard, keys),
            Self::Fault(state) => state.get(shard, keys).await,
        }
    }

    /// Up to `limit` committed rows of the range in key order, or from the end backwards; from one
    /// moment as far as [`StateStore::get`] is.
    ///
    /// # Errors
    /// As [`StateStore::get`].
    pub async fn scan(
        &self,
        shard: Shard,
        range: KeyRange,
        reverse: bool,
        limit: usize,
    ) -> Result<Vec<(Bytes, Bytes)>, Error> {
        match self {
            Self::Embedded(state) => state.scan(shard, &range, reverse, limit),
            Self::Cql(state) => state.scan(shard, &range, reverse, limit).await,
            Self::Memory(state) => state.scan(shard, &range, reverse, limit),
            Self::Fault(state) => state.scan(shard, range, reverse, limit).await,
        }
    }

    /// The head as last committed.
    ///
    /// # Errors
    /// `OutOfRange` for a partition that does not exist; `Unavailable` while it is not known what
    /// a failed commit has left.
    pub async fn head(&self, shard: Shard) -> Result<Head, Error> {
        match self {
            Self::Embedded(state) => state.head(shard).await,
            Self::Cql(state) => state.head(shard).await,
            Self::Memory(state) => state.head(shard),
            Self::Fault(state) => state.head(shard).await,
        }
    }

    /// Returns once the head's `next_offset` is at least `next_offset` and what is below can be read
    /// here. Notified, not polled, for commits made by this process.
    ///
    /// # Errors
    /// `OutOfRange` for a partition that does not exist.
    pub async fn committed(&self, shard: Shard, next_offset: u64) -> Result<(), Error> {
        match self {
            Self::Embedded(state) => state.committed(shard, next_offset).await,
            Self::Cql(state) => state.committed(shard, next_offset).await,
            Self::Memory(state) => state.committed(shard, next_offset).await,
            Self::Fault(state) => state.committed(shard, next_offset).await,
        }
    }
}
