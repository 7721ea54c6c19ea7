//! The bytes on the disk in memory.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::Disk;
use super::journal::Journal;
use crate::log::{LogRecord, ReadLimit, Topic};
use crate::state::{Ownership, Shard};
use crate::{Error, Kind};

/// Everything stored.
#[derive(Default)]
pub(crate) struct Contents {
    /// Number of the process that runs now.
    pub(crate) process: u64,
    /// What was written to the log.
    pub(crate) log: Journal<WrittenAppend>,
    /// What was written to the state.
    pub(crate) state: Journal<WrittenSet>,
    /// Synced record batches by first offset.
    segments: BTreeMap<(Topic, u16), BTreeMap<u64, Vec<Bytes>>>,
    /// Synced shards.
    pub(crate) shards: BTreeMap<Shard, StoredShard>,
}

/// Records of one append.
pub(crate) struct WrittenAppend {
    pub(crate) topic: Topic,
    pub(crate) partitions: BTreeMap<u16, Vec<Bytes>>,
}

/// A shard's new head row with what belongs to it.
pub(crate) struct WrittenSet {
    pub(crate) shard: Shard,
    pub(crate) row: Ownership,
    pub(crate) rows: Vec<(Bytes, Option<Bytes>)>,
    pub(crate) outcomes: Vec<Bytes>,
}

/// One shard as synced.
#[derive(Default)]
pub(crate) struct StoredShard {
    pub(crate) row: Ownership,
    pub(crate) rows: BTreeMap<Bytes, Bytes>,
}

impl Contents {
    /// The offset a record appended now gets.
    pub(crate) fn next_offset(&self, disk: &Disk, topic: Topic, partition: u16) -> u64 {
        let end = disk.extent(topic, partition).map_or(0, |extent| extent.end.get());
        let waiting = self.log.unsynced().iter().filter(|append| append.topic == topic);
        let waiting = waiting.filter_map(|append| append.partitions.get(&partition));
        end + waiting.map(|records| records.len() as u64).sum::<u64>()
    }

    /// A shard's head row with all that was written, synced or not.
    pub(crate) fn latest(&self, shard: Shard) -> Ownership {
        let written = self.state.unsynced().iter().rev().find(|set| set.shard == shard);
        let synced = || self.shards.get(&shard).map(|stored| stored.row);
        written.map(|set| set.row).or_else(synced).unwrap_or_default()
    }

    /// Makes what was written to the log durable and seen.
    pub(crate) fn sync_log(&mut self, disk: &Disk) {
        for append in self.log.sync() {
            for (partition, records) in append.partitions {
                self.store(disk, append.topic, partition, records);
            }
        }
    }

    /// Makes what was written to the state durable and seen.
    pub(crate) fn sync_state(&mut self, disk: &Disk) {
        for set in self.state.sync() {
            self.store(disk, Topic::Outcomes, set.shard.partition, set.outcomes);
            let stored = self.shards.entry(set.shard).or_default();
            stored.row = set.row;
            for (key, row) in set.rows {
                match row {
                    Some(row) => stored.rows.insert(key, row),
                    None => stored.rows.remove(&key),
                };
            }
            if let Some(mark) = disk.next_offset(set.shard) {
                mark.set(set.row.head.next_offset);
            }
        }
    }

    /// Stores the outcomes that continue the partition's end; lower ones are repeats.
    pub(crate) fn publish(
        &mut self,
        disk: &Disk,
        partition: u16,
        first_seq: u64,
        mut outcomes: Vec<Bytes>,
    ) -> Result<(), Error> {
        let end = disk.extent(Topic::Outcomes, partition).map_or(0, |extent| extent.end.get());
        let Some(repeats) = end.checked_sub(first_seq) else {
            let why = format!("outcome {first_seq} would leave a gap after {end}");
            return Err(Error::determinate("publish", Kind::Conflict).because(why));
        };
        let repeats = usize::try_from(repeats).unwrap_or(usize::MAX).min(outcomes.len());
        let outcomes = outcomes.split_off(repeats);
        self.store(disk, Topic::Outcomes, partition, outcomes);
        Ok(())
    }

    fn store(&mut self, disk: &Disk, topic: Topic, partition: u16, records: Vec<Bytes>) {
        let Some(extent) = disk.extent(topic, partition).filter(|_| !records.is_empty()) else {
            return;
        };
        let first = extent.end.get();
        let end = first + records.len() as u64;
        self.segments.entry((topic, partition)).or_default().insert(first, records);
        extent.end.set(end);
    }

    /// Synced records from `from` on, which is inside the partition's bounds.
    pub(crate) fn read(
        &self,
        topic: Topic,
        partition: u16,
        from: u64,
        limit: ReadLimit,
    ) -> Vec<LogRecord> {
        let Some(batches) = self.segments.get(&(topic, partition)) else { return Vec::new() };
        let holder = batches.range(..=from).next_back().map_or(0, |(first, _)| *first);
        let records = batches.range(holder..).flat_map(|(first, records)| {
            let records = (*first..).zip(records);
            records.map(|(offset, bytes)| LogRecord { offset, bytes: bytes.clone() })
        });
        let mut bytes = 0;
        let fits = |(index, record): &(usize, LogRecord)| {
            bytes += record.bytes.len();
            *index == 0 || bytes <= limit.bytes
        };
        let wanted = records.filter(|r| r.offset >= from).take(limit.records);
        wanted.enumerate().take_while(fits).map(|(_, record)| record).collect()
    }

    /// Lets go of batches wholly below `before`, all but the newest.
    pub(crate) fn trim(&mut self, disk: &Disk, topic: Topic, partition: u16, before: u64) {
        let Some(batches) = self.segments.get_mut(&(topic, partition)) else { return };
        let Some(holder) = batches.range(..=before).next_back().map(|(first, _)| *first) else {
            return;
        };
        *batches = batches.split_off(&holder);
        if let Some(extent) = disk.extent(topic, partition) {
            extent.start.set(holder);
        }
    }
}
