//! Outcomes and clicks are counted, each exactly once.

use std::time::Duration;

use bytes::Bytes;
use dispatcher::transport::Reply;
use prost::Message;
use schemas::id::{AktvatorId, CampaignId, LinkId};
use schemas::proto::{self, outcome::Body};
use schemas::time::Timestamp;
use serve::config::Span;
use storage::analytics::{
    AnalyticsFault, FaultyAnalytics, Granularity, Metrics, PerformanceQuery, Source,
    SqliteAnalytics,
};
use storage::fault::{Action, Faults, Op, Step};
use storage::{Analytics, Kind, Topic};

use crate::world::{PARTITIONS, START_MS, World, decided, outcome, scope, scripted};

const DAY_MS: i64 = 86_400_000;

async fn totals(world: &World) -> Metrics {
    let midnight = START_MS - START_MS.rem_euclid(DAY_MS);
    let query = PerformanceQuery {
        scope: scope(5),
        campaign: CampaignId::from_u128(1),
        from: Timestamp::from_ms(midnight),
        to: Timestamp::from_ms(midnight + DAY_MS),
        granularity: Granularity::None,
        timezone: jiff::tz::TimeZone::UTC,
        group_by: Vec::new(),
        limit: 10,
    };
    world.analytics.performance(&query).await.expect("a report").totals
}

fn event(event: u128, code: &str, rewards: &[i64]) -> Bytes {
    outcome(scope(5), Body::EventDecided(decided(event, code, rewards))).encode_to_vec().into()
}

fn click() -> Bytes {
    proto::Click {
        organization: scope(5).organization.to_proto(),
        mode: proto::Mode::Live.into(),
        clicked_at_ms: START_MS,
        link_id: LinkId::from_u128(1).to_proto(),
        campaign_id: CampaignId::from_u128(1).to_proto(),
        aktvator_id: AktvatorId::from_u128(1).to_proto(),
        code: "ABC123".into(),
        trigger: "link".into(),
    }
    .encode_to_vec()
    .into()
}

async fn feed(world: &World) {
    let partition = scope(5).partition(PARTITIONS);
    let repeat = proto::EventDecided { repeat: true, ..decided(1, "rewarded", &[100]) };
    let mut outcomes = vec![
        event(1, "rewarded", &[100, 50]),
        outcome(scope(5), Body::EventDecided(repeat)).encode_to_vec().into(),
        event(2, "clipped", &[7]),
        event(3, "conditions_not_met", &[]),
        event(4, "currency_mismatch", &[]),
        event(5, "campaign_not_active", &[]),
        event(6, "late_event", &[]),
        Bytes::from_static(b"\xff\xff"),
    ];
    outcomes.extend((100..140).map(|id| event(id, "rewarded", &[10])));
    for chunk in outcomes.chunks(7) {
        world.tell(partition, chunk.to_vec()).await;
    }
    let (log, _) = world.memory.open();
    let clicks = (0..30).map(|_| (partition, click())).collect();
    log.append(Topic::Clicks, clicks).await.expect("appended");
}

/// 4 judged events of the first part, of which one in another currency, and 40 more.
const WANT: Metrics = Metrics {
    clicks: 30,
    conversions: 44,
    revenue: 43 * 4_900,
    rewards: 43,
    reward_amount: 157 + 400,
};

#[tokio::test(start_paused = true)]
async fn conversions_revenue_rewards_and_clicks() {
    let world = World::new();
    let (transport, _) = scripted(|_| Reply::status(200));
    let running = world.start(transport);
    feed(&world).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    running.stop().await;
    assert_eq!(totals(&world).await, WANT);
}

#[tokio::test(start_paused = true)]
async fn counted_once_whatever_fails() {
    let failures =
        [AnalyticsFault::Before(Kind::Unavailable), AnalyticsFault::After(Kind::Unavailable)];
    for fault in failures {
        let mut world = World::new();
        world.config.batch_records = 5;
        let faulty = FaultyAnalytics::new(SqliteAnalytics::memory().expect("a store"));
        world.analytics = Analytics::Fault(faulty.clone());
        faulty.script([None, Some(fault), Some(fault), None, None, Some(fault), None, Some(fault)]);
        let faults = Faults::default();
        for nth in [1, 3, 4, 9] {
            faults.at(Op::Read, Step::Before, nth, Action::Fail(Kind::Unavailable));
        }
        let (log, state) = world.memory.open();
        let (log, state) = faults.wrap(log, state);
        let (transport, _) = scripted(|_| Reply::status(200));
        feed(&world).await;
        let running = world.start_with(transport, log, state);
        tokio::time::sleep(Duration::from_secs(60)).await;
        running.stop().await;
        assert_eq!(totals(&world).await, WANT, "{fault:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn counted_once_over_restarts() {
    let mut world = World::new();
    world.config.batch_records = 3;
    let (transport, _) = scripted(|_| Reply::status(200));
    feed(&world).await;
    for restart in 0..12 {
        let running = world.start(transport.clone());
        for _ in 0..restart * 9 {
            tokio::task::yield_now().await;
        }
        running.kill().await;
    }
    let running = world.start(transport);
    tokio::time::sleep(Duration::from_secs(5)).await;
    running.stop().await;
    assert_eq!(totals(&world).await, WANT);
}

/// A trickle is taken in once per linger, a batch's worth as soon as it is there.
#[tokio::test(start_paused = true)]
async fn facts_are_gathered_before_they_are_taken_in() {
    let mut world = World::new();
    world.config.analytics_linger = Span::from_secs(1);
    world.config.batch_records = 50;
    let partition = scope(5).partition(PARTITIONS);
    let (transport, _) = scripted(|_| Reply::status(200));
    let running = world.start(transport);
    let next = async || {
        let applied = world.analytics.position(Source::Outcomes, partition).await;
        applied.expect("a position").next
    };
    let mut taken = vec![0];
    for n in 0..50 {
        world.tell(partition, vec![event(n, "rewarded", &[10])]).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        taken.push(next().await);
    }
    taken.dedup();
    assert!((4..=6).contains(&taken.len()), "{taken:?}");
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(next().await, 50);

    world.tell(partition, (100..160).map(|n| event(n, "rewarded", &[10])).collect()).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(next().await, 100);
    // What has not waited long enough is taken in before the end all the same.
    running.stop().await;
    assert_eq!(next().await, 110);
}

/// Nothing is let go before its retention or before both consumers have followed it.
#[tokio::test(start_paused = true)]
async fn followed_logs_are_trimmed_after_their_retention() {
    let mut world = World::new();
    world.config.log_retention = Span::from_secs(3_600);
    let partition = scope(5).partition(PARTITIONS);
    let (log, _) = world.memory.open();
    let starts = async || {
        let outcomes = log.bounds(Topic::Outcomes, partition).await.expect("bounds");
        let clicks = log.bounds(Topic::Clicks, partition).await.expect("bounds");
        (outcomes.start, outcomes.end, clicks.start)
    };
    feed(&world).await;
    log.append(Topic::Clicks, vec![(partition, click())]).await.expect("appended");
    let (transport, _) = scripted(|_| Reply::status(200));
    let running = world.start(transport);
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(starts().await, (0, 48, 0));
    tokio::time::sleep(Duration::from_secs(3_600)).await;
    running.stop().await;
    // The newest stored batch always stays: 7 outcomes at once, 48 in all; one click after 30.
    assert_eq!(starts().await, (42, 48, 30));
    assert_eq!(totals(&world).await, Metrics { clicks: 31, ..WANT });
}

/// What a newer build wrote is not passed over, and what came before it is counted.
#[tokio::test(start_paused = true)]
async fn an_unknown_outcome_halts() {
    let world = World::new();
    let newer = proto::Outcome {
        body: None,
        ..outcome(scope(5), Body::EventDecided(decided(1, "rewarded", &[1])))
    };
    let outcomes = vec![
        event(1, "rewarded", &[10]),
        newer.encode_to_vec().into(),
        event(2, "rewarded", &[10]),
    ];
    world.tell(scope(5).partition(PARTITIONS), outcomes).await;
    let (transport, _) = scripted(|_| Reply::status(200));
    let running = world.start(transport);
    tokio::time::sleep(Duration::from_secs(60)).await;
    running.stop().await;
    assert_eq!(totals(&world).await.conversions, 1);
}
