//! The whole pipeline from a seed: edge, log, evaluator, dispatcher and relay on one thread in virtual
//! time, over stores that forget what was not synced, with clients that retry, processes that die at
//! every step of an append or commit, rival owners, receivers that fail, and damaged records.
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
mod invariant;
mod ledger;
mod life;
mod model;
mod notices;
mod oracle;
pub mod parity;
mod replay;
mod rules;
mod workload;
mod world;

use std::collections::BTreeMap;
use std::fmt;

pub use crate::crash::{POINTS, Point};
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
    /// Most crashes that are planned; some are not reached.
    pub crashes_max: u32,
}

impl Options {
    /// A run that takes a fraction of a second.
    pub const fn of(seed: u64) -> Self {
        Self { seed, actions: 120, crashes_max: 8 }
    }
}

/// What happened in a run in which every invariant held.
#[derive(Clone, Debug)]
pub struct Report {
    /// What happened, in order.
    pub trace: Vec<String>,
    /// Where the process died, how often.
    pub crashes: BTreeMap<Point, u64>,
    /// Events decided, by code, repeats included.
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
    let mut world = World::new(options);
    let result = play(&mut world);
    let trace = std::mem::take(&mut world.book.open().trace);
    match result {
        Ok(codes) => Ok(Report { trace, crashes: world.crashes, codes }),
        Err(violation) => Err(Box::new(Failure { options, violation, trace })),
    }
}

/// Life after life until one ends with everything done; then everything is checked.
fn play(world: &mut World) -> Result<BTreeMap<String, u64>, Violation> {
    loop {
        // A runtime a life: dropping it ends every task where it stands, as a crash does.
        let end = runtime().block_on(life::live(world))?;
        if let End::Crashed = end {
            let point = world.point.take();
            world.book.note(format!("{} crash at {point:?}", world.now_ms));
            if let Some(point) = point {
                *world.crashes.entry(point).or_default() += 1;
            }
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
