//! A CQL cluster in memory, and processes that use it at the same time.

use std::sync::{Arc, Mutex};

use crate::Error;
use crate::catalog::{Catalog, CqlCatalog};
use crate::fault::{Faults, Process};
use crate::log::{EventLog, FaultLog};
use crate::state::cql::{Cells, MemoryTables, Sources, Store, Tables};
use crate::state::{CqlState, FaultState, StateStore};

/// What servers would hold under state and catalog as they are on CQL. It outlives the processes that
/// use it; clones are the same cluster.
#[derive(Clone)]
pub struct Cluster {
    cells: Arc<Mutex<Cells>>,
    buckets: u16,
}

/// What a process has of its own.
pub struct Own {
    /// What goes wrong there: each statement is an operation of the script.
    pub faults: Faults,
    /// What its clock shows, in microseconds since 1970. Clocks of different processes may differ.
    pub now_us: i64,
    /// Decides what it draws. No two processes may have the same.
    pub seed: u64,
}

impl Cluster {
    /// An empty one, whose shards are cut into so many parts.
    pub fn new(buckets: u16) -> Self {
        Self { cells: Arc::default(), buckets: buckets.max(1) }
    }

    /// The stores of a process, which publishes its outcomes to `log`.
    ///
    /// Background tasks run on the runtime this is called on.
    pub fn open(&self, log: EventLog, own: Own) -> (EventLog, StateStore) {
        let process = own.faults.process();
        let log = EventLog::Fault(FaultLog::new(log, process.clone(), None));
        let store = self.store(process.clone(), log.clone(), &own);
        let state = StateStore::Cql(CqlState::start(Arc::new(store)));
        (log, StateStore::Fault(FaultState::new(state, process)))
    }

    /// The catalog of a process, whose changes are told and heard through `log`. As [`Cluster::open`].
    ///
    /// # Errors
    /// `Unavailable` where the script says so.
    pub async fn open_catalog(&self, log: EventLog, own: Own) -> Result<Catalog, Error> {
        let process = own.faults.process();
        let log = EventLog::Fault(FaultLog::new(log, process.clone(), None));
        let store = self.store(process, log.clone(), &own);
        Ok(Catalog::Cql(CqlCatalog::start(Arc::new(store), log).await?))
    }

    fn store(&self, process: Arc<Process>, log: EventLog, own: &Own) -> Store {
        let tables = Tables::Memory(MemoryTables::new(self.cells.clone(), process));
        Store::new(tables, self.buckets, log, Sources::seeded(own.now_us, own.seed))
    }
}
