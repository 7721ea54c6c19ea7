//! Rate limits: a bucket per key and class, and what the response tells of it.

use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{Bytes, BytesMut};
use engine::admission::{Rate, Taken, take};
use http::header::RETRY_AFTER;
use http::{HeaderMap, HeaderName, HeaderValue};
use schemas::entity::Limits;
use schemas::fault::ApiError;

/// Room for every value that differs from response to response.
const VALUES_LEN: usize = 96;
const MS_NS: u64 = 1_000_000;
const SECOND_NS: u64 = 1_000_000_000;

static POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
static STATE: HeaderName = HeaderName::from_static("ratelimit");
static LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
static REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
static RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");

/// What is counted together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Conversion events, each one of a batch.
    Ingest,
    /// Requests of every other kind.
    Requests,
}

impl Class {
    /// Its name in `RateLimit` headers and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ingest => "ingest",
            Self::Requests => "requests",
        }
    }
}

/// The limits of a caller, with the header values that do not change.
#[derive(Debug)]
pub(crate) struct Quotas {
    ingest: Quota,
    requests: Quota,
}

#[derive(Clone, Debug)]
struct Quota {
    rate: Rate,
    policy: HeaderValue,
    limit: HeaderValue,
}

impl Quotas {
    pub(crate) fn new(limits: &Limits) -> Self {
        let quota = |class, per_second, burst| Quota::new(class, Rate { per_second, burst });
        Self {
            ingest: quota(Class::Ingest, limits.ingest_per_second, limits.ingest_burst),
            requests: quota(Class::Requests, limits.requests_per_second, limits.requests_burst),
        }
    }

    fn of(&self, class: Class) -> &Quota {
        match class {
            Class::Ingest => &self.ingest,
            Class::Requests => &self.requests,
        }
    }
}

impl Quota {
    fn new(class: Class, rate: Rate) -> Self {
        let (name, burst, window) = (class.as_str(), rate.burst.max(1), rate.window_s());
        let policy = format!("\"{name}\";q={burst};w={window}");
        Self { rate, policy: value(Bytes::from(policy)), limit: HeaderValue::from(burst) }
    }
}

/// How full a caller's buckets are: theoretical arrival times in nanoseconds since the epoch.
#[derive(Debug, Default)]
pub(crate) struct Buckets {
    ingest: AtomicU64,
    requests: AtomicU64,
}

impl Buckets {
    pub(crate) fn admit(&self, quotas: &Quotas, class: Class, cost: u32, now_ms: i64) -> Admission {
        let quota = quotas.of(class);
        let bucket = match class {
            Class::Ingest => &self.ingest,
            Class::Requests => &self.requests,
        };
        let now_ns = u64::try_from(now_ms).unwrap_or(0).saturating_mul(MS_NS);
        let taken = take_from(bucket, now_ns, quota.rate, cost);
        Admission::new(class, quota, taken, now_ns)
    }
}

fn take_from(bucket: &AtomicU64, now_ns: u64, rate: Rate, cost: u32) -> Taken {
    let mut tat = bucket.load(Ordering::Relaxed);
    loop {
        let taken = take(tat, now_ns, rate, cost);
        if !taken.allowed {
            return taken;
        }
        let swapped =
            bucket.compare_exchange_weak(tat, taken.tat_ns, Ordering::Relaxed, Ordering::Relaxed);
        match swapped {
            Ok(_) => return taken,
            Err(changed) => tat = changed,
        }
    }
}

/// Whether a request goes on, and how much the caller has left.
#[derive(Clone, Debug)]
pub struct Admission {
    /// Whether it goes on.
    pub allowed: bool,
    /// What was counted.
    pub class: Class,
    /// Tokens at most: the burst.
    pub limit: u32,
    /// Tokens left.
    pub remaining: u32,
    /// Seconds until there are more, rounded up; 0 where there is nothing to wait for. Where the
    /// request was refused, seconds until it would not be.
    pub reset_s: u32,
    /// Seconds for `Retry-After`, at least 1; `None` where the request goes on.
    pub retry_after_s: Option<u32>,
    reset_epoch_s: u64,
    policy: HeaderValue,
    limit_value: HeaderValue,
}

impl Admission {
    fn new(class: Class, quota: &Quota, taken: Taken, now_ns: u64) -> Self {
        let seconds = u32::try_from(taken.wait_ns.div_ceil(SECOND_NS)).unwrap_or(u32::MAX);
        Self {
            allowed: taken.allowed,
            class,
            limit: quota.rate.burst.max(1),
            remaining: taken.remaining,
            reset_s: seconds,
            retry_after_s: (!taken.allowed).then_some(seconds.max(1)),
            reset_epoch_s: now_ns.saturating_add(taken.wait_ns).div_ceil(SECOND_NS),
            policy: quota.policy.clone(),
            limit_value: quota.limit.clone(),
        }
    }

    /// Writes both families of rate limit headers: `RateLimit-Policy` and `RateLimit` of
    /// draft-ietf-httpapi-ratelimit-headers-10, `X-RateLimit-*` with the reset in epoch seconds; and
    /// `Retry-After` where the request was refused.
    pub fn headers(&self, headers: &mut HeaderMap) {
        let mut values = BytesMut::with_capacity(VALUES_LEN);
        let mut put = |arguments: std::fmt::Arguments<'_>| {
            // Writing to memory cannot fail.
            let _ = std::fmt::Write::write_fmt(&mut values, arguments);
            values.len()
        };
        let (name, remaining, reset_s) = (self.class.as_str(), self.remaining, self.reset_s);
        let state = put(format_args!("\"{name}\";r={remaining};t={reset_s}"));
        let left = put(format_args!("{remaining}"));
        let reset = put(format_args!("{}", self.reset_epoch_s));
        let values = values.freeze();
        headers.insert(&POLICY, self.policy.clone());
        headers.insert(&STATE, value(values.slice(..state)));
        headers.insert(&LIMIT, self.limit_value.clone());
        headers.insert(&REMAINING, value(values.slice(state..left)));
        headers.insert(&RESET, value(values.slice(left..reset)));
        if let Some(seconds) = self.retry_after_s {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
    }

    /// The refusal, where it was one.
    ///
    /// # Errors
    /// 429 `rate_limited` with the seconds to wait.
    pub fn check(&self) -> Result<(), ApiError> {
        let Some(seconds) = self.retry_after_s else { return Ok(()) };
        let message = format!("Too many requests; try again in {seconds} s.");
        let refused = ApiError::new(429, "rate_limited", message);
        Err(ApiError { retry_after_s: Some(seconds), ..refused })
    }
}

/// `bytes` as a header value, without a copy.
fn value(bytes: Bytes) -> HeaderValue {
    // Digits, letters and punctuation only, all of which a header can hold.
    HeaderValue::from_maybe_shared(bytes).unwrap_or(HeaderValue::from_static(""))
}
