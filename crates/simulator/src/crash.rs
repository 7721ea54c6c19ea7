//! Where a run is made to fail: points of the stores' operations, gone through in turn so that every
//! one is met.

use std::fmt;
use std::time::Duration;

use rand::RngExt;
use rand::rngs::StdRng;
use storage::Kind;
use storage::fault::{Action, Faults, Op, Step};

/// A step of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Point {
    /// The operation.
    pub op: Op,
    /// How far it has come.
    pub step: Step,
}

/// Every point at which a process is made to die: each step of whatever writes, and the reads.
pub const POINTS: [Point; 13] = [
    Point { op: Op::Append, step: Step::Before },
    Point { op: Op::Append, step: Step::Written },
    Point { op: Op::Append, step: Step::Answer },
    Point { op: Op::Commit, step: Step::Before },
    Point { op: Op::Commit, step: Step::Written },
    Point { op: Op::Commit, step: Step::Answer },
    Point { op: Op::Acquire, step: Step::Before },
    Point { op: Op::Acquire, step: Step::Written },
    Point { op: Op::Acquire, step: Step::Answer },
    Point { op: Op::Read, step: Step::Before },
    Point { op: Op::Get, step: Step::Answer },
    Point { op: Op::Scan, step: Step::Before },
    Point { op: Op::Bounds, step: Step::Answer },
];

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}/{:?}", self.op, self.step)
    }
}

/// Lets the process die at `point`, soon.
pub(crate) fn plan(faults: &Faults, point: Point, rng: &mut StdRng) {
    let within = match point.op {
        Op::Append | Op::Commit => 25,
        Op::Read => 60,
        _ => 6,
    };
    faults.at(point.op, point.step, rng.random_range(1..=within), Action::Crash);
}

/// Lets a few operations fail or take long, without ending the process.
pub(crate) fn trouble(faults: &Faults, rng: &mut StdRng) {
    for _ in 0..rng.random_range(0..4) {
        let point = POINTS[rng.random_range(0..POINTS.len())];
        let action = match rng.random_range(0..3) {
            0 => Action::Fail(Kind::Unavailable),
            1 if point.op == Op::Append && point.step == Step::Before => Action::Fail(Kind::Full),
            1 => Action::Fail(Kind::Unavailable),
            _ => Action::Delay(Duration::from_millis(rng.random_range(1..3_000))),
        };
        faults.at(point.op, point.step, rng.random_range(1..80), action);
    }
}
