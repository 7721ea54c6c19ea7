//! What survives failing stores, dying processes and rival owners.

use std::time::Duration;

use evaluator::Config;
use serve::config::Span;
use storage::Kind;
use storage::fault::{Action, Faults, Op, Step};
use storage::log::Topic;
use storage::memory::Memory;

use crate::support::{
    NOW_MS, PERCENT, Running, Shop, append, codes, decided, outcomes, quiet, shard,
};

/// One record a write set, so that every step of a commit is reached often.
fn tiny() -> Config {
    Config { batch_records_max: 2, ..quiet() }
}

async fn filled(disk: &Memory, shop: Shop) {
    let (log, _) = disk.open();
    append(&log, 0, shop.opening(PERCENT)).await;
    append(&log, 0, vec![shop.credit(1, 500)]).await;
    let events = (0..20).map(|n| shop.purchase(&format!("k{}", n % 15), 1_000, "c"));
    append(&log, 0, events.collect()).await;
    append(&log, 0, vec![shop.credit(2, 500)]).await;
}

#[tokio::test(start_paused = true)]
async fn a_crash_or_failure_at_any_step_changes_nothing_of_the_outcome() {
    let shop = Shop::within(0, 1);
    let calm = Memory::new(1, 7);
    filled(&calm, shop).await;
    let (log, state) = calm.open();
    let evaluator = Running::start(&log, &state, tiny());
    decided(&log, &state, 0).await;
    evaluator.stop().await;
    let expected = outcomes(&log, 0).await;
    let steps = [
        (Op::Commit, Step::Before),
        (Op::Commit, Step::Written),
        (Op::Commit, Step::Answer),
        (Op::Acquire, Step::Written),
        (Op::Acquire, Step::Answer),
        (Op::Read, Step::Before),
        (Op::Get, Step::Answer),
        (Op::Scan, Step::Before),
    ];
    for (op, step) in steps {
        for nth in 1..=6 {
            for action in [Action::Crash, Action::Fail(Kind::Unavailable)] {
                let disk = Memory::new(1, 7);
                filled(&disk, shop).await;
                let faults = Faults::default();
                faults.at(op, step, nth, action);
                let (log, state) = disk.open();
                let (log, state) = faults.wrap(log, state);
                let evaluator = Running::start(&log, &state, tiny());
                tokio::select! {
                    biased;
                    () = faults.crashed(1) => {}
                    () = tokio::time::sleep(Duration::from_secs(60)) => {}
                }
                evaluator.kill();
                let (log, state) = disk.open();
                let evaluator = Running::start(&log, &state, quiet());
                decided(&log, &state, 0).await;
                evaluator.stop().await;
                let got = outcomes(&log, 0).await;
                assert!(got == expected, "{action:?} at {op:?} {step:?} {nth}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn continuations_survive_a_crash_before_they_are_appended() {
    let shop = Shop::within(0, 1);
    for nth in 1..=3 {
        for step in [Step::Before, Step::Written, Step::Answer] {
            let disk = Memory::new(1, 7);
            let (log, state) = disk.open();
            append(&log, 0, shop.opening(PERCENT)).await;
            let events = (0..30).map(|n| shop.purchase(&format!("k{n}"), 1_000, "c"));
            append(&log, 0, events.collect()).await;
            append(&log, 0, vec![shop.credit(1, 1_000_000)]).await;
            let faults = Faults::default();
            faults.at(Op::Append, step, nth, Action::Crash);
            let (log, state) = faults.wrap(log, state);
            let config = Config { holds_per_step: 5, ..quiet() };
            let evaluator = Running::start(&log, &state, config.clone());
            faults.crashed(1).await;
            evaluator.kill();
            let (log, state) = disk.open();
            let evaluator = Running::start(&log, &state, config);
            tokio::time::sleep(Duration::from_secs(5)).await;
            decided(&log, &state, 0).await;
            evaluator.stop().await;
            let all = outcomes(&log, 0).await;
            let released = all.iter().filter(|outcome| {
                matches!(outcome.body, Some(schemas::proto::outcome::Body::RewardReleased(_)))
            });
            assert_eq!(released.count(), 30, "append {nth}, {step:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_later_owner_fences_an_earlier_one() {
    let shop = Shop::within(0, 1);
    let (log, state) = Memory::new(1, 7).open();
    append(&log, 0, shop.opening(PERCENT)).await;
    let earlier = Running::start(&log, &state, quiet());
    decided(&log, &state, 0).await;
    let later = Running::start(&log, &state, quiet());
    tokio::time::sleep(Duration::from_secs(1)).await;
    let events = (0..500).map(|n| shop.purchase(&format!("k{n}"), 1_000, "c"));
    append(&log, 0, events.collect()).await;
    decided(&log, &state, 0).await;
    assert_eq!(codes(&log, 0).await.len(), 500);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(!earlier.health.is_ready() && later.health.is_ready());
    earlier.stop().await;
    later.stop().await;
}

/// A write set without a record still knows the time, for who goes on from it.
#[tokio::test(start_paused = true)]
async fn damaged_records_do_not_turn_time_back() {
    let shop = Shop::within(0, 1);
    let (log, state) = Memory::new(1, 7).open();
    append(&log, 0, shop.opening(PERCENT)).await;
    let evaluator = Running::start(&log, &state, quiet());
    decided(&log, &state, 0).await;
    append(&log, 0, vec![bytes::Bytes::from_static(&[0xff])]).await;
    decided(&log, &state, 0).await;
    evaluator.stop().await;
    assert_eq!(state.head(shard(0)).await.unwrap().fold_time_ms, NOW_MS);
}

#[tokio::test(start_paused = true)]
async fn another_log_or_a_gap_halts() {
    let shop = Shop::within(0, 1);
    let (log, state) = Memory::new(1, 7).open();
    append(&log, 0, shop.opening(PERCENT)).await;
    let evaluator = Running::start(&log, &state, quiet());
    decided(&log, &state, 0).await;
    evaluator.stop().await;
    let (other, _) = Memory::new(1, 8).open();
    append(&other, 0, shop.opening(PERCENT)).await;
    let (shorter, _) = Memory::new(1, 7).open();
    for log in [other, shorter] {
        let evaluator = Running::start(&log, &state, quiet());
        append(&log, 0, vec![shop.purchase("a", 100, "c")]).await;
        tokio::time::sleep(Duration::from_secs(600)).await;
        assert!(!evaluator.health.is_ready());
        assert_eq!(state.head(shard(0)).await.unwrap().next_offset, 5);
        evaluator.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn old_claims_are_forgotten_and_old_records_let_go() {
    let shop = Shop::within(0, 1);
    let (log, state) = Memory::new(1, 7).open();
    append(&log, 0, shop.opening(PERCENT)).await;
    // A tenth of one cent is nothing: no reward.
    append(&log, 0, vec![shop.purchase("rewarded", 100, "c"), shop.purchase("zero", 1, "c")]).await;
    let day = Span::from_secs(86_400);
    let config = Config {
        claim_retention: day,
        log_retention: day,
        sweep_every: Span::from_secs(1),
        ..Config::default()
    };
    let evaluator = Running::start(&log, &state, config);
    decided(&log, &state, 0).await;
    let later = |days: i64, key: &str| {
        shop.record_at(NOW_MS + days * 86_400_000 + 1, shop.purchase_body(key, 1, "c"))
    };
    // A day after it expires a claim may be deleted.
    tokio::time::sleep(Duration::from_secs(3 * 86_400)).await;
    append(&log, 0, vec![later(3, "other")]).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    let row = |key: &str| {
        let id = schemas::hash::event_id(shop.scope, key);
        engine::Key::Event(shop.scope, id).encode()
    };
    let rows = state.get(shard(0), &[row("rewarded"), row("zero"), row("other")]).await.unwrap();
    let there: Vec<bool> = rows.iter().map(Option::is_some).collect();
    assert_eq!(there, [true, false, true]);
    assert!(log.bounds(Topic::Events, 0).await.unwrap().start > 0);
    evaluator.stop().await;
}
