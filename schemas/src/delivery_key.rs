//! Keys of the dispatcher's rows: deliveries by endpoint and age, by id, by when they are due, and
//! by when they were done with.
//!
//! They live in the shard of group `Webhooks` whose partition is [`Scope::partition`] of the
//! organization. Four kinds, told apart by their first byte:
//!
//! | Kind | Key | Value |
//! | --- | --- | --- |
//! | delivery | [`DeliveryKey::encode`] | `proto::DeliveryRow` |
//! | by id | [`by_id`] | the bytes of the delivery's [`DeliveryKey`] |
//! | due | [`due`] | empty; there while the delivery is pending |
//! | finished | [`finished`] | empty; there once it is not, until it is forgotten |
//!
//! Every number is big-endian, so that bytes sort as the numbers do. Which sorts last is newest:
//! lists of an endpoint scan [`of_endpoint`] in reverse.

use bytes::{BufMut, Bytes, BytesMut};

use crate::id::{DeliveryId, EndpointId, OrganizationId};
use crate::partition::{Mode, Scope};

/// First byte of a delivery's key.
const DELIVERY: u8 = 1;
/// First byte of a key that finds a delivery by its id.
const BY_ID: u8 = 2;
/// First byte of a key that says when a delivery is due.
const DUE: u8 = 3;
/// First byte of a key that says since when a delivery is no longer pending.
const FINISHED: u8 = 4;

/// Bytes of an encoded [`DeliveryKey`]: kind, scope, endpoint, time, delivery.
const DELIVERY_LEN: usize = 1 + 17 + 16 + 8 + 16;
/// Bytes of a key of [`due`]: kind, scope, endpoint, when, time made, delivery.
const DUE_LEN: usize = 1 + 17 + 16 + 8 + 8 + 16;

/// Where a delivery's row is: by endpoint, then by age.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeliveryKey {
    /// Whose.
    pub scope: Scope,
    /// To which endpoint.
    pub endpoint: EndpointId,
    /// When it was made, milliseconds since the epoch; never negative.
    pub created_at_ms: i64,
    /// Which.
    pub delivery: DeliveryId,
}

impl DeliveryKey {
    /// The key of its row.
    pub fn encode(&self) -> Bytes {
        let mut key = BytesMut::with_capacity(DELIVERY_LEN);
        self.put(&mut key);
        key.freeze()
    }

    fn put(&self, key: &mut BytesMut) {
        put_endpoint(key, DELIVERY, self.scope, self.endpoint);
        put_ms(key, self.created_at_ms);
        key.put_slice(&self.delivery.to_bytes());
    }

    /// The reverse of [`DeliveryKey::encode`].
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        if bytes.len() != DELIVERY_LEN || bytes[0] != DELIVERY {
            return None;
        }
        let (scope, endpoint) = take_endpoint(bytes)?;
        let delivery = DeliveryId::from_proto(&bytes[42..])?;
        Some(Self { scope, endpoint, created_at_ms: take_ms(&bytes[34..42])?, delivery })
    }
}

/// Whose row has this key; `None` where it is none of the four kinds.
pub fn scope(key: &[u8]) -> Option<Scope> {
    let at = match *key.first()? {
        DELIVERY | BY_ID | DUE => 1,
        FINISHED => 1 + 8 + 1,
        _ => return None,
    };
    Scope::from_bytes(key.get(at..at + 17)?.try_into().ok()?)
}

/// The range (end exclusive) of every delivery of an endpoint, oldest first.
pub fn of_endpoint(scope: Scope, endpoint: EndpointId) -> (Bytes, Bytes) {
    endpoint_range(DELIVERY, scope, endpoint)
}

/// The key that finds a delivery by its id alone.
pub fn by_id(scope: Scope, delivery: DeliveryId) -> Bytes {
    let mut key = BytesMut::with_capacity(1 + 17 + 16);
    key.put_u8(BY_ID);
    key.put_slice(&scope.to_bytes());
    key.put_slice(&delivery.to_bytes());
    key.freeze()
}

/// The key that says when a delivery's next attempt is due (milliseconds since the epoch). The
/// endpoint comes first: what is due to one is read without passing over what is due to another.
pub fn due(due_at_ms: i64, delivery: &DeliveryKey) -> Bytes {
    let mut key = BytesMut::with_capacity(DUE_LEN);
    put_endpoint(&mut key, DUE, delivery.scope, delivery.endpoint);
    put_ms(&mut key, due_at_ms);
    put_ms(&mut key, delivery.created_at_ms);
    key.put_slice(&delivery.delivery.to_bytes());
    key.freeze()
}

/// The range (end exclusive) of all pending deliveries of an endpoint, first due first.
pub fn due_of(scope: Scope, endpoint: EndpointId) -> (Bytes, Bytes) {
    endpoint_range(DUE, scope, endpoint)
}

/// The range (end exclusive) of every pending delivery there is.
pub fn due_all() -> (Bytes, Bytes) {
    (Bytes::from_static(&[DUE]), Bytes::from_static(&[DUE + 1]))
}

/// What a key of [`due`] says: when, and which.
pub fn decode_due(bytes: &[u8]) -> Option<(i64, DeliveryKey)> {
    if bytes.len() != DUE_LEN || bytes[0] != DUE {
        return None;
    }
    let (scope, endpoint) = take_endpoint(bytes)?;
    let delivery = DeliveryId::from_proto(&bytes[50..])?;
    let created_at_ms = take_ms(&bytes[42..50])?;
    Some((take_ms(&bytes[34..42])?, DeliveryKey { scope, endpoint, created_at_ms, delivery }))
}

/// The key that says since when (milliseconds since the epoch) a delivery is no longer pending.
pub fn finished(finished_at_ms: i64, delivery: &DeliveryKey) -> Bytes {
    let mut key = BytesMut::with_capacity(1 + 8 + DELIVERY_LEN);
    key.put_u8(FINISHED);
    put_ms(&mut key, finished_at_ms);
    delivery.put(&mut key);
    key.freeze()
}

/// The range (end exclusive) of all that finished before `ms`, oldest first.
pub fn finished_before(ms: i64) -> (Bytes, Bytes) {
    let end = |ms: i64| {
        let mut key = BytesMut::with_capacity(9);
        key.put_u8(FINISHED);
        put_ms(&mut key, ms);
        key.freeze()
    };
    (end(0), end(ms))
}

/// What a key of [`finished`] says: since when, and which.
pub fn decode_finished(bytes: &[u8]) -> Option<(i64, DeliveryKey)> {
    let rest = bytes.strip_prefix(&[FINISHED])?;
    let (at, key) = rest.split_at_checked(8)?;
    Some((take_ms(at)?, DeliveryKey::decode(key)?))
}

/// The range (end exclusive) of what kind `kind` holds for an endpoint.
fn endpoint_range(kind: u8, scope: Scope, endpoint: EndpointId) -> (Bytes, Bytes) {
    let mut from = BytesMut::with_capacity(DELIVERY_LEN);
    put_endpoint(&mut from, kind, scope, endpoint);
    let mut to = from.clone();
    // A time is not negative, so no key of this endpoint reaches 0xff where the time begins.
    to.put_u8(0xff);
    (from.freeze(), to.freeze())
}

fn take_endpoint(bytes: &[u8]) -> Option<(Scope, EndpointId)> {
    let organization = OrganizationId::from_proto(&bytes[1..17])?;
    let mode = Mode::from_byte(bytes[17])?;
    Some((Scope { organization, mode }, EndpointId::from_proto(&bytes[18..34])?))
}

fn put_endpoint(key: &mut BytesMut, kind: u8, scope: Scope, endpoint: EndpointId) {
    key.put_u8(kind);
    key.put_slice(&scope.to_bytes());
    key.put_slice(&endpoint.to_bytes());
}

fn put_ms(key: &mut BytesMut, ms: i64) {
    key.put_u64(ms.max(0) as u64);
}

fn take_ms(bytes: &[u8]) -> Option<i64> {
    i64::try_from(u64::from_be_bytes(bytes.try_into().ok()?)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key(organization: u128, endpoint: u128, at: i64, delivery: u128) -> DeliveryKey {
        DeliveryKey {
            scope: Scope {
                organization: OrganizationId::from_u128(organization),
                mode: Mode::Test,
            },
            endpoint: EndpointId::from_u128(endpoint),
            created_at_ms: at,
            delivery: DeliveryId::from_u128(delivery),
        }
    }

    proptest! {
        #[test]
        fn round_trip_and_order(a: u128, b: u128, at in 0i64.., later in 0i64.., c: u128, d: u128) {
            let first = key(a, b, at, c);
            prop_assert_eq!(DeliveryKey::decode(&first.encode()), Some(first));
            prop_assert_eq!(decode_due(&due(later, &first)), Some((later, first)));
            let second = key(a, b, later, d);
            prop_assert_eq!(first.encode().cmp(&second.encode()), (at, c).cmp(&(later, d)));

            let (from, to) = of_endpoint(first.scope, first.endpoint);
            prop_assert!((from..to).contains(&first.encode()));
            let (from, to) = due_of(first.scope, first.endpoint);
            prop_assert!((from..to).contains(&due(later, &first)));
            prop_assert!(due(at, &second) <= due(later, &second) || at > later);

            prop_assert_eq!(decode_finished(&finished(at, &first)), Some((at, first)));
            for made in [first.encode(), by_id(first.scope, first.delivery), due(at, &first), finished(at, &first)] {
                prop_assert_eq!(scope(&made), Some(first.scope));
                prop_assert_eq!(scope(&made[..17]), None);
            }

            let (from, to) = finished_before(later);
            prop_assert_eq!((from..to).contains(&finished(at, &first)), at < later);
        }

        #[test]
        fn an_endpoint_lists_only_its_own(a: u128, b: u128, other: u128, at in 0i64.., c: u128) {
            prop_assume!(b != other);
            let (from, to) = of_endpoint(key(a, b, 0, 0).scope, EndpointId::from_u128(b));
            prop_assert!(!(from..to).contains(&key(a, other, at, c).encode()));
            let (from, to) = due_of(key(a, b, 0, 0).scope, EndpointId::from_u128(b));
            prop_assert!(!(from..to).contains(&due(at, &key(a, other, at, c))));
        }
    }
}
