//! Evaluators on servers: processes of their own that compete for the partitions, stand still, die and
//! come back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use evaluator::EvaluatorParts;
use rand::RngExt;
use rand::rngs::StdRng;
use serve::{Clock, Health, Shutdown};
use storage::fault::{Action, Faults};
use tokio::task::JoinHandle;

use crate::clients::Book;
use crate::crash::{self, COMMIT_POINTS, Weather};
use crate::life;
use crate::panics;
use crate::stores::Stores;
use crate::upgrade::{Upgrade, Version};

/// For how long a process stands still, in milliseconds.
const FREEZE_MAX_MS: u64 = 40_000;
/// What was sent, or stood still, before the network was calm has had its effect after this.
pub(crate) const CALM_AFTER: Duration = Duration::from_secs(60);

/// One of them, seen from outside.
pub(crate) struct Peer {
    /// What goes wrong there, in all its lives.
    pub(crate) faults: Faults,
    pub(crate) version: Version,
    health: Health,
    stop: Shutdown,
    task: JoinHandle<()>,
}

/// What is needed to start one again and again.
pub(crate) struct PeerParts {
    /// Of all peers of the run.
    pub(crate) number: u64,
    /// Which point of the commit is the first at which something befalls it.
    pub(crate) turn: usize,
    pub(crate) version: Version,
    pub(crate) upgrade: Option<Upgrade>,
    pub(crate) stores: Stores,
    pub(crate) clock: Clock,
    pub(crate) book: Book,
    pub(crate) weather: Weather,
    /// From then on nothing more goes wrong.
    pub(crate) calm: Arc<AtomicBool>,
    pub(crate) rng: StdRng,
}

impl Peer {
    pub(crate) fn start(parts: PeerParts) -> Self {
        let (faults, health, stop) = (Faults::default(), Health::new(), Shutdown::new());
        let version = parts.version;
        let running =
            Running { parts, faults: faults.clone(), health: health.clone(), stop: stop.clone() };
        let task = serve::spawn("peer", running.run());
        Self { faults, version, health, stop, task }
    }

    /// Has it been told of a record that it does not know, and sounded the alarm?
    pub(crate) fn is_halted(&self) -> bool {
        let report = self.health.report();
        report.iter().any(|(_, why)| why.as_ref().is_some_and(|why| why.contains("halted")))
    }

    /// Lets it die or stand still among what comes next.
    pub(crate) fn befall(&self, rng: &mut StdRng) {
        befall(&self.faults, rng.random_range(0..COMMIT_POINTS.len()), rng);
    }

    /// Is it asked to end?
    pub(crate) fn is_leaving(&self) -> bool {
        self.stop.is_requested()
    }

    /// Asks it to end in order.
    pub(crate) fn stop(&self) {
        self.stop.request();
    }

    /// Returns once it has.
    pub(crate) async fn stopped(&mut self) {
        // Of a task that panicked the others go on.
        let _ = (&mut self.task).await;
    }
}

struct Running {
    parts: PeerParts,
    faults: Faults,
    health: Health,
    stop: Shutdown,
}

impl Running {
    async fn run(mut self) {
        while !self.stop.is_requested() {
            let deaths = self.faults.crashes() + 1;
            self.befall();
            self.note("starts");
            // Whose task it was is not known here: all peers are started again.
            let mut panics = panics::follow();
            // Dropped, it ends as a process does that dies.
            let work = Box::pin(evaluator::run(self.open(), self.stop.clone()));
            tokio::select! {
                biased;
                () = self.faults.crashed(deaths) => {
                    self.note(&format!("dies at {:?}", crash::last(&self.faults)));
                }
                _ = panics.changed() => self.note("is killed after a panic"),
                () = work => return self.note("stops"),
            }
            let pause = Duration::from_millis(self.parts.rng.random_range(1..8_000));
            tokio::select! {
                biased;
                () = self.stop.requested() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Plans what goes wrong in its next life.
    fn befall(&mut self) {
        self.faults.clear();
        if self.parts.calm.load(Ordering::SeqCst) {
            return;
        }
        let PeerParts { turn, weather, rng, .. } = &mut self.parts;
        weather.befall(&self.faults, rng);
        for _ in 0..rng.random_range(0..3) {
            befall(&self.faults, *turn, rng);
            *turn += 1;
        }
    }

    fn open(&mut self) -> EvaluatorParts {
        let PeerParts { stores, clock, rng, upgrade, version, .. } = &mut self.parts;
        let (mut log, state) = stores.open(&self.faults, clock.now_ms(), rng);
        if let (Some(upgrade), Version::Older) = (upgrade, *version) {
            log = upgrade.seen_by_older(log);
        }
        let (clock, health) = (clock.clone(), self.health.clone());
        EvaluatorParts { log, state, clock, health, config: life::config(rng) }
    }

    fn note(&self, what: &str) {
        let PeerParts { number, version, clock, book, .. } = &self.parts;
        book.note(format!("{} peer {number} ({version:?}) {what}", clock.now_ms()));
    }
}

fn befall(faults: &Faults, turn: usize, rng: &mut StdRng) {
    let action = if rng.random_bool(0.5) {
        Action::Crash
    } else {
        Action::Freeze(crash::time_up_to(FREEZE_MAX_MS, rng))
    };
    crash::plan(faults, COMMIT_POINTS[turn % COMMIT_POINTS.len()], action, rng);
}
