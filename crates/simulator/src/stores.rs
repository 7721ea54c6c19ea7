//! What a run keeps its log and state on, which outlives its processes.

use rand::RngExt;
use rand::rngs::StdRng;
use storage::fault::Faults;
use storage::memory::{Cluster, Memory, Own};
use storage::{EventLog, StateStore};

use crate::world::PARTITIONS;

/// Parts that the rows of a shard are cut into on servers: so that applying can end half way.
const BUCKETS: u16 = 3;
/// By how much the clocks of processes may differ, in milliseconds.
const SKEW_MAX_MS: i64 = 3_600_000;

/// One of the two ways to run.
#[derive(Clone)]
pub(crate) enum Stores {
    /// A disk that one process has for itself: its commit is atomic, and a crash takes with it what
    /// was not synced.
    Disk(Memory),
    /// A broker and a CQL cluster, which several processes use at the same time.
    Servers(Memory, Cluster),
}

impl Stores {
    pub(crate) fn draw(rng: &mut StdRng, servers: bool) -> Self {
        let memory = Memory::new(PARTITIONS, rng.random());
        if servers { Self::Servers(memory, Cluster::new(BUCKETS)) } else { Self::Disk(memory) }
    }

    pub(crate) fn are_servers(&self) -> bool {
        matches!(self, Self::Servers(..))
    }

    /// Both for a process that starts now and follows this script.
    pub(crate) fn open(
        &self,
        faults: &Faults,
        now_ms: i64,
        rng: &mut StdRng,
    ) -> (EventLog, StateStore) {
        match self {
            Self::Disk(memory) => {
                let (log, state) = memory.open();
                faults.wrap(log, state)
            }
            Self::Servers(memory, cluster) => {
                let skew_ms = rng.random_range(-SKEW_MAX_MS..=SKEW_MAX_MS);
                let now_us = (now_ms + skew_ms) * 1_000;
                let own = Own { faults: faults.clone(), now_us, seed: rng.random() };
                cluster.open(memory.broker(), own)
            }
        }
    }

    /// Both for one who only looks, and to whom nothing happens.
    pub(crate) fn look(&self) -> (EventLog, StateStore) {
        match self {
            Self::Disk(memory) => memory.open(),
            Self::Servers(memory, cluster) => {
                let own = Own { faults: Faults::default(), now_us: 0, seed: 0 };
                cluster.open(memory.broker(), own)
            }
        }
    }

    /// All processes have died.
    pub(crate) fn crash(&self) {
        if let Self::Disk(memory) = self {
            memory.crash();
        }
    }
}
