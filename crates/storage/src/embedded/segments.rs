//! Partitions inside a keyspace: record batches keyed by (topic, partition, first offset).

use bytes::Bytes;
use fjall::{Iter, Keyspace};

use super::batch::Batch;
use super::disk::Disk;
use crate::log::{LogRecord, ReadLimit, Topic};
use crate::marks::Extent;
use crate::{Certainty, Error, Kind};

/// Batches looked at in one step of trimming, so that appends wait for a moment only.
const TRIM_STEP: usize = 1_000;

const PREFIX_LEN: usize = 3;
const KEY_LEN: usize = PREFIX_LEN + 8;

/// One partition of one topic.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Segment {
    prefix: [u8; PREFIX_LEN],
}

impl Segment {
    pub(crate) fn new(topic: Topic, partition: u16) -> Self {
        let [high, low] = partition.to_be_bytes();
        Self { prefix: [topic.tag(), high, low] }
    }

    /// Key of the batch whose first record has this offset.
    pub(crate) fn key(self, offset: u64) -> [u8; KEY_LEN] {
        let mut key = [0; KEY_LEN];
        key[..PREFIX_LEN].copy_from_slice(&self.prefix);
        key[PREFIX_LEN..].copy_from_slice(&offset.to_be_bytes());
        key
    }

    fn from(self, keyspace: &Keyspace, offset: u64) -> Iter {
        keyspace.range(self.key(offset)..=self.key(u64::MAX))
    }

    /// Offsets of the oldest record and after the newest; both 0 if there is none.
    pub(crate) fn bounds(self, keyspace: &Keyspace) -> Result<(u64, u64), Error> {
        let Some(first) = self.from(keyspace, 0).next() else { return Ok((0, 0)) };
        let start = offset_of(&first.key()?)?;
        let Some(last) = self.from(keyspace, 0).next_back() else { return Ok((0, 0)) };
        let (key, value) = last.into_inner()?;
        let batch = decode(value.into())?;
        Ok((start, offset_of(&key)? + batch.count() as u64))
    }

    /// Records with `from <= offset < end`, within the limit; the caller has checked the bounds.
    pub(crate) fn read(
        self,
        keyspace: &Keyspace,
        from: u64,
        end: u64,
        limit: ReadLimit,
    ) -> Result<Vec<LogRecord>, Error> {
        let mut page = Page { records: Vec::new(), bytes: 0, next: from, end, limit };
        if from >= end || limit.records == 0 {
            return Ok(page.records);
        }
        for guard in self.from(keyspace, self.holder(keyspace, from)?) {
            let (key, value) = guard.into_inner()?;
            let first = offset_of(&key)?;
            if !page.take(first, &decode(value.into())?)? {
                break;
            }
        }
        Ok(page.records)
    }

    /// First offset of the batch that holds `offset`.
    fn holder(self, keyspace: &Keyspace, offset: u64) -> Result<u64, Error> {
        let at_or_below = self.key(0)..=self.key(offset);
        match keyspace.range(at_or_below).next_back() {
            Some(guard) => offset_of(&guard.key()?),
            None => Err(corrupt("a batch is missing")),
        }
    }

    /// One step of letting go of batches that are wholly below `before`; true when there is nothing
    /// left to do. The newest batch stays: it says where the partition ends.
    pub(crate) fn trim(
        self,
        disk: &Disk,
        keyspace: usize,
        extent: &Extent,
        before: u64,
    ) -> Result<bool, Error> {
        let (gone, start) =
            disk.read("trim", |open| self.below(&open.keyspaces[keyspace], before))?;
        if gone.is_empty() {
            return Ok(true);
        }
        // Raised first, so that a reader who finds a batch gone knows why.
        let old_start = extent.start.get();
        extent.start.set(start);
        let removed = disk.write("trim", |open, batch| {
            for offset in &gone {
                batch.remove(&open.keyspaces[keyspace], self.key(*offset));
            }
        });
        // If it may have happened, the reload that is due says where the start is.
        if removed.as_ref().is_err_and(|e| e.certainty == Certainty::Determinate) {
            extent.start.set(old_start);
        }
        removed.map(|()| gone.len() + 1 < TRIM_STEP)
    }

    /// First offsets of the oldest batches that are wholly below `before`, and of the one after
    /// them.
    fn below(self, keyspace: &Keyspace, before: u64) -> Result<(Vec<u64>, u64), Error> {
        let mut gone = Vec::new();
        let mut oldest = None;
        for guard in self.from(keyspace, 0).take(TRIM_STEP) {
            let first = offset_of(&guard.key()?)?;
            if first > before {
                break;
            }
            gone.extend(oldest.replace(first));
        }
        Ok((gone, oldest.unwrap_or(0)))
    }
}

/// Records gathered by one read.
struct Page {
    records: Vec<LogRecord>,
    bytes: usize,
    next: u64,
    end: u64,
    limit: ReadLimit,
}

impl Page {
    /// Takes what fits of the batch; false when the read is complete.
    fn take(&mut self, first: u64, batch: &Batch) -> Result<bool, Error> {
        let index = self.next.checked_sub(first).map(|skip| skip as usize);
        let Some(index) = index.filter(|index| *index < batch.count()) else {
            return Err(corrupt("offsets are not dense"));
        };
        for bytes in batch.records_from(index) {
            let is_over = self.bytes + bytes.len() > self.limit.bytes && !self.records.is_empty();
            if is_over || self.records.len() == self.limit.records || self.next == self.end {
                return Ok(false);
            }
            self.bytes += bytes.len();
            self.records.push(LogRecord { offset: self.next, bytes });
            self.next += 1;
        }
        Ok(self.next < self.end)
    }
}

fn offset_of(key: &[u8]) -> Result<u64, Error> {
    let offset = key.get(PREFIX_LEN..).and_then(|bytes| bytes.try_into().ok());
    offset.map(u64::from_be_bytes).ok_or_else(|| corrupt("a key has the wrong length"))
}

fn decode(value: Bytes) -> Result<Batch, Error> {
    Batch::decode(value).ok_or_else(|| corrupt("a record batch fails its checksum"))
}

fn corrupt(why: &'static str) -> Error {
    Error::determinate("read", Kind::Corrupt).because(why)
}
