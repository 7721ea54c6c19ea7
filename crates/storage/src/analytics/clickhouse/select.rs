//! A report's statement, and its rows folded into the same [`Report`] as those of SQLite.
//!
//! ClickHouse sums, by quarters of an hour or by the report's periods where those are few; what a
//! period is, is said by [`Period`] alone, so that both backends have one calendar.

use std::time::Duration;

use clickhouse::query::Query;
use serde::Deserialize;

use super::server::{Server, within};
use crate::analytics::period::Period;
use crate::analytics::report::{GroupKey, Report};
use crate::analytics::{Dimension, Granularity, Metrics, Performance, PerformanceQuery};
use crate::error::Error;

/// For a whole report.
const REPORT_TIMEOUT: Duration = Duration::from_secs(2);
/// The same for the server, in its unit, so that it does not go on with what nobody waits for.
const REPORT_TIMEOUT_S: &str = "2";
/// Periods that the server is told; with more, it sums by quarters of an hour.
const PERIODS_MAX: usize = 1_000;

/// A row of the answer: figures of one period and group.
#[derive(clickhouse::Row, Deserialize)]
struct Summed<'a> {
    period_ms: i64,
    by_gig: [u8; 16],
    by_aktvator: [u8; 16],
    by_link: [u8; 16],
    by_code: &'a str,
    by_event_type: &'a str,
    sum_clicks: i128,
    sum_conversions: i128,
    sum_revenue: i128,
    sum_rewards: i128,
    sum_reward_amount: i128,
}

impl Summed<'_> {
    fn fill(&self, group: &mut GroupKey, dimensions: &[Dimension]) {
        group.clear();
        for &dimension in dimensions {
            group.push(
                dimension,
                match dimension {
                    Dimension::Gig => present(&self.by_gig),
                    Dimension::Aktvator => present(&self.by_aktvator),
                    Dimension::Link => present(&self.by_link),
                    Dimension::Code => self.by_code.as_bytes(),
                    Dimension::EventType => self.by_event_type.as_bytes(),
                },
            );
        }
    }

    fn metrics(&self) -> Metrics {
        Metrics {
            clicks: saturated(self.sum_clicks),
            conversions: saturated(self.sum_conversions),
            revenue: saturated(self.sum_revenue),
            rewards: saturated(self.sum_rewards),
            reward_amount: saturated(self.sum_reward_amount),
        }
    }
}

fn present(id: &[u8; 16]) -> &[u8] {
    if *id == [0; 16] { &[] } else { id }
}

fn saturated(sum: i128) -> i64 {
    i64::try_from(sum).unwrap_or(if sum > 0 { i64::MAX } else { i64::MIN })
}

/// Reads a report.
///
/// # Errors
/// `Unavailable` when the server is, or takes too long.
pub(super) async fn performance(
    server: &Server,
    query: &PerformanceQuery,
) -> Result<Performance, Error> {
    let statement = statement(server, query);
    within("performance", REPORT_TIMEOUT, async {
        let mut rows = statement.fetch::<Summed<'_>>()?;
        let mut report = Report::new(query);
        let mut group = GroupKey::default();
        while let Some(row) = rows.next().await? {
            row.fill(&mut group, &query.group_by);
            report.add(row.period_ms, &group, &row.metrics());
        }
        Ok(report.finish())
    })
    .await
}

fn statement(server: &Server, query: &PerformanceQuery) -> Query {
    let periods = periods(query);
    let period = match &periods {
        // Without the type, periods after 1970 would be unsigned.
        Some(_) => "roundDown(bucket_ms, CAST(? AS Array(Int64)))",
        None => "bucket_ms",
    };
    let sql = format!(
        "SELECT {period} AS period_ms, {columns} FROM {table}
         WHERE organization = toFixedString(unhex(?), 16) AND mode = ?
         AND campaign = toFixedString(unhex(?), 16) AND bucket_ms >= ? AND bucket_ms < ?
         GROUP BY period_ms{groups} ORDER BY period_ms",
        columns = columns(&query.group_by),
        table = server.table(),
        groups = query.group_by.iter().map(|d| format!(", {}", name(*d))).collect::<String>(),
    );
    let statement = server.query(&sql).with_setting("max_execution_time", REPORT_TIMEOUT_S);
    let statement = match periods {
        Some(periods) => statement.bind(periods),
        None => statement,
    };
    statement
        .bind(hex(&query.scope.organization.to_bytes()))
        .bind(query.scope.mode.byte())
        .bind(hex(&query.campaign.to_bytes()))
        .bind(query.from.as_ms())
        .bind(query.to.as_ms())
}

/// Dimensions that are not asked for have no value, so that every answer has the same columns.
fn columns(dimensions: &[Dimension]) -> String {
    use Dimension::{Aktvator, Code, EventType, Gig, Link};
    let mut columns = Vec::new();
    for (dimension, none) in [
        (Gig, "toFixedString('', 16)"),
        (Aktvator, "toFixedString('', 16)"),
        (Link, "toFixedString('', 16)"),
        (Code, "''"),
        (EventType, "''"),
    ] {
        let name = name(dimension);
        let value = if dimensions.contains(&dimension) { name } else { none };
        columns.push(format!("{value} AS by_{name}"));
    }
    for figure in ["clicks", "conversions", "revenue", "rewards", "reward_amount"] {
        columns.push(format!("sum(toInt128({figure})) AS sum_{figure}"));
    }
    columns.join(", ")
}

fn name(dimension: Dimension) -> &'static str {
    match dimension {
        Dimension::Gig => "gig",
        Dimension::Aktvator => "aktvator",
        Dimension::Link => "link",
        Dimension::Code => "code",
        Dimension::EventType => "event_type",
    }
}

/// Where the periods of the report begin, the first at or before it does. `None` where there are
/// too many, or none.
fn periods(query: &PerformanceQuery) -> Option<Vec<i64>> {
    let (mut at, to) = (query.from.as_ms(), query.to.as_ms());
    if query.granularity == Granularity::None {
        return Some(vec![at]);
    }
    let mut starts = Vec::new();
    while at < to {
        let period = Period::of(at, query.granularity, &query.timezone)?;
        if starts.len() == PERIODS_MAX || period.end <= at {
            return None;
        }
        starts.push(period.start);
        at = period.end;
    }
    (!starts.is_empty()).then_some(starts)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
