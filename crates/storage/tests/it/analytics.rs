//! The analytics store's contract, sentence by sentence, over a file and in memory; and reports
//! against a model that knows nothing of buckets' order or of where a period begins.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::path::PathBuf;

use jiff::tz::TimeZone;
use proptest::prelude::*;
use schemas::id::{AktvatorId, CampaignId, GigId, LinkId, OrganizationId};
use schemas::partition::{Mode, Scope};
use schemas::time::Timestamp;
use storage::analytics::{
    Analytics, AnalyticsFault, Applied, BUCKET_MS, Dimension, Fact, FaultyAnalytics, Granularity,
    Metrics, Performance, PerformanceQuery, PerformanceRow, Source, SqliteAnalytics, aligned,
};
use storage::{Certainty, Kind};

fn fresh_file(name: &str) -> PathBuf {
    let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("analytics").join(name);
    let _ = std::fs::remove_dir_all(&directory);
    std::fs::create_dir_all(&directory).unwrap();
    directory.join("analytics.sqlite")
}

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

/// Runs a case over every backend.
fn every(name: &str, case: impl AsyncFn(Analytics)) {
    run(async {
        case(Analytics::open(&fresh_file(name)).unwrap()).await;
        case(Analytics::memory().unwrap()).await;
    });
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn scope(n: u128, mode: Mode) -> Scope {
    Scope { organization: OrganizationId::from_u128(n), mode }
}

/// A conversion of 1.00 that brought 10 cents.
fn sale(when: &str) -> Fact {
    Fact {
        scope: scope(1, Mode::Live),
        campaign: CampaignId::from_u128(1),
        gig: Some(GigId::from_u128(1)),
        aktvator: None,
        link: None,
        code: None,
        event_type: Some("purchase".to_owned()),
        at: at(when),
        clicks: 0,
        conversions: 1,
        revenue: 100,
        rewards: 1,
        reward_amount: 10,
    }
}

fn click(when: &str) -> Fact {
    Fact {
        clicks: 1,
        conversions: 0,
        revenue: 0,
        rewards: 0,
        reward_amount: 0,
        event_type: None,
        link: Some(LinkId::from_u128(9)),
        ..sale(when)
    }
}

/// The whole of 2025, one row.
fn year() -> PerformanceQuery {
    PerformanceQuery {
        scope: scope(1, Mode::Live),
        campaign: CampaignId::from_u128(1),
        from: at("2025-01-01T00:00:00Z"),
        to: at("2026-01-01T00:00:00Z"),
        granularity: Granularity::None,
        timezone: TimeZone::UTC,
        group_by: vec![],
        limit: 1_000,
    }
}

fn sales(n: i64) -> Metrics {
    Metrics { clicks: 0, conversions: n, revenue: 100 * n, rewards: n, reward_amount: 10 * n }
}

/// Starts of the rows, and how many conversions each has.
fn conversions(report: &Performance) -> Vec<(String, i64)> {
    let start = |row: &PerformanceRow| row.bucket.map_or(String::new(), |at| at.to_string());
    report.rows.iter().map(|row| (start(row), row.metrics.conversions)).collect()
}

#[test]
fn facts_and_position_move_together() {
    every("position", async |analytics| {
        let none = analytics.position(Source::Outcomes, 3).await.unwrap();
        assert_eq!(none, Applied { next: 0, as_of_ms: 0 });
        let facts = [sale("2025-05-05T10:00:00Z"), sale("2025-05-05T10:14:59.999Z")];
        analytics.apply(Source::Outcomes, 3, 0, 7, 1_000, &facts).await.unwrap();
        analytics.apply(Source::Outcomes, 3, 7, 8, 1_001, &facts[..1]).await.unwrap();
        // Records without facts move the position all the same.
        analytics.apply(Source::Outcomes, 3, 8, 9, 1_002, &[]).await.unwrap();

        let applied = analytics.position(Source::Outcomes, 3).await.unwrap();
        assert_eq!(applied, Applied { next: 9, as_of_ms: 1_002 });
        for (source, partition) in [(Source::Clicks, 3), (Source::Outcomes, 4)] {
            assert_eq!(analytics.position(source, partition).await.unwrap(), Applied::default());
        }
        assert_eq!(analytics.performance(&year()).await.unwrap().totals, sales(3));
    });
}

#[test]
fn what_does_not_follow_the_position_is_refused_whole() {
    every("conflict", async |analytics| {
        let facts = [sale("2025-05-05T10:00:00Z")];
        analytics.apply(Source::Outcomes, 0, 0, 5, 1, &facts).await.unwrap();
        for (from, next) in [(0, 5), (4, 6), (6, 7), (5, 4)] {
            let result = analytics.apply(Source::Outcomes, 0, from, next, 2, &facts).await;
            let error = result.unwrap_err();
            assert_eq!((error.kind, error.certainty), (Kind::Conflict, Certainty::Determinate));
        }
        let applied = analytics.position(Source::Outcomes, 0).await.unwrap();
        assert_eq!(applied, Applied { next: 5, as_of_ms: 1 });
        assert_eq!(analytics.performance(&year()).await.unwrap().totals, sales(1));
    });
}

#[test]
fn a_report_sees_its_own_campaign_and_range_only() {
    every("range", async |analytics| {
        let near = sale("2025-05-05T10:00:00Z");
        let facts = [
            sale("2025-05-05T09:59:59.999Z"),
            near.clone(),
            sale("2025-05-05T10:29:59.999Z"),
            sale("2025-05-05T10:30:00Z"),
            Fact { scope: scope(1, Mode::Test), ..near.clone() },
            Fact { scope: scope(2, Mode::Live), ..near.clone() },
            Fact { campaign: CampaignId::from_u128(2), ..near },
        ];
        analytics.apply(Source::Outcomes, 0, 0, 9, 1, &facts).await.unwrap();
        let query = PerformanceQuery {
            from: at("2025-05-05T10:00:00Z"),
            to: at("2025-05-05T10:30:00Z"),
            ..year()
        };
        assert_eq!(analytics.performance(&query).await.unwrap().totals, sales(2));
        let test = PerformanceQuery { scope: scope(1, Mode::Test), ..query };
        assert_eq!(analytics.performance(&test).await.unwrap().totals, sales(1));
    });
}

#[test]
fn without_granularity_and_dimensions_there_is_one_row() {
    every("one", async |analytics| {
        let empty = analytics.performance(&year()).await.unwrap();
        let row = PerformanceRow { bucket: None, dims: vec![], metrics: Metrics::default() };
        let want = Performance { rows: vec![row], totals: Metrics::default(), has_more: false };
        assert_eq!(empty, want);
        let daily = PerformanceQuery { granularity: Granularity::Day, ..year() };
        assert_eq!(analytics.performance(&daily).await.unwrap().rows, []);
        let backwards = PerformanceQuery { from: year().to, to: year().from, ..daily };
        assert_eq!(analytics.performance(&backwards).await.unwrap().rows, []);
    });
}

#[test]
fn rows_are_in_order_and_the_limit_cuts_rows_but_not_totals() {
    every("limit", async |analytics| {
        let facts = [
            Fact { code: Some("B".into()), ..sale("2025-05-06T10:00:00Z") },
            Fact { code: Some("AB".into()), ..sale("2025-05-05T10:00:00Z") },
            Fact { code: Some("A".into()), ..sale("2025-05-05T10:00:00Z") },
            Fact { code: Some("A".into()), ..sale("2025-05-05T22:00:00Z") },
            Fact { code: Some(String::new()), ..sale("2025-05-05T11:00:00Z") },
            click("2025-05-05T11:00:00Z"),
        ];
        analytics.apply(Source::Outcomes, 0, 0, 9, 1, &facts).await.unwrap();
        let row = |day: &str, code: Option<&str>, link: bool, metrics| PerformanceRow {
            bucket: Some(at(day)),
            dims: vec![code.map(str::to_owned), link.then(|| LinkId::from_u128(9).to_string())],
            metrics,
        };
        let clicks = Metrics { clicks: 1, ..Metrics::default() };
        let want = [
            row("2025-05-05T00:00:00Z", None, false, sales(1)),
            row("2025-05-05T00:00:00Z", None, true, clicks),
            row("2025-05-05T00:00:00Z", Some("A"), false, sales(2)),
            row("2025-05-05T00:00:00Z", Some("AB"), false, sales(1)),
            row("2025-05-06T00:00:00Z", Some("B"), false, sales(1)),
        ];
        for limit in 0..=6 {
            let query = PerformanceQuery {
                granularity: Granularity::Day,
                group_by: vec![Dimension::Code, Dimension::Link],
                limit,
                ..year()
            };
            let report = analytics.performance(&query).await.unwrap();
            assert_eq!(report.rows, want[..limit.min(5)]);
            assert_eq!(report.has_more, limit < 5, "{limit}");
            assert_eq!(report.totals, Metrics { clicks: 1, ..sales(5) });
        }
    });
}

#[test]
fn periods_are_those_of_the_time_zone() {
    use Granularity::{Day, Hour, Month, Week};
    let half_past = ["00:30", "01:30", "02:30", "03:30"];
    let on = |date: &str| half_past.map(|time| format!("{date}T{time}:00Z"));
    let cases: &[(&str, Granularity, Vec<String>, &[(&str, i64)])] = &[
        // Clocks go from 02:00 to 03:00 at 07:00Z: the day has 23 hours.
        (
            "America/New_York",
            Day,
            vec![
                "2025-03-09T05:00:00Z".into(),
                "2025-03-10T03:59:00Z".into(),
                "2025-03-10T04:00:00Z".into(),
            ],
            &[("2025-03-09T05:00:00.000Z", 2), ("2025-03-10T04:00:00.000Z", 1)],
        ),
        // And back at 06:00Z: the hour from 01:00 comes twice, and is two.
        (
            "America/New_York",
            Hour,
            vec!["2025-11-02T05:10:00Z".into(), "2025-11-02T06:10:00Z".into()],
            &[("2025-11-02T05:00:00.000Z", 1), ("2025-11-02T06:00:00.000Z", 1)],
        ),
        // 5:45 ahead.
        (
            "Asia/Kathmandu",
            Hour,
            vec!["2025-05-05T10:14:00Z".into(), "2025-05-05T10:15:00Z".into()],
            &[("2025-05-05T09:15:00.000Z", 1), ("2025-05-05T10:15:00.000Z", 1)],
        ),
        (
            "Asia/Kathmandu",
            Day,
            vec!["2025-05-05T18:14:00Z".into(), "2025-05-05T18:15:00Z".into()],
            &[("2025-05-04T18:15:00.000Z", 1), ("2025-05-05T18:15:00.000Z", 1)],
        ),
        // Clocks go back half an hour from 02:00 at 15:00Z: 01:30 to 02:00 comes twice, the second
        // time as an hour of its own.
        (
            "Australia/Lord_Howe",
            Hour,
            vec![
                "2025-04-05T14:10:00Z".into(),
                "2025-04-05T14:50:00Z".into(),
                "2025-04-05T15:10:00Z".into(),
                "2025-04-05T15:40:00Z".into(),
            ],
            &[
                ("2025-04-05T14:00:00.000Z", 2),
                ("2025-04-05T15:00:00.000Z", 1),
                ("2025-04-05T15:30:00.000Z", 1),
            ],
        ),
        // This day has no midnight: it begins at 01:00, 22:00Z.
        (
            "Africa/Cairo",
            Day,
            vec!["2025-04-24T21:59:00Z".into(), "2025-04-24T22:00:00Z".into()],
            &[("2025-04-23T22:00:00.000Z", 1), ("2025-04-24T22:00:00.000Z", 1)],
        ),
        // This one has two, 04:00Z and 05:00Z.
        (
            "America/Havana",
            Day,
            vec![
                "2025-11-02T03:59:00Z".into(),
                "2025-11-02T04:00:00Z".into(),
                "2025-11-02T05:00:00Z".into(),
            ],
            &[("2025-11-01T04:00:00.000Z", 1), ("2025-11-02T04:00:00.000Z", 2)],
        ),
        // A Sunday and the Monday after, over the turn of the year.
        (
            "UTC",
            Week,
            vec![
                "2024-12-29T23:59:00Z".into(),
                "2024-12-30T00:00:00Z".into(),
                "2025-01-05T23:59:00Z".into(),
            ],
            &[("2024-12-23T00:00:00.000Z", 1), ("2024-12-30T00:00:00.000Z", 2)],
        ),
        (
            "America/New_York",
            Month,
            vec![
                "2025-03-01T04:59:00Z".into(),
                "2025-03-31T23:00:00Z".into(),
                "2025-04-01T04:00:00Z".into(),
            ],
            &[
                ("2025-02-01T05:00:00.000Z", 1),
                ("2025-03-01T05:00:00.000Z", 1),
                ("2025-04-01T04:00:00.000Z", 1),
            ],
        ),
        (
            "UTC",
            Hour,
            on("2025-07-01").to_vec(),
            &[
                ("2025-07-01T00:00:00.000Z", 1),
                ("2025-07-01T01:00:00.000Z", 1),
                ("2025-07-01T02:00:00.000Z", 1),
                ("2025-07-01T03:00:00.000Z", 1),
            ],
        ),
    ];
    run(async {
        for (zone, granularity, times, want) in cases {
            let analytics = Analytics::memory().unwrap();
            let facts: Vec<_> = times.iter().map(|time| sale(time)).collect();
            analytics.apply(Source::Outcomes, 0, 0, 1, 1, &facts).await.unwrap();
            let query = PerformanceQuery {
                from: at("2024-01-01T00:00:00Z"),
                granularity: *granularity,
                timezone: TimeZone::get(zone).unwrap(),
                ..year()
            };
            let report = analytics.performance(&query).await.unwrap();
            let want: Vec<_> = want.iter().map(|(at, n)| ((*at).to_owned(), *n)).collect();
            assert_eq!(conversions(&report), want, "{zone} {granularity:?}");
        }
    });
}

#[test]
fn a_query_that_breaks_its_rules_is_refused() {
    use Dimension::{Aktvator, Code, EventType, Gig, Link};
    every("rules", async |analytics| {
        let late = at("2025-01-01T00:00:00.001Z");
        let refused = [
            PerformanceQuery { from: late, ..year() },
            PerformanceQuery { to: at("2025-02-01T00:05:00Z"), ..year() },
            PerformanceQuery { group_by: vec![Gig, Code, Gig], ..year() },
            PerformanceQuery {
                group_by: vec![Gig, Code, Link, Aktvator, EventType, Gig],
                ..year()
            },
        ];
        for query in refused {
            let error = analytics.performance(&query).await.unwrap_err();
            assert_eq!((error.kind, error.certainty), (Kind::Conflict, Certainty::Determinate));
        }
        let full =
            PerformanceQuery { group_by: vec![Link, Code, EventType, Aktvator, Gig], ..year() };
        assert_eq!(analytics.performance(&full).await.unwrap().rows, []);
    });
    assert!(aligned(at("1969-12-31T23:45:00Z")));
    assert!(!aligned(at("1969-12-31T23:46:00Z")));
}

#[test]
fn absurd_amounts_do_not_stop_a_source() {
    every("overflow", async |analytics| {
        let most = Fact { revenue: i64::MAX, ..sale("2025-05-05T10:00:00Z") };
        let least = Fact { revenue: i64::MIN, ..sale("2025-05-06T10:00:00Z") };
        for n in 0..3 {
            let facts = [most.clone(), least.clone(), least.clone()];
            analytics.apply(Source::Outcomes, 0, n, n + 1, 1, &facts).await.unwrap();
        }
        let totals = async |from, to| {
            let query = PerformanceQuery { from: at(from), to: at(to), ..year() };
            analytics.performance(&query).await.unwrap().totals
        };
        let up = totals("2025-05-05T00:00:00Z", "2025-05-06T00:00:00Z").await;
        assert_eq!((up.revenue, up.conversions), (i64::MAX, 3));
        let down = totals("2025-05-06T00:00:00Z", "2025-05-07T00:00:00Z").await;
        assert!(down.revenue <= -i64::MAX, "{down:?}");
        assert_eq!(down.conversions, 6);
    });
}

#[test]
fn a_file_opened_again_has_everything() {
    let file = fresh_file("reopened");
    run(async {
        let analytics = Analytics::open(&file).unwrap();
        analytics
            .apply(Source::Clicks, 9, 0, 4, 77, &[click("2025-05-05T10:00:00Z")])
            .await
            .unwrap();
        analytics.sync().await.unwrap();
        assert_eq!(analytics.crash().await.unwrap_err().kind, Kind::Conflict);
    });
    run(async {
        let analytics = Analytics::open(&file).unwrap();
        let applied = analytics.position(Source::Clicks, 9).await.unwrap();
        assert_eq!(applied, Applied { next: 4, as_of_ms: 77 });
        assert_eq!(analytics.performance(&year()).await.unwrap().totals.clicks, 1);
        let stale = analytics.apply(Source::Clicks, 9, 0, 4, 77, &[]).await.unwrap_err();
        assert_eq!(stale.kind, Kind::Conflict);
    });
}

#[test]
fn a_crash_forgets_facts_and_position_together_back_to_the_last_sync() {
    run(async {
        let analytics = Analytics::memory().unwrap();
        let facts = [sale("2025-05-05T10:00:00Z")];
        let next = async || analytics.position(Source::Outcomes, 0).await.unwrap().next;
        let sold = async || analytics.performance(&year()).await.unwrap().totals.conversions;
        analytics.apply(Source::Outcomes, 0, 0, 1, 1, &facts).await.unwrap();
        analytics.sync().await.unwrap();
        analytics.apply(Source::Outcomes, 0, 1, 2, 1, &facts).await.unwrap();
        assert_eq!((next().await, sold().await), (2, 2));
        for _ in 0..2 {
            analytics.crash().await.unwrap();
            assert_eq!((next().await, sold().await), (1, 1));
        }
        analytics.apply(Source::Outcomes, 0, 1, 2, 1, &facts).await.unwrap();
        assert_eq!((next().await, sold().await), (2, 2));
    });
}

#[test]
fn faults_follow_the_script() {
    run(async {
        let faulty = FaultyAnalytics::new(SqliteAnalytics::memory().unwrap());
        let analytics = Analytics::Fault(faulty.clone());
        faulty.script([
            Some(AnalyticsFault::Before(Kind::Full)),
            None,
            Some(AnalyticsFault::After(Kind::Unavailable)),
        ]);
        let want =
            [(Some(Certainty::Determinate), 0), (None, 1), (Some(Certainty::Indeterminate), 2)];
        for (certainty, next) in want {
            let from = analytics.position(Source::Clicks, 0).await.unwrap().next;
            let result = analytics.apply(Source::Clicks, 0, from, from + 1, 1, &[]).await;
            assert_eq!(result.err().map(|e| e.certainty), certainty);
            assert_eq!(analytics.position(Source::Clicks, 0).await.unwrap().next, next);
        }
    });
}

const ZONES: [&str; 6] = [
    "America/New_York",
    "Asia/Kathmandu",
    "UTC",
    "Australia/Lord_Howe",
    "Africa/Cairo",
    "America/Havana",
];

/// Instants near which a clock of [`ZONES`] is changed, and one far from all.
const CHANGES: [&str; 9] = [
    "2025-03-09T07:00:00Z",
    "2025-11-02T06:00:00Z",
    "2025-04-05T15:00:00Z",
    "2025-10-04T15:30:00Z",
    "2025-04-24T22:00:00Z",
    "2025-10-30T21:00:00Z",
    "2025-03-09T05:00:00Z",
    "2025-11-02T05:00:00Z",
    "2025-07-15T12:00:00Z",
];

fn facts() -> impl Strategy<Value = Vec<Fact>> {
    let hours = 40 * 3_600_000i64;
    let when = (0..CHANGES.len(), -hours..hours).prop_map(|(n, off)| at(CHANGES[n]).as_ms() + off);
    let dims = (0..3u128, 0..3u128, 0..3u128, 0..4usize, 0..3usize);
    let fact = (when, dims, 0..2i64, -5..100i64, 1..4u128).prop_map(
        |(when, dims, clicks, n, campaign)| {
            let (gig, aktvator, link, code, event_type) = dims;
            Fact {
                scope: scope(1, Mode::Live),
                campaign: CampaignId::from_u128(campaign.max(2) - 1),
                gig: (gig > 0).then(|| GigId::from_u128(gig)),
                aktvator: (aktvator > 0).then(|| AktvatorId::from_u128(aktvator << 100)),
                link: (link > 0).then(|| LinkId::from_u128(link)),
                code: [None, Some("A"), Some("A\0B"), Some("AB")][code].map(str::to_owned),
                event_type: [None, Some("signup"), Some("Käufe")][event_type].map(str::to_owned),
                at: Timestamp::from_ms(when),
                clicks,
                conversions: 1 - clicks,
                revenue: n * 7,
                rewards: n % 2,
                reward_amount: n,
            }
        },
    );
    proptest::collection::vec(fact, 0..120)
}

fn queries() -> impl Strategy<Value = PerformanceQuery> {
    use Dimension::{Aktvator, Code, EventType, Gig, Link};
    let granularity = proptest::sample::select(vec![
        Granularity::None,
        Granularity::Hour,
        Granularity::Day,
        Granularity::Week,
        Granularity::Month,
    ]);
    let range = (0..CHANGES.len(), -200..200i64, 0..40_000i64);
    let group_by = Just(vec![Gig, Aktvator, Link, Code, EventType])
        .prop_shuffle()
        .prop_flat_map(|all| (0..=5usize).prop_map(move |n| all[..n].to_vec()));
    let zone = proptest::sample::select(ZONES.to_vec());
    (granularity, range, group_by, zone, 0..60usize).prop_map(
        |(granularity, (change, before, length), group_by, zone, limit)| {
            let from = at(CHANGES[change]).as_ms() + before * BUCKET_MS;
            PerformanceQuery {
                from: Timestamp::from_ms(from),
                to: Timestamp::from_ms(from + length * BUCKET_MS),
                granularity,
                timezone: TimeZone::get(zone).unwrap(),
                group_by,
                limit,
                ..year()
            }
        },
    )
}

/// What tells one period from another, as the calendar on the wall has it.
fn on_the_wall(at: i64, query: &PerformanceQuery) -> String {
    let instant = Timestamp::from_ms(at).to_jiff();
    let local = query.timezone.to_datetime(instant);
    match query.granularity {
        Granularity::None => String::new(),
        Granularity::Hour => {
            let offset = query.timezone.to_offset(instant);
            format!("{} {} {offset}", local.date(), local.hour())
        }
        Granularity::Day => local.date().to_string(),
        Granularity::Week => {
            let week = local.date().iso_week_date();
            format!("{} {}", week.year(), week.week())
        }
        Granularity::Month => format!("{} {}", local.year(), local.month()),
    }
}

/// Goes back a quarter of an hour at a time until the wall shows another period.
fn start(bucket: i64, wall: &str, query: &PerformanceQuery) -> Option<Timestamp> {
    if query.granularity == Granularity::None {
        return None;
    }
    let mut start = bucket;
    while on_the_wall(start - BUCKET_MS, query) == wall {
        start -= BUCKET_MS;
    }
    Some(Timestamp::from_ms(start))
}

fn model(facts: &[Fact], query: &PerformanceQuery) -> Performance {
    let mut starts = HashMap::new();
    let mut rows = BTreeMap::<_, Metrics>::new();
    let mut totals = Metrics::default();
    for fact in facts {
        if fact.campaign != query.campaign || fact.at < query.from || fact.at >= query.to {
            continue;
        }
        let bucket = fact.at.as_ms() - fact.at.as_ms() % BUCKET_MS;
        let wall = on_the_wall(bucket, query);
        let start = *starts.entry(wall.clone()).or_insert_with(|| start(bucket, &wall, query));
        let dims: Vec<_> = query.group_by.iter().map(|d| dimension(fact, *d)).collect();
        for sum in [rows.entry((start, dims)).or_default(), &mut totals] {
            sum.clicks += fact.clicks;
            sum.conversions += fact.conversions;
            sum.revenue += fact.revenue;
            sum.rewards += fact.rewards;
            sum.reward_amount += fact.reward_amount;
        }
    }
    if query.granularity == Granularity::None && query.group_by.is_empty() {
        rows.entry((None, vec![])).or_default();
    }
    let has_more = rows.len() > query.limit;
    let row = |((bucket, dims), metrics)| PerformanceRow { bucket, dims, metrics };
    Performance { rows: rows.into_iter().take(query.limit).map(row).collect(), totals, has_more }
}

fn dimension(fact: &Fact, dimension: Dimension) -> Option<String> {
    match dimension {
        Dimension::Gig => fact.gig.map(|id| id.to_string()),
        Dimension::Aktvator => fact.aktvator.map(|id| id.to_string()),
        Dimension::Link => fact.link.map(|id| id.to_string()),
        Dimension::Code => fact.code.clone(),
        Dimension::EventType => fact.event_type.clone(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// However the facts were cut into batches, a report equals the model's.
    #[test]
    fn reports_equal_the_model(facts in facts(), query in queries(), batch in 1..50usize) {
        let report = run(async {
            let analytics = Analytics::memory().unwrap();
            for (n, facts) in (0..).zip(facts.chunks(batch)) {
                analytics.apply(Source::Outcomes, 0, n, n + 1, 1, facts).await.unwrap();
            }
            analytics.performance(&query).await.unwrap()
        });
        prop_assert_eq!(report, model(&facts, &query));
    }
}
