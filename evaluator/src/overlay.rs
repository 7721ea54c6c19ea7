//! Rows of write sets that are decided but not yet committed. Every fetch looks here first, so that
//! the next batch can be decided while earlier ones are on their way to the store.

use std::sync::Arc;

use engine::{Key, Row};
use rustc_hash::FxHashMap;

/// A row, or that it is deleted.
pub(crate) type Value = Option<Arc<Row>>;

/// The newest value of each key, with the number of the write set that made it.
#[derive(Debug, Default)]
pub(crate) struct Overlay {
    rows: FxHashMap<Key, (u64, Value)>,
}

impl Overlay {
    /// What an uncommitted write set made of the key.
    pub(crate) fn get(&self, key: &Key) -> Option<&Value> {
        self.rows.get(key).map(|(_, value)| value)
    }

    /// Write set `seq` makes `value` of the key.
    pub(crate) fn put(&mut self, seq: u64, key: Key, value: Value) {
        self.rows.insert(key, (seq, value));
    }

    /// Write set `seq` is committed and touched these keys: takes out what no later one has changed.
    pub(crate) fn committed<'a>(
        &'a mut self,
        seq: u64,
        keys: impl Iterator<Item = Key> + 'a,
    ) -> impl Iterator<Item = (Key, Value)> + 'a {
        keys.filter_map(move |key| {
            let newest = self.rows.get(&key).is_some_and(|(at, _)| *at == seq);
            let (_, value) = newest.then(|| self.rows.remove(&key)).flatten()?;
            Some((key, value))
        })
    }

    /// Rows it holds.
    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }
}
