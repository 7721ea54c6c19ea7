//! The event log's contract, one case per sentence.

use std::time::Duration;

use bytes::Bytes;
use storage::log::ReadLimit;
use storage::{Certainty, EventLog, Kind, Topic};

use crate::world::{ALL, PARTITIONS, World, bytes, conformance};

conformance! {
    with kafka:
    offsets_are_dense_and_come_in_the_order_given,
    records_of_one_call_keep_their_order_among_many_callers,
    topics_and_partitions_do_not_mix,
    a_read_starts_anywhere_and_stops_at_either_limit,
    a_read_returns_one_record_however_long,
    a_read_outside_the_bounds_is_out_of_range,
    an_empty_append_stores_nothing,
    an_append_to_no_partition_or_to_outcomes_is_refused,
    an_abandoned_append_is_not_withdrawn,
    wait_returns_when_the_end_rises_and_not_before,
    trim_keeps_what_is_asked_for_and_the_end,
    what_was_acknowledged_survives_a_kill,
    what_was_acknowledged_survives_a_close,
    a_log_equals_a_list,
    one_process_is_assigned_all_partitions,
}

async fn offsets_are_dense_and_come_in_the_order_given(world: World) {
    let records = [(1, "a"), (0, "b"), (1, "c"), (3, "d"), (1, "e")];
    let records = records.map(|(partition, text)| (partition, bytes(text))).to_vec();
    assert_eq!(world.log.append(Topic::Events, records).await.unwrap(), [0, 0, 1, 0, 2]);
    assert_eq!(world.append(1, &["f", "g"]).await, [3, 4]);
    assert_eq!(world.texts(Topic::Events, 1).await, ["a", "c", "e", "f", "g"]);
    assert_eq!(world.texts(Topic::Events, 0).await, ["b"]);
    let bounds = world.log.bounds(Topic::Events, 1).await.unwrap();
    assert_eq!((bounds.start, bounds.end), (0, 5));
}

async fn records_of_one_call_keep_their_order_among_many_callers(world: World) {
    const CALLERS: usize = 60;
    let callers: Vec<_> = (0..CALLERS)
        .map(|caller| {
            let log = world.log.clone();
            tokio::spawn(async move {
                let records = (0..3).map(|i| (2, bytes(&format!("{caller}.{i}")))).collect();
                (caller, log.append(Topic::Clicks, records).await.unwrap())
            })
        })
        .collect();
    let mut of_caller = vec![Vec::new(); CALLERS];
    for caller in callers {
        let (caller, offsets) = caller.await.unwrap();
        of_caller[caller] = offsets;
    }
    let texts = world.texts(Topic::Clicks, 2).await;
    assert_eq!(texts.len(), CALLERS * 3);
    for (caller, offsets) in of_caller.iter().enumerate() {
        assert!(offsets.is_sorted_by(|before, after| before < after), "{offsets:?}");
        for (i, offset) in offsets.iter().enumerate() {
            assert_eq!(texts[*offset as usize], format!("{caller}.{i}"));
        }
    }
}

async fn topics_and_partitions_do_not_mix(world: World) {
    for topic in Topic::ALL.into_iter().filter(|topic| *topic != Topic::Outcomes) {
        for partition in 0..PARTITIONS {
            let text = format!("{} {partition}", topic.as_str());
            let offsets = world.log.append(topic, vec![(partition, bytes(&text))]).await.unwrap();
            assert_eq!(offsets, [0]);
        }
    }
    for topic in Topic::ALL.into_iter().filter(|topic| *topic != Topic::Outcomes) {
        for partition in 0..PARTITIONS {
            let text = format!("{} {partition}", topic.as_str());
            assert_eq!(world.texts(topic, partition).await, [text]);
        }
    }
}

async fn a_read_starts_anywhere_and_stops_at_either_limit(world: World) {
    world.append(0, &["aa", "bb", "cc"]).await;
    world.append(0, &["dd"]).await;
    world.append(0, &["ee", "ff"]).await;
    let all = ["aa", "bb", "cc", "dd", "ee", "ff"];
    for from in 0..=all.len() {
        for records in 0..=all.len() {
            for fit in 1..=all.len() {
                // One byte short of one more record.
                let limit = ReadLimit { records, bytes: fit * 2 + 1 };
                let read = world.log.read(Topic::Events, 0, from as u64, limit).await.unwrap();
                let expected = &all[from..(from + records.min(fit)).min(all.len())];
                let texts: Vec<_> = read.iter().map(|r| r.bytes.clone()).collect();
                assert_eq!(texts, expected, "from {from}, {records} records, {fit} fit");
                assert!(read.iter().zip(from as u64..).all(|(r, offset)| r.offset == offset));
            }
        }
    }
}

async fn a_read_returns_one_record_however_long(world: World) {
    let long = "x".repeat(10_000);
    world.append(0, &[&long, &long]).await;
    let limit = ReadLimit { records: 10, bytes: 1 };
    assert_eq!(world.log.read(Topic::Events, 0, 1, limit).await.unwrap().len(), 1);
}

async fn a_read_outside_the_bounds_is_out_of_range(world: World) {
    world.append(0, &["a", "b"]).await;
    assert!(world.read(Topic::Events, 0, 2).await.is_empty());
    for (partition, from) in [(0, 3), (0, u64::MAX), (1, 1), (PARTITIONS, 0)] {
        let e = world.log.read(Topic::Events, partition, from, ALL).await.unwrap_err();
        assert_eq!(e.kind, Kind::OutOfRange, "partition {partition} from {from}");
    }
    assert_eq!(
        world.log.bounds(Topic::Events, PARTITIONS).await.unwrap_err().kind,
        Kind::OutOfRange
    );
}

async fn an_empty_append_stores_nothing(world: World) {
    assert!(world.log.append(Topic::Events, Vec::new()).await.unwrap().is_empty());
    assert_eq!(world.log.bounds(Topic::Events, 0).await.unwrap().end, 0);
}

async fn an_append_to_no_partition_or_to_outcomes_is_refused(world: World) {
    let records = vec![(0, bytes("a")), (PARTITIONS, bytes("b"))];
    let e = world.log.append(Topic::Events, records).await.unwrap_err();
    assert_eq!((e.kind, e.certainty), (Kind::OutOfRange, Certainty::Determinate));
    let e = world.log.append(Topic::Outcomes, vec![(0, bytes("a"))]).await.unwrap_err();
    assert_eq!((e.kind, e.certainty), (Kind::Conflict, Certainty::Determinate));
    assert_eq!(world.log.bounds(Topic::Events, 0).await.unwrap().end, 0);
    assert_eq!(world.log.bounds(Topic::Outcomes, 0).await.unwrap().end, 0);
}

async fn an_abandoned_append_is_not_withdrawn(world: World) {
    let mut append = Box::pin(world.log.append(Topic::Events, vec![(0, bytes("a"))]));
    // Far enough to have been handed over or written, whichever the backend does.
    for _ in 0..2 {
        tokio::select! {
            biased;
            _ = &mut append => break,
            () = tokio::task::yield_now() => {}
        }
    }
    drop(append);
    world.append(0, &["b"]).await;
    assert_eq!(world.texts(Topic::Events, 0).await, ["a", "b"]);
}

async fn wait_returns_when_the_end_rises_and_not_before(world: World) {
    world.append(0, &["a"]).await;
    world.log.wait(Topic::Events, 0, 0).await;
    let waiting = |partition, from| {
        let log = world.log.clone();
        tokio::spawn(async move { log.wait(Topic::Events, partition, from).await })
    };
    let (next, later, other, none) =
        (waiting(0, 1), waiting(0, 2), waiting(1, 0), waiting(PARTITIONS, 0));
    tokio::time::sleep(Duration::from_millis(5)).await;
    assert!(!next.is_finished());
    world.append(0, &["b"]).await;
    next.await.unwrap();
    tokio::time::sleep(Duration::from_millis(5)).await;
    assert!(!later.is_finished() && !other.is_finished() && !none.is_finished());
    world.append(0, &["c"]).await;
    later.await.unwrap();
}

async fn trim_keeps_what_is_asked_for_and_the_end(mut world: World) {
    for i in 0..10 {
        world.append(0, &[&format!("{i}a"), &format!("{i}b")]).await;
    }
    world.log.trim(Topic::Events, 0, 0).await.unwrap();
    assert_eq!(world.texts(Topic::Events, 0).await.len(), 20);
    world.log.trim(Topic::Events, 0, 11).await.unwrap();
    // Whole batches of two are let go of, or single records.
    let start = world.log.bounds(Topic::Events, 0).await.unwrap().start;
    assert!((10..=11).contains(&start), "{start}");
    assert_eq!(world.texts(Topic::Events, 0).await.len() as u64, 20 - start);
    let e = world.log.read(Topic::Events, 0, 9, ALL).await.unwrap_err();
    assert_eq!(e.kind, Kind::OutOfRange);
    world.log.trim(Topic::Events, 0, u64::MAX).await.unwrap();
    world = world.closed_and_reopened().await;
    let bounds = world.log.bounds(Topic::Events, 0).await.unwrap();
    assert!((18..=19).contains(&bounds.start) && bounds.end == 20, "{bounds:?}");
    assert_eq!(world.append(0, &["next"]).await, [20]);
    let e = world.log.trim(Topic::Events, PARTITIONS, 1).await.unwrap_err();
    assert_eq!(e.kind, Kind::OutOfRange);
}

async fn what_was_acknowledged_survives_a_kill(world: World) {
    survives(world, World::killed_and_reopened).await;
}

async fn what_was_acknowledged_survives_a_close(world: World) {
    survives(world, World::closed_and_reopened).await;
}

async fn survives(mut world: World, again: impl AsyncFn(World) -> World) {
    let identity = world.log.bounds(Topic::Events, 0).await.unwrap().identity;
    for round in 0..3 {
        for partition in 0..2 {
            world.append(partition, &[&format!("{partition} {round}"), "and"]).await;
        }
        world = again(world).await;
        for partition in 0..2 {
            let expected: Vec<_> =
                (0..=round).flat_map(|r| [format!("{partition} {r}"), "and".into()]).collect();
            assert_eq!(world.texts(Topic::Events, partition).await, expected);
        }
        assert_eq!(world.log.bounds(Topic::Events, 0).await.unwrap().identity, identity);
    }
}

async fn one_process_is_assigned_all_partitions(world: World) {
    let mut assignments = world.log.assignments("evaluator");
    while assignments.borrow().len() < usize::from(PARTITIONS) {
        assignments.changed().await;
    }
    assert_eq!(assignments.borrow(), (0..PARTITIONS).collect::<Vec<_>>());
    let changed = tokio::time::timeout(Duration::from_millis(50), assignments.changed()).await;
    assert!(changed.is_err());
}

/// Random calls against the simplest thing that has the contract.
async fn a_log_equals_a_list(world: World) {
    let mut model = vec![Vec::<Bytes>::new(); usize::from(PARTITIONS)];
    let mut random = 0x9e37_79b9_u64;
    let mut draw = move |below: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (random >> 33) % below
    };
    for round in 0..120_u32 {
        let records: Vec<_> = (0..draw(6))
            .map(|i| {
                let text = format!("{round} {i} {}", "x".repeat(draw(300) as usize));
                (draw(u64::from(PARTITIONS)) as u16, bytes(&text))
            })
            .collect();
        let offsets = world.log.append(Topic::Events, records.clone()).await.unwrap();
        for ((partition, bytes), offset) in records.into_iter().zip(offsets) {
            let list = &mut model[usize::from(partition)];
            assert_eq!(offset, list.len() as u64);
            list.push(bytes);
        }
        let partition = draw(u64::from(PARTITIONS)) as u16;
        let list = &model[usize::from(partition)];
        let from = draw(list.len() as u64 + 1);
        let limit = ReadLimit { records: draw(20) as usize, bytes: draw(2_000) as usize };
        check_read(&world.log, partition, from, limit, &list[from as usize..]).await;
    }
}

async fn check_read(log: &EventLog, partition: u16, from: u64, limit: ReadLimit, rest: &[Bytes]) {
    let read = log.read(Topic::Events, partition, from, limit).await.unwrap();
    let mut bytes = 0;
    let fitting = rest.iter().enumerate().take(limit.records).take_while(|(i, record)| {
        bytes += record.len();
        *i == 0 || bytes <= limit.bytes
    });
    let expected: Vec<_> = fitting.map(|(i, record)| (from + i as u64, record.clone())).collect();
    let read: Vec<_> = read.into_iter().map(|r| (r.offset, r.bytes)).collect();
    assert_eq!(read, expected);
}
