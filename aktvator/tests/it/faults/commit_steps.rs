//! An evaluator dies, or stands still and wakes up after its successor, at every step of its commit.

use std::time::Duration;

use crate::cql_proxy::Fate;
use crate::installation::Installation;
use crate::invariants;
use crate::node::eventually;

/// Of a sender, between its batches.
const PAUSE: Duration = Duration::from_secs(2);
/// As often as the statement comes.
const ALWAYS: usize = usize::MAX;

/// How far an evaluator gets.
struct Step {
    /// When it stops.
    when: &'static str,
    /// The statement at which it stops, and what becomes of that.
    statement: &'static str,
    fate: Fate,
    times: usize,
}

const fn step(when: &'static str, statement: &'static str, fate: Fate, times: usize) -> Step {
    Step { when, statement, fate, times }
}

const WRITE: &str = "INSERT INTO write_sets";
const COMMIT: &str = "UPDATE heads SET seq";
const APPLY: &str = "INSERT INTO rows";
const MARK: &str = "INSERT INTO applied";

const UNDECIDED: Step = step("before the head moves", COMMIT, Fate::Hold, ALWAYS);
const COMMITTED: Step = step("once the head has moved", COMMIT, Fate::LoseAnswer, ALWAYS);
const HALF_APPLIED: Step = step("once some of its rows are applied", APPLY, Fate::Hold, 1);

/// Every step of the commit, in order.
const STEPS: [Step; 8] = [
    step("before the write set is stored", WRITE, Fate::Hold, ALWAYS),
    UNDECIDED,
    COMMITTED,
    step("before its rows are applied", APPLY, Fate::Hold, ALWAYS),
    HALF_APPLIED,
    step("once its rows are applied, before its outcomes", APPLY, Fate::LoseAnswer, ALWAYS),
    step("once its outcomes are published", MARK, Fate::Hold, ALWAYS),
    step("once it is marked as applied", MARK, Fate::LoseAnswer, ALWAYS),
];

/// What happens to it there.
#[derive(Clone, Copy, Debug)]
enum End {
    /// `kill -9`.
    Killed,
    /// SIGSTOP, and SIGCONT when its successor has gone on.
    Frozen,
}

/// Goes through these one after another, under load.
fn go_through<'a>(ends: impl IntoIterator<Item = (&'a Step, End)>) {
    let (mut all, ways) = Installation::start_with_ways();
    let workload = all.workload();
    workload.during(PAUSE, || {
        workload.decide_one();
        for (step, end) in ends {
            println!("{end:?} {}", step.when);
            let rules = ways.each_ref().map(|way| way.on(step.statement, step.fate, step.times));
            let at = eventually(step.when, || rules.iter().position(|rule| rule.times() > 0));
            let evaluator = &mut all.evaluators[at];
            match end {
                End::Killed => evaluator.kill(),
                End::Frozen => evaluator.signal("STOP"),
            }
            rules[1 - at].release();
            // Its successor finishes what it has committed, and goes on.
            workload.decide_one();
            // Only now arrives what it had sent.
            rules[at].release();
            match end {
                End::Killed => evaluator.restart(),
                End::Frozen => evaluator.signal("CONT"),
            }
            workload.decide_one();
        }
    });
    invariants::check(&workload);
    all.assert_few_series();
}

#[test]
#[ignore = "needs servers of its own: scripts/faults"]
fn owners_that_stop_in_the_middle_of_a_commit_double_and_lose_nothing() {
    go_through([
        (&COMMITTED, End::Killed),
        (&UNDECIDED, End::Frozen),
        (&HALF_APPLIED, End::Frozen),
    ]);
}

mod whole {
    use std::thread;

    use super::*;

    #[test]
    #[ignore = "needs servers of its own: scripts/faults"]
    fn an_evaluator_is_killed_at_every_step() {
        go_through(STEPS.iter().map(|step| (step, End::Killed)));
    }

    #[test]
    #[ignore = "needs servers of its own: scripts/faults"]
    fn an_evaluator_wakes_up_after_its_successor_at_every_step() {
        go_through(STEPS.iter().map(|step| (step, End::Frozen)));
    }

    /// Applied, not applied, and late: after it was repeated, or after a successor has come.
    #[test]
    #[ignore = "needs servers of its own: scripts/faults"]
    fn conditional_updates_are_not_answered_or_come_late() {
        const TAKE: &str = "UPDATE heads SET epoch";
        let (mut all, ways) = Installation::start_with_ways();
        let workload = all.workload();
        workload.during(PAUSE, || {
            for statement in [COMMIT, TAKE] {
                for fate in [Fate::LoseAnswer, Fate::LoseRequest, Fate::Hold] {
                    println!("{statement}: {fate:?}");
                    let rules = ways.each_ref().map(|way| way.on(statement, fate, 1));
                    if statement == TAKE {
                        // Its partitions go to the other one, and later come back in part.
                        all.evaluators[0].crash_and_restart();
                    }
                    eventually("a conditional update", || {
                        rules.iter().find(|rule| rule.times() > 0)
                    });
                    workload.decide_one();
                    rules.iter().for_each(|rule| rule.release());
                    workload.decide_one();
                    thread::sleep(PAUSE);
                }
            }
        });
        invariants::check(&workload);
    }
}
