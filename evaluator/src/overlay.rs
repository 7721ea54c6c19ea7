//! Rows of write sets that are decided but not yet committed. Every fetch looks here first, so that
//! the next batch can be decided while earlier ones are on their way to the store.

use std::collections::VecDeque;
use std::sync::Arc;

use engine::{Key, Row};

/// A row, or that it is deleted.
pub(crate) type Value = Option<Arc<Row>>;

/// What one decision writes: sorted by key, one per key. Shared with the write set it goes into.
pub(crate) type Writes = Arc<Vec<(Key, Value)>>;

/// The writes of decisions on their way, oldest first, with the number of their write set.
///
/// Few decisions are on their way and few keys are asked for, for what was decided last is carried
/// along: so they are searched one by one, and deciding pays nothing for it.
#[derive(Debug, Default)]
pub(crate) struct Overlay {
    decisions: VecDeque<(u64, Writes)>,
}

impl Overlay {
    /// What an uncommitted write set made of the key.
    pub(crate) fn get(&self, key: &Key) -> Option<&Value> {
        self.decisions.iter().rev().find_map(|(_, writes)| {
            let at = writes.binary_search_by(|(other, _)| other.cmp(key)).ok()?;
            Some(&writes[at].1)
        })
    }

    /// A decision of write set `seq` writes these.
    pub(crate) fn put(&mut self, seq: u64, writes: Writes) {
        self.decisions.push_back((seq, writes));
    }

    /// Write set `seq` is committed: gives the next of its decisions, oldest first, until there is none.
    pub(crate) fn take(&mut self, seq: u64) -> Option<Writes> {
        let (_, writes) = self.decisions.pop_front_if(|(of, _)| *of <= seq)?;
        Some(writes)
    }

    /// Rows it holds.
    pub(crate) fn len(&self) -> usize {
        self.decisions.iter().map(|(_, writes)| writes.len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use schemas::id::{CampaignId, OrganizationId};
    use schemas::partition::{Mode, Scope};

    use super::*;

    #[test]
    fn the_newest_write_is_seen_until_its_set_is_committed() {
        let scope = Scope { organization: OrganizationId::from_u128(1), mode: Mode::Live };
        let key = |n| Key::Campaign(scope, CampaignId::from_u128(n));
        let row = |n| Some(Arc::new(Row::Counter(n)));
        let mut overlay = Overlay::default();
        overlay.put(1, Arc::new(vec![(key(1), row(10)), (key(2), row(20))]));
        overlay.put(1, Arc::new(vec![(key(2), row(21))]));
        overlay.put(2, Arc::new(vec![(key(1), None), (key(3), row(30))]));
        assert_eq!(overlay.get(&key(1)), Some(&None));
        assert_eq!(overlay.get(&key(2)), Some(&row(21)));
        assert_eq!(overlay.get(&key(4)), None);
        assert_eq!(overlay.take(1).map(|writes| writes.len()), Some(2));
        assert_eq!(overlay.take(1).map(|writes| writes.len()), Some(1));
        assert_eq!(overlay.take(1), None);
        assert_eq!(overlay.get(&key(2)), None);
        assert_eq!((overlay.get(&key(3)), overlay.len()), (Some(&row(30)), 2));
    }
}
