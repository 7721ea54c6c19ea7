//! Partitions of this process that do not go on, as one condition of being ready.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use serve::Check;

use crate::metrics;

/// Why a partition does not go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// An operator must look.
    Halted,
    /// Another owner has taken over although the partition is this process's: one of the two will soon
    /// be told otherwise.
    Fenced,
}

/// Those of all partitions. They end when the partition goes on, or is taken away.
#[derive(Debug)]
pub(crate) struct Troubles {
    check: Check,
    by_partition: Mutex<BTreeMap<u16, Trouble>>,
}

impl Troubles {
    /// None yet: `check` is ready from now on.
    pub(crate) fn new(check: Check) -> Self {
        check.set_ready(true, "");
        Self { check, by_partition: Mutex::default() }
    }

    /// The partition does not go on.
    pub(crate) fn put(&self, partition: u16, trouble: Trouble) {
        self.change(|all| all.insert(partition, trouble));
    }

    /// The partition goes on, or is not this process's any more.
    pub(crate) fn clear(&self, partition: u16) {
        self.change(|all| all.remove(&partition));
    }

    fn change<T>(&self, change: impl FnOnce(&mut BTreeMap<u16, Trouble>) -> T) {
        let mut all = self.by_partition.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut all);
        let halted = all.values().filter(|trouble| **trouble == Trouble::Halted).count();
        metrics::halted(halted);
        let reason = match (halted, all.len()) {
            (_, 0) => return self.check.set_ready(true, ""),
            (0, _) => "a partition was taken over by another owner",
            _ => "a partition is halted, see the log",
        };
        self.check.set_ready(false, reason);
    }
}
