//! What a transaction reads, and the rows it would write: pure, so that it can be made again when
//! another process was quicker.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::keys::{self, List};
use super::tables::read;
use crate::catalog::{CatalogError, Change, Document, Expected, Kind};
use crate::cql::session::corrupt;
use crate::error::Error;

/// Rows to put (`Some`) or delete.
pub(super) type Writes = BTreeMap<Bytes, Option<Bytes>>;

/// One transaction over what several callers want.
pub(super) struct Draft {
    /// Rows as they are stored: all that is asked for must be here.
    stored: BTreeMap<Bytes, Option<Bytes>>,
    /// What the callers so far have changed.
    pub(super) writes: Writes,
    /// The id the next command gets.
    pub(super) next_id: u64,
    /// The id the first command of this transaction gets.
    first_id: u64,
}

/// What a call needs to read before [`Draft::apply`].
pub(super) fn keys_of(changes: &[Change]) -> impl Iterator<Item = Bytes> {
    changes.iter().flat_map(|Change { document, uniques, .. }| {
        let key = keys::document(document.kind, &document.id);
        std::iter::once(key).chain(uniques.iter().map(|unique| keys::name(unique)))
    })
}

impl Draft {
    pub(super) fn new(stored: BTreeMap<Bytes, Option<Bytes>>, next_id: u64) -> Self {
        Self { stored, writes: Writes::new(), next_id, first_id: next_id }
    }

    /// The row as this transaction leaves it.
    pub(super) fn row(&self, key: &Bytes) -> Option<Bytes> {
        self.writes.get(key).or_else(|| self.stored.get(key)).cloned().flatten()
    }

    /// All changes or, with an error, nothing; the ids of their commands.
    pub(super) fn apply(&mut self, changes: &[Change]) -> Result<Vec<u64>, CatalogError> {
        let (before, first_id) = (self.writes.clone(), self.next_id);
        let mut ids = Vec::new();
        for change in changes {
            match self.change(change) {
                Ok(id) => ids.extend(id),
                Err(e) => {
                    (self.writes, self.next_id) = (before, first_id);
                    return Err(e);
                }
            }
        }
        Ok(ids)
    }

    fn change(&mut self, change: &Change) -> Result<Option<u64>, CatalogError> {
        let Change { document, expected, uniques, command } = change;
        let key = keys::document(document.kind, &document.id);
        let stored = self.row(&key);
        let stored = stored.map(|value| read("apply", document.kind, &document.id, value));
        match (stored.transpose()?, expected) {
            (None, Expected::Absent) => {
                for list in List::all_of(document) {
                    let place = list.place(document.created_at, &document.id);
                    self.writes.insert(place, Some(Bytes::new()));
                }
                self.writes.insert(key, Some(keys::encode(document)));
            }
            (Some(stored), Expected::Version(version))
                if stored.version == *version && *version < document.version =>
            {
                // Owner, parent and time of making stay what they were.
                let Document { version, json, .. } = document.clone();
                let next = Document { version, json, ..stored };
                self.writes.insert(key, Some(keys::encode(&next)));
            }
            _ => return Err(CatalogError::Stale),
        }
        for unique in uniques {
            self.claim(unique, document.kind, &document.id)?;
        }
        let Some((partition, record)) = command else { return Ok(None) };
        let id = self.next_id;
        self.next_id += 1;
        self.writes.insert(keys::outbox(id), Some(keys::encode_command(*partition, record)));
        Ok(Some(id))
    }

    fn claim(&mut self, unique: &str, kind: Kind, id: &str) -> Result<(), CatalogError> {
        let (key, mine) = (keys::name(unique), keys::held_by(kind, id));
        match self.row(&key) {
            None => {
                self.writes.insert(key, Some(mine));
                Ok(())
            }
            Some(holder) if holder == mine => Ok(()),
            Some(_) => Err(CatalogError::Taken { name: unique.to_owned() }),
        }
    }

    /// The value that is there, or this one.
    pub(super) fn setting(&mut self, name: &str, value: Vec<u8>) -> Vec<u8> {
        let key = keys::setting(name);
        if let Some(stored) = self.row(&key) {
            return stored.to_vec();
        }
        self.writes.insert(key, Some(Bytes::from(value.clone())));
        value
    }

    /// Forgets a document that claims no names, if it is still there.
    pub(super) fn forget(&mut self, kind: Kind, id: &str) -> Result<bool, Error> {
        let key = keys::document(kind, id);
        let Some(value) = self.row(&key) else { return Ok(false) };
        let document = keys::decode(kind, id, value);
        let document = document.ok_or_else(|| corrupt("sweep", format!("{kind:?} {id}")))?;
        for list in List::all_of(&document) {
            self.writes.insert(list.place(document.created_at, id), None);
        }
        self.writes.insert(key, None);
        Ok(true)
    }

    /// Forgets commands. `waiting` are the lowest ids in the outbox: one more than `ids`, if there are.
    pub(super) fn clear(&mut self, ids: &BTreeSet<u64>, waiting: &[u64]) {
        for id in ids {
            self.writes.insert(keys::outbox(*id), None);
        }
        // With none left, all that had an id before this transaction is forgotten.
        let left = waiting.iter().find(|id| !ids.contains(id));
        let floor = left.copied().unwrap_or(self.first_id);
        let value = Bytes::copy_from_slice(&floor.to_be_bytes());
        self.writes.insert(keys::floor(), Some(value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The outbox and its floor after these ids were cleared in turn.
    fn floors(issued: u64, steps: &[&[u64]]) -> Vec<u64> {
        let mut waiting: BTreeSet<u64> = (1..=issued).collect();
        let step = |ids: &&[u64]| {
            let ids: BTreeSet<u64> = ids.iter().copied().collect();
            let mut draft = Draft::new(BTreeMap::new(), issued + 1);
            let lowest: Vec<_> = waiting.iter().copied().take(ids.len() + 1).collect();
            draft.clear(&ids, &lowest);
            waiting.retain(|id| !ids.contains(id));
            keys::number(&draft.row(&keys::floor()).unwrap()).unwrap()
        };
        steps.iter().map(step).collect()
    }

    #[test]
    fn the_floor_is_the_lowest_command_or_the_next() {
        assert_eq!(floors(3, &[&[2], &[1], &[3], &[3]]), [1, 3, 4, 4]);
        assert_eq!(floors(3, &[&[2, 3], &[999], &[1]]), [1, 1, 4]);
        assert_eq!(floors(0, &[&[5]]), [1]);
    }
}
