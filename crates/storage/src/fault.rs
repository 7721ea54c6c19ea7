//! Scripted failures, for tests: which operation fails at which step, or takes the process with it.
//!
//! [`Faults`] is the script. [`Faults::wrap`] puts it around any pair of handles; around
//! [`crate::memory::Memory`] it reaches the step between written and synced too, and in a process of
//! [`crate::memory::Cluster`] each statement of the distributed commit. Nothing here is random: the same
//! script over the same calls gives the same failures. A simulator counts the steps of a run with
//! [`Faults::reached`] and then crashes at each of them in turn.

mod process;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

pub(crate) use self::process::Process;
use crate::log::FaultLog;
use crate::marks::Mark;
use crate::state::FaultState;
use crate::{EventLog, Kind, StateStore};

/// An operation of a port, or a statement of the distributed commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Op {
    /// [`EventLog::append`].
    Append,
    /// [`EventLog::read`].
    Read,
    /// [`EventLog::bounds`].
    Bounds,
    /// [`EventLog::trim`].
    Trim,
    /// A commit's outcomes on their way to a log that is not the state's own.
    Publish,
    /// [`StateStore::acquire`].
    Acquire,
    /// [`StateStore::commit`].
    Commit,
    /// [`StateStore::get`].
    Get,
    /// [`StateStore::scan`].
    Scan,
    /// [`StateStore::head`].
    Head,
    /// Reads a head row, serially.
    ReadHead,
    /// Raises a head row's epoch: an owner takes the shard.
    TakeHead,
    /// Moves a head row: the commit point.
    MoveHead,
    /// Writes a chunk of a write set.
    PutChunk,
    /// Reads a chunk of a write set.
    ReadChunk,
    /// Deletes a write set.
    DeleteBlob,
    /// Puts and deletes rows of one bucket.
    WriteRows,
    /// Reads rows of one bucket.
    ReadRows,
    /// Says how far a shard is applied.
    MarkApplied,
    /// Reads how far a shard is applied.
    ReadApplied,
}

impl Op {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Append => "append",
            Self::Read => "read",
            Self::Bounds => "bounds",
            Self::Trim => "trim",
            Self::Publish => "publish",
            Self::Acquire => "acquire",
            Self::Commit => "commit",
            Self::Get => "get",
            Self::Scan => "scan",
            Self::Head => "head",
            Self::ReadHead => "read_head",
            Self::TakeHead => "take_head",
            Self::MoveHead => "move_head",
            Self::PutChunk => "put_chunk",
            Self::ReadChunk => "read_chunk",
            Self::DeleteBlob => "delete_blob",
            Self::WriteRows => "write_rows",
            Self::ReadRows => "read_rows",
            Self::MarkApplied => "mark_applied",
            Self::ReadApplied => "read_applied",
        }
    }

    fn writes(self) -> bool {
        match self {
            Self::Append | Self::Trim | Self::Publish | Self::Acquire | Self::Commit => true,
            Self::TakeHead | Self::MoveHead | Self::MarkApplied => true,
            Self::PutChunk | Self::DeleteBlob | Self::WriteRows => true,
            Self::Read | Self::Bounds | Self::Get | Self::Scan | Self::Head => false,
            Self::ReadHead | Self::ReadChunk | Self::ReadRows | Self::ReadApplied => false,
        }
    }
}

/// How far an operation has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// Nothing has happened.
    Before,
    /// Written, not synced: append, acquire and commit of the memory backend only.
    Written,
    /// Done and durable; the answer is on its way.
    Answer,
}

/// What happens there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// The operation fails with this kind. Before: determinate, it did not happen. Written:
    /// indeterminate, the sync failed and took with it everything written and not synced. Answer:
    /// indeterminate, it did happen.
    Fail(Kind),
    /// The process dies: what was not synced is forgotten, what is in flight fails as
    /// indeterminate, every later call through the same handles fails as unavailable.
    Crash,
    /// It takes this long, in tokio's time.
    Delay(Duration),
    /// The whole process stands still for this long, and then goes on as if nothing had been. Not
    /// where something is written and not synced: there it is a delay.
    Freeze(Duration),
    /// Before a statement of the distributed commit or a publication: it fails as indeterminate, and
    /// happens after this long all the same, whatever has become of the process. Before anything else
    /// it is a determinate failure, elsewhere a delay.
    Late(Duration),
}

/// A script of failures, shared by its clones.
#[derive(Clone, Default)]
pub struct Faults {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    script: Mutex<Script>,
    crashes: Mark,
}

#[derive(Default)]
struct Script {
    reached: BTreeMap<(Op, Step), u64>,
    planned: BTreeMap<(Op, Step, u64), Action>,
    met: Vec<(Op, Step, Action)>,
}

impl Faults {
    /// Plans `action` for the `nth` time from now, counted from 1, that `op` reaches `step`. A
    /// later plan for the same time replaces it.
    pub fn at(&self, op: Op, step: Step, nth: u64, action: Action) {
        let mut script = self.lock();
        let nth = script.reached.get(&(op, step)).copied().unwrap_or(0) + nth;
        script.planned.insert((op, step, nth), action);
    }

    /// How often `op` has reached `step`.
    pub fn reached(&self, op: Op, step: Step) -> u64 {
        self.lock().reached.get(&(op, step)).copied().unwrap_or(0)
    }

    /// What has come of the plans, in order.
    pub fn met(&self) -> Vec<(Op, Step, Action)> {
        self.lock().met.clone()
    }

    /// Forgets what was planned and has not come.
    pub fn clear(&self) {
        self.lock().planned.clear();
    }

    /// How often the script has let the process die.
    pub fn crashes(&self) -> u64 {
        self.shared.crashes.get()
    }

    /// Returns once the process has died at least `times` times.
    pub async fn crashed(&self, times: u64) {
        self.shared.crashes.reaches(times).await;
    }

    /// The same handles, following this script. They are one process: a crash in one ends both.
    pub fn wrap(&self, log: EventLog, state: StateStore) -> (EventLog, StateStore) {
        self.wrap_with(log, state, None)
    }

    /// The same for a process that works on the partitions that `assigned` holds, whoever else does.
    pub fn wrap_assigned(
        &self,
        log: EventLog,
        state: StateStore,
        assigned: watch::Receiver<Vec<u16>>,
    ) -> (EventLog, StateStore) {
        self.wrap_with(log, state, Some(assigned))
    }

    fn wrap_with(
        &self,
        log: EventLog,
        state: StateStore,
        assigned: Option<watch::Receiver<Vec<u16>>>,
    ) -> (EventLog, StateStore) {
        let process = self.process();
        let log = FaultLog::new(log.following(self), process.clone(), assigned);
        let state = FaultState::new(state.following(self), process);
        (EventLog::Fault(log), StateStore::Fault(state))
    }

    /// A process that follows this script, and has just been started.
    pub(crate) fn process(&self) -> Arc<Process> {
        Arc::new(Process::new(self.clone()))
    }

    /// Counts the step and returns what is planned for it.
    pub(crate) fn reach(&self, op: Op, step: Step) -> Option<Action> {
        let mut script = self.lock();
        let reached = script.reached.entry((op, step)).or_default();
        *reached += 1;
        let nth = *reached;
        let action = script.planned.remove(&(op, step, nth))?;
        script.met.push((op, step, action));
        Some(action)
    }

    pub(crate) fn count_crash(&self) {
        self.shared.crashes.set(self.shared.crashes.get() + 1);
    }

    fn lock(&self) -> MutexGuard<'_, Script> {
        self.shared.script.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
