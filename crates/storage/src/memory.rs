//! The backends that live in memory: deterministic, without threads, and as forgetful as a disk.
//!
//! What is written is first unsynced: nobody sees it, and a crash forgets it. A sync makes all that
//! was written before it durable at once, as an fsync does. A call writes when it is first polled,
//! as a queue takes it; between the further steps other tasks run, so that a simulator meets every
//! order.
//!
//! [`Memory`] is the disk, which survives crashes; handles belong to the process that took them.
//! [`Cluster`] is what servers would hold, which several processes share.

mod cluster;
pub(crate) mod contents;
pub(crate) mod journal;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

pub use self::cluster::{Cluster, Own};
use self::contents::Contents;
use crate::fault::{Action, Faults, Op, Step};
use crate::log::{EventLog, MemoryLog, Topic};
use crate::marks::{Extent, Mark};
use crate::state::{Group, MemoryState, Shard, StateStore};
use crate::{Error, Kind};

/// A disk in memory.
#[derive(Clone)]
pub struct Memory {
    disk: Arc<Disk>,
}

impl Memory {
    /// An empty disk.
    pub fn new(partitions: u16, identity: u64) -> Self {
        let contents = Mutex::new(Contents::default());
        let extents = (0..partitions).flat_map(|p| Topic::ALL.map(|t| ((t, p), Extent::default())));
        let shards = (0..partitions)
            .flat_map(|partition| Group::ALL.map(|group| Shard { group, partition }));
        let disk = Disk {
            partitions,
            identity,
            contents,
            extents: extents.collect(),
            next_offsets: shards.map(|shard| (shard, Mark::default())).collect(),
        };
        Self { disk: Arc::new(disk) }
    }

    /// Both handles, for the process that runs now.
    pub fn open(&self) -> (EventLog, StateStore) {
        self.open_with(None)
    }

    /// The same for a process that is one of several: it works on the partitions that `assigned` holds.
    pub fn open_assigned(&self, assigned: watch::Receiver<Vec<u16>>) -> (EventLog, StateStore) {
        self.open_with(Some(assigned))
    }

    /// The log alone, as a broker has it: several processes share it, and it outlives them.
    pub fn broker(&self) -> EventLog {
        let (disk, faults) = (self.disk.clone(), Faults::default());
        EventLog::Memory(MemoryLog::new(Handle { disk, process: None, faults }, None))
    }

    fn open_with(&self, assigned: Option<watch::Receiver<Vec<u16>>>) -> (EventLog, StateStore) {
        let handle = Handle {
            disk: self.disk.clone(),
            process: Some(self.disk.lock().process),
            faults: Faults::default(),
        };
        let log = MemoryLog::new(handle.clone(), assigned);
        (EventLog::Memory(log), StateStore::Memory(MemoryState::new(handle)))
    }

    /// Ends the process that runs now: what was not synced is forgotten, what is in flight fails
    /// as indeterminate, later calls through its handles fail as unavailable.
    pub fn crash(&self) {
        self.disk.crash();
    }
}

/// What is on the disk, and who waits for it.
pub(crate) struct Disk {
    pub(crate) partitions: u16,
    pub(crate) identity: u64,
    contents: Mutex<Contents>,
    extents: std::collections::BTreeMap<(Topic, u16), Extent>,
    next_offsets: std::collections::BTreeMap<Shard, Mark>,
}

impl Disk {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Contents> {
        self.contents.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn extent(&self, topic: Topic, partition: u16) -> Option<&Extent> {
        self.extents.get(&(topic, partition))
    }

    pub(crate) fn next_offset(&self, shard: Shard) -> Option<&Mark> {
        self.next_offsets.get(&shard)
    }

    fn crash(&self) {
        let mut contents = self.lock();
        contents.process += 1;
        contents.log.forget();
        contents.state.forget();
    }
}

/// One process's access to the disk.
#[derive(Clone)]
pub(crate) struct Handle {
    pub(crate) disk: Arc<Disk>,
    /// Which; `None` on a broker, where it does not matter.
    process: Option<u64>,
    pub(crate) faults: Faults,
}

impl Handle {
    /// The contents, if the process is alive.
    pub(crate) fn contents(&self, op: &'static str) -> Result<MutexGuard<'_, Contents>, Error> {
        let contents = self.disk.lock();
        if self.process.is_none_or(|process| process == contents.process) {
            return Ok(contents);
        }
        Err(Error::determinate(op, Kind::Unavailable).because("the process has ended"))
    }

    pub(crate) fn crash(&self) {
        // A dead process cannot end its successor.
        let running = self.disk.lock().process;
        if self.process == Some(running) {
            self.disk.crash();
        }
    }

    /// Between written and synced: what the script wants to happen here. `forget` is what a failed
    /// sync does.
    pub(crate) async fn written(
        &self,
        op: Op,
        forget: impl FnOnce(&mut Contents),
    ) -> Result<(), Error> {
        tokio::task::yield_now().await;
        match self.faults.reach(op, Step::Written) {
            None => {}
            Some(Action::Delay(time) | Action::Freeze(time) | Action::Late(time)) => {
                tokio::time::sleep(time).await;
            }
            Some(Action::Fail(kind)) => {
                forget(&mut *self.contents(op.as_str())?);
                return Err(Error::indeterminate(op.as_str(), kind));
            }
            Some(Action::Crash) => {
                self.crash();
                self.faults.count_crash();
            }
        }
        Ok(())
    }
}
