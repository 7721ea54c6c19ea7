//! The analytics store's contract, sentence by sentence, over a file, in memory, and on ClickHouse.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod clickhouse;
mod proxy;
mod report;

use std::future::Future;
use std::path::PathBuf;

use jiff::tz::TimeZone;
use schemas::id::{CampaignId, GigId, LinkId, OrganizationId};
use schemas::partition::{Mode, Scope};
use schemas::time::Timestamp;
use storage::analytics::{
    Analytics, AnalyticsFault, Applied, Dimension, FACTS_MAX, Fact, FaultyAnalytics, Granularity,
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
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// Runs each case over every backend; a case is an `async fn(Analytics)`.
macro_rules! every_backend {
    ($($case:ident),+ $(,)?) => {
        mod file {
            $(#[test]
            fn $case() {
                let file = super::fresh_file(stringify!($case));
                super::run(super::$case(super::Analytics::open(&file).unwrap()));
            })+
        }
        mod memory {
            $(#[test]
            fn $case() {
                super::run(super::$case(super::Analytics::memory().unwrap()));
            })+
        }
        mod server {
            $(#[test]
            #[ignore = "needs a ClickHouse at AKTVATOR_TEST_CLICKHOUSE"]
            fn $case() {
                super::run(async {
                    let database = super::clickhouse::Database::new().await;
                    super::$case(database.connect().await).await;
                });
            })+
        }
    };
}

every_backend! {
    facts_and_position_move_together,
    what_does_not_follow_the_position_is_refused_whole,
    more_facts_than_the_bound_are_refused_whole,
    a_report_sees_its_own_campaign_and_range_only,
    without_granularity_and_dimensions_there_is_one_row,
    rows_are_in_order_and_the_limit_cuts_rows_but_not_totals,
    a_query_that_breaks_its_rules_is_refused,
    absurd_amounts_do_not_stop_a_source,
    an_id_of_zeroes_is_none,
    periods_are_those_of_the_time_zone,
}

use report::periods_are_those_of_the_time_zone;

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

async fn facts_and_position_move_together(analytics: Analytics) {
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
}

async fn what_does_not_follow_the_position_is_refused_whole(analytics: Analytics) {
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
}

async fn more_facts_than_the_bound_are_refused_whole(analytics: Analytics) {
    let mut facts = vec![sale("2025-05-05T10:00:00Z"); FACTS_MAX + 1];
    let error = analytics.apply(Source::Outcomes, 0, 0, 1, 1, &facts).await.unwrap_err();
    assert_eq!((error.kind, error.certainty), (Kind::Conflict, Certainty::Determinate));
    facts.pop();
    analytics.apply(Source::Outcomes, 0, 0, 1, 1, &facts).await.unwrap();
    let totals = analytics.performance(&year()).await.unwrap().totals;
    assert_eq!(totals, sales(i64::try_from(FACTS_MAX).unwrap()));
}

async fn a_report_sees_its_own_campaign_and_range_only(analytics: Analytics) {
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
}

async fn without_granularity_and_dimensions_there_is_one_row(analytics: Analytics) {
    let empty = analytics.performance(&year()).await.unwrap();
    let row = PerformanceRow { bucket: None, dims: vec![], metrics: Metrics::default() };
    let want = Performance { rows: vec![row], totals: Metrics::default(), has_more: false };
    assert_eq!(empty, want);
    let daily = PerformanceQuery { granularity: Granularity::Day, ..year() };
    assert_eq!(analytics.performance(&daily).await.unwrap().rows, []);
    let backwards = PerformanceQuery { from: year().to, to: year().from, ..daily };
    assert_eq!(analytics.performance(&backwards).await.unwrap().rows, []);
}

async fn rows_are_in_order_and_the_limit_cuts_rows_but_not_totals(analytics: Analytics) {
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
}

async fn a_query_that_breaks_its_rules_is_refused(analytics: Analytics) {
    use Dimension::{Aktvator, Code, EventType, Gig, Link};
    let late = at("2025-01-01T00:00:00.001Z");
    let refused = [
        PerformanceQuery { from: late, ..year() },
        PerformanceQuery { to: at("2025-02-01T00:05:00Z"), ..year() },
        PerformanceQuery { group_by: vec![Gig, Code, Gig], ..year() },
        PerformanceQuery { group_by: vec![Gig, Code, Link, Aktvator, EventType, Gig], ..year() },
    ];
    for query in refused {
        let error = analytics.performance(&query).await.unwrap_err();
        assert_eq!((error.kind, error.certainty), (Kind::Conflict, Certainty::Determinate));
    }
    let full = PerformanceQuery { group_by: vec![Link, Code, EventType, Aktvator, Gig], ..year() };
    assert_eq!(analytics.performance(&full).await.unwrap().rows, []);
    assert!(aligned(at("1969-12-31T23:45:00Z")));
    assert!(!aligned(at("1969-12-31T23:46:00Z")));
}

async fn absurd_amounts_do_not_stop_a_source(analytics: Analytics) {
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
}

async fn an_id_of_zeroes_is_none(analytics: Analytics) {
    let facts = [
        Fact { gig: Some(GigId::from_u128(0)), ..sale("2025-05-05T10:00:00Z") },
        Fact { gig: None, ..sale("2025-05-05T10:00:00Z") },
    ];
    analytics.apply(Source::Outcomes, 0, 0, 1, 1, &facts).await.unwrap();
    let query = PerformanceQuery { group_by: vec![Dimension::Gig], ..year() };
    let rows = analytics.performance(&query).await.unwrap().rows;
    assert_eq!(rows, [PerformanceRow { bucket: None, dims: vec![None], metrics: sales(2) }]);
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
