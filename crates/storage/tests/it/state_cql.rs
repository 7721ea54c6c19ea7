//! State on CQL when answers are lost, owners overlap and processes die between the steps.

use std::time::Duration;

use bytes::Bytes;
use storage::cql::{self, CqlOptions};
use storage::memory::Memory;
use storage::state::{Epoch, Group, Head, WriteSet};
use storage::{Certainty, EventLog, Kind, Shard, StateStore, Topic};

use crate::cql_proxy::{Fate, Proxy};
use crate::keyspace;
use crate::world::{ALL, IDENTITY, bytes};

/// How the statements of the commit's steps begin.
const COMMIT: &str = "UPDATE heads SET seq";
const TAKE: &str = "UPDATE heads SET epoch";
const APPLY: &str = "INSERT INTO rows";
const LOOK: &str = "SELECT epoch";

/// One shard, an owner behind a proxy and another beside it.
struct Pair {
    proxy: Proxy,
    shard: Shard,
    log: EventLog,
    /// Through the proxy.
    near: StateStore,
    /// Not through it.
    other: StateStore,
}

impl Pair {
    async fn new() -> Self {
        let partition = keyspace::fresh_partitions(1);
        let (log, _) = Memory::new(partition + 1, IDENTITY).open();
        let proxy = Proxy::start(keyspace::address()).await;
        let options = keyspace::options().await;
        let through = CqlOptions { nodes: vec![proxy.address.clone()], ..options.clone() };
        let (near, _) = cql::connect(&through, log.clone()).await.unwrap();
        let (other, _) = cql::connect(options, log.clone()).await.unwrap();
        Self { proxy, shard: Shard { group: Group::Evaluator, partition }, log, near, other }
    }

    async fn acquire(&self, store: &StateStore) -> (Epoch, Head) {
        store.acquire(self.shard).await.unwrap()
    }

    /// The commit goes on whoever waits for it.
    fn committing(
        &self,
        store: &StateStore,
        epoch: Epoch,
        set: WriteSet,
    ) -> tokio::task::JoinHandle<Result<(), storage::Error>> {
        let (store, shard) = (store.clone(), self.shard);
        tokio::spawn(async move { store.commit(shard, epoch, set).await })
    }

    async fn value(&self, key: &str) -> Option<Bytes> {
        self.other.get(self.shard, &[bytes(key)]).await.unwrap().remove(0)
    }

    async fn outcomes(&self) -> Vec<Bytes> {
        let read = self.log.read(Topic::Outcomes, self.shard.partition, 0, ALL).await.unwrap();
        read.into_iter().map(|record| record.bytes).collect()
    }
}

/// Puts its text under "a" and under itself, with itself as outcome.
fn set(seq: u64, text: &str) -> WriteSet {
    WriteSet {
        seq,
        next_offset: seq * 10,
        log_identity: IDENTITY,
        fold_time_ms: 0,
        rows: vec![(bytes("a"), Some(bytes(text))), (bytes(text), Some(bytes(text)))],
        outcomes: vec![bytes(text)],
    }
}

#[tokio::test]
#[ignore = "set AKTVATOR_TEST_CQL to a server's address"]
async fn a_commit_whose_answer_or_request_is_lost_happens_once() {
    for (fate, text) in [(Fate::LoseAnswer, "answer"), (Fate::LoseRequest, "request")] {
        let pair = Pair::new().await;
        let (epoch, _) = pair.acquire(&pair.near).await;
        let rule = pair.proxy.on(COMMIT, fate, 1);
        pair.near.commit(pair.shard, epoch, set(1, text)).await.unwrap();
        rule.met(1).await;
        pair.near.commit(pair.shard, epoch, set(2, "next")).await.unwrap();
        assert_eq!(pair.other.head(pair.shard).await.unwrap().seq, 2, "{text}");
        assert_eq!(pair.outcomes().await, [bytes(text), bytes("next")]);
        assert_eq!(pair.value(text).await, Some(bytes(text)));
    }
}

#[tokio::test]
#[ignore = "set AKTVATOR_TEST_CQL to a server's address"]
async fn a_commit_that_arrives_late_finds_that_it_was_repeated() {
    let pair = Pair::new().await;
    let (epoch, _) = pair.acquire(&pair.near).await;
    let late = pair.proxy.on(COMMIT, Fate::Hold, 1);
    pair.near.commit(pair.shard, epoch, set(1, "first")).await.unwrap();
    late.met(1).await;
    pair.near.commit(pair.shard, epoch, set(2, "second")).await.unwrap();
    late.release();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(pair.other.head(pair.shard).await.unwrap().seq, 2);
    pair.near.commit(pair.shard, epoch, set(3, "third")).await.unwrap();
    assert_eq!(pair.outcomes().await, [bytes("first"), bytes("second"), bytes("third")]);
}

#[tokio::test]
#[ignore = "set AKTVATOR_TEST_CQL to a server's address"]
async fn a_commit_that_arrives_after_a_take_over_is_fenced() {
    let pair = Pair::new().await;
    let (epoch, _) = pair.acquire(&pair.near).await;
    let late = pair.proxy.on(COMMIT, Fate::Hold, usize::MAX);
    let commit = pair.committing(&pair.near, epoch, set(1, "late"));
    late.met(1).await;
    let (successor, head) = pair.acquire(&pair.other).await;
    assert_eq!(head, Head::default());
    pair.other.commit(pair.shard, successor, set(1, "mine")).await.unwrap();
    late.release();
    let e = commit.await.unwrap().unwrap_err();
    assert_eq!((e.kind, e.certainty), (Kind::Fenced, Certainty::Determinate));
    assert_eq!(pair.value("late").await, None);
    assert_eq!(pair.value("a").await, Some(bytes("mine")));
    assert_eq!(pair.outcomes().await, [bytes("mine")]);
}

#[tokio::test]
#[ignore = "set AKTVATOR_TEST_CQL to a server's address"]
async fn a_zombie_that_wakes_up_after_its_successor_changes_nothing() {
    let pair = Pair::new().await;
    let (epoch, _) = pair.acquire(&pair.near).await;
    let asleep = pair.proxy.on(APPLY, Fate::Hold, usize::MAX);
    let commit = pair.committing(&pair.near, epoch, set(1, "zombie"));
    asleep.met(1).await;
    assert_eq!(pair.value("zombie").await, None, "it was applied without its rows");

    // Committed is committed: the successor finds and finishes it.
    let (successor, head) = pair.acquire(&pair.other).await;
    assert_eq!(head.seq, 1);
    assert_eq!(pair.value("a").await, Some(bytes("zombie")));
    pair.other.commit(pair.shard, successor, set(2, "successor")).await.unwrap();

    asleep.release();
    commit.await.unwrap().unwrap();
    assert_eq!(pair.value("a").await, Some(bytes("successor")));
    assert_eq!(pair.value("zombie").await, Some(bytes("zombie")));
    let e = pair.near.commit(pair.shard, epoch, set(2, "again")).await.unwrap_err();
    assert_eq!((e.kind, e.certainty), (Kind::Fenced, Certainty::Determinate));
    assert_eq!(pair.value("again").await, None);
    assert_eq!(pair.outcomes().await, [bytes("zombie"), bytes("successor")]);
    pair.near.committed(pair.shard, 20).await.unwrap();
}

#[tokio::test]
#[ignore = "set AKTVATOR_TEST_CQL to a server's address"]
async fn what_was_committed_and_not_applied_survives_its_process_however_long() {
    const LARGE: usize = 3_000_000;
    let pair = Pair::new().await;
    let (epoch, _) = pair.acquire(&pair.near).await;
    let _dead = pair.proxy.on(APPLY, Fate::LoseRequest, usize::MAX);
    let large = Bytes::from((0..LARGE).map(|n| (n % 251) as u8).collect::<Vec<_>>());
    let mut sets = ["1", "2", "3"].map(|text| set(text.parse().unwrap(), text));
    sets[1].rows.push((bytes("large"), Some(large.clone())));
    for set in sets {
        drop(pair.committing(&pair.near, epoch, set));
    }
    loop {
        let head = pair.other.head(pair.shard).await.unwrap();
        if head.seq == 3 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let not_yet =
        tokio::time::timeout(Duration::from_millis(200), pair.other.committed(pair.shard, 10));
    assert!(not_yet.await.is_err(), "said to be there before it could be read");
    let (successor, head) = pair.acquire(&pair.other).await;
    assert_eq!(head.seq, 3);
    pair.other.committed(pair.shard, 30).await.unwrap();
    assert_eq!(pair.value("large").await, Some(large));
    assert_eq!(pair.value("a").await, Some(bytes("3")));
    assert_eq!(pair.outcomes().await, [bytes("1"), bytes("2"), bytes("3")]);
    pair.other.commit(pair.shard, successor, set(4, "4")).await.unwrap();
    assert_eq!(pair.outcomes().await.len(), 4);
}

#[tokio::test]
#[ignore = "set AKTVATOR_TEST_CQL to a server's address"]
async fn a_shard_is_taken_though_the_answer_is_lost() {
    let pair = Pair::new().await;
    let (first, _) = pair.acquire(&pair.other).await;
    for fate in [Fate::LoseAnswer, Fate::LoseRequest] {
        let rule = pair.proxy.on(TAKE, fate, 1);
        let (epoch, _) = pair.acquire(&pair.near).await;
        rule.met(1).await;
        assert!(epoch > first);
    }
    let e = pair.other.commit(pair.shard, first, set(1, "old")).await.unwrap_err();
    assert_eq!(e.kind, Kind::Fenced);
}

/// Both believe that the shard is theirs again and again.
#[tokio::test]
#[ignore = "set AKTVATOR_TEST_CQL to a server's address"]
async fn of_two_owners_at_once_only_one_advances() {
    const EACH: usize = 8;
    let pair = Pair::new().await;
    let own = |store: &StateStore, name: &'static str| {
        let (store, shard) = (store.clone(), pair.shard);
        tokio::spawn(async move {
            let mut made = Vec::new();
            while made.len() < EACH {
                let (epoch, head) = store.acquire(shard).await.unwrap();
                for seq in head.seq + 1..head.seq + 4 {
                    let text = format!("{name} {seq}");
                    match store.commit(shard, epoch, set(seq, &text)).await {
                        Ok(()) => made.push(text),
                        Err(e) => {
                            assert_eq!(e.kind, Kind::Fenced, "{e:?}");
                            break;
                        }
                    }
                }
            }
            made
        })
    };
    let (near, other) = (own(&pair.near, "near"), own(&pair.other, "other"));
    let mut made = near.await.unwrap();
    made.extend(other.await.unwrap());
    // A commit may have happened whose owner was told that he is fenced, but not the other way.
    let (_, head) = pair.acquire(&pair.other).await;
    let outcomes = pair.outcomes().await;
    assert_eq!(outcomes.len() as u64, head.seq);
    for text in &made {
        assert_eq!(outcomes.iter().filter(|outcome| *outcome == text.as_bytes()).count(), 1);
        assert_eq!(pair.value(text).await, Some(bytes(text)));
    }
    assert_eq!(made.len(), outcomes.len(), "a commit was answered wrongly");
}

#[tokio::test]
#[ignore = "set AKTVATOR_TEST_CQL to a server's address"]
async fn an_owner_that_cannot_find_out_says_so_and_the_head_tells_later() {
    let pair = Pair::new().await;
    let (epoch, _) = pair.acquire(&pair.near).await;
    let lost = pair.proxy.on(COMMIT, Fate::LoseAnswer, 1);
    let away = pair.proxy.on(LOOK, Fate::LoseRequest, usize::MAX);
    let e = pair.near.commit(pair.shard, epoch, set(1, "unknown")).await.unwrap_err();
    assert_eq!((e.kind, e.certainty), (Kind::Unavailable, Certainty::Indeterminate));
    assert_eq!(lost.times(), 1);
    assert_eq!(pair.value("unknown").await, None);
    assert!(pair.near.head(pair.shard).await.is_err());
    away.release();
    assert_eq!(pair.near.head(pair.shard).await.unwrap().seq, 1);
    // Who was told that it is there can read it.
    assert_eq!(pair.value("unknown").await, Some(bytes("unknown")));
    assert_eq!(pair.outcomes().await, [bytes("unknown")]);
    pair.near.commit(pair.shard, epoch, set(2, "next")).await.unwrap();
    assert_eq!(pair.value("a").await, Some(bytes("next")));
}

#[tokio::test]
#[ignore = "set AKTVATOR_TEST_CQL to a server's address"]
async fn write_sets_are_kept_no_longer_than_they_are_needed() {
    let pair = Pair::new().await;
    let (epoch, _) = pair.acquire(&pair.other).await;
    for seq in 1..=20 {
        pair.other.commit(pair.shard, epoch, set(seq, "x")).await.unwrap();
    }
    let Shard { partition, .. } = pair.shard;
    let keyspace = &keyspace::options().await.keyspace;
    let kept = format!(
        "SELECT CAST(seq AS text) FROM \"{keyspace}\".write_sets
         WHERE shard_group = 1 AND shard = {partition} ALLOW FILTERING"
    );
    let mut left = keyspace::run(&kept).await;
    left.sort();
    assert!(left.len() <= 2 && left.contains(&"20".to_owned()), "{left:?}");
}

#[tokio::test]
#[ignore = "set AKTVATOR_TEST_CQL to a server's address"]
async fn outcomes_of_a_group_that_has_none_are_refused() {
    let pair = Pair::new().await;
    let shard = Shard { group: Group::Webhooks, ..pair.shard };
    let (epoch, _) = pair.other.acquire(shard).await.unwrap();
    let e = pair.other.commit(shard, epoch, set(1, "x")).await.unwrap_err();
    assert_eq!((e.kind, e.certainty), (Kind::Conflict, Certainty::Determinate));
}

#[tokio::test]
#[ignore = "set AKTVATOR_TEST_CQL to a server's address"]
async fn a_keyspace_is_made_once_and_one_that_was_not_is_refused() {
    let made = keyspace::options().await;
    let again = cql::migrate(&CqlOptions { buckets: 99, ..made.clone() }).await.unwrap();
    assert!(again.created.is_empty() && again.found.contains(&made.keyspace), "{again:?}");
    let (log, _) = Memory::new(1, IDENTITY).open();
    let missing = CqlOptions { keyspace: keyspace::fresh_name(), ..made.clone() };
    let e = cql::connect(&missing, log).await.err().unwrap();
    assert_eq!((e.kind, e.certainty), (Kind::Unavailable, Certainty::Determinate));
    let why = std::error::Error::source(&e).unwrap().to_string();
    assert!(why.contains("aktvator migrate"), "{why}");
}

#[tokio::test]
#[ignore = "set AKTVATOR_TEST_CQL to a server's address"]
async fn a_keyspace_that_refuses_conditions_is_explained() {
    let proxy = Proxy::start(keyspace::address()).await;
    let refusal = "Cannot use LightWeight Transactions for table aktvator.layout: LWT is not yet \
                   supported with tablets";
    proxy.on("UPDATE layout", Fate::Refuse(refusal), 1);
    let made = keyspace::options().await.clone();
    let through = CqlOptions { nodes: vec![proxy.address.clone()], ..made };
    let (log, _) = Memory::new(1, IDENTITY).open();
    let e = cql::connect(&through, log).await.err().unwrap();
    assert_eq!((e.kind, e.certainty), (Kind::Conflict, Certainty::Determinate));
    let why = std::error::Error::source(&e).unwrap().to_string();
    assert!(why.contains("tablets = {'enabled': false}"), "{why}");
}
