//! What the simulator relies on: each step of a write can fail or take the process with it.

use std::time::Duration;

use storage::fault::{Action, Faults, Op, Step};
use storage::memory::Memory;
use storage::state::{Group, Head, WriteSet};
use storage::{Certainty, Error, EventLog, Kind, Shard, StateStore, Topic};

use crate::world::{ALL, IDENTITY, PARTITIONS, bytes};

const SHARD: Shard = Shard { group: Group::Evaluator, partition: 0 };
const FULL: Action = Action::Fail(Kind::Full);

struct Setup {
    memory: Memory,
    faults: Faults,
    log: EventLog,
    state: StateStore,
}

fn setup() -> Setup {
    let (memory, faults) = (Memory::new(PARTITIONS, IDENTITY), Faults::default());
    let (log, state) = memory.open();
    let (log, state) = faults.wrap(log, state);
    Setup { memory, faults, log, state }
}

async fn append(log: &EventLog, text: &str) -> Result<(), Error> {
    log.append(Topic::Events, vec![(0, bytes(text))]).await.map(drop)
}

async fn commit(state: &StateStore) -> Result<(), Error> {
    let (epoch, head) = state.acquire(SHARD).await?;
    let rows = vec![(bytes("row"), Some(bytes("1")))];
    let outcomes = vec![bytes("outcome")];
    let set = WriteSet { seq: head.seq + 1, next_offset: 5, rows, outcomes, ..Default::default() };
    state.commit(SHARD, epoch, set).await
}

async fn count(log: &EventLog, topic: Topic) -> usize {
    log.read(topic, 0, 0, ALL).await.unwrap().len()
}

/// Step, action, the error, and whether it happened.
const CASES: [(Step, Action, Kind, Certainty, bool); 6] = [
    (Step::Before, FULL, Kind::Full, Certainty::Determinate, false),
    (Step::Written, FULL, Kind::Full, Certainty::Indeterminate, false),
    (Step::Answer, FULL, Kind::Full, Certainty::Indeterminate, true),
    (Step::Before, Action::Crash, Kind::Unavailable, Certainty::Indeterminate, false),
    (Step::Written, Action::Crash, Kind::Unavailable, Certainty::Indeterminate, false),
    (Step::Answer, Action::Crash, Kind::Unavailable, Certainty::Indeterminate, true),
];

#[tokio::test(start_paused = true)]
async fn an_append_fails_at_each_step_as_its_error_says() {
    for (step, action, kind, certainty, happened) in CASES {
        let Setup { memory, faults, log, .. } = setup();
        append(&log, "first").await.unwrap();
        faults.at(Op::Append, step, 2, action);
        append(&log, "second").await.unwrap();
        let e = append(&log, "third").await.unwrap_err();
        assert_eq!((e.kind, e.certainty), (kind, certainty), "{step:?} {action:?}");
        let dead = append(&log, "fourth").await.is_err();
        assert_eq!(dead, action == Action::Crash);
        let (log, _) = memory.open();
        let expected = 2 + usize::from(happened) + usize::from(!dead);
        assert_eq!(count(&log, Topic::Events).await, expected, "{step:?} {action:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_commit_happens_wholly_or_not_at_all() {
    for (step, action, kind, certainty, happened) in CASES {
        let Setup { memory, faults, state, .. } = setup();
        faults.at(Op::Commit, step, 1, action);
        let e = commit(&state).await.unwrap_err();
        assert_eq!((e.kind, e.certainty), (kind, certainty), "{step:?} {action:?}");
        assert_eq!(faults.crashes(), u64::from(action == Action::Crash));
        let (log, state) = memory.open();
        let row = state.get(SHARD, &[bytes("row")]).await.unwrap();
        assert_eq!(row[0].is_some(), happened);
        assert_eq!(count(&log, Topic::Outcomes).await, usize::from(happened));
        assert_eq!(state.head(SHARD).await.unwrap() != Head::default(), happened);
    }
}

#[tokio::test(start_paused = true)]
async fn a_crash_takes_with_it_what_others_have_in_flight() {
    let Setup { memory, faults, log, state } = setup();
    faults.at(Op::Append, Step::Written, 3, Action::Crash);
    let appends: Vec<_> = ["a", "b", "c"]
        .map(|text| {
            let log = log.clone();
            tokio::spawn(async move { append(&log, text).await })
        })
        .into();
    let commit = tokio::spawn(async move { commit(&state).await });
    faults.crashed(1).await;
    for append in appends {
        assert_eq!(append.await.unwrap().unwrap_err().certainty, Certainty::Indeterminate);
    }
    assert!(commit.await.unwrap().is_err());
    let (log, state) = memory.open();
    assert_eq!(count(&log, Topic::Events).await, 0);
    assert_eq!(state.head(SHARD).await.unwrap(), Head::default());
    append(&log, "of the next process").await.unwrap();
    assert_eq!(count(&log, Topic::Events).await, 1);
}

#[tokio::test(start_paused = true)]
async fn a_failed_sync_fails_everyone_who_waited_for_it() {
    let Setup { faults, log, .. } = setup();
    faults.at(Op::Append, Step::Written, 2, FULL);
    faults.at(Op::Append, Step::Written, 1, Action::Delay(Duration::from_millis(1)));
    let (first, second) = tokio::join!(append(&log, "a"), append(&log, "b"));
    let errors = [first, second].map(Result::unwrap_err);
    assert!(errors.iter().all(|e| e.certainty == Certainty::Indeterminate));
    assert!(errors.iter().any(|e| e.kind == Kind::Full));
    append(&log, "c").await.unwrap();
    assert_eq!(count(&log, Topic::Events).await, 1);
}

#[tokio::test(start_paused = true)]
async fn a_delay_lets_others_go_first_and_plans_can_be_cleared() {
    let Setup { faults, log, .. } = setup();
    faults.at(Op::Append, Step::Before, 1, Action::Delay(Duration::from_secs(3_600)));
    let (first, second) = tokio::join!(append(&log, "late"), append(&log, "early"));
    first.and(second).unwrap();
    assert_eq!(log.read(Topic::Events, 0, 0, ALL).await.unwrap()[0].bytes, "early");
    assert_eq!(faults.reached(Op::Append, Step::Written), 2);
    faults.at(Op::Read, Step::Before, 1, FULL);
    faults.clear();
    assert_eq!(count(&log, Topic::Events).await, 2);
}

#[tokio::test]
async fn files_can_be_wrapped_too() {
    let dir = tempfile::TempDir::new().unwrap();
    let (log, state) = storage::embedded::open(dir.path(), &crate::world::options()).unwrap();
    let faults = Faults::default();
    let (log, state) = faults.wrap(log, state);
    faults.at(Op::Append, Step::Answer, 1, Action::Crash);
    assert_eq!(append(&log, "a").await.unwrap_err().certainty, Certainty::Indeterminate);
    assert_eq!(append(&log, "b").await.unwrap_err().kind, Kind::Unavailable);
    assert!(commit(&state).await.is_err());
    drop((log, state));
    let (log, _state) = storage::embedded::open(dir.path(), &crate::world::options()).unwrap();
    assert_eq!(count(&log, Topic::Events).await, 1);
}
