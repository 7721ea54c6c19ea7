//! What comes of a log: decisions in order, whatever the batches; nothing skipped.

use evaluator::Config;
use prost::Message;
use schemas::proto::{DeadLetter, Record};
use storage::log::{ReadLimit, Topic};
use storage::memory::Memory;

use crate::support::{PERCENT, Running, Shop, append, codes, decided, outcomes, quiet};

/// Batches of a few records, decided a few at a time.
fn small(records: usize) -> Config {
    Config { batch_records_max: records, slice_records_max: 3, ..quiet() }
}

#[tokio::test(start_paused = true)]
async fn the_same_log_gives_the_same_outcomes_in_any_batches() {
    let shop = Shop::within(0, 1);
    let mut all = Vec::new();
    for config in [small(1), small(5), small(64), quiet()] {
        let (log, state) = Memory::new(1, 7).open();
        append(&log, 0, shop.opening(PERCENT)).await;
        append(&log, 0, vec![shop.credit(1, 300)]).await;
        let events = (0..60).map(|n| shop.purchase(&format!("k{}", n % 50), 1_000, "c"));
        append(&log, 0, events.collect()).await;
        append(&log, 0, vec![shop.credit(2, 1_000)]).await;
        let evaluator = Running::start(&log, &state, config);
        decided(&log, &state, 0).await;
        evaluator.stop().await;
        assert_eq!(codes(&log, 0).await.iter().filter(|code| *code == "rewarded").count(), 50);
        all.push(outcomes(&log, 0).await);
    }
    assert!(all.windows(2).all(|pair| pair[0] == pair[1]));
}

#[tokio::test(start_paused = true)]
async fn repeats_and_conflicts_are_told_from_new_events_however_far_apart() {
    let shop = Shop::within(0, 1);
    let (log, state) = Memory::new(1, 7).open();
    append(&log, 0, shop.opening(PERCENT)).await;
    let purchase = |key: &str, amount| shop.purchase(key, amount, "c");
    append(&log, 0, vec![purchase("a", 5), purchase("a", 5), purchase("a", 6)]).await;
    let evaluator = Running::start(&log, &state, small(2));
    decided(&log, &state, 0).await;
    append(&log, 0, vec![purchase("a", 6), purchase("b", 100), purchase("a", 5)]).await;
    decided(&log, &state, 0).await;
    evaluator.stop().await;
    let expected = [
        "zero_amount",
        "duplicate",
        "idempotency_conflict",
        "idempotency_conflict",
        "rewarded",
        "duplicate",
    ];
    assert_eq!(codes(&log, 0).await, expected);
}

#[tokio::test(start_paused = true)]
async fn damaged_bytes_go_to_the_dead_letters_and_the_rest_goes_on() {
    let shop = Shop::within(0, 1);
    let (log, state) = Memory::new(1, 7).open();
    append(&log, 0, shop.opening(PERCENT)).await;
    let damaged = bytes::Bytes::from_static(b"\xff\xff\xff");
    append(&log, 0, vec![shop.purchase("a", 100, "c"), damaged.clone()]).await;
    append(&log, 0, vec![damaged.clone(), shop.purchase("b", 100, "c")]).await;
    let evaluator = Running::start(&log, &state, quiet());
    decided(&log, &state, 0).await;
    assert!(evaluator.health.is_ready());
    evaluator.stop().await;
    assert_eq!(codes(&log, 0).await, ["rewarded", "rewarded"]);
    let limit = ReadLimit { records: 10, bytes: 1 << 20 };
    let letters = log.read(Topic::DeadLetters, 0, 0, limit).await.unwrap();
    let letters = letters.into_iter().map(|letter| DeadLetter::decode(letter.bytes).unwrap());
    let letters: Vec<_> = letters.map(|letter| (letter.offset, letter.bytes)).collect();
    assert_eq!(letters, [(6, damaged.clone()), (7, damaged)]);
}

#[tokio::test(start_paused = true)]
async fn an_unknown_record_halts_its_partition_alone() {
    let shops = [Shop::within(0, 2), Shop::within(1, 2)];
    let (log, state) = Memory::new(2, 7).open();
    for (partition, shop) in [(0, shops[0]), (1, shops[1])] {
        append(&log, partition, shop.opening(PERCENT)).await;
        append(&log, partition, vec![shop.purchase("a", 100, "c")]).await;
    }
    // A body that this version has no name for.
    let newer = Record { body: None, ..Record::default() }.encode_to_vec();
    append(&log, 0, vec![newer.into(), shops[0].purchase("b", 100, "c")]).await;
    let evaluator = Running::start(&log, &state, quiet());
    decided(&log, &state, 1).await;
    tokio::time::sleep(std::time::Duration::from_secs(60)).await;
    assert!(!evaluator.health.is_ready());
    assert_eq!(state.head(crate::support::shard(0)).await.unwrap().next_offset, 6);
    append(&log, 1, vec![shops[1].purchase("b", 100, "c")]).await;
    decided(&log, &state, 1).await;
    assert_eq!(codes(&log, 0).await, ["rewarded"]);
    assert_eq!(codes(&log, 1).await, ["rewarded", "rewarded"]);
    evaluator.stop().await;
}

#[tokio::test(start_paused = true)]
async fn held_rewards_are_released_in_steps_through_the_log() {
    let shop = Shop::within(0, 1);
    let (log, state) = Memory::new(1, 7).open();
    append(&log, 0, shop.opening(PERCENT)).await;
    let events = (0..25).map(|n| shop.purchase(&format!("k{n}"), 1_000, "c"));
    append(&log, 0, events.collect()).await;
    append(&log, 0, vec![shop.credit(1, 2_000)]).await;
    let evaluator = Running::start(&log, &state, Config { holds_per_step: 10, ..quiet() });
    let before = log.bounds(Topic::Events, 0).await.unwrap().end;
    state.committed(crate::support::shard(0), before + 1).await.unwrap();
    decided(&log, &state, 0).await;
    evaluator.stop().await;
    let released = outcomes(&log, 0).await.into_iter().filter(|outcome| {
        matches!(outcome.body, Some(schemas::proto::outcome::Body::RewardReleased(_)))
    });
    assert_eq!(released.count(), 20);
}

#[tokio::test(start_paused = true)]
async fn time_moves_on_after_decisions_and_then_rests() {
    let shop = Shop::within(0, 1);
    let (log, state) = Memory::new(1, 7).open();
    append(&log, 0, shop.opening(PERCENT)).await;
    let evaluator = Running::start(&log, &state, Config::default());
    decided(&log, &state, 0).await;
    tokio::time::sleep(std::time::Duration::from_secs(3_600)).await;
    assert_eq!(log.bounds(Topic::Events, 0).await.unwrap().end, 6);
    let head = state.head(crate::support::shard(0)).await.unwrap();
    assert!(head.fold_time_ms >= crate::support::NOW_MS + 1_000, "{head:?}");
    evaluator.stop().await;
}
