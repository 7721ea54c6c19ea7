//! `/campaigns/:id/reward-rules/usage`: how far caps are used right now.

use engine::Row;
use engine::calendar::Period;
use engine::key::Key;
use engine::usage::{Usage, Who, caps};
use http::Method;
use schemas::explain;
use schemas::fault::ApiError;
use schemas::proto::CapScope;
use schemas::time::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use crate::call::{Call, Reply};
use crate::campaigns;
use crate::page::Listing;
use crate::route::{Access, Answer, Route, parameter};
use crate::rulebook_version::{compile, latest};

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
            metric: explain::cap_metric(usage.metric),
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

/// The scope as in the rules, and for whom the query must ask.
fn scope(usage: &Usage) -> (String, &'static [&'static str]) {
    let needs: &[&str] = match usage.scope {
        CapScope::Gig => &["gigId"],
        CapScope::Link => &["linkId"],
        CapScope::Aktvator => &["aktvatorId"],
        CapScope::Customer => &["customerId"],
        CapScope::AktvatorCustomer => &["aktvatorId", "customerId"],
        CapScope::Campaign | CapScope::Rule | CapScope::Group | CapScope::Unspecified => &[],
    };
    let scope = explain::cap_scope(usage.scope);
    let group = usage.group.as_ref();
    (group.map_or_else(|| scope.to_owned(), |group| format!("{scope}:{group}")), needs)
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
    let rulebook = compile(&version.rulebook)?;
    let usages = caps(&rulebook, (scope, campaign), call.now.as_ms(), &who);
    call.parts.caught_up(scope).await?;
    let keys: Vec<Key> = usages.iter().filter_map(|usage| usage.counter.clone()).collect();
    let mut rows = call.parts.typed_rows(scope, &keys).await?.into_iter();
    let of = |usage: Usage| {
        let row = usage.counter.as_ref().and_then(|_| rows.next().flatten());
        CapUsage::of(usage, row.as_ref())
    };
    let data = usages.into_iter().map(of).collect();
    Reply::json(200, &Listing::<CapUsage> { data, has_more: false, next_cursor: None })
}
