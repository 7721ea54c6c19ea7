//! What is known of the state while a batch is planned and decided.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use crate::key::Key;
use crate::row::Row;

/// Rows by key: as fetched, and then as decided. A key that is not in it has not been looked at; one
/// without a row does not exist.
#[derive(Debug, Default)]
pub struct Snapshot {
    known: FxHashMap<Key, Known>,
    /// Keys put since the last [`Snapshot::take_writes`], each once.
    written: Vec<Key>,
}

#[derive(Debug)]
struct Known {
    row: Option<Arc<Row>>,
    written: bool,
}

impl Snapshot {
    /// Nothing is known.
    pub fn new() -> Self {
        Self::default()
    }

    /// What the store has under `key`.
    pub fn insert(&mut self, key: Key, row: Option<Arc<Row>>) {
        self.known.insert(key, Known { row, written: false });
    }

    /// Has `key` been looked at?
    pub fn contains(&self, key: &Key) -> bool {
        self.known.contains_key(key)
    }

    /// The row under `key`; the outer `None` where it has not been looked at.
    pub fn get(&self, key: &Key) -> Option<Option<&Arc<Row>>> {
        self.known.get(key).map(|known| known.row.as_ref())
    }

    /// How many keys are known.
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// Is nothing known?
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// Forgets every key that `keep` refuses. An owner may carry a snapshot from batch to batch, since
    /// after a decision it is what the store will hold.
    pub fn retain(&mut self, keep: impl Fn(&Key) -> bool) {
        self.known.retain(|key, _| keep(key));
    }

    /// That many writes are to come.
    pub(crate) fn make_room(&mut self, writes: usize) {
        self.written.reserve(writes);
        self.known.reserve(writes / 2);
    }

    /// Decided: `row` stands under `key` from now on.
    pub(crate) fn put(&mut self, key: Key, row: Option<Row>) {
        let row = row.map(Arc::new);
        match self.known.get_mut(&key) {
            Some(known) => {
                known.row = row;
                if !known.written {
                    known.written = true;
                    self.written.push(key);
                }
            }
            None => {
                self.known.insert(key.clone(), Known { row, written: true });
                self.written.push(key);
            }
        }
    }

    /// Everything put since the last call, sorted by key, one per key.
    pub(crate) fn take_writes(&mut self) -> Vec<(Key, Option<Arc<Row>>)> {
        let mut keys = std::mem::take(&mut self.written);
        keys.sort_unstable();
        keys.into_iter()
            .map(|key| {
                let known = self.known.get_mut(&key).expect("what was put is known");
                known.written = false;
                let row = known.row.clone();
                (key, row)
            })
            .collect()
    }
}
