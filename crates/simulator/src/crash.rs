//! Where a run is made to fail: points of the stores' operations, gone through in turn so that every
//! one is met.

use std::collections::BTreeMap;
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

/// Every point at which a process on a disk is made to die: each step of whatever writes, and the reads.
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

/// Every point at which an evaluator on servers is made to die, and to stand still: each step of the
/// distributed commit and of taking over, in their order.
pub const COMMIT_POINTS: [Point; 15] = [
    Point { op: Op::TakeHead, step: Step::Before },
    Point { op: Op::TakeHead, step: Step::Answer },
    Point { op: Op::ReadChunk, step: Step::Before },
    Point { op: Op::ReadChunk, step: Step::Answer },
    Point { op: Op::PutChunk, step: Step::Before },
    Point { op: Op::PutChunk, step: Step::Answer },
    Point { op: Op::MoveHead, step: Step::Before },
    Point { op: Op::MoveHead, step: Step::Answer },
    Point { op: Op::WriteRows, step: Step::Before },
    Point { op: Op::WriteRows, step: Step::Answer },
    Point { op: Op::Publish, step: Step::Before },
    Point { op: Op::Publish, step: Step::Answer },
    Point { op: Op::MarkApplied, step: Step::Before },
    Point { op: Op::MarkApplied, step: Step::Answer },
    Point { op: Op::DeleteBlob, step: Step::Before },
];

/// What a network does to requests and answers of these: all that evaluators send.
pub const STATEMENTS: [Op; 10] = [
    Op::ReadHead,
    Op::TakeHead,
    Op::MoveHead,
    Op::PutChunk,
    Op::ReadChunk,
    Op::DeleteBlob,
    Op::WriteRows,
    Op::ReadRows,
    Op::MarkApplied,
    Op::Publish,
];

/// What went wrong at a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mishap {
    /// The process died.
    Crash,
    /// The process stood still.
    Freeze,
    /// The operation failed: before, the request was lost; at the answer, that was lost.
    Fail,
    /// It took long.
    Delay,
    /// It failed, and happened later.
    Late,
}

/// How often what went wrong where.
pub type Mishaps = BTreeMap<(Mishap, Point), u64>;

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}/{:?}", self.op, self.step)
    }
}

/// Adds what has come of a script.
pub(crate) fn count(mishaps: &mut Mishaps, faults: &Faults) {
    for (op, step, action) in faults.met() {
        let mishap = match action {
            Action::Crash => Mishap::Crash,
            Action::Freeze(_) => Mishap::Freeze,
            Action::Fail(_) => Mishap::Fail,
            Action::Delay(_) => Mishap::Delay,
            Action::Late(_) => Mishap::Late,
        };
        *mishaps.entry((mishap, Point { op, step })).or_default() += 1;
    }
}

/// Where the script has last let a process die.
pub(crate) fn last(faults: &Faults) -> Option<Point> {
    let met = faults.met().into_iter().rev();
    let mut crashes = met.filter(|(_, _, action)| *action == Action::Crash);
    crashes.next().map(|(op, step, _)| Point { op, step })
}

/// Lets `action` befall the process at `point`, soon.
pub(crate) fn plan(faults: &Faults, point: Point, action: Action, rng: &mut StdRng) {
    let within = match point.op {
        Op::Append | Op::Commit | Op::WriteRows => 25,
        Op::Read => 60,
        Op::PutChunk | Op::MoveHead | Op::Publish | Op::MarkApplied | Op::DeleteBlob => 12,
        _ => 6,
    };
    faults.at(point.op, point.step, rng.random_range(1..=within), action);
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

/// How bad a network is: of so many statements one meets something.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Weather(u64);

impl Weather {
    pub(crate) fn draw(rng: &mut StdRng) -> Self {
        Self([8, 30, 100, 1_000][rng.random_range(0..4)])
    }

    /// Lets requests and answers of the next statements be late, lost, or overtaken.
    pub(crate) fn befall(self, faults: &Faults, rng: &mut StdRng) {
        for op in STATEMENTS {
            let mut nth = rng.random_range(1..=2 * self.0);
            while nth <= 300 {
                let (step, action) = mischief(rng);
                faults.at(op, step, nth, action);
                nth += rng.random_range(1..=2 * self.0);
            }
        }
    }
}

fn mischief(rng: &mut StdRng) -> (Step, Action) {
    let step = if rng.random_bool(0.5) { Step::Before } else { Step::Answer };
    match rng.random_range(0..10) {
        0..4 => (step, Action::Delay(time_up_to(2_000, rng))),
        4..7 => (step, Action::Fail(Kind::Unavailable)),
        _ => (Step::Before, Action::Late(time_up_to(40_000, rng))),
    }
}

/// Short or long, each order of magnitude as likely as the others.
pub(crate) fn time_up_to(most_ms: u64, rng: &mut StdRng) -> Duration {
    let order = rng.random_range(0..=most_ms.ilog2());
    Duration::from_millis(rng.random_range(0..=1 << order))
}
