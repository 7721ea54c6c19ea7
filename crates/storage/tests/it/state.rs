//! The state store's contract, one case per sentence.

use std::time::Duration;

use bytes::Bytes;
use storage::state::{Epoch, Group, Head, KeyRange, WriteSet};
use storage::{Certainty, Kind, Shard, StateStore, Topic};

use crate::world::{IDENTITY, PARTITIONS, World, bytes, conformance};

/// Every case over every backend.
macro_rules! cases {
    ($($case:ident),+ $(,)?) => {
        conformance!($($case),+);
        conformance!(@over cluster: $($case),+);
        conformance!(@server cql, "set AKTVATOR_TEST_CQL to a server's address": $($case),+);
    };
}

cases! {
    a_new_shard_has_an_empty_head,
    a_commit_puts_rows_outcomes_and_head_together,
    outcomes_are_dense_over_commits_and_can_be_trimmed,
    a_later_owner_fences_the_earlier_one,
    a_write_set_must_follow_the_head,
    write_sets_in_flight_together_apply_in_order,
    shards_do_not_see_each_other,
    rows_are_put_replaced_and_deleted,
    of_a_key_given_twice_the_later_holds,
    scan_is_ordered_bounded_and_goes_both_ways,
    committed_returns_when_the_head_gets_there,
    many_shards_commit_at_once,
    a_shard_that_does_not_exist_is_out_of_range,
    what_was_committed_survives_a_kill,
    what_was_committed_survives_a_close,
}

fn set(seq: u64, rows: &[(&str, Option<&str>)], outcomes: &[&str]) -> WriteSet {
    WriteSet {
        seq,
        next_offset: seq * 10,
        log_identity: IDENTITY,
        fold_time_ms: -7,
        rows: rows.iter().map(|(key, row)| (bytes(key), row.map(bytes))).collect(),
        outcomes: outcomes.iter().map(|text| bytes(text)).collect(),
    }
}

fn head(seq: u64) -> Head {
    Head { seq, next_offset: seq * 10, log_identity: IDENTITY, fold_time_ms: -7 }
}

async fn get(state: &StateStore, shard: Shard, keys: &[&str]) -> Vec<Option<Bytes>> {
    let keys: Vec<_> = keys.iter().map(|key| bytes(key)).collect();
    state.get(shard, &keys).await.unwrap()
}

async fn acquire(world: &World) -> Epoch {
    world.state.acquire(world.shard(1)).await.unwrap().0
}

async fn a_new_shard_has_an_empty_head(world: World) {
    assert_eq!(world.state.head(world.shard(1)).await.unwrap(), Head::default());
    let (first, head) = world.state.acquire(world.shard(1)).await.unwrap();
    assert_eq!(head, Head::default());
    let (second, _) = world.state.acquire(world.shard(1)).await.unwrap();
    assert!(second > first);
    assert_eq!(get(&world.state, world.shard(1), &["a"]).await, [None]);
}

async fn a_commit_puts_rows_outcomes_and_head_together(world: World) {
    let epoch = acquire(&world).await;
    let rows = [("a", Some("1")), ("b", Some(""))];
    world.state.commit(world.shard(1), epoch, set(1, &rows, &["x", "y"])).await.unwrap();
    let found = get(&world.state, world.shard(1), &["b", "none", "a"]).await;
    assert_eq!(found, [Some(bytes("")), None, Some(bytes("1"))]);
    assert_eq!(world.texts(Topic::Outcomes, world.shard(1).partition).await, ["x", "y"]);
    assert_eq!(world.state.head(world.shard(1)).await.unwrap(), head(1));
    assert_eq!(world.state.acquire(world.shard(1)).await.unwrap().1, head(1));
}

async fn outcomes_are_dense_over_commits_and_can_be_trimmed(world: World) {
    let epoch = acquire(&world).await;
    for (seq, outcomes) in [(1, vec!["a", "b"]), (2, vec![]), (3, vec!["c"]), (4, vec!["d", "e"])] {
        world.state.commit(world.shard(1), epoch, set(seq, &[], &outcomes)).await.unwrap();
    }
    world.log.wait(Topic::Outcomes, world.shard(1).partition, 4).await;
    assert_eq!(
        world.texts(Topic::Outcomes, world.shard(1).partition).await,
        ["a", "b", "c", "d", "e"]
    );
    world.log.trim(Topic::Outcomes, world.shard(1).partition, 3).await.unwrap();
    assert_eq!(world.texts(Topic::Outcomes, world.shard(1).partition).await, ["d", "e"]);
    let bounds = world.log.bounds(Topic::Outcomes, world.shard(1).partition).await.unwrap();
    assert_eq!((bounds.identity, bounds.start, bounds.end), (IDENTITY, 3, 5));
    let e =
        world.log.trim(Topic::Outcomes, world.shard(PARTITIONS).partition, 3).await.unwrap_err();
    assert_eq!(e.kind, Kind::OutOfRange);
}

async fn a_later_owner_fences_the_earlier_one(world: World) {
    let old = acquire(&world).await;
    world.state.commit(world.shard(1), old, set(1, &[("a", Some("old"))], &["x"])).await.unwrap();
    let new = acquire(&world).await;
    let late = set(2, &[("a", Some("late"))], &["late"]);
    let e = world.state.commit(world.shard(1), old, late).await.unwrap_err();
    assert_eq!((e.kind, e.certainty), (Kind::Fenced, Certainty::Determinate));
    assert_eq!(get(&world.state, world.shard(1), &["a"]).await, [Some(bytes("old"))]);
    assert_eq!(world.texts(Topic::Outcomes, world.shard(1).partition).await, ["x"]);
    world.state.commit(world.shard(1), new, set(2, &[("a", Some("new"))], &["y"])).await.unwrap();
    assert_eq!(get(&world.state, world.shard(1), &["a"]).await, [Some(bytes("new"))]);
}

async fn a_write_set_must_follow_the_head(world: World) {
    let epoch = acquire(&world).await;
    world.state.commit(world.shard(1), epoch, set(1, &[], &[])).await.unwrap();
    for seq in [0, 1, 3, u64::MAX] {
        let wrong = set(1, &[("a", Some("wrong"))], &["wrong"]);
        let e =
            world.state.commit(world.shard(1), epoch, WriteSet { seq, ..wrong }).await.unwrap_err();
        assert_eq!((e.kind, e.certainty), (Kind::Fenced, Certainty::Determinate), "seq {seq}");
    }
    assert_eq!(world.state.head(world.shard(1)).await.unwrap(), head(1));
    assert_eq!(get(&world.state, world.shard(1), &["a"]).await, [None]);
    world.state.commit(world.shard(1), epoch, set(2, &[], &[])).await.unwrap();
}

async fn write_sets_in_flight_together_apply_in_order(world: World) {
    let epoch = acquire(&world).await;
    let commit = |seq: u64| {
        let (state, text) = (world.state.clone(), seq.to_string());
        let (shard, set) = (world.shard(1), set(seq, &[("a", Some(&text))], &[&text]));
        tokio::spawn(async move { state.commit(shard, epoch, set).await })
    };
    let (first, second, third) = (commit(1), commit(2), commit(3));
    for commit in [first, second, third] {
        commit.await.unwrap().unwrap();
    }
    assert_eq!(get(&world.state, world.shard(1), &["a"]).await, [Some(bytes("3"))]);
    assert_eq!(world.texts(Topic::Outcomes, world.shard(1).partition).await, ["1", "2", "3"]);
}

async fn shards_do_not_see_each_other(world: World) {
    let shards = Group::ALL.map(|group| [1, 2].map(|n| Shard { group, ..world.shard(n) }));
    for shard in shards.into_iter().flatten() {
        let (epoch, _) = world.state.acquire(shard).await.unwrap();
        let text = format!("{shard:?}");
        world.state.commit(shard, epoch, set(1, &[("a", Some(&text))], &[])).await.unwrap();
    }
    let all = KeyRange { from: bytes(""), to: Bytes::from_static(&[0xff; 8]) };
    for shard in shards.into_iter().flatten() {
        let expected = bytes(&format!("{shard:?}"));
        assert_eq!(get(&world.state, shard, &["a"]).await, [Some(expected.clone())]);
        let scanned = world.state.scan(shard, all.clone(), false, 100).await.unwrap();
        assert_eq!(scanned, [(bytes("a"), expected)]);
    }
}

async fn rows_are_put_replaced_and_deleted(world: World) {
    let epoch = acquire(&world).await;
    let steps = [Some("1"), Some("2"), None, None, Some("3")];
    for (seq, row) in (1..).zip(steps) {
        world.state.commit(world.shard(1), epoch, set(seq, &[("a", row)], &[])).await.unwrap();
        assert_eq!(get(&world.state, world.shard(1), &["a"]).await, [row.map(bytes)]);
    }
}

async fn of_a_key_given_twice_the_later_holds(world: World) {
    let epoch = acquire(&world).await;
    let rows = [("b", Some("1")), ("a", Some("1")), ("b", None), ("a", Some("2"))];
    world.state.commit(world.shard(1), epoch, set(1, &rows, &[])).await.unwrap();
    assert_eq!(get(&world.state, world.shard(1), &["a", "b"]).await, [Some(bytes("2")), None]);
}

async fn scan_is_ordered_bounded_and_goes_both_ways(world: World) {
    let epoch = acquire(&world).await;
    let keys = ["b", "a", "ab", "c", "bb"];
    for (seq, key) in (1..).zip(keys) {
        world
            .state
            .commit(world.shard(1), epoch, set(seq, &[(key, Some(key))], &[]))
            .await
            .unwrap();
    }
    world.state.commit(world.shard(1), epoch, set(6, &[("ab", None)], &[])).await.unwrap();
    let cases: [(&str, &str, bool, usize, &[&str]); 9] = [
        ("a", "c", false, 9, &["a", "b", "bb"]),
        ("a", "c", true, 9, &["bb", "b", "a"]),
        ("a", "c", false, 2, &["a", "b"]),
        ("a", "c", true, 2, &["bb", "b"]),
        ("aa", "bb", false, 9, &["b"]),
        ("", "zz", false, 9, &["a", "b", "bb", "c"]),
        ("a", "c", false, 0, &[]),
        ("a", "a", false, 9, &[]),
        ("c", "a", false, 9, &[]),
    ];
    for (from, to, reverse, limit, expected) in cases {
        let range = KeyRange { from: bytes(from), to: bytes(to) };
        let found = world.state.scan(world.shard(1), range, reverse, limit).await.unwrap();
        let expected: Vec<_> = expected.iter().map(|key| (bytes(key), bytes(key))).collect();
        assert_eq!(found, expected, "{from}..{to} reverse {reverse} limit {limit}");
    }
}

async fn committed_returns_when_the_head_gets_there(world: World) {
    let epoch = acquire(&world).await;
    world.state.committed(world.shard(1), 0).await.unwrap();
    let waiting = |next_offset| {
        let (state, shard) = (world.state.clone(), world.shard(1));
        tokio::spawn(async move { state.committed(shard, next_offset).await.unwrap() })
    };
    let (soon, later) = (waiting(7), waiting(11));
    tokio::time::sleep(Duration::from_millis(5)).await;
    assert!(!soon.is_finished());
    world.state.commit(world.shard(1), epoch, set(1, &[], &[])).await.unwrap();
    soon.await.unwrap();
    tokio::time::sleep(Duration::from_millis(5)).await;
    assert!(!later.is_finished());
    world.state.commit(world.shard(1), epoch, set(2, &[], &[])).await.unwrap();
    later.await.unwrap();
}

async fn many_shards_commit_at_once(world: World) {
    const SETS: u64 = 20;
    let owners = (0..PARTITIONS).map(|partition| {
        let (state, shard) = (world.state.clone(), world.shard(partition));
        tokio::spawn(async move {
            let (epoch, _) = state.acquire(shard).await.unwrap();
            for seq in 1..=SETS {
                let text = format!("{partition} {seq}");
                let set = set(seq, &[(&text, Some(&text))], &[&text]);
                state.commit(shard, epoch, set).await.unwrap();
            }
        })
    });
    for owner in owners.collect::<Vec<_>>() {
        owner.await.unwrap();
    }
    for partition in 0..PARTITIONS {
        let shard = world.shard(partition);
        let texts: Vec<_> = (1..=SETS).map(|seq| format!("{partition} {seq}")).collect();
        assert_eq!(world.texts(Topic::Outcomes, world.shard(partition).partition).await, texts);
        let keys: Vec<_> = texts.iter().map(String::as_str).collect();
        assert!(get(&world.state, shard, &keys).await.iter().all(Option::is_some));
        assert_eq!(world.state.head(shard).await.unwrap(), head(SETS));
    }
}

async fn a_shard_that_does_not_exist_is_out_of_range(world: World) {
    let epoch = acquire(&world).await;
    let none = world.shard(PARTITIONS);
    let kinds = [
        world.state.acquire(none).await.unwrap_err().kind,
        world.state.commit(none, epoch, set(1, &[], &[])).await.unwrap_err().kind,
        world.state.head(none).await.unwrap_err().kind,
        world.state.committed(none, 0).await.unwrap_err().kind,
    ];
    assert_eq!(kinds, [Kind::OutOfRange; 4]);
}

async fn what_was_committed_survives_a_kill(world: World) {
    survives(world, World::killed_and_reopened).await;
}

async fn what_was_committed_survives_a_close(world: World) {
    survives(world, World::closed_and_reopened).await;
}

async fn survives(mut world: World, again: impl AsyncFn(World) -> World) {
    let mut last = None;
    for seq in 1..=3 {
        let (epoch, found) = world.state.acquire(world.shard(1)).await.unwrap();
        assert!(Some(epoch) > last, "an epoch was given out twice");
        last = Some(epoch);
        assert_eq!(found, if seq == 1 { Head::default() } else { head(seq - 1) });
        let text = seq.to_string();
        let rows = [("same", Some(&*text)), (&*text, Some("own"))];
        world.state.commit(world.shard(1), epoch, set(seq, &rows, &[&text])).await.unwrap();
        world = again(world).await;
        assert_eq!(world.state.head(world.shard(1)).await.unwrap(), head(seq));
        let found = get(&world.state, world.shard(1), &["same", &text]).await;
        assert_eq!(found, [Some(bytes(&text)), Some(bytes("own"))]);
        let texts: Vec<_> = (1..=seq).map(|seq| seq.to_string()).collect();
        assert_eq!(world.texts(Topic::Outcomes, world.shard(1).partition).await, texts);
        world.state.committed(world.shard(1), seq * 10).await.unwrap();
    }
}
