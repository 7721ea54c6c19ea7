//! Two hundred seeds, and that a seed is a run.

mod parity;

use std::collections::BTreeMap;
use std::process::Command;

use simulator::{Options, POINTS};

/// Seeds run by the test command.
const SEEDS: u64 = 200;
/// Threads that run them; each seed has its own world.
const THREADS: u64 = 2;

#[test]
fn every_invariant_holds_over_two_hundred_seeds_with_crashes_everywhere() {
    let share = |thread: u64| {
        (thread..SEEDS).step_by(THREADS as usize).map(|seed| {
            simulator::run(Options::of(seed)).unwrap_or_else(|failure| {
                let tail = failure.trace.len().saturating_sub(30);
                panic!("{}\n{failure}", failure.trace[tail..].join("\n"))
            })
        })
    };
    let threads: Vec<_> = (0..THREADS)
        .map(|thread| std::thread::spawn(move || share(thread).collect::<Vec<_>>()))
        .collect();
    let reports: Vec<_> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
    let mut crashes: BTreeMap<_, u64> = BTreeMap::new();
    let mut codes: BTreeMap<String, u64> = BTreeMap::new();
    for report in reports {
        report.crashes.into_iter().for_each(|(point, n)| *crashes.entry(point).or_default() += n);
        report.codes.into_iter().for_each(|(code, n)| *codes.entry(code).or_default() += n);
    }
    for point in POINTS {
        assert!(crashes.contains_key(&point), "no crash at {point}, only at {crashes:?}");
    }
    let wanted = [
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
    ];
    for code in wanted {
        assert!(codes.contains_key(code), "no event was {code}, only {codes:?}");
    }
    println!("crashes: {crashes:?}\ndecisions: {codes:?}");
}

/// One seed gives one trace: run in two processes, compared line by line.
#[test]
fn a_seed_gives_the_same_trace_in_two_processes() {
    for seed in [3, 11, 42] {
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
