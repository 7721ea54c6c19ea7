//! What is known of the state: rows as they were fetched, and as they were decided since.

use std::cell::Cell;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use crate::key::Key;
use crate::row::Row;

/// A row to put, or (`None`) to delete.
pub type Write = (Key, Option<Arc<Row>>);

/// Rows by key. A key that is not in it has not been looked at; one without a row does not exist.
///
/// An owner keeps it from batch to batch, since after a decision it is what the store will hold. What
/// was decided is pinned until the owner says that the store has it: [`Snapshot::committed`].
#[derive(Debug, Default)]
pub struct Snapshot {
    known: FxHashMap<Key, Known>,
    /// Put since the last [`Snapshot::take_writes`], each key once, in the order of the first put.
    writes: Vec<Write>,
    /// How often writes were taken.
    taken: u64,
    pinned: usize,
}

#[derive(Debug)]
struct Known {
    row: Option<Arc<Row>>,
    /// Batches that wrote it and are not committed.
    pins: u32,
    /// Asked for since the last [`Snapshot::shrink`].
    asked: Cell<bool>,
    /// Its place in `writes`, as long as `taken` is this.
    place: (u64, usize),
}

impl Known {
    fn new(row: Option<Arc<Row>>) -> Self {
        Self { row, pins: 0, asked: Cell::new(false), place: (u64::MAX, 0) }
    }
}

impl Snapshot {
    /// Nothing is known.
    pub fn new() -> Self {
        Self::default()
    }

    /// What the store has under `key`.
    pub fn insert(&mut self, key: Key, row: Option<Arc<Row>>) {
        self.known.insert(key, Known::new(row));
    }

    /// Has `key` been looked at?
    pub fn contains(&self, key: &Key) -> bool {
        self.known.contains_key(key)
    }

    /// The row under `key`; the outer `None` where it has not been looked at.
    pub fn get(&self, key: &Key) -> Option<Option<&Arc<Row>>> {
        let known = self.known.get(key)?;
        known.asked.set(true);
        Some(known.row.as_ref())
    }

    /// How many keys are known.
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// Is nothing known?
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// Writes that were taken and are not committed.
    pub fn pinned(&self) -> usize {
        self.pinned
    }

    /// The store has these writes, which were taken from here. Rows that `keep` refuses are forgotten,
    /// unless a later batch wrote them again.
    pub fn committed(&mut self, writes: &[Write], keep: impl Fn(&Key) -> bool) {
        self.pinned -= writes.len();
        for (key, _) in writes {
            let Some(known) = self.known.get_mut(key) else { continue };
            known.pins -= 1;
            if known.pins == 0 && !keep(key) {
                self.known.remove(key);
            }
        }
    }

    /// Forgets what is committed and was not asked for since the last call.
    pub fn shrink(&mut self) {
        self.known.retain(|_, known| known.asked.replace(false) || known.pins > 0);
    }

    /// That many writes are to come.
    pub(crate) fn make_room(&mut self, writes: usize) {
        self.writes.reserve(writes);
        self.known.reserve(writes / 2);
    }

    /// Decided: `row` stands under `key` from now on.
    pub(crate) fn put(&mut self, key: Key, row: Option<Row>) {
        let row = row.map(Arc::new);
        let place = (self.taken, self.writes.len());
        let Some(known) = self.known.get_mut(&key) else {
            let known = Known { pins: 1, place, ..Known::new(row.clone()) };
            self.known.insert(key.clone(), known);
            return self.writes.push((key, row));
        };
        known.row.clone_from(&row);
        if known.place.0 == self.taken {
            self.writes[known.place.1].1 = row;
        } else {
            known.place = place;
            known.pins += 1;
            self.writes.push((key, row));
        }
    }

    /// Everything put since the last call, one per key, in the order of the first put.
    pub(crate) fn take_writes(&mut self) -> Vec<Write> {
        self.taken += 1;
        self.pinned += self.writes.len();
        std::mem::take(&mut self.writes)
    }
}

#[cfg(test)]
mod tests {
    use schemas::id::{CampaignId, OrganizationId};
    use schemas::partition::{Mode, Scope};

    use super::*;

    fn key(n: u128) -> Key {
        let scope = Scope { organization: OrganizationId::from_u128(1), mode: Mode::Live };
        Key::Campaign(scope, CampaignId::from_u128(n))
    }

    fn counter(snapshot: &Snapshot, n: u128) -> Option<Option<i64>> {
        let count = |row: &Arc<Row>| match **row {
            Row::Counter(count) => count,
            _ => unreachable!("only counters are put"),
        };
        Some(snapshot.get(&key(n))?.map(count))
    }

    #[test]
    fn one_write_for_each_key_holds_the_last_row() {
        let mut snapshot = Snapshot::new();
        for (n, row) in [(2, Some(20)), (1, Some(10)), (2, None), (1, Some(11))] {
            snapshot.put(key(n), row.map(Row::Counter));
        }
        let row = |row| Some(Arc::new(Row::Counter(row)));
        assert_eq!(snapshot.take_writes(), [(key(2), None), (key(1), row(11))]);
        assert_eq!((counter(&snapshot, 1), counter(&snapshot, 2)), (Some(Some(11)), Some(None)));
        assert_eq!(snapshot.take_writes(), []);
    }

    #[test]
    fn what_is_not_committed_is_never_forgotten() {
        let mut snapshot = Snapshot::new();
        snapshot.insert(key(9), None);
        snapshot.put(key(1), Some(Row::Counter(1)));
        let first = snapshot.take_writes();
        snapshot.put(key(1), Some(Row::Counter(2)));
        snapshot.put(key(2), Some(Row::Counter(2)));
        let second = snapshot.take_writes();
        assert_eq!(snapshot.pinned(), 3);
        snapshot.shrink();
        assert_eq!((snapshot.len(), counter(&snapshot, 9)), (2, None));
        snapshot.committed(&first, |_| false);
        assert_eq!((counter(&snapshot, 1), snapshot.pinned()), (Some(Some(2)), 2));
        snapshot.committed(&second, |kept| *kept == key(2));
        assert_eq!((counter(&snapshot, 1), counter(&snapshot, 2)), (None, Some(Some(2))));
        snapshot.shrink();
        assert_eq!(snapshot.len(), 1, "it was asked for");
        snapshot.shrink();
        assert!(snapshot.is_empty());
    }
}
