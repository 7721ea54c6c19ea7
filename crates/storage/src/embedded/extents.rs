//! Starts and ends of all partitions kept in one keyspace, in memory.

use std::collections::BTreeMap;

use fjall::Keyspace;

use super::segments::Segment;
use crate::log::{LogRecord, ReadLimit, Topic};
use crate::marks::Extent;
use crate::{Error, Kind};

/// By topic and partition.
pub(crate) struct Extents {
    by_topic: BTreeMap<Topic, Vec<Extent>>,
}

impl Extents {
    /// All zero, until loaded.
    pub(crate) fn new(topics: &[Topic], partitions: u16) -> Self {
        let all = || (0..partitions).map(|_| Extent::default()).collect();
        Self { by_topic: topics.iter().map(|topic| (*topic, all())).collect() }
    }

    /// Reads them from the stored batches. Starts are moved before ends, so that no reader sees an
    /// end below a start.
    pub(crate) fn load(&self, keyspace: &Keyspace) -> Result<(), Error> {
        for (topic, extents) in &self.by_topic {
            for (partition, extent) in (0..).zip(extents) {
                let (start, end) = Segment::new(*topic, partition).bounds(keyspace)?;
                extent.start.set(start);
                extent.end.set(end);
            }
        }
        Ok(())
    }

    /// Whether nothing was ever appended anywhere.
    pub(crate) fn is_empty(&self) -> bool {
        self.by_topic.values().flatten().all(|extent| extent.end.get() == 0)
    }

    pub(crate) fn get(&self, topic: Topic, partition: u16) -> Option<&Extent> {
        self.by_topic.get(&topic)?.get(usize::from(partition))
    }

    /// Durable records from `from` on.
    ///
    /// # Errors
    /// `OutOfRange` outside start and end, `Corrupt`, `Unavailable`.
    pub(crate) fn read(
        &self,
        keyspace: &Keyspace,
        topic: Topic,
        partition: u16,
        from: u64,
        limit: ReadLimit,
    ) -> Result<Vec<LogRecord>, Error> {
        let out_of_range = || Error::determinate("read", Kind::OutOfRange);
        let extent = self.get(topic, partition).ok_or_else(out_of_range)?;
        let end = extent.end.get();
        if from < extent.start.get() || from > end {
            return Err(out_of_range());
        }
        let records = Segment::new(topic, partition).read(keyspace, from, end, limit);
        // A trim may have taken the batch away after the look at the start.
        if records.is_err() && from < extent.start.get() { Err(out_of_range()) } else { records }
    }
}
