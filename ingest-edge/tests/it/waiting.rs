//! `?wait`: the answer with the decision.

use std::time::Duration;

use bytes::Bytes;
use engine::key::Key;
use prost::Message as _;
use schemas::hash;
use schemas::proto;
use storage::fault::{Action, Op, Step};
use storage::log::ReadLimit;
use storage::state::{Group, Shard, WriteSet};
use storage::{Kind, Topic};
use tokio::time::{Instant, sleep};

use crate::world::{EVENT, PARTITIONS, World, scope};

/// Decides what the log holds as the evaluator does, as far as an answer can tell: the first record
/// of a key gets a row, repeats get nothing.
async fn decide(world: &World) {
    let shard = Shard { group: Group::Evaluator, partition: scope().partition(PARTITIONS) };
    let (epoch, head) = world.state.acquire(shard).await.expect("acquired");
    let limit = ReadLimit { records: 100, bytes: 1 << 20 };
    let records = world
        .log
        .read(Topic::Events, shard.partition, head.next_offset, limit)
        .await
        .expect("read");
    let mut set = WriteSet {
        seq: head.seq + 1,
        next_offset: head.next_offset + records.len() as u64,
        log_identity: 1,
        ..WriteSet::default()
    };
    for record in records {
        let decoded = proto::Record::decode(record.bytes.clone()).expect("a record");
        let Some(proto::record::Body::Conversion(event)) = decoded.body else { panic!() };
        let key = Key::Event(scope(), hash::event_id(scope(), &event.idempotency_key)).encode();
        let known = world.state.get(shard, std::slice::from_ref(&key)).await.expect("read");
        if known[0].is_none() && !set.rows.iter().any(|(taken, _)| *taken == key) {
            let row = proto::EventRow {
                record: record.bytes,
                offset: record.offset,
                accepted_at_ms: decoded.accepted_at_ms,
                fingerprint: event.fingerprint,
                decision: Some(proto::Decision { code: "rewarded".into(), ..Default::default() }),
                ..Default::default()
            };
            set.rows.push((key, Some(Bytes::from(row.encode_to_vec()))));
        }
    }
    world.state.commit(shard, epoch, set).await.expect("committed");
}

#[tokio::test(start_paused = true)]
async fn the_answer_waits_for_the_decision() {
    let world = World::new().await;
    let evaluator = async {
        sleep(Duration::from_millis(30)).await;
        decide(&world).await;
    };
    let started = Instant::now();
    let (answer, ()) = tokio::join!(world.send("/events/ingest?wait=5000", EVENT), evaluator);
    assert_eq!(started.elapsed(), Duration::from_millis(30));
    assert_eq!(answer.status, 202);
    let json = answer.json();
    assert_eq!(
        (&json["status"], &json["decision"]["code"]),
        (&"evaluated".into(), &"rewarded".into())
    );
    assert_eq!(json["received"], true);
}

#[tokio::test(start_paused = true)]
async fn a_repeat_gets_the_decision_that_stands() {
    let world = World::new().await;
    world.send("/events/ingest", EVENT).await;
    decide(&world).await;
    let other = EVENT.replace("purchase", "refund");
    let spaced = EVENT.replace(',', " ,\n");
    for (body, status) in [(spaced, "duplicate"), (other, "conflict")] {
        let (answer, ()) = tokio::join!(world.send("/events/ingest?wait=100", body), async {
            sleep(Duration::from_millis(1)).await;
            decide(&world).await;
        });
        assert_eq!((answer.status, &answer.json()["status"]), (202, &status.into()));
        assert_eq!(answer.json()["decision"]["code"], "rewarded");
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_decision_in_time_the_answer_is_the_plain_one() {
    let world = World::new().await;
    let plain = world.send("/events/ingest", EVENT).await;
    let started = Instant::now();
    let late = world.send("/events/ingest?wait=250", EVENT).await;
    assert_eq!(started.elapsed(), Duration::from_millis(250));
    assert_eq!((late.status, &late.body), (202, &plain.body));
    decide(&world).await;

    // A state that cannot be read does not undo what the log has.
    world.faults.at(Op::Get, Step::Before, 2, Action::Fail(Kind::Unavailable));
    let (unread, ()) = tokio::join!(world.send("/events/ingest?wait=250", EVENT), decide(&world));
    assert_eq!((unread.status, &unread.body), (202, &plain.body));
}

#[tokio::test(start_paused = true)]
async fn a_batch_waits_too() {
    let world = World::new().await;
    let body = format!("[{EVENT},null,{},{EVENT}]", EVENT.replace("k1", "k2"));
    let (answer, ()) = tokio::join!(world.send("/events/ingest/batch?wait=100", body), async {
        sleep(Duration::from_millis(1)).await;
        decide(&world).await;
    });
    assert_eq!(answer.status, 207);
    let json = answer.json();
    let statuses: Vec<_> = (0..4).map(|i| json["results"][i]["status"].as_str()).collect();
    assert_eq!(statuses, ["evaluated", "rejected", "evaluated", "duplicate"].map(Some));
    assert_eq!(json["results"][2]["decision"]["code"], "rewarded");
}
