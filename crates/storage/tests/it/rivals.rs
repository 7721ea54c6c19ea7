//! Owners that compete for one shard with several write sets in flight, whatever goes wrong: what is
//! stored and told in the end are the committed write sets, each once and in order.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use proptest::prelude::*;
use storage::fault::{Action, Faults, Op, Step};
use storage::memory::{Cluster, Memory, Own};
use storage::state::{Group, KeyRange, WriteSet};
use storage::{Certainty, EventLog, Kind, Shard, StateStore, Topic};

use crate::world::{ALL, IDENTITY, bytes, own};

const SHARD: Shard = Shard { group: Group::Evaluator, partition: 0 };
const RIVALS: usize = 3;
/// Ownerships of each rival.
const TERMS: usize = 4;
/// Write sets of a term that are in flight together.
const SETS: u64 = 4;
const OPS: [Op; 10] = [
    Op::ReadHead,
    Op::TakeHead,
    Op::MoveHead,
    Op::PutChunk,
    Op::ReadChunk,
    Op::DeleteBlob,
    Op::WriteRows,
    Op::MarkApplied,
    Op::ReadApplied,
    Op::Publish,
];

/// What goes wrong in one rival: where, the how manyeth time, and what.
type Mishap = (Op, Step, u64, Action);

fn mishap() -> impl Strategy<Value = Mishap> {
    let time = || (0..15_u32, 0..1_000_u64).prop_map(|(order, ms)| ms << order >> 10);
    let time = || time().prop_map(Duration::from_millis);
    let action = prop_oneof![
        3 => Just(Action::Fail(Kind::Unavailable)),
        2 => time().prop_map(Action::Delay),
        2 => time().prop_map(Action::Late),
        1 => time().prop_map(Action::Freeze),
        1 => Just(Action::Crash),
    ];
    let step = prop_oneof![Just(Step::Before), Just(Step::Answer)];
    (prop::sample::select(&OPS[..]), step, 1..30_u64, action)
}

/// The n-th write set of the shard, by whoever: its name is its outcome.
fn set(seq: u64, name: &str) -> WriteSet {
    let rows = changes(seq, name).into_iter();
    WriteSet {
        seq,
        next_offset: seq * 10,
        log_identity: IDENTITY,
        fold_time_ms: 0,
        rows: rows.map(|(key, row)| (bytes(&key), row.as_deref().map(bytes))).collect(),
        outcomes: vec![bytes(name)],
    }
}

/// One row of its own, some that others write too, and one that is deleted.
fn changes(seq: u64, name: &str) -> Vec<(String, Option<String>)> {
    let put = |key: String| (key, Some(name.to_owned()));
    let shared = (0..3).map(|n| put(format!("shared {}", (seq + n) % 5)));
    let own = [put(format!("own {seq}")), (format!("shared {}", (seq + 3) % 5), None)];
    shared.chain(own).collect()
}

/// What became of the write sets of all rivals, by name.
#[derive(Default)]
struct Told {
    committed: BTreeSet<String>,
    refused: BTreeSet<String>,
}

struct Servers {
    broker: EventLog,
    cluster: Cluster,
}

impl Servers {
    fn open(&self, seed: u64, faults: &Faults) -> StateStore {
        let own = Own { faults: faults.clone(), ..own(seed) };
        self.cluster.open(self.broker.clone(), own).1
    }

    /// Takes the shard again and again, each time as a new process.
    async fn rival(&self, rival: usize, mishaps: &[Mishap]) -> Told {
        let (faults, mut told) = (Faults::default(), Told::default());
        for (op, step, nth, action) in mishaps {
            faults.at(*op, *step, *nth, *action);
        }
        for term in 0..TERMS {
            let state = self.open((rival * TERMS + term) as u64, &faults);
            let Ok((epoch, head)) = state.acquire(SHARD).await else { continue };
            let commits = (head.seq + 1..=head.seq + SETS).map(|seq| {
                let (state, name) = (&state, format!("{seq} of {rival}.{term}"));
                async move { (state.commit(SHARD, epoch, set(seq, &name)).await, name) }
            });
            for (result, name) in join_all(commits).await {
                match result {
                    Ok(()) => told.committed.insert(name),
                    Err(e) if e.certainty == Certainty::Determinate => told.refused.insert(name),
                    Err(_) => false,
                };
            }
        }
        told
    }

    /// For ever: what is told is committed, and what is said to be there can be read.
    async fn watch(&self) {
        let state = self.open(u64::MAX, &Faults::default());
        for seq in 1.. {
            tokio::select! {
                biased;
                done = state.committed(SHARD, seq * 10) => done.unwrap(),
                () = self.never_told_too_early(&state) => {}
            }
            let own = state.get(SHARD, &[bytes(&format!("own {seq}"))]).await.unwrap();
            assert!(own[0].is_some(), "{seq} is said to be applied and cannot be read");
        }
    }

    async fn never_told_too_early(&self, state: &StateStore) {
        loop {
            let told = self.broker.bounds(Topic::Outcomes, SHARD.partition).await.unwrap().end;
            let head = state.head(SHARD).await.unwrap();
            assert!(told <= head.seq, "{told} outcomes are told of {head:?}");
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
    }

    async fn outcomes(&self) -> Vec<String> {
        let read = self.broker.read(Topic::Outcomes, SHARD.partition, 0, ALL).await.unwrap();
        read.iter().map(|record| String::from_utf8(record.bytes.to_vec()).unwrap()).collect()
    }
}

async fn compete(scripts: &[Vec<Mishap>]) {
    let broker = Memory::new(1, IDENTITY).broker();
    let servers = Servers { broker, cluster: Cluster::new(3) };
    let rivals = join_all(scripts.iter().enumerate().map(|(n, script)| servers.rival(n, script)));
    let told = tokio::select! {
        biased;
        told = rivals => told,
        () = servers.watch() => unreachable!("there is always more to come"),
    };
    let last = servers.open(u64::MAX - 1, &Faults::default());
    let (_, head) = last.acquire(SHARD).await.unwrap();
    let outcomes = servers.outcomes().await;
    assert_eq!(outcomes.len() as u64, head.seq);
    let mut rows = BTreeMap::new();
    for (seq, name) in (1..).zip(&outcomes) {
        assert!(name.starts_with(&format!("{seq} of")), "{outcomes:?}");
        rows.extend(changes(seq, name));
    }
    for told in told {
        assert!(told.committed.iter().all(|name| outcomes.contains(name)), "lost: {outcomes:?}");
        assert!(!told.refused.iter().any(|name| outcomes.contains(name)), "done: {outcomes:?}");
    }
    let expected: Vec<_> =
        rows.iter().filter_map(|(key, row)| Some((bytes(key), bytes(row.as_ref()?)))).collect();
    let range = KeyRange { from: Bytes::new(), to: bytes("z") };
    assert_eq!(last.scan(SHARD, range, false, usize::MAX).await.unwrap(), expected);
}

proptest! {
    #[test]
    fn whatever_goes_wrong_what_is_stored_and_told_are_the_committed_write_sets(
        scripts in prop::collection::vec(prop::collection::vec(mishap(), 0..12), RIVALS),
    ) {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_time().start_paused(true).build().unwrap();
        runtime.block_on(compete(&scripts));
    }
}
