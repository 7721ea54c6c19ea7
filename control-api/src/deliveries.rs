//! `/organizations/:id/webhook-endpoints/:whId/deliveries`: what was sent to an endpoint, and every
//! attempt. The rows are the dispatcher's.

use bytes::{BufMut, Bytes, BytesMut};
use http::Method;
use schemas::delivery_key::{self, DeliveryKey};
use schemas::entity::Endpoint;
use schemas::fault::ApiError;
use schemas::id::{DeliveryAttemptId, DeliveryId, EndpointId, NoticeId};
use schemas::partition::Scope;
use schemas::proto;
use schemas::time::Timestamp;
use serde::Serialize;
use storage::state::Group;
use utoipa::ToSchema;

use crate::ControlParts;
use crate::call::{Call, MODE, Reply};
use crate::error;
use crate::fold::read;
use crate::page::{Listing, PAGE, invalid_cursor};
use crate::query::{Filter, PageAsked};
use crate::route::{Access, Answer, Route, parameter};
use crate::webhook_endpoints;

/// Rows of one scan.
const ROWS_PER_SCAN: usize = 128;
/// Rows looked at for one page.
const SCANNED_MAX: usize = 5_000;
/// What messages call it.
const NOUN: &str = "delivery";

/// The operations.
pub(crate) fn routes() -> Vec<Route> {
    const LIST: &str = "/organizations/{id}/webhook-endpoints/{endpointId}/deliveries";
    const ONE: &str = "/organizations/{id}/webhook-endpoints/{endpointId}/deliveries/{deliveryId}";
    let read = Access::KeyOrOperator("webhooks:read");
    vec![
        Route::new(Method::GET, LIST, "listDeliveries", read, list)
            .summary("List what was sent to an endpoint, newest first.")
            .query(PAGE)
            .query(&[
                MODE,
                parameter("status", "pending, delivered, exhausted, canceled."),
                parameter("type", "Notice types, like reward.created."),
            ])
            .gives_page::<Delivery>(),
        Route::new(Method::GET, ONE, "getDelivery", read, get)
            .summary("Fetch a delivery with its payload and every attempt.")
            .query(&[MODE])
            .gives::<Delivery>(200),
    ]
}

/// One notice on its way to one endpoint.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Delivery {
    /// Its id.
    id: DeliveryId,
    /// To which endpoint.
    endpoint_id: EndpointId,
    /// What is sent: the payload's `id` and the `webhook-id` header.
    notice_id: NoticeId,
    /// What it is about.
    #[serde(rename = "type")]
    notice_type: String,
    /// `pending`, `delivered`, `exhausted`, `canceled`.
    status: String,
    /// When it was made.
    created_at: Timestamp,
    /// When it is tried next.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_attempt_at: Option<Timestamp>,
    /// Tries so far.
    attempt_count: usize,
    /// Each try, oldest first; in the answer for a single delivery.
    #[serde(skip_serializing_if = "Option::is_none")]
    attempts: Option<Vec<Attempt>>,
    /// The very text that is signed and sent; in the answer for a single delivery.
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<String>,
}

/// One HTTP try.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Attempt {
    /// Its id.
    id: DeliveryAttemptId,
    /// From 1.
    number: u32,
    /// When it began.
    started_at: Timestamp,
    /// How long it took, in milliseconds.
    duration_ms: i64,
    /// `delivered`, `http_status`, `timeout`, `connect`, `dns`, `tls`, `blocked_target`, ...
    result: String,
    /// What the receiver answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    status_code: Option<u32>,
    /// How the answer's body begins.
    response_head: String,
    /// When the next try was set for.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_attempt_at: Option<Timestamp>,
}

impl Delivery {
    fn of(row: &proto::DeliveryRow) -> Option<Self> {
        Some(Self {
            id: DeliveryId::from_proto(&row.id)?,
            endpoint_id: EndpointId::from_proto(&row.endpoint_id)?,
            notice_id: NoticeId::from_proto(&row.notice_id)?,
            notice_type: row.notice_type.clone(),
            status: row.status.clone(),
            created_at: Timestamp::from_ms(row.created_at_ms),
            next_attempt_at: moment(row.due_at_ms),
            attempt_count: row.attempts.len(),
            attempts: None,
            payload: None,
        })
    }

    fn whole(row: &proto::DeliveryRow) -> Option<Self> {
        let attempts = row.attempts.iter().map(Attempt::of).collect::<Option<_>>()?;
        let payload = String::from_utf8(row.payload.to_vec()).ok()?;
        Some(Self { attempts: Some(attempts), payload: Some(payload), ..Self::of(row)? })
    }
}

impl Attempt {
    fn of(attempt: &proto::DeliveryAttempt) -> Option<Self> {
        Some(Self {
            id: DeliveryAttemptId::from_proto(&attempt.id)?,
            number: attempt.number,
            started_at: Timestamp::from_ms(attempt.started_at_ms),
            duration_ms: attempt.duration_ms,
            result: attempt.result.clone(),
            status_code: attempt.status_code,
            response_head: attempt.response_head.clone(),
            next_attempt_at: moment(attempt.next_attempt_at_ms),
        })
    }
}

/// 0 stands for none.
fn moment(ms: i64) -> Option<Timestamp> {
    (ms != 0).then(|| Timestamp::from_ms(ms))
}

async fn list(mut call: Call) -> Answer {
    let scope = webhook_endpoints::known_scope(&mut call).await?;
    let endpoint = webhook_endpoints::own(&call, scope).await?;
    let status: Option<Filter<String>> = call.query.filter("status");
    let kind: Option<Filter<String>> = call.query.filter("type");
    let asked = call.query.page_of::<DeliveryId>()?;
    let admits = |row: &proto::DeliveryRow| {
        status.as_ref().is_none_or(|status| status.admits(&row.status))
            && kind.as_ref().is_none_or(|kind| kind.admits(&row.notice_type))
    };
    let page = page(&call.parts, scope, &endpoint, &asked, admits).await?;
    Reply::json(200, &page.try_map(|row| Delivery::of(&row))?)
}

async fn get(mut call: Call) -> Answer {
    let scope = webhook_endpoints::known_scope(&mut call).await?;
    let endpoint = webhook_endpoints::own(&call, scope).await?;
    call.query.finish()?;
    let missing = || ApiError::not_found(NOUN);
    let id: DeliveryId = call.id("deliveryId", NOUN)?;
    let key = find(&call.parts, scope, &endpoint, id).await?.ok_or_else(missing)?;
    let row = delivery_row(&call.parts, scope, key.encode()).await?.ok_or_else(missing)?;
    let row: proto::DeliveryRow = read(row)?;
    Reply::json(200, &Delivery::whole(&row).ok_or_else(ApiError::internal)?)
}

/// Where the delivery with this id is, if it is one to this endpoint.
async fn find(
    parts: &ControlParts,
    scope: Scope,
    endpoint: &Endpoint,
    id: DeliveryId,
) -> Result<Option<DeliveryKey>, ApiError> {
    let found = delivery_row(parts, scope, delivery_key::by_id(scope, id)).await?;
    let key = found.and_then(|bytes| DeliveryKey::decode(&bytes));
    Ok(key.filter(|key| key.scope == scope && key.endpoint == endpoint.id))
}

async fn delivery_row(
    parts: &ControlParts,
    scope: Scope,
    key: Bytes,
) -> Result<Option<Bytes>, ApiError> {
    let rows = parts.state.get(parts.shard(Group::Webhooks, scope), &[key]).await;
    Ok(rows.map_err(|e| error::storage(&e))?.pop().flatten())
}

/// A page of an endpoint's deliveries, newest first.
async fn page(
    parts: &ControlParts,
    scope: Scope,
    endpoint: &Endpoint,
    asked: &PageAsked,
    admits: impl Fn(&proto::DeliveryRow) -> bool,
) -> Result<Listing<proto::DeliveryRow>, ApiError> {
    let backwards = asked.before.is_some();
    let (mut from, mut to) = delivery_key::of_endpoint(scope, endpoint.id);
    if let Some(cursor) = asked.before.as_ref().or(asked.after.as_ref()) {
        let id = cursor.parse().map_err(|_| invalid_cursor(backwards))?;
        let key = find(parts, scope, endpoint, id).await?;
        let key = key.ok_or_else(|| invalid_cursor(backwards))?.encode();
        if backwards { from = next(&key) } else { to = key }
    }
    let shard = parts.shard(Group::Webhooks, scope);
    let (mut found, mut scanned, mut last) = (Vec::new(), 0, None);
    while found.len() <= asked.limit && scanned < SCANNED_MAX {
        let range = (from.clone(), to.clone());
        let rows = parts.scan(shard, range, !backwards, ROWS_PER_SCAN).await?;
        let Some((edge, _)) = rows.last() else { return Ok(listing(found, None, asked)) };
        if backwards {
            from = next(edge)
        } else {
            to = edge.clone()
        }
        scanned += rows.len();
        for (_, bytes) in rows {
            let row: proto::DeliveryRow = read(bytes)?;
            last = DeliveryId::from_proto(&row.id);
            found.extend(admits(&row).then_some(row));
        }
    }
    Ok(listing(found, last, asked))
}

/// The first key after `key`.
fn next(key: &Bytes) -> Bytes {
    let mut next = BytesMut::from(key.as_ref());
    next.put_u8(0);
    next.freeze()
}

/// `scanned_to` is where the search stopped, if it did not come to the end.
fn listing(
    mut found: Vec<proto::DeliveryRow>,
    scanned_to: Option<DeliveryId>,
    asked: &PageAsked,
) -> Listing<proto::DeliveryRow> {
    let is_full = found.len() > asked.limit;
    found.truncate(asked.limit);
    let last = found.last().and_then(|row| DeliveryId::from_proto(&row.id));
    let next = if is_full { last } else { scanned_to };
    if asked.before.is_some() {
        found.reverse();
    }
    let next_cursor = next.map(|id| id.to_string());
    Listing { data: found, has_more: next_cursor.is_some(), next_cursor }
}
