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
/// An owner keeps it from batch to batch, since after a decision it is what the store will hold.
#[derive(Debug, Default)]
pub struct Snapshot {
    known: FxHashMap<Key, Known>,
    /// Put since the last [`Snapshot::take_writes`], each key once, in the order of the first put.
    writes: Vec<Write>,
    /// Batches decided.
    batches: u64,
}

#[derive(Debug)]
struct Known {
    row: Option<Arc<Row>>,
    /// The last batch that wrote it, from 1; 0 if none did.
    batch: u64,
    /// Its place in the writes of that batch.
    place: usize,
    /// Asked for since the last [`Snapshot::shrink`].
    asked: Cell<bool>,
}

impl Snapshot {
    /// Nothing is known.
    pub fn new() -> Self {
        Self::default()
    }

    /// What the store has under `key`.
    pub fn insert(&mut self, key: Key, row: Option<Arc<Row>>) {
        self.known.insert(key, Known { row, batch: 0, place: 0, asked: Cell::new(false) });
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

    /// How many batches were decided with it.
    pub fn batches(&self) -> u64 {
        self.batches
    }

    /// Forgets the row under `key`, whoever wrote it.
    pub fn forget(&mut self, key: &Key) {
        self.known.remove(key);
    }

    /// Forgets what was not asked for since the last call. The first `committed` batches are in the
    /// store; what a later one wrote stays.
    pub fn shrink(&mut self, committed: u64) {
        self.known.retain(|_, known| known.batch > committed || known.asked.replace(false));
    }

    /// That many writes are to come.
    pub(crate) fn make_room(&mut self, writes: usize) {
        self.writes.reserve(writes);
        self.known.reserve(writes / 2);
    }

    /// Decided: `row` stands under `key` from now on.
    pub(crate) fn put(&mut self, key: Key, row: Option<Row>) {
        let row = row.map(Arc::new);
        let (batch, place) = (self.batches + 1, self.writes.len());
        match self.known.get_mut(&key) {
            Some(known) if known.batch == batch => {
                known.row.clone_from(&row);
                self.writes[known.place].1 = row;
                return;
            }
            Some(known) => {
                known.row.clone_from(&row);
                (known.batch, known.place) = (batch, place);
            }
            None => {
                let known = Known { row: row.clone(), batch, place, asked: Cell::new(false) };
                self.known.insert(key.clone(), known);
            }
        }
        self.writes.push((key, row));
    }

    /// Ends a batch: everything put since the last call, one per key, in the order of the first put.
    pub(crate) fn take_writes(&mut self) -> Vec<Write> {
        self.batches += 1;
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
    fn what_is_not_committed_outlives_shrinking() {
        let mut snapshot = Snapshot::new();
        snapshot.insert(key(9), None);
        snapshot.put(key(1), Some(Row::Counter(1)));
        snapshot.take_writes();
        snapshot.put(key(1), Some(Row::Counter(2)));
        snapshot.put(key(2), Some(Row::Counter(3)));
        snapshot.take_writes();
        snapshot.put(key(3), Some(Row::Counter(4)));
        snapshot.take_writes();
        assert_eq!((snapshot.len(), snapshot.batches()), (4, 3));
        snapshot.shrink(1);
        assert_eq!((snapshot.len(), counter(&snapshot, 9)), (3, None));
        assert_eq!((counter(&snapshot, 1), counter(&snapshot, 2)), (Some(Some(2)), Some(Some(3))));
        snapshot.shrink(3);
        assert_eq!((snapshot.len(), counter(&snapshot, 3)), (2, None), "nobody asked for it");
        snapshot.forget(&key(1));
        assert_eq!((counter(&snapshot, 1), counter(&snapshot, 2)), (None, Some(Some(3))));
    }
}
