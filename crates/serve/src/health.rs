//! Is the process alive, and may it be sent traffic?

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// Who hears of tasks that panicked.
static ADOPTER: OnceLock<Health> = OnceLock::new();

/// The checks of a process, and whether it is draining. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Health(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// What stands in the way of being ready, by check; `None` where nothing does.
    checks: BTreeMap<&'static str, Option<String>>,
    dead_tasks: Vec<&'static str>,
    draining: bool,
}

/// One named condition of being ready.
#[derive(Clone, Debug)]
pub struct Check {
    name: &'static str,
    health: Health,
}

impl Health {
    /// Alive and ready, with no checks yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a condition, not ready until [`Check::set_ready`] says so.
    pub fn register(&self, name: &'static str) -> Check {
        self.state().checks.insert(name, Some("starting".into()));
        Check { name, health: self.clone() }
    }

    /// From now on not ready, because the process is about to stop.
    pub fn set_draining(&self) {
        self.state().draining = true;
    }

    /// Takes in the panics of this process's tasks ([`crate::spawn`]). The first adopter keeps them.
    pub fn adopt_tasks(&self) {
        // A second adopter changes nothing, as documented.
        let _ = ADOPTER.set(self.clone());
    }

    /// No task has panicked: a process that is not alive should be started again.
    pub fn is_alive(&self) -> bool {
        self.state().dead_tasks.is_empty()
    }

    /// Alive, not draining, and every check holds.
    pub fn is_ready(&self) -> bool {
        let state = self.state();
        state.dead_tasks.is_empty() && !state.draining && state.checks.values().all(Option::is_none)
    }

    /// Every check and what stands in its way (`None`: nothing), by name.
    pub fn report(&self) -> Vec<(&'static str, Option<String>)> {
        let state = self.state();
        let mut report: Vec<_> = state.checks.iter().map(|(n, why)| (*n, why.clone())).collect();
        report.extend(state.dead_tasks.iter().map(|name| (*name, Some("task panicked".into()))));
        if state.draining {
            report.push(("shutdown", Some("draining".into())));
        }
        report
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing that holds the lock can leave the state half changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Check {
    /// Says whether the condition holds; `reason` is shown while it does not.
    pub fn set_ready(&self, ready: bool, reason: &str) {
        let blocked = (!ready).then(|| reason.to_owned());
        self.health.state().checks.insert(self.name, blocked);
    }
}

pub(crate) fn task_died(name: &'static str) {
    if let Some(health) = ADOPTER.get() {
        health.state().dead_tasks.push(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_when_every_check_is_and_it_does_not_drain() {
        let health = Health::new();
        assert!(health.is_ready());
        let log = health.register("log");
        assert!(!health.is_ready());
        log.set_ready(true, "");
        assert!(health.is_ready());
        log.set_ready(false, "disk full");
        assert_eq!(health.report(), [("log", Some("disk full".to_owned()))]);
        log.set_ready(true, "");
        health.set_draining();
        assert!(!health.is_ready() && health.is_alive());
    }

    #[tokio::test]
    async fn a_panicked_task_ends_liveness() {
        let health = Health::new();
        health.adopt_tasks();
        let panicked = crate::spawn("doomed", async { panic!("on purpose") }).await;
        assert!(panicked.unwrap_err().is_panic());
        assert!(!health.is_alive() && !health.is_ready());
        assert_eq!(health.report(), [("doomed", Some("task panicked".to_owned()))]);
    }
}
