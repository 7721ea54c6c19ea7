//! State in fjall files: one writer thread; rows, outcomes and head of a write set in one batch.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{BufMut, Bytes, BytesMut};
use fjall::{KeyspaceCreateOptions, OwnedWriteBatch, Readable};

use super::head::Ownership;
use super::{Epoch, Group, Head, KeyRange, Shard, WriteSet};
use crate::embedded::disk::{Disk, Layout, NamedKeyspace, Open};
use crate::embedded::extents::Extents;
use crate::embedded::format::Format;
use crate::embedded::inbox::{Inbox, Job};
use crate::embedded::segments::Segment;
use crate::embedded::writer::{Answer, Writer, reply};
use crate::embedded::{OpenOptions, batch};
use crate::error::no_partition;
use crate::log::{LogRecord, ReadLimit, Topic};
use crate::marks::{Extent, Mark};
use crate::{Error, Kind, metrics};

/// What metrics and threads call it.
const NAME: &str = "state";
/// Bounds memory and the replay at start.
const MEMTABLE_BYTES: u64 = 32 * 1024 * 1024;

/// Indices of the keyspaces.
const HEADS: usize = 0;
const ROWS: usize = 1;
const OUTCOMES: usize = 2;
const KEYSPACES: [NamedKeyspace; 3] =
    [("heads", options), ("rows", options), ("outcomes", options)];

fn options() -> KeyspaceCreateOptions {
    KeyspaceCreateOptions::default().max_memtable_size(MEMTABLE_BYTES)
}

/// The embedded state store.
#[derive(Clone)]
pub struct EmbeddedState {
    shared: Arc<Shared>,
    writer: Arc<Writer<Request>>,
}

/// What readers and the writer thread both look at.
struct Shared {
    disk: Disk,
    heads: BTreeMap<Shard, Slot>,
    outcomes: Extents,
}

/// One shard's head row as it is on disk.
#[derive(Default)]
struct Slot {
    row: Mutex<Ownership>,
    next_offset: Mark,
}

impl Slot {
    fn get(&self) -> Ownership {
        *self.lock()
    }

    fn set(&self, row: Ownership) {
        *self.lock() = row;
        self.next_offset.set(row.head.next_offset);
    }

    fn lock(&self) -> MutexGuard<'_, Ownership> {
        self.row.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl EmbeddedState {
    /// Opens or creates the state's database and starts its writer thread.
    pub(crate) fn open(dir: &Path, options: &OpenOptions, log: Format) -> Result<Self, Error> {
        let layout = Layout {
            name: NAME,
            keyspaces: &KEYSPACES,
            cache_bytes: options.state_cache_bytes,
            min_free_bytes: options.min_free_bytes,
        };
        let disk = Disk::open(dir, layout)?;
        let format = Format::of(&disk, log)?;
        if format.identity != log.identity {
            let why = format!("{} and the log beside it do not belong together", dir.display());
            return Err(Error::determinate("open", Kind::Conflict).because(why));
        }
        let shared = Arc::new(Shared::load(disk, format)?);
        let run = Run { shared: shared.clone() };
        let writer = Arc::new(Writer::start(NAME, |inbox| run.run(&inbox))?);
        Ok(Self { shared, writer })
    }

    pub(crate) async fn acquire(&self, shard: Shard) -> Result<(Epoch, Head), Error> {
        self.slot("acquire", shard)?;
        self.writer.ask("acquire", |answer| Request::Acquire { shard, answer }).await
    }

    pub(crate) async fn commit(
        &self,
        shard: Shard,
        epoch: Epoch,
        set: WriteSet,
    ) -> Result<(), Error> {
        self.slot("commit", shard)?;
        let bytes = weight(&set);
        self.writer
            .ask("commit", |answer| Request::Commit { shard, epoch, set, bytes, answer })
            .await
    }

    pub(crate) fn get(&self, shard: Shard, keys: &[Bytes]) -> Result<Vec<Option<Bytes>>, Error> {
        self.shared.disk.read("get", |open| {
            let snapshot = open.database.snapshot();
            let mut key = BytesMut::new();
            let rows = keys.iter().map(|wanted| {
                write_key(&mut key, shard, wanted);
                Ok(snapshot.get(&open.keyspaces[ROWS], &key)?.map(Bytes::from))
            });
            rows.collect()
        })
    }

    pub(crate) fn scan(
        &self,
        shard: Shard,
        range: &KeyRange,
        reverse: bool,
        limit: usize,
    ) -> Result<Vec<(Bytes, Bytes)>, Error> {
        if range.from >= range.to {
            return Ok(Vec::new());
        }
        self.shared.disk.read("scan", |open| {
            let range = row_key(shard, &range.from)..row_key(shard, &range.to);
            let rows = open.database.snapshot().range(&open.keyspaces[ROWS], range);
            let row = |guard: fjall::Guard| {
                let (key, value) = guard.into_inner()?;
                Ok((Bytes::from(key).slice(SHARD_LEN..), value.into()))
            };
            match reverse {
                false => rows.take(limit).map(row).collect(),
                true => rows.rev().take(limit).map(row).collect(),
            }
        })
    }

    /// Who waits for the head may be the only one to ask for anything, so while it is not known the
    /// writer is made to find out.
    pub(crate) async fn head(&self, shard: Shard) -> Result<Head, Error> {
        let slot = self.slot("head", shard)?;
        if self.check_loaded("head").is_err() {
            self.writer.ask("head", |answer| Request::Look { answer }).await?;
        }
        Ok(slot.get().head)
    }

    pub(crate) async fn committed(&self, shard: Shard, next_offset: u64) -> Result<(), Error> {
        self.slot("committed", shard)?.next_offset.reaches(next_offset).await;
        Ok(())
    }

    pub(crate) fn read_outcomes(
        &self,
        partition: u16,
        from: u64,
        limit: ReadLimit,
    ) -> Result<Vec<LogRecord>, Error> {
        let shared = &self.shared;
        shared.disk.read("read", |open| {
            let keyspace = &open.keyspaces[OUTCOMES];
            shared.outcomes.read(keyspace, Topic::Outcomes, partition, from, limit)
        })
    }

    pub(crate) fn outcomes_extent(&self, partition: u16) -> Option<&Extent> {
        self.shared.outcomes.get(Topic::Outcomes, partition)
    }

    /// As [`Disk::check_loaded`].
    pub(crate) fn check_loaded(&self, op: &'static str) -> Result<(), Error> {
        self.shared.disk.check_loaded(op)
    }

    pub(crate) async fn trim_outcomes(&self, partition: u16, before: u64) -> Result<(), Error> {
        self.outcomes_extent(partition).ok_or_else(|| no_partition("trim"))?;
        let ask = || self.writer.ask("trim", |answer| Request::Trim { partition, before, answer });
        while !ask().await? {}
        Ok(())
    }

    fn slot(&self, op: &'static str, shard: Shard) -> Result<&Slot, Error> {
        self.shared.heads.get(&shard).ok_or_else(|| no_partition(op))
    }
}

impl Shared {
    fn load(disk: Disk, format: Format) -> Result<Self, Error> {
        let shards = (0..format.partitions)
            .flat_map(|partition| Group::ALL.map(|group| Shard { group, partition }));
        let heads = shards.map(|shard| (shard, Slot::default())).collect();
        let outcomes = Extents::new(&[Topic::Outcomes], format.partitions);
        let shared = Self { disk, heads, outcomes };
        shared.reload("open")?;
        Ok(shared)
    }

    /// Makes what is kept in memory true again after the database was recovered in place: a write
    /// of unknown result may be there or not.
    fn reload(&self, op: &'static str) -> Result<(), Error> {
        self.disk.reload(op, |open| {
            for (shard, slot) in &self.heads {
                let stored = open.keyspaces[HEADS].get(shard_key(*shard))?;
                let row = stored.map(|bytes| {
                    let corrupt = || Error::determinate(op, Kind::Corrupt).because("a head row");
                    Ownership::decode(&bytes).ok_or_else(corrupt)
                });
                slot.set(row.transpose()?.unwrap_or_default());
            }
            self.outcomes.load(&open.keyspaces[OUTCOMES])
        })
    }

    /// Before a failed write is answered: who is told that it may have happened must be able to
    /// see whether it did.
    fn failed(&self, op: &'static str) {
        if let Err(e) = self.reload(op) {
            tracing::error!(error = %e, "heads not loaded again");
        }
    }
}

/// Bytes of a key before the caller's.
const SHARD_LEN: usize = 3;

fn shard_key(shard: Shard) -> [u8; SHARD_LEN] {
    let [high, low] = shard.partition.to_be_bytes();
    [shard.group.tag(), high, low]
}

fn write_key(to: &mut BytesMut, shard: Shard, key: &[u8]) {
    to.clear();
    to.put_slice(&shard_key(shard));
    to.put_slice(key);
}

fn row_key(shard: Shard, key: &[u8]) -> Bytes {
    let mut to = BytesMut::with_capacity(SHARD_LEN + key.len());
    write_key(&mut to, shard, key);
    to.freeze()
}

fn weight(set: &WriteSet) -> usize {
    let rows = set.rows.iter().map(|(key, row)| key.len() + row.as_ref().map_or(0, Bytes::len));
    rows.sum::<usize>() + set.outcomes.iter().map(Bytes::len).sum::<usize>()
}

enum Request {
    /// Nothing but the recovery that is due.
    Look {
        answer: Answer<()>,
    },
    Acquire {
        shard: Shard,
        answer: Answer<(Epoch, Head)>,
    },
    Commit {
        shard: Shard,
        epoch: Epoch,
        set: WriteSet,
        bytes: usize,
        answer: Answer<()>,
    },
    /// One step of a trim; the answer says whether it is complete.
    Trim {
        partition: u16,
        before: u64,
        answer: Answer<bool>,
    },
}

impl Job for Request {
    fn weight(&self) -> usize {
        match self {
            Self::Commit { bytes, .. } => *bytes,
            Self::Look { .. } | Self::Acquire { .. } | Self::Trim { .. } => 0,
        }
    }
}

/// The writer thread.
struct Run {
    shared: Arc<Shared>,
}

impl Run {
    fn run(self, inbox: &Inbox<Request>) {
        let mut waiting = Vec::new();
        while inbox.fill(&mut waiting) {
            let ready = self.refresh(waiting.len());
            let mut staged = Staged::default();
            let mut later = Vec::new();
            for request in waiting.drain(..) {
                match &ready {
                    Ok(()) => later.extend(staged.take(&self.shared, request)),
                    Err(e) => fail(request, e),
                }
            }
            staged.write(&self.shared);
            waiting = later;
        }
    }

    /// Sees that a write can go ahead.
    fn refresh(&self, requests: usize) -> Result<(), Error> {
        self.shared.disk.prepare("commit", Kind::Unavailable, requests)?;
        self.shared.reload("commit")
    }
}

fn fail(request: Request, e: &Error) {
    match request {
        Request::Look { answer } => reply(answer, Err(e.again().during("head"))),
        Request::Acquire { answer, .. } => reply(answer, Err(e.again().during("acquire"))),
        Request::Commit { answer, .. } => reply(answer, Err(e.again())),
        Request::Trim { answer, .. } => reply(answer, Err(e.again().during("trim"))),
    }
}

/// Requests of different shards that share one batch.
#[derive(Default)]
struct Staged {
    /// New head rows; a shard has at most one request in a batch, because one batch must not hold
    /// two values for one key.
    heads: BTreeMap<Shard, Ownership>,
    commits: Vec<(Shard, WriteSet, Answer<()>)>,
    acquires: Vec<(Shard, Answer<(Epoch, Head)>)>,
    /// New ends of outcome partitions.
    ends: BTreeMap<u16, u64>,
}

impl Staged {
    /// Takes the request into the batch, answers it if it is refused, or gives it back for the
    /// next batch.
    fn take(&mut self, shared: &Shared, request: Request) -> Option<Request> {
        match request {
            Request::Acquire { shard, .. } | Request::Commit { shard, .. }
                if self.heads.contains_key(&shard) =>
            {
                Some(request)
            }
            Request::Acquire { shard, answer } => {
                self.heads.insert(shard, shared.heads.get(&shard)?.get().acquired());
                self.acquires.push((shard, answer));
                None
            }
            Request::Commit { shard, epoch, set, answer, .. } => {
                match shared.heads.get(&shard)?.get().committed(epoch, &set) {
                    Ok(row) => {
                        self.heads.insert(shard, row);
                        self.commits.push((shard, set, answer));
                    }
                    Err(e) => reply(answer, Err(e)),
                }
                None
            }
            Request::Look { answer } => {
                reply(answer, Ok(()));
                None
            }
            Request::Trim { partition, before, answer } => {
                reply(answer, trim(shared, partition, before));
                None
            }
        }
    }

    /// Writes the batch, lets readers see it, and answers.
    fn write(mut self, shared: &Shared) {
        if self.heads.is_empty() {
            return;
        }
        metrics::grouped(NAME, self.acquires.len() + self.commits.len());
        let result = shared.disk.write("commit", |open, batch| self.fill(shared, open, batch));
        match &result {
            Ok(()) => self.publish(shared),
            Err(_) => shared.failed("commit"),
        }
        for (shard, answer) in self.acquires {
            let row = self.heads.get(&shard).copied().unwrap_or_default();
            let result = result.as_ref().map(|()| (Epoch(row.epoch), row.head));
            reply(answer, result.map_err(|e| e.again().during("acquire")));
        }
        for (_, _, answer) in self.commits {
            reply(answer, result.as_ref().copied().map_err(Error::again));
        }
    }

    fn fill(&mut self, shared: &Shared, open: &Open, batch: &mut OwnedWriteBatch) {
        for (shard, row) in &self.heads {
            batch.insert(&open.keyspaces[HEADS], shard_key(*shard), row.encode());
        }
        for (shard, set, _) in &mut self.commits {
            keep_last(&mut set.rows);
            for (key, row) in &set.rows {
                let key = row_key(*shard, key);
                match row {
                    Some(row) => batch.insert(&open.keyspaces[ROWS], key, row.clone()),
                    None => batch.remove(&open.keyspaces[ROWS], key),
                }
            }
            let Some(extent) = shared.outcomes.get(Topic::Outcomes, shard.partition) else {
                continue;
            };
            if !set.outcomes.is_empty() {
                let end = self.ends.entry(shard.partition).or_insert(extent.end.get());
                let key = Segment::new(Topic::Outcomes, shard.partition).key(*end);
                batch.insert(&open.keyspaces[OUTCOMES], key, batch::encode(&set.outcomes));
                *end += set.outcomes.len() as u64;
            }
        }
    }

    fn publish(&self, shared: &Shared) {
        for (partition, end) in &self.ends {
            if let Some(extent) = shared.outcomes.get(Topic::Outcomes, *partition) {
                extent.end.set(*end);
            }
        }
        for (shard, row) in &self.heads {
            if let Some(slot) = shared.heads.get(shard) {
                slot.set(*row);
            }
        }
    }
}

fn trim(shared: &Shared, partition: u16, before: u64) -> Result<bool, Error> {
    let extent = shared.outcomes.get(Topic::Outcomes, partition);
    let extent = extent.ok_or_else(|| no_partition("trim"))?;
    let segment = Segment::new(Topic::Outcomes, partition);
    let result = segment.trim(&shared.disk, OUTCOMES, extent, before);
    result.inspect_err(|_| shared.failed("trim"))
}

/// One batch must not hold two values for one key: fjall would not know which is later.
pub(super) fn keep_last(rows: &mut Vec<(Bytes, Option<Bytes>)>) {
    if rows.is_sorted_by(|(a, _), (b, _)| a < b) {
        return;
    }
    let last: BTreeMap<_, _> = rows.drain(..).collect();
    rows.extend(last);
}

#[cfg(test)]
mod tests;
