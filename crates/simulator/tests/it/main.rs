//! Two hundred seeds on a disk, two hundred on servers, and that a seed is a run.

mod parity;

use std::collections::BTreeMap;
use std::process::Command;

use simulator::{COMMIT_POINTS, Mishap, Mishaps, Options, POINTS, Point, Report, STATEMENTS};
use storage::fault::Step;

/// Seeds run by the test command; every other one on servers.
const SEEDS: u64 = 400;
/// Threads that run them; each seed has its own world.
const THREADS: u64 = 2;
/// Decisions that the seeds must come to, and what must become of payouts.
const CODES: [&str; 18] = [
    "rewarded",
    "clipped",
    "cap_exceeded",
    "duplicate",
    "idempotency_conflict",
    "already_rewarded",
    "campaign_not_active",
    "conditions_not_met",
    "not_eligible",
    "unknown_attribution",
    "attribution_conflict",
    "late_event",
    "amount_missing",
    "event_type_mismatch",
    "payout.draft",
    "payout.paid",
    "payout.failed",
    "payout.canceled",
];

fn run(seed: u64) -> Report {
    simulator::run(Options::of(seed)).unwrap_or_else(|failure| {
        let tail = failure.trace.len().saturating_sub(30);
        panic!("{}\n{failure}", failure.trace[tail..].join("\n"))
    })
}

#[test]
fn every_invariant_holds_over_four_hundred_seeds_with_mishaps_everywhere() {
    const SHARE: u64 = SEEDS / THREADS;
    let share = |thread: u64| (thread * SHARE..(thread + 1) * SHARE).map(run).collect::<Vec<_>>();
    let threads: Vec<_> =
        (0..THREADS).map(|thread| std::thread::spawn(move || share(thread))).collect();
    let reports: Vec<_> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
    let mut mishaps = Mishaps::new();
    let mut codes: BTreeMap<String, u64> = BTreeMap::new();
    let (mut upgraded, mut panics) = (0, 0);
    for report in reports {
        report.mishaps.into_iter().for_each(|(what, n)| *mishaps.entry(what).or_default() += n);
        report.codes.into_iter().for_each(|(code, n)| *codes.entry(code).or_default() += n);
        upgraded += u64::from(report.upgraded);
        panics += report.panics;
    }
    println!("mishaps: {mishaps:?}\nupgraded: {upgraded}, panics: {panics}\ndecisions: {codes:?}");
    everything_went_wrong(&mishaps);
    assert_eq!(panics, 0);
    assert!(upgraded > 0, "no older process met a record that it does not know");
    for code in CODES {
        assert!(codes.contains_key(code), "nothing was {code}");
    }
}

/// Processes died at every point there is, and on servers stood still; requests and answers of every
/// statement were lost, came late or were overtaken.
fn everything_went_wrong(mishaps: &Mishaps) {
    let crashes = POINTS.iter().chain(&COMMIT_POINTS).map(|point| (Mishap::Crash, *point));
    let freezes = COMMIT_POINTS.iter().map(|point| (Mishap::Freeze, *point));
    let troubles = STATEMENTS.iter().flat_map(|op| {
        let [before, answer] = [Step::Before, Step::Answer].map(|step| Point { op: *op, step });
        let lost = [(Mishap::Fail, before), (Mishap::Fail, answer), (Mishap::Late, before)];
        lost.into_iter().chain([(Mishap::Delay, before), (Mishap::Delay, answer)])
    });
    for (mishap, point) in crashes.chain(freezes).chain(troubles) {
        assert!(mishaps.contains_key(&(mishap, point)), "never met: {mishap:?} at {point}");
    }
}

/// One seed gives one trace: run in two processes, compared line by line.
#[test]
fn a_seed_gives_the_same_trace_in_two_processes() {
    for seed in [3, 11, 42, 129] {
        let run = || {
            let simulator = env!("CARGO_BIN_EXE_simulator");
            let output = Command::new(simulator).args(["--seed", &seed.to_string()]).output();
            String::from_utf8(output.unwrap().stdout).unwrap()
        };
        let (first, second) = (run(), run());
        assert!(first.lines().count() > 100, "{first}");
        for (number, (one, other)) in first.lines().zip(second.lines()).enumerate() {
            assert_eq!(one, other, "seed {seed}, line {number}");
        }
        assert_eq!(first.lines().count(), second.lines().count(), "seed {seed}");
    }
}
