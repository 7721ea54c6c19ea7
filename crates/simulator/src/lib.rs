//! The whole pipeline from a seed: edge, log, evaluator, dispatcher and relay on one thread in virtual
//! time, with clients that retry, receivers that fail, and damaged records.
//!
//! Every other seed runs as one process over a disk that forgets what was not synced, and dies at every
//! step of an append or commit, with rival owners. The others run on servers (`stores`): up to three
//! evaluators compete for the partitions (`fleet`), each a process of its own that dies or stands still
//! at every step of the distributed commit (`peers`), over a network that delays, reorders and loses;
//! in some of them a newer program comes to replace an older one (`upgrade`).
//!
//! What it is not: nothing here is part of the product. What should have come of a run is said by the
//! naive `model`, which shares no code with the engine.
//!
//! Invariants are those of [`Invariant`]: some are checked after every action, all of them when the
//! work is done (`oracle`). The same seed gives the same trace, line by line. Start reading at
//! [`run`], then `life` and `workload`.

mod caps;
mod cast;
mod clients;
mod crash;
mod deliveries;
mod fleet;
mod invariant;
mod ledger;
mod life;
mod model;
mod notices;
mod oracle;
mod panics;
pub mod parity;
mod peers;
mod replay;
mod rules;
mod stores;
mod upgrade;
mod watch;
mod workload;
mod world;

use std::collections::BTreeMap;
use std::fmt;

pub use crate::crash::{COMMIT_POINTS, Mishap, Mishaps, POINTS, Point, STATEMENTS};
pub use crate::invariant::{Invariant, Violation};
use crate::life::End;
use crate::world::World;

/// What a run is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Decides everything.
    pub seed: u64,
    /// Things that happen.
    pub actions: u32,
    /// Most crashes of the whole that are planned; some are not reached.
    pub crashes_max: u32,
    /// On servers, or on a disk.
    pub servers: bool,
}

impl Options {
    /// A run that takes a fraction of a second.
    pub const fn of(seed: u64) -> Self {
        let servers = seed % 2 == 1;
        Self { seed, actions: 120, crashes_max: if servers { 2 } else { 8 }, servers }
    }
}

/// What happened in a run in which every invariant held.
#[derive(Clone, Debug)]
pub struct Report {
    /// What happened, in order.
    pub trace: Vec<String>,
    /// What went wrong where, how often.
    pub mishaps: Mishaps,
    /// Tasks that panicked, with which their processes died.
    pub panics: u64,
    /// Was a newer program brought in beside an older one that had halted?
    pub upgraded: bool,
    /// Events decided, by code, repeats included, and payouts, by status.
    pub codes: BTreeMap<String, u64>,
}

/// A run in which an invariant was broken.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Runs again as it did.
    pub options: Options,
    /// What was broken.
    pub violation: Violation,
    /// What happened until then.
    pub trace: Vec<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Options { seed, .. } = self.options;
        write!(f, "seed {seed}: {}\nagain: cargo run -p simulator -- --seed {seed}", self.violation)
    }
}

/// Runs a seed to the end.
///
/// # Errors
/// The first invariant that does not hold, and how it came about.
pub fn run(options: Options) -> Result<Report, Box<Failure>> {
    panics::count();
    let mut world = World::new(options);
    let panics = panics::follow();
    let before = *panics.borrow();
    let result = play(&mut world);
    let panics = *panics.borrow() - before;
    let trace = std::mem::take(&mut world.book.open().trace);
    match result {
        Ok(codes) => {
            let (mishaps, upgraded) = (world.mishaps, world.upgraded);
            Ok(Report { trace, mishaps, panics, upgraded, codes })
        }
        Err(violation) => Err(Box::new(Failure { options, violation, trace })),
    }
}

/// Life after life until one ends with everything done; then everything is checked.
fn play(world: &mut World) -> Result<BTreeMap<String, u64>, Violation> {
    loop {
        // A runtime a life: dropping it ends every task where it stands, as a crash does.
        let end = runtime().block_on(life::live(world))?;
        if let End::Crashed = end {
            runtime().block_on(world.crash());
        } else {
            return runtime().block_on(oracle::check(world));
        }
    }
}

fn runtime() -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_time().start_paused(true).build().expect("a runtime on this thread")
}
