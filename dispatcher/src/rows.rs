//! What a delivery's steps write: a pending one, one that will be tried again, one that is finished,
//! one that is forgotten. Pure. The keys are [`schemas::delivery_key`]'s.

use bytes::Bytes;
use prost::Message;
use schemas::delivery_key::{self, DeliveryKey};
use schemas::hash::hash128;
use schemas::id::{DeliveryAttemptId, DeliveryId, EndpointId};
use schemas::proto::DeliveryRow;

use crate::notice::Notice;

/// Waits for its next attempt.
pub const PENDING: &str = "pending";
/// A receiver answered 2xx.
pub const DELIVERED: &str = "delivered";
/// Every attempt failed, the receiver is gone, or the delivery became too old for another attempt.
pub const EXHAUSTED: &str = "exhausted";
/// The endpoint no longer gets anything.
pub const CANCELED: &str = "canceled";

/// Rows to put (`Some`) or delete (`None`).
pub type Writes = Vec<(Bytes, Option<Bytes>)>;

/// The same for the same notice and endpoint: expanding an outcome again makes no second delivery.
pub fn delivery_id(notice: schemas::id::NoticeId, endpoint: EndpointId) -> DeliveryId {
    DeliveryId::from_u128(hash128("dlv", &[&notice.to_bytes(), &endpoint.to_bytes()]))
}

/// Attempt `number` (from 1) of a delivery.
pub fn attempt_id(delivery: DeliveryId, number: u32) -> DeliveryAttemptId {
    let parts: [&[u8]; 2] = [&delivery.to_bytes(), &number.to_be_bytes()];
    DeliveryAttemptId::from_u128(hash128("atm", &parts))
}

/// A delivery of `notice` to `endpoint`, due at once.
pub fn pending(
    notice: &Notice,
    payload: Bytes,
    endpoint: EndpointId,
    now_ms: i64,
) -> (DeliveryKey, DeliveryRow) {
    let delivery = delivery_id(notice.id, endpoint);
    // 0 stands for "not due".
    let now_ms = now_ms.max(1);
    let key = DeliveryKey { scope: notice.scope, endpoint, created_at_ms: now_ms, delivery };
    let row = DeliveryRow {
        id: delivery.to_proto(),
        endpoint_id: endpoint.to_proto(),
        organization: notice.scope.organization.to_proto(),
        mode: schemas::proto::Mode::from(notice.scope.mode).into(),
        notice_id: notice.id.to_proto(),
        notice_type: notice.kind.as_str().to_owned(),
        payload,
        status: PENDING.to_owned(),
        created_at_ms: now_ms,
        due_at_ms: now_ms,
        attempts: Vec::new(),
    };
    (key, row)
}

/// There is no further attempt: `status` says why.
pub fn finish(row: &mut DeliveryRow, status: &str) {
    status.clone_into(&mut row.status);
    row.due_at_ms = 0;
}

/// What makes a new pending delivery findable: by endpoint, by id, by when it is due.
pub fn insert(key: &DeliveryKey, row: &DeliveryRow, writes: &mut Writes) {
    let at = key.encode();
    writes.push((at.clone(), Some(row.encode_to_vec().into())));
    writes.push((delivery_key::by_id(key.scope, key.delivery), Some(at)));
    writes.push((delivery_key::due(row.due_at_ms, key), Some(Bytes::new())));
}

/// What follows an attempt: `row` as it now is; `due_at_ms` and `now_ms` as it was due, and now.
pub fn update(
    key: &DeliveryKey,
    row: &DeliveryRow,
    due_at_ms: i64,
    now_ms: i64,
    writes: &mut Writes,
) {
    writes.push((delivery_key::due(due_at_ms, key), None));
    writes.push((key.encode(), Some(row.encode_to_vec().into())));
    let index = if row.status == PENDING {
        delivery_key::due(row.due_at_ms, key)
    } else {
        delivery_key::finished(now_ms, key)
    };
    writes.push((index, Some(Bytes::new())));
}

/// What forgets a finished delivery.
pub fn forget(finished_at_ms: i64, key: &DeliveryKey, writes: &mut Writes) {
    writes.push((delivery_key::finished(finished_at_ms, key), None));
    writes.push((delivery_key::by_id(key.scope, key.delivery), None));
    writes.push((key.encode(), None));
}
