//! A bounded cache of committed rows, so that what every event asks for (rulebooks, links, counters,
//! the wallet) is read and decoded once.
//!
//! Two generations: new rows go into the young one, and when it has half the bound it becomes the old
//! one and what was old is forgotten. A row that is asked for moves back to the young one.

use engine::Key;
use rustc_hash::FxHashMap;

use crate::overlay::Value;

/// Committed values; an absent row is remembered as such.
#[derive(Debug)]
pub(crate) struct Cache {
    young: FxHashMap<Key, Value>,
    old: FxHashMap<Key, Value>,
    generation_max: usize,
}

impl Cache {
    /// Holds at most `rows_max` rows.
    pub(crate) fn new(rows_max: usize) -> Self {
        Self {
            young: FxHashMap::default(),
            old: FxHashMap::default(),
            generation_max: rows_max / 2,
        }
    }

    /// The committed value, where it is known.
    pub(crate) fn get(&mut self, key: &Key) -> Option<Value> {
        if let Some(value) = self.young.get(key) {
            return Some(value.clone());
        }
        let (key, value) = self.old.remove_entry(key)?;
        self.put(key, value.clone());
        Some(value)
    }

    /// Remembers the committed value of a key, where keys like it are asked for again.
    pub(crate) fn put(&mut self, key: Key, value: Value) {
        if !is_asked_for_again(&key) || self.generation_max == 0 {
            return;
        }
        if self.young.len() >= self.generation_max && !self.young.contains_key(&key) {
            self.old = std::mem::take(&mut self.young);
        }
        self.old.remove(&key);
        self.young.insert(key, value);
    }

    /// Rows it holds.
    pub(crate) fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }
}

/// Rows that are written once and hardly ever read by a decision would only push out the others.
pub(crate) fn is_asked_for_again(key: &Key) -> bool {
    !matches!(
        key,
        Key::Event(..)
            | Key::Reward(..)
            | Key::Command(..)
            | Key::EventIndex(..)
            | Key::RewardIndex(..)
            | Key::Ledger(..)
    )
}
