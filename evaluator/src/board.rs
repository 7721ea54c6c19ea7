//! The figures of all partitions, put together for the gauges.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// One partition's figures as of its last commit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Figures {
    /// Of the first record not decided.
    pub(crate) next_offset: u64,
    /// When the last record decided was accepted, in milliseconds.
    pub(crate) accepted_ms: i64,
    /// Rows decided and not committed.
    pub(crate) overlay_rows: usize,
    /// Committed rows in memory.
    pub(crate) cache_rows: usize,
    /// Bytes of the claim filter.
    pub(crate) filter_bytes: usize,
}

/// Where every partition's owner puts its figures.
#[derive(Debug, Default)]
pub(crate) struct Board(Mutex<BTreeMap<u16, Figures>>);

impl Board {
    /// Replaces a partition's figures.
    pub(crate) fn put(&self, partition: u16, figures: Figures) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(partition, figures);
    }

    /// Forgets a partition that is another's now.
    pub(crate) fn remove(&self, partition: u16) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&partition);
    }

    /// The figures of every partition that has decided anything.
    pub(crate) fn all(&self) -> Vec<(u16, Figures)> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().map(|(partition, figures)| (*partition, *figures)).collect()
    }
}
