//! What only a broker does: topics made and compared, made again, shared by several processes.

use std::error::Error as _;
use std::time::Duration;

use rdkafka::admin::{AdminOptions, AlterConfig, ResourceSpecifier};
use storage::kafka::{self, KafkaOptions};
use storage::log::Assignments;
use storage::{Certainty, EventLog, Kind, Topic};

use crate::world::{ALL, PARTITIONS, Topics, bytes};

/// Nothing here takes longer, on a slow machine either.
const PATIENCE: Duration = Duration::from_secs(60);

async fn connect(topics: &Topics) -> EventLog {
    kafka::connect(&topics.options).await.unwrap()
}

async fn append(log: &EventLog, text: &str) -> u64 {
    log.append(Topic::Events, vec![(0, bytes(text))]).await.unwrap()[0]
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "set AKTVATOR_TEST_KAFKA to a broker's host:port"]
async fn migrating_again_changes_nothing_and_tells_every_difference() {
    let topics = Topics::new();
    let report = kafka::migrate(&topics.options).await.unwrap();
    assert_eq!((report.created.len(), report.found.len()), (0, 5));
    let name = topics.name(Topic::Events);
    let specifier = ResourceSpecifier::Topic(&name);
    let worse = AlterConfig::new(specifier)
        .set("retention.ms", "1000")
        .set("message.timestamp.type", "LogAppendTime");
    let altered = topics.admin().alter_configs(&[worse], &AdminOptions::new()).await.unwrap();
    altered.into_iter().for_each(|result| drop(result.unwrap()));
    let other = KafkaOptions { partitions: 7, replication: 2, ..topics.options.clone() };
    // The broker answers with the new configuration once it has it itself.
    let why = tokio::time::timeout(PATIENCE, async {
        loop {
            let e = kafka::migrate(&other).await.unwrap_err();
            assert_eq!((e.kind, e.certainty), (Kind::Conflict, Certainty::Determinate));
            let why = e.source().unwrap().to_string();
            if why.contains("LogAppendTime") {
                return why;
            }
        }
    });
    let why = why.await.unwrap();
    for (part, times) in [
        ("has 4 partitions, not 7", 5),
        ("has 1 copies, fewer than 2", 5),
        ("retention.ms = 1000, which must be no shorter than 8640000000", 1),
        ("message.timestamp.type = LogAppendTime, which must be CreateTime", 1),
    ] {
        assert_eq!(why.matches(part).count(), times, "{part}: {why}");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "set AKTVATOR_TEST_KAFKA to a broker's host:port"]
async fn topics_that_are_missing_or_differ_are_not_connected_to() {
    let topics = Topics::new();
    let other = KafkaOptions { partitions: PARTITIONS + 1, ..topics.options.clone() };
    let missing = KafkaOptions { topic_prefix: "aktvator-none.".into(), ..topics.options.clone() };
    for options in [other, missing] {
        let e = kafka::connect(&options).await.err().unwrap();
        assert_eq!(e.kind, Kind::Conflict);
        let why = e.source().unwrap().to_string();
        assert_eq!(why.matches("topic ").count(), 5, "{why}");
        assert!(why.contains("aktvator migrate"), "{why}");
    }
    let nobody = KafkaOptions { brokers: "127.0.0.1:1".into(), ..topics.options.clone() };
    assert_eq!(kafka::connect(&nobody).await.err().unwrap().kind, Kind::Unavailable);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "set AKTVATOR_TEST_KAFKA to a broker's host:port"]
async fn a_recreated_topic_is_another_log() {
    let topics = Topics::new();
    let log = connect(&topics).await;
    for text in ["a", "b"] {
        append(&log, text).await;
    }
    assert_eq!(log.read(Topic::Events, 0, 0, ALL).await.unwrap().len(), 2);
    let before = log.bounds(Topic::Events, 0).await.unwrap();
    let waiting = {
        let log = log.clone();
        tokio::spawn(async move { log.wait(Topic::Events, 0, 2).await })
    };
    let name = topics.name(Topic::Events);
    let gone = topics.admin().delete_topics(&[&name], &AdminOptions::new()).await.unwrap();
    gone.into_iter().for_each(|result| drop(result.unwrap()));
    tokio::time::timeout(PATIENCE, async {
        while kafka::migrate(&topics.options).await.is_err() {}
    })
    .await
    .unwrap();
    // Another process fills it beyond where this one stands.
    let other = connect(&topics).await;
    for text in ["x", "y", "z"] {
        append(&other, text).await;
    }
    tokio::time::timeout(PATIENCE, waiting).await.unwrap().unwrap();
    let after = tokio::time::timeout(PATIENCE, async {
        loop {
            let bounds = log.bounds(Topic::Events, 0).await;
            if let Ok(bounds) = bounds
                && bounds.identity != before.identity
            {
                return bounds;
            }
        }
    });
    let after = after.await.unwrap();
    assert_eq!(after.identity, other.bounds(Topic::Events, 0).await.unwrap().identity);
    // What it knows of offsets means nothing there: neither read nor written.
    let e = log.read(Topic::Events, 0, 2, ALL).await.unwrap_err();
    assert_eq!(e.kind, Kind::OutOfRange);
    let e = log.append(Topic::Events, vec![(0, bytes("c"))]).await.unwrap_err();
    assert_eq!((e.kind, e.certainty), (Kind::Unavailable, Certainty::Determinate));
    // The other topics are the same as ever.
    log.append(Topic::Clicks, vec![(0, bytes("click"))]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "set AKTVATOR_TEST_KAFKA to a broker's host:port"]
async fn a_full_queue_refuses_whole_calls_at_once() {
    const CALLS: usize = 200;
    let topics = Topics::new();
    let options = KafkaOptions { queue_records: 10, ..topics.options.clone() };
    let log = kafka::connect(&options).await.unwrap();
    let calls: Vec<_> = (0..CALLS)
        .map(|call| {
            let log = log.clone();
            let records = (0..2).map(|i| (0, bytes(&format!("{call}.{i}")))).collect();
            tokio::spawn(async move { log.append(Topic::Events, records).await })
        })
        .collect();
    let mut stored = Vec::new();
    for (call, result) in calls.into_iter().enumerate() {
        match result.await.unwrap() {
            Ok(_) => stored.extend((0..2).map(|i| format!("{call}.{i}"))),
            Err(e) => assert_eq!((e.kind, e.certainty), (Kind::Full, Certainty::Determinate)),
        }
    }
    assert!(!stored.is_empty() && stored.len() < CALLS * 2, "{}", stored.len());
    let read = log.read(Topic::Events, 0, 0, ALL).await.unwrap();
    let mut read: Vec<_> =
        read.into_iter().map(|r| String::from_utf8(r.bytes.to_vec()).unwrap()).collect();
    read.sort();
    stored.sort();
    assert_eq!(read, stored);
    // There is room again.
    append(&log, "later").await;
    let long = bytes(&"x".repeat(kafka::RECORD_BYTES_MAX + 1));
    let e = log.append(Topic::Events, vec![(0, long)]).await.unwrap_err();
    assert_eq!((e.kind, e.certainty), (Kind::Conflict, Certainty::Determinate));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "set AKTVATOR_TEST_KAFKA to a broker's host:port"]
async fn processes_hear_of_each_others_records() {
    let topics = Topics::new();
    let (one, other) = (connect(&topics).await, connect(&topics).await);
    for round in 0..5 {
        let waiting = {
            let log = other.clone();
            tokio::spawn(async move { log.wait(Topic::Events, 0, round).await })
        };
        assert_eq!(append(&one, "record").await, round);
        tokio::time::timeout(PATIENCE, waiting).await.unwrap().unwrap();
        assert_eq!(other.read(Topic::Events, 0, round, ALL).await.unwrap().len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "set AKTVATOR_TEST_KAFKA to a broker's host:port"]
async fn partitions_are_shared_and_given_up() {
    let topics = Topics::new();
    let (one, other) = (connect(&topics).await, connect(&topics).await);
    let mut first = one.assignments("evaluator");
    until(&mut first, |owned| owned.len() == 4).await;
    let mut second = other.assignments("evaluator");
    // Taken away first, given to the other once its work has stopped.
    until(&mut first, |owned| owned.len() == 2).await;
    assert!(second.borrow().is_empty());
    (0..PARTITIONS).filter(|p| !first.borrow().contains(p)).for_each(|p| first.release(p));
    until(&mut second, |owned| owned.len() == 2).await;
    let mut all = [first.borrow(), second.borrow()].concat();
    all.sort_unstable();
    assert_eq!(all, [0, 1, 2, 3]);
    // Another group has owners of its own.
    let mut others = other.assignments("webhooks");
    until(&mut others, |owned| owned.len() == 4).await;
    // Who leaves gives all up.
    drop(first);
    until(&mut second, |owned| owned.len() == 4).await;
    // And comes back.
    let mut first = one.assignments("evaluator");
    until(&mut first, |owned| owned.len() == 2).await;
}

async fn until(assignments: &mut Assignments, is_so: impl Fn(&[u16]) -> bool) {
    let change = async {
        while !is_so(&assignments.borrow()) {
            assignments.changed().await;
        }
    };
    tokio::time::timeout(PATIENCE, change).await.unwrap();
}
