//! Reports against the calendars of time zones, and against a model that knows nothing of the order
//! of buckets or of where a period begins.

use std::cell::Cell;
use std::collections::{BTreeMap, HashMap};

use jiff::tz::TimeZone;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use schemas::id::{AktvatorId, CampaignId, GigId, LinkId};
use schemas::partition::Mode;
use schemas::time::Timestamp;
use storage::analytics::{
    Analytics, BUCKET_MS, Dimension, Fact, Granularity, Metrics, Performance, PerformanceQuery,
    PerformanceRow, Source,
};

use super::clickhouse::Database;
use super::{at, run, sale, scope, year};

/// Instants of conversions, and in which periods of a zone they are counted.
struct Calendar {
    zone: &'static str,
    granularity: Granularity,
    times: &'static [&'static str],
    rows: &'static [(&'static str, i64)],
}

const CALENDARS: &[Calendar] = &[
    // Clocks go from 02:00 to 03:00 at 07:00Z: the day has 23 hours.
    Calendar {
        zone: "America/New_York",
        granularity: Granularity::Day,
        times: &["2025-03-09T05:00:00Z", "2025-03-10T03:59:00Z", "2025-03-10T04:00:00Z"],
        rows: &[("2025-03-09T05:00:00.000Z", 2), ("2025-03-10T04:00:00.000Z", 1)],
    },
    // And back at 06:00Z: the hour from 01:00 comes twice, and is two.
    Calendar {
        zone: "America/New_York",
        granularity: Granularity::Hour,
        times: &["2025-11-02T05:10:00Z", "2025-11-02T06:10:00Z"],
        rows: &[("2025-11-02T05:00:00.000Z", 1), ("2025-11-02T06:00:00.000Z", 1)],
    },
    // 5:45 ahead.
    Calendar {
        zone: "Asia/Kathmandu",
        granularity: Granularity::Hour,
        times: &["2025-05-05T10:14:00Z", "2025-05-05T10:15:00Z"],
        rows: &[("2025-05-05T09:15:00.000Z", 1), ("2025-05-05T10:15:00.000Z", 1)],
    },
    Calendar {
        zone: "Asia/Kathmandu",
        granularity: Granularity::Day,
        times: &["2025-05-05T18:14:00Z", "2025-05-05T18:15:00Z"],
        rows: &[("2025-05-04T18:15:00.000Z", 1), ("2025-05-05T18:15:00.000Z", 1)],
    },
    // Clocks go back half an hour from 02:00 at 15:00Z: 01:30 to 02:00 comes twice, the second
    // time as an hour of its own.
    Calendar {
        zone: "Australia/Lord_Howe",
        granularity: Granularity::Hour,
        times: &[
            "2025-04-05T14:10:00Z",
            "2025-04-05T14:50:00Z",
            "2025-04-05T15:10:00Z",
            "2025-04-05T15:40:00Z",
        ],
        rows: &[
            ("2025-04-05T14:00:00.000Z", 2),
            ("2025-04-05T15:00:00.000Z", 1),
            ("2025-04-05T15:30:00.000Z", 1),
        ],
    },
    // And forward, from 02:00 to 02:30 at 15:30Z: that hour begins in its middle.
    Calendar {
        zone: "Australia/Lord_Howe",
        granularity: Granularity::Hour,
        times: &["2025-10-04T15:29:00Z", "2025-10-04T15:59:00Z", "2025-10-04T16:00:00Z"],
        rows: &[
            ("2025-10-04T14:30:00.000Z", 1),
            ("2025-10-04T15:30:00.000Z", 1),
            ("2025-10-04T16:00:00.000Z", 1),
        ],
    },
    // This day has no midnight: it begins at 01:00, 22:00Z.
    Calendar {
        zone: "Africa/Cairo",
        granularity: Granularity::Day,
        times: &["2025-04-24T21:59:00Z", "2025-04-24T22:00:00Z"],
        rows: &[("2025-04-23T22:00:00.000Z", 1), ("2025-04-24T22:00:00.000Z", 1)],
    },
    // This one has two, 04:00Z and 05:00Z.
    Calendar {
        zone: "America/Havana",
        granularity: Granularity::Day,
        times: &["2025-11-02T03:59:00Z", "2025-11-02T04:00:00Z", "2025-11-02T05:00:00Z"],
        rows: &[("2025-11-01T04:00:00.000Z", 1), ("2025-11-02T04:00:00.000Z", 2)],
    },
    // A Sunday and the Monday after, over the turn of the year.
    Calendar {
        zone: "UTC",
        granularity: Granularity::Week,
        times: &["2024-12-29T23:59:00Z", "2024-12-30T00:00:00Z", "2025-01-05T23:59:00Z"],
        rows: &[("2024-12-23T00:00:00.000Z", 1), ("2024-12-30T00:00:00.000Z", 2)],
    },
    Calendar {
        zone: "America/New_York",
        granularity: Granularity::Month,
        times: &["2025-03-01T04:59:00Z", "2025-03-31T23:00:00Z", "2025-04-01T04:00:00Z"],
        rows: &[
            ("2025-02-01T05:00:00.000Z", 1),
            ("2025-03-01T05:00:00.000Z", 1),
            ("2025-04-01T04:00:00.000Z", 1),
        ],
    },
    // Before the epoch.
    Calendar {
        zone: "UTC",
        granularity: Granularity::Day,
        times: &["1969-12-31T23:59:59.999Z", "1970-01-01T00:00:00Z"],
        rows: &[("1969-12-31T00:00:00.000Z", 1), ("1970-01-01T00:00:00.000Z", 1)],
    },
];

pub(super) async fn periods_are_those_of_the_time_zone(analytics: Analytics) {
    for (n, case) in (0..).zip(CALENDARS) {
        let scope = scope(n, Mode::Live);
        let fact = |time: &&str| Fact { scope, ..sale(time) };
        let facts: Vec<_> = case.times.iter().map(fact).collect();
        let at_next = n as u64;
        analytics.apply(Source::Outcomes, 0, at_next, at_next + 1, 1, &facts).await.unwrap();
        let query = PerformanceQuery {
            scope,
            from: at("1960-01-01T00:00:00Z"),
            granularity: case.granularity,
            timezone: TimeZone::get(case.zone).unwrap(),
            ..year()
        };
        let report = analytics.performance(&query).await.unwrap();
        let want: Vec<_> = case.rows.iter().map(|(at, n)| ((*at).to_owned(), *n)).collect();
        assert_eq!(conversions(&report), want, "{} {:?}", case.zone, case.granularity);
    }
}

/// Starts of the rows, and how many conversions each has.
fn conversions(report: &Performance) -> Vec<(String, i64)> {
    let start = |row: &PerformanceRow| row.bucket.map_or(String::new(), |at| at.to_string());
    report.rows.iter().map(|row| (start(row), row.metrics.conversions)).collect()
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

/// What a store makes of the facts, which are those of organization `n`, after all it had before.
async fn reported(
    analytics: &Analytics,
    n: u128,
    facts: &[Fact],
    query: &PerformanceQuery,
    batch: usize,
) -> Performance {
    let scope = scope(n, Mode::Live);
    let facts: Vec<_> = facts.iter().map(|fact| Fact { scope, ..fact.clone() }).collect();
    let next = analytics.position(Source::Outcomes, 0).await.unwrap().next;
    for (n, facts) in (next..).zip(facts.chunks(batch)) {
        analytics.apply(Source::Outcomes, 0, n, n + 1, 1, facts).await.unwrap();
    }
    analytics.performance(&PerformanceQuery { scope, ..query.clone() }).await.unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// However the facts were cut into batches, a report equals the model's.
    #[test]
    fn reports_equal_the_model(facts in facts(), query in queries(), batch in 1..50usize) {
        let analytics = Analytics::memory().unwrap();
        let report = run(reported(&analytics, 1, &facts, &query, batch));
        prop_assert_eq!(report, model(&facts, &query));
    }
}

/// The same on ClickHouse, and equal to SQLite's.
#[test]
#[ignore = "needs a ClickHouse at AKTVATOR_TEST_CLICKHOUSE"]
fn reports_of_a_server_equal_the_model() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut database = runtime.block_on(Database::new());
    // Where no part has anything of the range, there is no sum to be read either.
    database.options.settings.clear();
    let server = runtime.block_on(database.connect());
    let organizations = Cell::new(1);
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(40) };
    let cases = (facts(), queries(), 1..50usize);
    TestRunner::new(config)
        .run(&cases, |(facts, query, batch)| {
            organizations.set(organizations.get() + 1);
            let n = organizations.get();
            let report = runtime.block_on(reported(&server, n, &facts, &query, batch));
            prop_assert_eq!(&report, &model(&facts, &query));
            let memory = Analytics::memory().unwrap();
            let embedded = runtime.block_on(reported(&memory, n, &facts, &query, 50));
            prop_assert_eq!(report, embedded);
            Ok(())
        })
        .unwrap();
}
