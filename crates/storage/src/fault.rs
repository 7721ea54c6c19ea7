//! Scripted failures, for tests: which operation fails at which step, or takes the process with it.
//!
//! [`Faults`] is the script. [`Faults::wrap`] puts it around any pair of handles; around
//! [`crate::memory::Memory`] it reaches the step between written and synced too. Nothing here is
//! random: the same script over the same calls gives the same failures. A simulator counts the
//! steps of a run with [`Faults::reached`] and then crashes at each of them in turn.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::log::FaultLog;
use crate::marks::Mark;
use crate::state::FaultState;
use crate::{Certainty, Error, EventLog, Kind, StateStore};

/// An operation of a port.
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
        }
    }

    fn writes(self) -> bool {
        matches!(self, Self::Append | Self::Trim | Self::Publish | Self::Acquire | Self::Commit)
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
        let process = Arc::new(Process { faults: self.clone(), dead: AtomicBool::new(false) });
        let log = FaultLog::new(log.following(self), process.clone());
        let state = FaultState::new(state.following(self), process);
        (EventLog::Fault(log), StateStore::Fault(state))
    }

    /// Counts the step and returns what is planned for it.
    pub(crate) fn reach(&self, op: Op, step: Step) -> Option<Action> {
        let mut script = self.lock();
        let reached = script.reached.entry((op, step)).or_default();
        *reached += 1;
        let nth = *reached;
        script.planned.remove(&(op, step, nth))
    }

    pub(crate) fn count_crash(&self) {
        self.shared.crashes.set(self.shared.crashes.get() + 1);
    }

    fn lock(&self) -> MutexGuard<'_, Script> {
        self.shared.script.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What two wrapped handles have in common.
pub(crate) struct Process {
    faults: Faults,
    dead: AtomicBool,
}

impl Process {
    /// Runs `call` with the script's failures before it and after it; `crash` is what a crash does
    /// to the backend.
    pub(crate) async fn run<T>(
        &self,
        op: Op,
        crash: impl Fn(),
        call: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        self.pass(op, Step::Before, &crash).await?;
        let result = call.await?;
        self.pass(op, Step::Answer, &crash).await?;
        Ok(result)
    }

    async fn pass(&self, op: Op, step: Step, crash: &impl Fn()) -> Result<(), Error> {
        let certainty = match step {
            Step::Answer | Step::Written if op.writes() => Certainty::Indeterminate,
            _ => Certainty::Determinate,
        };
        let fail = |kind| Err(Error::determinate(op.as_str(), kind).with(certainty));
        if self.is_dead() {
            return fail(Kind::Unavailable);
        }
        match self.faults.reach(op, step) {
            None => return Ok(()),
            Some(Action::Fail(kind)) => return fail(kind),
            Some(Action::Delay(time)) => tokio::time::sleep(time).await,
            Some(Action::Crash) => {
                self.dead.store(true, Ordering::Release);
                crash();
                self.faults.count_crash();
                return Err(Error::indeterminate(op.as_str(), Kind::Unavailable));
            }
        }
        // It may have died meanwhile.
        if self.is_dead() { fail(Kind::Unavailable) } else { Ok(()) }
    }

    fn is_dead(&self) -> bool {
        self.dead.load(Ordering::Acquire)
    }
}
