//! What is owed to aktvators, and how that came about: `/balances`, `/aktvators/:id/balance` and
//! `/aktvators/:id/statements`.

use bytes::Bytes;
use engine::key::{Key, LINES};
use http::Method;
use schemas::entity::Aktvator;
use schemas::fault::ApiError;
use schemas::id::{AktvatorId, PayoutId, RewardId};
use schemas::partition::Scope;
use schemas::proto;
use schemas::time::Timestamp;
use serde::Serialize;
use storage::state::Group;
use utoipa::ToSchema;

use crate::call::{Call, Reply};
use crate::page::{Listing, PAGE};
use crate::query::PageAsked;
use crate::route::{Access, Answer, Route};
use crate::stored::{Stored as _, Within};
use crate::wallet::kind;
use crate::{ControlParts, fold};

/// The operations.
pub(crate) fn routes() -> Vec<Route> {
    let read = Access::Key("payouts:read");
    vec![
        Route::new(Method::GET, "/balances", "listBalances", read, list)
            .summary("List what is owed to aktvators, by aktvator.")
            .query(PAGE)
            .gives_page::<Balance>(),
        Route::new(Method::GET, "/aktvators/{id}/balance", "getAktvatorBalance", read, get)
            .summary("What is owed to one aktvator.")
            .gives::<Balance>(200),
        Route::new(Method::GET, "/aktvators/{id}/statements", "listStatement", read, statement)
            .summary("List what has changed what is owed to an aktvator, newest first.")
            .query(PAGE)
            .gives_page::<Line>(),
    ]
}

/// What is owed to an aktvator, in minor units. Rewards that wait for funds are not among it.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Balance {
    /// Whose.
    pub(crate) aktvator_id: AktvatorId,
    /// ISO 4217; absent while nothing has been earned.
    #[serde(skip_serializing_if = "String::is_empty")]
    currency: String,
    /// Funded rewards that are not approved.
    pending: i64,
    /// Approved rewards that are in no payout.
    approved: i64,
    /// Rewards in payouts under way.
    processing: i64,
    /// What payouts have brought.
    paid_out: i64,
    /// What must come back since it was for something that was taken back. The next payouts settle it.
    debt: i64,
    /// What the next payout would bring: `approved` less `debt`.
    pub(crate) owed: i64,
}

/// Something that changed what is owed to an aktvator.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Line {
    /// Its place, from 1.
    number: u64,
    /// `approve`, `hold`, `reverse`, `payout`, `paid`, `cancel`, `clawback`.
    #[schema(value_type = String)]
    kind: &'static str,
    /// When.
    at: Timestamp,
    /// The change, minor units.
    amount: i64,
    /// What is owed afterwards.
    balance: i64,
    /// The reward it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    reward_id: Option<RewardId>,
    /// The payout it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    payout_id: Option<PayoutId>,
}

impl Balance {
    fn of(aktvator_id: AktvatorId, row: proto::BalanceRow) -> Self {
        Self {
            aktvator_id,
            currency: row.currency,
            pending: row.reserved,
            approved: row.payable,
            processing: row.processing,
            paid_out: row.paid + row.clawback,
            debt: row.clawback,
            owed: row.payable - row.clawback,
        }
    }
}

impl Line {
    fn of(number: u64, line: &proto::StatementLine) -> Option<Self> {
        Some(Self {
            number,
            kind: kind(line.kind())?,
            at: Timestamp::from_ms(line.at_ms),
            amount: line.amount,
            balance: line.balance,
            reward_id: line.reward_id.as_deref().and_then(RewardId::from_proto),
            payout_id: line.payout_id.as_deref().and_then(PayoutId::from_proto),
        })
    }
}

/// Up to `limit` balances, by aktvator, after the one given.
///
/// # Errors
/// 503 where the store does not answer.
pub(crate) async fn read(
    parts: &ControlParts,
    scope: Scope,
    after: Option<AktvatorId>,
    limit: usize,
) -> Result<Vec<Balance>, ApiError> {
    let shard = parts.shard(Group::Evaluator, scope);
    let rows = parts.scan(shard, Key::balances_after(scope, after), false, limit).await?;
    let balance = |(key, row): (Bytes, Bytes)| {
        let id = Key::balance_of(&key).ok_or_else(ApiError::internal)?;
        Ok(Balance::of(id, fold::read(row)?))
    };
    rows.into_iter().map(balance).collect()
}

async fn list(mut call: Call) -> Answer {
    let scope = call.scope()?;
    let PageAsked { limit, after, before } = call.query.page_of::<AktvatorId>()?;
    if before.is_some() {
        let message = "this list goes one way only: by aktvator";
        return Err(ApiError::invalid("endingBefore", "not_supported", message));
    }
    let after = after.and_then(|id| id.parse().ok());
    let mut data = read(&call.parts, scope, after, limit + 1).await?;
    let has_more = data.len() > limit;
    data.truncate(limit);
    let last = data.last().map(|balance| balance.aktvator_id.to_string());
    Reply::json(200, &Listing { next_cursor: last.filter(|_| has_more), has_more, data })
}

async fn get(mut call: Call) -> Answer {
    call.query.finish()?;
    let (scope, id) = known(&call).await?;
    let row: Option<proto::BalanceRow> = call.parts.row(&Key::Balance(scope, id)).await?;
    Reply::json(200, &Balance::of(id, row.unwrap_or_default()))
}

/// The aktvator in the path, who may have earned nothing yet.
async fn known(call: &Call) -> Result<(Scope, AktvatorId), ApiError> {
    let scope = call.scope()?;
    let id: AktvatorId = call.id("id", Aktvator::NOUN)?;
    let _: Aktvator = call.parts.find(Within::Scope(scope), &id.to_string()).await?;
    Ok((scope, id))
}

async fn statement(mut call: Call) -> Answer {
    let PageAsked { limit, after, before } = call.query.page_of::<u64>()?;
    let (scope, id) = known(&call).await?;
    let balance: Option<proto::BalanceRow> = call.parts.row(&Key::Balance(scope, id)).await?;
    let lines = balance.map_or(0, |balance| balance.lines);
    let number = |cursor: Option<String>| cursor.and_then(|cursor| cursor.parse::<u64>().ok());
    let (after, before) = (number(after), number(before));
    let limit = limit as u64;
    // Numbers of lines, from inclusive to exclusive; newest first, so that "after" is lower.
    let (from, to) = match (after, before) {
        (_, Some(before)) => {
            let from = before.saturating_add(1);
            (from, from.saturating_add(limit).min(lines + 1))
        }
        (after, None) => {
            let to = after.unwrap_or(lines + 1).min(lines + 1);
            (to.saturating_sub(limit).max(1), to)
        }
    };
    let data = lines_of(&call.parts, (scope, id), from..to).await?;
    let has_more = if before.is_some() { to <= lines } else { from > 1 };
    let end = if before.is_some() { data.first() } else { data.last() };
    let next_cursor = end.filter(|_| has_more).map(|line| line.number.to_string());
    Reply::json(200, &Listing { data, has_more, next_cursor })
}

/// Lines by number, newest first.
async fn lines_of(
    parts: &ControlParts,
    (scope, id): (Scope, AktvatorId),
    numbers: std::ops::Range<u64>,
) -> Result<Vec<Line>, ApiError> {
    if numbers.is_empty() {
        return Ok(Vec::new());
    }
    let first = numbers.start - 1;
    let blocks = (first - first % LINES..numbers.end - 1).step_by(LINES as usize);
    let blocks: Vec<u64> = blocks.collect();
    let keys: Vec<Key> = blocks.iter().map(|at| Key::Statement(scope, id, *at)).collect();
    let rows: Vec<Option<proto::StatementRow>> = parts.rows(scope, &keys).await?;
    let mut found = Vec::new();
    for (at, row) in blocks.into_iter().zip(rows) {
        for (number, line) in (at + 1..).zip(row.unwrap_or_default().lines) {
            if numbers.contains(&number) {
                found.push(Line::of(number, &line).ok_or_else(ApiError::internal)?);
            }
        }
    }
    found.reverse();
    Ok(found)
}
