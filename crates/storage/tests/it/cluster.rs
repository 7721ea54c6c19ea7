//! The distributed commit in memory: owners that overlap, statements that come late, processes that die
//! or stand still between the steps.

use std::time::Duration;

use storage::catalog::{Catalog, CatalogError, Kind as Document};
use storage::fault::{Action, Faults, Op, Step};
use storage::memory::{Cluster, Memory, Own};
use storage::state::{Epoch, Group, WriteSet};
use storage::{Certainty, Error, EventLog, Kind, Shard, StateStore, Topic};
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::catalog::{link, new, with_command};
use crate::world::{ALL, IDENTITY, PARTITIONS, bytes, own};

const SHARD: Shard = Shard { group: Group::Evaluator, partition: 1 };
const SECOND: Duration = Duration::from_secs(1);
const LONG: Duration = Duration::from_secs(5);

/// Servers, and as many processes as a case wants.
struct Servers {
    broker: EventLog,
    cluster: Cluster,
    processes: u64,
}

/// One process.
struct Process {
    faults: Faults,
    state: StateStore,
}

impl Servers {
    fn new() -> Self {
        let broker = Memory::new(PARTITIONS, IDENTITY).broker();
        Self { broker, cluster: Cluster::new(3), processes: 0 }
    }

    fn own(&mut self, faults: &Faults) -> Own {
        self.processes += 1;
        Own { faults: faults.clone(), ..own(self.processes) }
    }

    fn process(&mut self) -> Process {
        let faults = Faults::default();
        let own = self.own(&faults);
        let (_, state) = self.cluster.open(self.broker.clone(), own);
        Process { faults, state }
    }

    async fn catalog(&mut self) -> (Faults, Catalog) {
        let faults = Faults::default();
        let own = self.own(&faults);
        let catalog = self.cluster.open_catalog(self.broker.clone(), own).await;
        (faults, catalog.unwrap())
    }

    async fn outcomes(&self) -> Vec<String> {
        let read = self.broker.read(Topic::Outcomes, SHARD.partition, 0, ALL).await.unwrap();
        read.iter().map(|record| String::from_utf8(record.bytes.to_vec()).unwrap()).collect()
    }
}

impl Process {
    async fn acquire(&self) -> Epoch {
        self.state.acquire(SHARD).await.unwrap().0
    }

    /// Puts its text under "a", with itself as outcome; goes on whoever waits for it.
    fn commit(&self, epoch: Epoch, seq: u64, text: &'static str) -> JoinHandle<Result<(), Error>> {
        let state = self.state.clone();
        let set = WriteSet {
            seq,
            next_offset: seq * 10,
            log_identity: IDENTITY,
            fold_time_ms: 0,
            rows: vec![(bytes("a"), Some(bytes(text)))],
            outcomes: vec![bytes(text)],
        };
        tokio::spawn(async move { state.commit(SHARD, epoch, set).await })
    }

    async fn value(&self) -> Option<String> {
        let value = self.state.get(SHARD, &[bytes("a")]).await.unwrap().remove(0);
        value.map(|value| String::from_utf8(value.to_vec()).unwrap())
    }
}

#[tokio::test(start_paused = true)]
async fn an_owner_who_finds_the_write_set_gone_that_another_has_finished_is_fenced() {
    let mut servers = Servers::new();
    let dead = servers.process();
    dead.faults.at(Op::MoveHead, Step::Answer, 1, Action::Crash);
    let epoch = dead.acquire().await;
    dead.commit(epoch, 1, "pending").await.unwrap().unwrap_err();

    let slow = servers.process();
    slow.faults.at(Op::ReadChunk, Step::Before, 1, Action::Delay(LONG));
    let acquiring = {
        let state = slow.state.clone();
        tokio::spawn(async move { state.acquire(SHARD).await })
    };
    sleep(SECOND).await;
    let quick = servers.process();
    let epoch = quick.acquire().await;
    quick.commit(epoch, 2, "next").await.unwrap().unwrap();
    let e = acquiring.await.unwrap().unwrap_err();
    assert_eq!((e.op, e.kind, e.certainty), ("acquire", Kind::Fenced, Certainty::Determinate));
    assert_eq!(servers.outcomes().await, ["pending", "next"]);
    assert_eq!(slow.value().await.as_deref(), Some("next"));
    slow.acquire().await;
}

/// Its answer is lost, and when it looks the shard is another's, who has not come to finish it.
#[tokio::test(start_paused = true)]
async fn a_commit_that_happened_before_its_owner_was_fenced_stands() {
    let mut servers = Servers::new();
    let slow = servers.process();
    let epoch = slow.acquire().await;
    slow.faults.at(Op::MoveHead, Step::Answer, 1, Action::Fail(Kind::Unavailable));
    slow.faults.at(Op::ReadHead, Step::Before, 1, Action::Delay(LONG));
    let commit = slow.commit(epoch, 1, "committed");
    sleep(SECOND).await;
    let quick = servers.process();
    quick.faults.at(Op::ReadChunk, Step::Before, 1, Action::Delay(2 * LONG));
    let epoch = quick.acquire().await;
    commit.await.unwrap().unwrap();
    quick.commit(epoch, 2, "next").await.unwrap().unwrap();
    assert_eq!(servers.outcomes().await, ["committed", "next"]);
    assert_eq!(quick.value().await.as_deref(), Some("next"));
}

#[tokio::test(start_paused = true)]
async fn of_a_commit_that_others_may_have_left_behind_nobody_says_that_it_did_not_happen() {
    for happens in [true, false] {
        let mut servers = Servers::new();
        let slow = servers.process();
        let epoch = slow.acquire().await;
        let step = if happens { Step::Answer } else { Step::Before };
        slow.faults.at(Op::MoveHead, step, 1, Action::Fail(Kind::Unavailable));
        slow.faults.at(Op::ReadHead, Step::Before, 1, Action::Delay(LONG));
        let commit = slow.commit(epoch, 1, "slow");
        sleep(SECOND).await;
        let quick = servers.process();
        let (epoch, head) = quick.state.acquire(SHARD).await.unwrap();
        for seq in head.seq + 1..=3 {
            quick.commit(epoch, seq, "quick").await.unwrap().unwrap();
        }
        let e = commit.await.unwrap().unwrap_err();
        assert_eq!(e.certainty, Certainty::Indeterminate);
        assert_eq!(servers.outcomes().await.contains(&"slow".to_owned()), happens);
    }
}

#[tokio::test(start_paused = true)]
async fn of_a_transaction_that_others_may_have_left_behind_nobody_says_that_it_did_not_happen() {
    let mut servers = Servers::new();
    let ((faults, slow), (_, quick)) = (servers.catalog().await, servers.catalog().await);
    sleep(SECOND).await;
    faults.at(Op::MoveHead, Step::Answer, 1, Action::Fail(Kind::Unavailable));
    faults.at(Op::ReadHead, Step::Before, 1, Action::Delay(LONG));
    let applying = {
        let slow = slow.clone();
        tokio::spawn(async move { slow.apply(vec![new(link("a", 1, "{}"))]).await })
    };
    sleep(SECOND).await;
    quick.apply(vec![new(link("b", 1, "{}"))]).await.unwrap();
    match applying.await.unwrap() {
        Err(CatalogError::Storage(e)) => assert_eq!(e.certainty, Certainty::Indeterminate),
        other => panic!("{other:?}"),
    }
    assert!(slow.get(Document::Link, "a").await.unwrap().is_some());
}

#[tokio::test(start_paused = true)]
async fn a_catalog_that_finds_the_write_set_gone_that_another_has_finished_reads_again() {
    let mut servers = Servers::new();
    let ((_, quick), (faults, slow)) = (servers.catalog().await, servers.catalog().await);
    quick.apply(vec![new(link("a", 1, "{}"))]).await.unwrap();
    // It does not know of that one.
    faults.at(Op::ReadChunk, Step::Before, 1, Action::Delay(LONG));
    let applying = {
        let slow = slow.clone();
        tokio::spawn(async move { slow.apply(vec![new(link("b", 1, "{}"))]).await })
    };
    sleep(SECOND).await;
    quick.apply(vec![new(link("c", 1, "{}"))]).await.unwrap();
    applying.await.unwrap().unwrap();
    for id in ["a", "b", "c"] {
        assert!(slow.get(Document::Link, id).await.unwrap().is_some(), "{id}");
    }
}

/// Its clock is behind, so that only the head's stamp counts, which is the same both times.
#[tokio::test(start_paused = true)]
async fn a_transaction_that_was_given_up_and_comes_late_is_not_taken_for_the_next() {
    let mut servers = Servers::new();
    let (_, ahead) = servers.catalog().await;
    ahead.apply(vec![new(link("a", 1, "{}"))]).await.unwrap();
    let faults = Faults::default();
    let own = Own { now_us: 0, ..servers.own(&faults) };
    let behind = servers.cluster.open_catalog(servers.broker.clone(), own).await.unwrap();
    sleep(SECOND).await;
    // After it was given up, and before the next.
    faults.at(Op::MoveHead, Step::Before, 1, Action::Late(32 * SECOND));
    for nth in 1..100 {
        faults.at(Op::ReadHead, Step::Before, nth, Action::Fail(Kind::Unavailable));
    }
    let Err(CatalogError::Storage(e)) = behind.apply(vec![new(link("b", 1, "{}"))]).await else {
        panic!("it cannot be known");
    };
    assert_eq!(e.certainty, Certainty::Indeterminate);
    faults.clear();
    faults.at(Op::MoveHead, Step::Before, 1, Action::Delay(LONG));
    let queued = behind.apply(vec![with_command(link("c", 1, "{}"), 0, b"c")]).await.unwrap();
    let next = ahead.apply(vec![with_command(link("d", 1, "{}"), 0, b"d")]).await.unwrap();
    assert!(queued < next, "{queued:?} {next:?}");
    assert_eq!(ahead.outbox(9).await.unwrap().len(), 2);
}
