//! One process as its script has it: alive, standing still, or dead.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

use super::{Action, Faults, Op, Step};
use crate::{Certainty, Error, Kind};

/// What the handles of one process have in common.
pub(crate) struct Process {
    faults: Faults,
    dead: AtomicBool,
    /// Until then nothing of it begins or goes on.
    stands_until: Mutex<Option<Instant>>,
}

/// How an operation gets past a step.
enum Passage {
    Free,
    /// It is told to have failed, and happens after this long.
    Late(Duration),
}

impl Process {
    pub(crate) fn new(faults: Faults) -> Self {
        Self { faults, dead: AtomicBool::new(false), stands_until: Mutex::new(None) }
    }

    /// Runs `call` with the script's failures before it and after it; `crash` is what a crash does
    /// to the backend.
    pub(crate) async fn run<T>(
        &self,
        op: Op,
        crash: impl Fn(),
        call: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        if let Passage::Late(_) = self.pass(op, Step::Before, &crash).await? {
            return Err(Error::determinate(op.as_str(), Kind::Unavailable));
        }
        let result = call.await?;
        self.pass(op, Step::Answer, &crash).await?;
        Ok(result)
    }

    /// As [`Process::run`], for what servers do that outlive the process: it may happen late.
    pub(crate) async fn send<T: Send>(
        &self,
        op: Op,
        crash: impl Fn(),
        call: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> Result<T, Error> {
        if let Passage::Late(time) = self.pass(op, Step::Before, &crash).await? {
            tokio::spawn(async move {
                sleep(time).await;
                // Nobody hears of it.
                let _ = call.await;
            });
            return Err(Error::indeterminate(op.as_str(), Kind::Unavailable));
        }
        let result = call.await?;
        self.pass(op, Step::Answer, &crash).await?;
        Ok(result)
    }

    async fn pass(&self, op: Op, step: Step, crash: &impl Fn()) -> Result<Passage, Error> {
        let certainty = match step {
            Step::Answer | Step::Written if op.writes() => Certainty::Indeterminate,
            _ => Certainty::Determinate,
        };
        let fail = |kind| Err(Error::determinate(op.as_str(), kind).with(certainty));
        self.stands().await;
        if self.is_dead() {
            return fail(Kind::Unavailable);
        }
        match self.faults.reach(op, step) {
            None => return Ok(Passage::Free),
            Some(Action::Fail(kind)) => return fail(kind),
            Some(Action::Late(time)) if step == Step::Before => return Ok(Passage::Late(time)),
            Some(Action::Delay(time) | Action::Late(time)) => sleep(time).await,
            Some(Action::Freeze(time)) => self.stand(time),
            Some(Action::Crash) => {
                self.dead.store(true, Ordering::Release);
                crash();
                self.faults.count_crash();
                return Err(Error::indeterminate(op.as_str(), Kind::Unavailable));
            }
        }
        self.stands().await;
        // It may have died meanwhile.
        if self.is_dead() { fail(Kind::Unavailable) } else { Ok(Passage::Free) }
    }

    fn stand(&self, time: Duration) {
        let mut until = self.stands_until.lock().unwrap_or_else(PoisonError::into_inner);
        *until = (*until).max(Some(Instant::now() + time));
    }

    /// Returns once the process does not stand still.
    async fn stands(&self) {
        loop {
            let until = *self.stands_until.lock().unwrap_or_else(PoisonError::into_inner);
            match until.filter(|until| *until > Instant::now()) {
                Some(until) => sleep_until(until).await,
                None => return,
            }
        }
    }

    fn is_dead(&self) -> bool {
        self.dead.load(Ordering::Acquire)
    }
}
