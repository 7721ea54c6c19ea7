//! Answers: JSON bodies, the headers every one of them has, and request ids.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use schemas::fault::{ApiError, Fault};
use schemas::id::{ConversionEventId, RequestId};
use schemas::view::{DecisionView, EventStatus};
use serde::Serialize;
use serve::Body;

use crate::batch::Item;
use crate::event::{Accepted, Refused};

/// The header that names a request, here and in the logs.
pub(crate) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Bytes of a client's name for a request.
const NAME_LEN_MAX: usize = 128;

/// What a request is called: as its client calls it, or by an id of ours.
#[derive(Clone, Debug)]
pub(crate) struct RequestName(HeaderValue);

impl RequestName {
    /// The client's name where it is one header of 1 to 128 visible ASCII characters, or else `made`.
    pub(crate) fn of(headers: &HeaderMap, made: impl FnOnce() -> RequestId) -> Self {
        let mut given = headers.get_all(X_REQUEST_ID).iter();
        let fits = |value: &&HeaderValue| {
            (1..=NAME_LEN_MAX).contains(&value.len())
                && value.as_bytes().iter().all(u8::is_ascii_graphic)
        };
        match (given.next().filter(fits), given.next()) {
            (Some(name), None) => Self(name.clone()),
            _ => Self::from(made()),
        }
    }

    fn as_str(&self) -> &str {
        self.0.to_str().unwrap_or_default()
    }

    /// As the header that names the request.
    pub(crate) fn header(&self) -> HeaderValue {
        self.0.clone()
    }
}

impl From<RequestId> for RequestName {
    fn from(id: RequestId) -> Self {
        let text = Bytes::from(id.to_string());
        Self(HeaderValue::from_maybe_shared(text).unwrap_or(HeaderValue::from_static("-")))
    }
}

impl fmt::Display for RequestName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Names requests: the time, and bits that differ between processes and requests.
#[derive(Debug)]
pub(crate) struct RequestIds {
    seed: u64,
    count: AtomicU64,
}

impl RequestIds {
    /// Ids that differ from those of another `seed`.
    pub(crate) fn new(seed: u64) -> Self {
        Self { seed, count: AtomicU64::new(0) }
    }

    /// The next id, at `now_ms` since the epoch.
    pub(crate) fn next(&self, now_ms: i64) -> RequestId {
        let count = self.count.fetch_add(1, Ordering::Relaxed);
        let bits = (u128::from(self.seed) << 64) | u128::from(mix(self.seed ^ count));
        RequestId::new(now_ms, bits)
    }
}

/// SplitMix64's finalizer (Steele, Lea, Flood 2014): a bijection, so counts never collide.
fn mix(z: u64) -> u64 {
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// An answer of JSON.
pub(crate) fn json(status: StatusCode, body: impl Into<Bytes>, id: &RequestName) -> Response<Body> {
    let mut response = Response::new(serve::body::full(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_REQUEST_ID, id.header());
    response
}

/// The one shape of errors, with the headers that go with its status.
pub(crate) fn error(error: &ApiError, id: &RequestName) -> Response<Body> {
    let body = serde_json::to_vec(&error.body(id.as_str())).unwrap_or_default();
    let status = StatusCode::from_u16(error.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = json(status, body, id);
    let headers = response.headers_mut();
    if let Some(seconds) = error.retry_after_s {
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    if status == StatusCode::UNAUTHORIZED {
        headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}

/// 405, naming what is allowed.
pub(crate) fn method_not_allowed(allowed: &'static str, id: &RequestName) -> Response<Body> {
    let message = format!("This path answers {allowed}.");
    let mut response = error(&ApiError::new(405, "method_not_allowed", message), id);
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    response
}

/// What became of a stored event, as far as the answer can tell.
pub(crate) struct Fate {
    pub(crate) status: EventStatus,
    /// Present where the answer waited for it.
    pub(crate) decision: Option<DecisionView>,
}

impl Fate {
    /// On the log, and no more is known.
    pub(crate) const QUEUED: Self = Self { status: EventStatus::Queued, decision: None };
}

/// `{"received":true,"eventId":"evt_...","status":"queued"}`, and the decision where there is one.
pub(crate) fn received(event: ConversionEventId, fate: Option<&Fate>) -> Vec<u8> {
    let mut out = Vec::with_capacity(96);
    out.extend_from_slice(br#"{"received":true,"eventId":"#);
    write(&mut out, &event);
    status_and_decision(&mut out, fate);
    out.push(b'}');
    out
}

/// The answer to a batch: 202 where every event is queued, 207 where some are, and 400, in the shape of
/// an error with `results`, where none is. `fates` are those of the stored items, or none.
pub(crate) fn batch(items: &[Item], fates: &[Fate], id: &RequestName) -> (StatusCode, Vec<u8>) {
    let queued = items.iter().filter(|item| item.is_ok()).count();
    let status = match queued {
        0 => StatusCode::BAD_REQUEST,
        _ if queued == items.len() => StatusCode::ACCEPTED,
        _ => StatusCode::MULTI_STATUS,
    };
    let mut out = Vec::with_capacity(64 + items.len() * 112);
    out.push(b'{');
    if queued == 0 {
        out.extend_from_slice(br#""statusCode":400,"message":"No event is valid.","#);
        out.extend_from_slice(br#""code":"validation_failed","requestId":"#);
        write(&mut out, id.as_str());
        out.push(b',');
    }
    out.extend_from_slice(br#""results":["#);
    let mut fates = fates.iter();
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        out.extend_from_slice(br#"{"index":"#);
        write(&mut out, &index);
        match item {
            Ok(accepted) => stored(&mut out, accepted, fates.next()),
            Err(refused) => rejected(&mut out, refused),
        }
        out.push(b'}');
    }
    out.extend_from_slice(b"]}");
    (status, out)
}

fn stored(out: &mut Vec<u8>, event: &Accepted, fate: Option<&Fate>) {
    out.extend_from_slice(br#","idempotencyKey":"#);
    write(out, &event.idempotency_key);
    out.extend_from_slice(br#","eventId":"#);
    write(out, &event.id);
    status_and_decision(out, fate);
}

fn rejected(out: &mut Vec<u8>, refused: &Refused) {
    if let Some(key) = &refused.idempotency_key {
        out.extend_from_slice(br#","idempotencyKey":"#);
        write(out, key);
    }
    out.extend_from_slice(br#","status":"rejected","errors":"#);
    write::<[Fault]>(out, &refused.faults);
}

fn status_and_decision(out: &mut Vec<u8>, fate: Option<&Fate>) {
    let fate = fate.unwrap_or(&Fate::QUEUED);
    out.extend_from_slice(br#","status":""#);
    out.extend_from_slice(fate.status.as_str().as_bytes());
    out.push(b'"');
    if let Some(decision) = &fate.decision {
        out.extend_from_slice(br#","decision":"#);
        write(out, decision);
    }
}

fn write<T: Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) {
    // Into memory, and of types whose serialization has nothing that fails.
    let _ = serde_json::to_writer(out, value);
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn request_ids_differ() {
        let (ids, others) = (RequestIds::new(1), RequestIds::new(2));
        let all: HashSet<_> = (0..1_000).flat_map(|_| [ids.next(5), others.next(5)]).collect();
        assert_eq!(all.len(), 2_000);
        assert!(ids.next(5) < ids.next(6));
    }

    #[test]
    fn a_request_keeps_the_name_its_client_gave_it() {
        let long = "x".repeat(129);
        let cases: [(&[&str], bool); 6] = [
            (&["trace-1/a"], true),
            (&[&long[1..]], true),
            (&[&long], false),
            (&["with blank"], false),
            (&[""], false),
            (&["a", "b"], false),
        ];
        for (names, is_kept) in cases {
            let mut headers = HeaderMap::new();
            for name in names {
                headers.append(X_REQUEST_ID, name.parse().expect("a value"));
            }
            let made = RequestId::from_u128(1);
            let name = RequestName::of(&headers, || made).to_string();
            let want = if is_kept { names[0].to_owned() } else { made.to_string() };
            assert_eq!(name, want, "{names:?}");
        }
    }

    #[test]
    fn an_error_has_the_headers_of_its_status() {
        let id = RequestId::from_u128(1);
        let refused =
            error(&ApiError::unauthorized("unauthorized", "Send a key."), &RequestName::from(id));
        assert_eq!(refused.headers()[WWW_AUTHENTICATE], "Bearer");
        assert_eq!(refused.headers()[CACHE_CONTROL], "no-store");
        assert_eq!(refused.headers()[X_REQUEST_ID], id.to_string());
        let full = error(&ApiError::unavailable("Full."), &RequestName::from(id));
        assert_eq!(full.headers()[RETRY_AFTER], "1");
    }
}
