//! `GET /campaigns/:id/performance`: clicks, conversions, revenue and rewards over time, with what
//! the figures are as of.

use bytes::Bytes;
use http::Method;
use jiff::tz::TimeZone;
use prost::Message as _;
use schemas::fault::ApiError;
use schemas::partition::Scope;
use schemas::proto;
use schemas::time::Timestamp;
use serde::Serialize;
use storage::Topic;
use storage::analytics::{
    BUCKET_MS, Dimension, GROUP_BY_MAX, Granularity, Metrics, PerformanceQuery, PerformanceRow,
    Source, aligned,
};
use storage::log::ReadLimit;
use storage::state::Group;
use utoipa::ToSchema;

use crate::ControlParts;
use crate::call::{Call, Reply};
use crate::campaigns;
use crate::error;
use crate::query::Query;
use crate::route::{Access, Answer, Route, parameter};

/// Rows of an answer when the caller does not say.
const ROWS_DEFAULT: usize = 100;
/// Rows of an answer.
const ROWS_MAX: usize = 10_000;
/// How far back a report goes when the caller does not say.
const RANGE_DEFAULT_MS: i64 = 30 * 24 * 3_600_000;

/// Bytes of the one record that tells how far behind a partition is; the first is read in any case.
const RECORD_LEN_MAX: usize = 1 << 20;

const DIMENSIONS: [(&str, Dimension); 5] = [
    ("gig", Dimension::Gig),
    ("aktvator", Dimension::Aktvator),
    ("link", Dimension::Link),
    ("code", Dimension::Code),
    ("eventType", Dimension::EventType),
];
const GRANULARITIES: [(&str, Granularity); 5] = [
    ("none", Granularity::None),
    ("hour", Granularity::Hour),
    ("day", Granularity::Day),
    ("week", Granularity::Week),
    ("month", Granularity::Month),
];

/// The operation.
pub(crate) fn routes() -> Vec<Route> {
    vec![
        Route::new(
            Method::GET,
            "/campaigns/{id}/performance",
            "getCampaignPerformance",
            Access::Key("analytics:read"),
            get,
        )
        .summary("Campaign performance metrics.")
        .query(&[
            parameter(
                "from",
                "RFC 3339, on a quarter of an hour; 30 days before `to` when absent.",
            ),
            parameter("to", "Before this time; on a quarter of an hour; soon when absent."),
            parameter("granularity", "none (when absent), hour, day, week, month."),
            parameter("timezone", "IANA name: where hours to months begin; UTC when absent."),
            parameter("groupBy", "Up to five of gig, aktvator, link, code, eventType, by commas."),
            parameter("limit", "Rows: 1 to 10,000, 100 when absent."),
        ])
        .gives::<Report>(200),
    ]
}

/// Figures of a campaign.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Report {
    /// From this time on.
    from: Timestamp,
    /// Until before this time.
    to: Timestamp,
    /// What one row covers.
    granularity: &'static str,
    /// Whose calendar.
    timezone: String,
    /// By time, then by group; those without a fact are left out.
    rows: Vec<ReportRow>,
    /// Over the whole range, also over rows beyond the limit.
    totals: Figures,
    /// What the figures are as of.
    freshness: Freshness,
    /// Are there rows beyond the limit?
    has_more: bool,
}

/// One row.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct ReportRow {
    /// When its hour, day, week or month begins.
    #[serde(skip_serializing_if = "Option::is_none")]
    bucket: Option<Timestamp>,
    /// The values grouped by: `gig`, `aktvator`, `link`, `code`, `eventType`.
    #[serde(skip_serializing_if = "serde_json::Map::is_empty")]
    #[schema(value_type = Object)]
    group: serde_json::Map<String, serde_json::Value>,
    #[serde(flatten)]
    figures: Figures,
}

/// What is counted.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Figures {
    /// Redirects through links.
    clicks: i64,
    /// Conversion events that were evaluated.
    conversions: i64,
    /// Value of the conversions, minor units.
    revenue: i64,
    /// Rewards created.
    rewards: i64,
    /// Sum of the rewards, minor units.
    reward_amount: i64,
}

/// What figures are as of.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Freshness {
    /// Everything taken before this time is in.
    as_of: Timestamp,
    /// Milliseconds between then and now; 0 when nothing is on its way.
    lag_ms: i64,
}

impl From<Metrics> for Figures {
    fn from(metrics: Metrics) -> Self {
        Self {
            clicks: metrics.clicks,
            conversions: metrics.conversions,
            revenue: metrics.revenue,
            rewards: metrics.rewards,
            reward_amount: metrics.reward_amount,
        }
    }
}

/// What was asked for.
struct Asked {
    from: Timestamp,
    to: Timestamp,
    granularity: Granularity,
    timezone: TimeZone,
    group_by: Vec<Dimension>,
    limit: usize,
}

impl Asked {
    fn read(query: &mut Query, now: Timestamp) -> Result<Self, ApiError> {
        // The bucket that is being filled is part of the default range.
        let soon = (now.as_ms().div_euclid(BUCKET_MS) + 1) * BUCKET_MS;
        let to = instant(query, "to").unwrap_or(Timestamp::from_ms(soon));
        let before = Timestamp::from_ms(to.as_ms().saturating_sub(RANGE_DEFAULT_MS));
        let from = instant(query, "from").unwrap_or(before);
        if from >= to {
            query.fault("to", "out_of_range", "must be after from");
        }
        let granularity = query.choice("granularity", &GRANULARITIES).unwrap_or(Granularity::None);
        let limit = query.integer("limit", 1..=ROWS_MAX).unwrap_or(ROWS_DEFAULT);
        let (timezone, group_by) = (timezone(query), group_by(query));
        query.finish()?;
        Ok(Self { from, to, granularity, timezone, group_by, limit })
    }
}

fn instant(query: &mut Query, name: &str) -> Option<Timestamp> {
    let at: Timestamp = query.parsed(name)?;
    if !aligned(at) {
        query.fault(name, "out_of_range", "must be on a quarter of an hour");
    }
    Some(at)
}

fn timezone(query: &mut Query) -> TimeZone {
    let Some(name) = query.text("timezone") else { return TimeZone::UTC };
    TimeZone::get(name).unwrap_or_else(|_| {
        query.fault("timezone", "invalid_choice", "must be an IANA name, like Europe/Berlin");
        TimeZone::UTC
    })
}

fn group_by(query: &mut Query) -> Vec<Dimension> {
    let Some(text) = query.text("groupBy").map(str::to_owned) else { return Vec::new() };
    let mut dimensions = Vec::new();
    for name in text.split(',') {
        match DIMENSIONS.iter().find(|(text, _)| *text == name) {
            Some((_, dimension)) if !dimensions.contains(dimension) => dimensions.push(*dimension),
            Some(_) => query.fault("groupBy", "duplicate_key", format!("`{name}` stands twice")),
            None => {
                let names = DIMENSIONS.map(|(name, _)| name).join(", ");
                query.fault("groupBy", "invalid_choice", format!("must be some of: {names}"));
            }
        }
    }
    dimensions.truncate(GROUP_BY_MAX);
    dimensions
}

async fn get(mut call: Call) -> Answer {
    let scope = call.scope()?;
    let campaign = campaigns::own(&call).await?;
    let asked = Asked::read(&mut call.query, call.now)?;
    // Before the figures, so that they have at least what it says.
    let freshness = freshness(&call.parts, scope, call.now).await?;
    let query = PerformanceQuery {
        scope,
        campaign: campaign.id,
        from: asked.from,
        to: asked.to,
        granularity: asked.granularity,
        timezone: asked.timezone.clone(),
        group_by: asked.group_by.clone(),
        limit: asked.limit,
    };
    let found = call.parts.analytics.performance(&query).await.map_err(|e| error::storage(&e))?;
    let name = |(_, granularity): &&(&str, Granularity)| *granularity == asked.granularity;
    let report = Report {
        from: asked.from,
        to: asked.to,
        granularity: GRANULARITIES.iter().find(name).map_or("none", |(text, _)| text),
        timezone: asked.timezone.iana_name().unwrap_or("UTC").to_owned(),
        rows: found.rows.into_iter().map(|row| shown(row, &asked.group_by)).collect(),
        totals: found.totals.into(),
        freshness,
        has_more: found.has_more,
    };
    Reply::json(200, &report)
}

fn shown(row: PerformanceRow, group_by: &[Dimension]) -> ReportRow {
    let name = |wanted: &Dimension| {
        let found = DIMENSIONS.iter().find(|(_, dimension)| dimension == wanted);
        found.map_or("", |(text, _)| text).to_owned()
    };
    let values = row.dims.into_iter().map(serde_json::Value::from);
    let group = group_by.iter().map(name).zip(values).collect();
    ReportRow { bucket: row.bucket, group, figures: row.metrics.into() }
}

/// What the figures of a scope's partition are as of: now, or when the first record was taken that
/// they do not have yet.
///
/// Each position is read before the log behind it, so that nothing slips through in between.
async fn freshness(
    parts: &ControlParts,
    scope: Scope,
    now: Timestamp,
) -> Result<Freshness, ApiError> {
    let failed = |e| error::storage(&e);
    let shard = parts.shard(Group::Evaluator, scope);
    let partition = shard.partition;
    let head = parts.state.head(shard).await.map_err(failed)?;
    let event = first_from(parts, Topic::Events, partition, head.next_offset).await?;
    let decided = parts.analytics.position(Source::Outcomes, partition).await.map_err(failed)?;
    let outcome = first_from(parts, Topic::Outcomes, partition, decided.next).await?;
    let clicked = parts.analytics.position(Source::Clicks, partition).await.map_err(failed)?;
    let click = first_from(parts, Topic::Clicks, partition, clicked.next).await?;

    // What cannot be read has no time, and will be in no figure.
    let waiting = [
        event.and_then(|bytes| proto::Record::decode(bytes).ok()).map(|r| r.accepted_at_ms),
        outcome.and_then(|bytes| proto::Outcome::decode(bytes).ok()).map(|o| o.accepted_at_ms),
        click.and_then(|bytes| proto::Click::decode(bytes).ok()).map(|c| c.clicked_at_ms),
    ];
    let as_of_ms = waiting.into_iter().flatten().fold(now.as_ms(), i64::min);
    let as_of = Timestamp::from_ms(as_of_ms);
    Ok(Freshness { as_of, lag_ms: now.as_ms().saturating_sub(as_of_ms) })
}

/// The record at `offset`, or the first one kept after it; `None` at the end of the log.
async fn first_from(
    parts: &ControlParts,
    topic: Topic,
    partition: u16,
    offset: u64,
) -> Result<Option<Bytes>, ApiError> {
    let bounds = parts.log.bounds(topic, partition).await.map_err(|e| error::storage(&e))?;
    let from = offset.max(bounds.start);
    if from >= bounds.end {
        return Ok(None);
    }
    let limit = ReadLimit { records: 1, bytes: RECORD_LEN_MAX };
    let records = parts.log.read(topic, partition, from, limit).await;
    let mut records = records.map_err(|e| error::storage(&e))?;
    Ok(records.pop().map(|record| record.bytes))
}
