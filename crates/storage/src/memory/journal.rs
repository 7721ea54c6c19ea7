//! What was written, in order, and how much of it is synced.

/// Written entries of one database. Its clock is the number of entries ever written.
pub(crate) struct Journal<E> {
    unsynced: Vec<E>,
    /// Number of entries written.
    written: u64,
    /// By era: how many entries were synced when it ended. An era ends when unsynced entries are
    /// forgotten.
    settled: Vec<u64>,
}

impl<E> Default for Journal<E> {
    fn default() -> Self {
        Self { unsynced: Vec::new(), written: 0, settled: Vec::new() }
    }
}

/// Which entry, to ask for its fate later.
#[derive(Clone, Copy)]
pub(crate) struct Ticket {
    era: usize,
    number: u64,
}

impl<E> Journal<E> {
    /// Writes without syncing.
    pub(crate) fn write(&mut self, entry: E) -> Ticket {
        self.unsynced.push(entry);
        self.written += 1;
        Ticket { era: self.settled.len(), number: self.written }
    }

    /// What is written and not synced, oldest first.
    pub(crate) fn unsynced(&self) -> &[E] {
        &self.unsynced
    }

    /// Syncs everything written: returns what was not synced before, oldest first.
    pub(crate) fn sync(&mut self) -> Vec<E> {
        std::mem::take(&mut self.unsynced)
    }

    /// Forgets everything written and not synced.
    pub(crate) fn forget(&mut self) {
        self.settled.push(self.written - self.unsynced.len() as u64);
        self.unsynced.clear();
    }

    /// Whether the entry was forgotten before it was synced.
    pub(crate) fn is_forgotten(&self, ticket: Ticket) -> bool {
        self.settled.get(ticket.era).is_some_and(|synced| ticket.number > *synced)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_forgotten_unless_it_was_synced_before_the_loss() {
        let mut journal = Journal::default();
        let synced = journal.write('a');
        assert_eq!(journal.sync(), ['a']);
        let lost = journal.write('b');
        journal.forget();
        let later = journal.write('c');
        assert_eq!(journal.sync(), ['c']);
        journal.forget();
        let fates = [synced, lost, later].map(|ticket| journal.is_forgotten(ticket));
        assert_eq!(fates, [false, true, false]);
    }
}
