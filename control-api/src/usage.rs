//! `/campaigns/:id/reward-rules/usage`: how far caps are used right now.

use bytes::Bytes;
use engine::calendar::Period;
use engine::key::Key;
use engine::usage::{Usage, Who, caps};
use engine::{Row, Rulebook};
use http::Method;
use schemas::fault::ApiError;
use schemas::partition::Scope;
use schemas::proto::{CapMetric, CapScope};
use schemas::time::Timestamp;
use serde::Serialize;
use storage::state::Group;
use utoipa::ToSchema;

use crate::call::{Call, Reply};
use crate::page::Listing;
use crate::route::{Access, Answer, Route, parameter};
use crate::rulebook_version::latest;
use crate::{ControlParts, campaigns, error};

/// The operations.
pub(crate) fn routes() -> Vec<Route> {
    const PATH: &str = "/campaigns/{id}/reward-rules/usage";
    vec![
        Route::new(Method::GET, PATH, "listCapUsage", Access::Key("rules:read"), get)
            .summary("How far the caps of the newest reward rules are used right now.")
            .query(&[
                parameter("aktvatorId", "For caps per aktvator."),
                parameter("customerId", "Your id of a customer, for caps per customer."),
                parameter("linkId", "For caps per link."),
                parameter("gigId", "For caps per gig."),
            ])
            .gives_page::<CapUsage>(),
    ]
}

/// How far a cap is used.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct CapUsage {
    /// As in the rules.
    key: String,
    /// Of a cap per rule: which rule.
    #[serde(skip_serializing_if = "Option::is_none")]
    rule_key: Option<String>,
    /// `campaign`, `rule`, `gig`, `link`, `aktvator`, `customer`, `aktvator_customer` or `group:` and its name.
    scope: String,
    /// `amount` (minor units), `count` or `units`.
    #[schema(value_type = String)]
    metric: &'static str,
    /// As in the rules.
    period: String,
    /// The most there may be.
    limit: i64,
    /// What was used. Absent where the query does not say for whom: then `needs` says what is missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    used: Option<i64>,
    /// What is left.
    #[serde(skip_serializing_if = "Option::is_none")]
    remaining: Option<i64>,
    /// When it begins anew; absent for `lifetime` and rolling windows.
    #[serde(skip_serializing_if = "Option::is_none")]
    resets_at: Option<Timestamp>,
    /// Parameters that this cap needs.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    #[schema(value_type = Vec<String>)]
    needs: &'static [&'static str],
}

impl CapUsage {
    fn of(usage: Usage, row: Option<&Row>) -> Self {
        let is_known = usage.counter.is_some();
        let used = is_known.then(|| usage.used(row));
        let (scope, needs) = scope(&usage);
        Self {
            scope,
            metric: match usage.metric {
                CapMetric::Count => "count",
                CapMetric::Units => "units",
                CapMetric::Amount | CapMetric::Unspecified => "amount",
            },
            period: period(usage.period),
            limit: usage.limit,
            used,
            remaining: used.map(|used| usage.limit.saturating_sub(used).max(0)),
            resets_at: usage.resets_at_ms.map(Timestamp::from_ms),
            needs: if is_known { &[] } else { needs },
            key: usage.cap_key,
            rule_key: usage.rule_key,
        }
    }
}

fn scope(usage: &Usage) -> (String, &'static [&'static str]) {
    let (scope, needs): (&str, &[&str]) = match usage.scope {
        CapScope::Campaign | CapScope::Unspecified => ("campaign", &[]),
        CapScope::Rule => ("rule", &[]),
        CapScope::Gig => ("gig", &["gigId"]),
        CapScope::Link => ("link", &["linkId"]),
        CapScope::Aktvator => ("aktvator", &["aktvatorId"]),
        CapScope::Customer => ("customer", &["customerId"]),
        CapScope::AktvatorCustomer => ("aktvator_customer", &["aktvatorId", "customerId"]),
        CapScope::Group => {
            return (format!("group:{}", usage.group.as_deref().unwrap_or_default()), &[]);
        }
    };
    (scope.to_owned(), needs)
}

fn period(period: Period) -> String {
    match period {
        Period::Lifetime => "lifetime".to_owned(),
        Period::Day => "day".to_owned(),
        Period::Week => "week".to_owned(),
        Period::Month => "month".to_owned(),
        Period::Quarter => "quarter".to_owned(),
        Period::Year => "year".to_owned(),
        Period::Rolling(days) => format!("rolling:{days}d"),
    }
}

async fn get(mut call: Call) -> Answer {
    let who = Who {
        aktvator: call.query.parsed("aktvatorId"),
        customer: call.query.text("customerId").map(str::to_owned),
        link: call.query.parsed("linkId"),
        gig: call.query.parsed("gigId"),
    };
    call.query.finish()?;
    let scope = call.scope()?;
    let campaign = campaigns::own(&call).await?.id;
    let version = latest(&call.parts, scope, campaign).await?;
    let version = version.ok_or_else(|| ApiError::not_found("reward rules"))?;
    let json = serde_json::to_vec(&version.rulebook).map_err(|e| error::unreadable("rules", &e))?;
    let rulebook = Rulebook::compile(json.into()).map_err(ApiError::validation)?;
    let usages = caps(&rulebook, (scope, campaign), call.now.as_ms(), &who);
    call.parts.caught_up(scope).await?;
    let rows = counters(&call.parts, scope, &usages).await?;
    let data = usages.into_iter().zip(rows).map(|(u, row)| CapUsage::of(u, row.as_ref())).collect();
    Reply::json(200, &Listing::<CapUsage> { data, has_more: false, next_cursor: None })
}

/// The rows under their counters.
async fn counters(
    parts: &ControlParts,
    scope: Scope,
    usages: &[Usage],
) -> Result<Vec<Option<Row>>, ApiError> {
    let keys: Vec<&Key> = usages.iter().filter_map(|usage| usage.counter.as_ref()).collect();
    let names: Vec<Bytes> = keys.iter().map(|key| key.encode()).collect();
    let shard = parts.shard(Group::Evaluator, scope);
    let rows = parts.state.get(shard, &names).await.map_err(|e| error::storage(&e))?;
    let row = |(key, row): (&&Key, Option<Bytes>)| row.map(|row| Row::decode(key, row)).transpose();
    let rows: Result<Vec<_>, _> = keys.iter().zip(rows).map(row).collect();
    let mut rows = rows.map_err(|e| error::unreadable("row", &e))?.into_iter();
    let of = |usage: &Usage| usage.counter.as_ref().and_then(|_| rows.next().flatten());
    Ok(usages.iter().map(of).collect())
}
