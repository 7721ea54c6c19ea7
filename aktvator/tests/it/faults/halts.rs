//! Records and logs that an evaluator must not go on with: it passes over damaged bytes, and halts before
//! it would skip or misread anything.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use schemas::id::OrganizationId;
use schemas::partition::{Mode, Scope};
use storage::log::ReadLimit;
use storage::state::{Group, Shard, WriteSet};
use storage::{EventLog, StateStore, Topic};
use tokio::runtime::Runtime;

use crate::cluster::{Cluster, PARTITIONS};
use crate::installation::Installation;
use crate::invariants;
use crate::node::{Node, eventually};
use crate::workload::Workload;

const HALTED: &str = "aktvator_evaluator_halted_partitions";
/// No record at all.
const POISON: &[u8] = b"\xff no record of ours";
/// A record whose body is a field, 1023, that this version does not know.
const NEWER: &[u8] = &[0xfa, 0x3f, 0x00];
/// In which an evaluator that went on would have decided.
const A_WHILE: Duration = Duration::from_secs(3);

/// What tests do to the stores behind the product's back.
struct Hand {
    runtime: Runtime,
    log: EventLog,
    state: StateStore,
}

impl Hand {
    fn on(cluster: &Cluster) -> Self {
        let runtime = Runtime::new().expect("a runtime");
        let (log, state) = runtime.block_on(async {
            let log = storage::kafka::connect(&cluster.kafka_options()).await.expect("the topics");
            let state = storage::cql::connect(&cluster.cql_options(), log.clone()).await;
            (log, state.expect("the keyspace").0)
        });
        Self { runtime, log, state }
    }

    /// Puts a record on the events log; its offset.
    fn append(&self, partition: u16, record: &'static [u8]) -> u64 {
        let records = vec![(partition, Bytes::from_static(record))];
        self.runtime.block_on(self.log.append(Topic::Events, records)).expect("appended")[0]
    }

    /// The dead letters of a partition.
    fn dead_letters(&self, partition: u16) -> Vec<Bytes> {
        self.runtime.block_on(async {
            let topic = Topic::DeadLetters;
            self.log.bounds(topic, partition).await.expect("its bounds");
            let all = ReadLimit { records: usize::MAX, bytes: usize::MAX };
            let read = self.log.read(topic, partition, 0, all).await.expect("what is there");
            read.into_iter().map(|record| record.bytes).collect()
        })
    }

    /// Lets the log begin with its newest record.
    fn trim(&self, partition: u16) {
        let trimmed = self.runtime.block_on(self.log.trim(Topic::Events, partition, u64::MAX));
        trimmed.expect("trimmed");
    }

    /// Commits what was decided of records that the log does not have: as if it had lost its end.
    fn commit_beyond_the_end(&self, partition: u16) {
        let shard = Shard { group: Group::Evaluator, partition };
        self.runtime.block_on(async {
            let (epoch, head) = self.state.acquire(shard).await.expect("an epoch");
            let set = WriteSet {
                seq: head.seq + 1,
                next_offset: head.next_offset + 1_000,
                log_identity: head.log_identity,
                fold_time_ms: head.fold_time_ms,
                ..WriteSet::default()
            };
            self.state.commit(shard, epoch, set).await.expect("committed");
        });
    }
}

/// A workload in each partition, by its number.
fn one_in_each_partition(all: &Installation) -> Vec<Workload> {
    let mut of_partition = [const { None }; PARTITIONS as usize];
    while of_partition.iter().any(Option::is_none) {
        let workload = all.workload();
        let organization: OrganizationId =
            workload.shop.name("organizationId").parse().expect("an id");
        let partition = Scope { organization, mode: Mode::Live }.partition(PARTITIONS);
        of_partition[usize::from(partition)].get_or_insert(workload);
    }
    of_partition.into_iter().flatten().collect()
}

/// Waits until so many partitions are halted, of which evaluators tell in every way they have.
fn assert_halted(evaluators: &[Node], partitions: usize) {
    eventually("halted partitions", || {
        let halted = evaluators.iter().map(|evaluator| evaluator.metric(HALTED)).sum::<f64>();
        (halted == partitions as f64).then_some(())
    });
    for evaluator in evaluators.iter().filter(|evaluator| evaluator.metric(HALTED) > 0.0) {
        let readiness = evaluator.readiness();
        assert!(readiness.contains("a partition is halted, see the log"), "{readiness}");
    }
}

/// That one of them has logged an error with all these words.
fn assert_logged(evaluators: &[Node], words: &[&str]) {
    let logs: Vec<_> = evaluators.iter().map(Node::log).collect();
    let mut lines = logs.iter().flat_map(|log| log.lines());
    let is_it = |line: &str| line.contains("ERROR") && words.iter().all(|w| line.contains(w));
    assert!(lines.any(is_it), "nobody logged {words:?}");
}

/// An event is taken in, and stays undecided.
fn assert_waits(workload: &Workload) {
    let waiting = workload.push_one();
    let key = waiting["idempotencyKey"].as_str().expect("a key");
    thread::sleep(A_WHILE);
    assert!(!is_decided(workload, key), "{key} was decided");
}

fn is_decided(workload: &Workload, key: &str) -> bool {
    let events = workload.shop.pages("/events").expect("events");
    events.iter().any(|event| event["idempotencyKey"] == key)
}

#[test]
#[ignore = "needs servers of its own: scripts/faults"]
fn damage_is_passed_over_and_nothing_else_is_skipped() {
    let mut all = Installation::start();
    let hand = Hand::on(&all.cluster);
    let shops = one_in_each_partition(&all);
    shops.iter().for_each(Workload::decide_one);
    let [poisoned, newer, trimmed, lost] = [0, 1, 2, 3];

    let poison_at = hand.append(poisoned, POISON);
    shops[usize::from(poisoned)].decide_one();
    let letters = hand.dead_letters(poisoned);
    let has = |letter: &Bytes, part: &[u8]| letter.windows(part.len()).any(|bytes| bytes == part);
    assert!(has(&letters[0], POISON) && has(&letters[0], b"not a Record message"), "{letters:?}");
    assert_eq!(letters.len(), 1);

    let newer_at = hand.append(newer, NEWER);
    assert_halted(&all.evaluators, 1);
    let names_it = format!("the record at {newer_at} is of a kind or version");

    // Records that nobody has decided go; records are decided that the log does not have.
    for evaluator in &mut all.evaluators {
        assert!(evaluator.terminate().success(), "{}", evaluator.log());
    }
    for _ in 0..3 {
        shops[usize::from(trimmed)].push_one();
    }
    hand.trim(trimmed);
    hand.commit_beyond_the_end(lost);
    all.evaluators.iter_mut().for_each(Node::restart_unready);
    assert_halted(&all.evaluators, 3);
    for (partition, words) in
        [(newer, &*names_it), (trimmed, "the head wants"), (lost, "the head wants")]
    {
        let partition_is = format!("partition={partition}");
        assert_logged(&all.evaluators, &["partition halted", &partition_is, words]);
        assert_waits(&shops[usize::from(partition)]);
    }
    // The others do not mind.
    let poisoned = &shops[usize::from(poisoned)];
    poisoned.decide_one();
    invariants::check(poisoned);
    assert_eq!(hand.dead_letters(0).len(), 1, "{poison_at} was dead-lettered twice");
}

#[test]
#[ignore = "needs servers of its own: scripts/faults"]
fn a_recreated_topic_halts_its_partitions() {
    let mut all = Installation::start();
    let workload = all.workload();
    workload.decide_one();
    let decided = workload.shop.pages("/events").expect("events").len();
    delete_topic(&all.cluster, "events");
    eventually("new topics", || all.cluster.migrate().status.success().then_some(()));
    // Who was running writes nothing into another log.
    eventually("503", || (workload.try_one() == 503).then_some(()));
    for edge in &mut all.edges {
        edge.crash_and_restart();
    }
    for evaluator in &mut all.evaluators {
        evaluator.kill();
        evaluator.restart_unready();
    }
    // Of the partitions that never had a record nothing can be lost.
    assert_halted(&all.evaluators, 1);
    assert_logged(&all.evaluators, &["partition halted", "is not the one"]);
    assert_waits(&workload);
    assert_eq!(workload.shop.pages("/events").expect("events").len(), decided);
}

/// Kafka protocol, `DeleteTopics` (api key 20) version 1.
fn delete_topic(cluster: &Cluster, topic: &str) {
    let options = cluster.kafka_options();
    let name = format!("{}{topic}", options.topic_prefix);
    let mut body = vec![0, 20, 0, 1];
    body.extend([0, 0, 0, 0, 0xff, 0xff]); // correlation, no client id
    body.extend([0, 0, 0, 1]);
    body.extend((name.len() as u16).to_be_bytes());
    body.extend(name.as_bytes());
    body.extend(10_000_u32.to_be_bytes()); // milliseconds it may take
    let mut broker = TcpStream::connect(&options.brokers).expect("a broker");
    broker.write_all(&[&(body.len() as u32).to_be_bytes(), &body[..]].concat()).expect("sent");
    let mut len = [0; 4];
    broker.read_exact(&mut len).expect("an answer");
    let mut answer = vec![0; u32::from_be_bytes(len) as usize];
    broker.read_exact(&mut answer).expect("an answer");
    assert!(answer.ends_with(&[0, 0]), "refused: {answer:?}");
}
