//! What an attempt came to, and what follows from it for its delivery. Pure.
//!
//! | Answer | Result | Next |
//! | --- | --- | --- |
//! | 2xx | `delivered` | done |
//! | 410 | `gone` | done; the endpoint is disabled |
//! | 3xx | `redirect` | retry; redirects are not followed |
//! | 408, 425, 429, 502, 503, 504 | `overload` | retry after at least a minute |
//! | no answer in time | `timeout` | retry after at least a minute |
//! | any other status | `http_status` | retry |
//! | no answer | `dns`, `connect`, `reset`, `tls`, `blocked_target`, `protocol` | retry |
//!
//! A delivery has ten attempts and at most [`AGE_MAX_MS`]. Where its turn comes later than that,
//! because its receiver is too slow for all that waits or asked for long pauses, it is `exhausted`
//! without a further attempt, and no attempt is set for later than that: what waits for a dead
//! receiver does not grow for ever.

use engine::schedule;
use schemas::id::DeliveryId;
use schemas::proto::{DeliveryAttempt, DeliveryRow};

use crate::lanes::Pressure;
use crate::rows;

/// What outages of ours may add to a delivery's schedule, in milliseconds.
const OUTAGES_MS: i64 = 3 * 3_600_000;

/// How old a pending delivery may become, in milliseconds: every wait of the schedule, 75 h 35 m
/// 05 s; 15 min for each, the most that jitter adds; and 3 h, so that a short outage of ours costs
/// nobody an attempt. Together 80 h 50 m 05 s.
pub const AGE_MAX_MS: i64 = {
    let (mut sum_ms, mut i) = (OUTAGES_MS, 1);
    while i < schedule::WAITS_S.len() {
        sum_ms += schedule::WAITS_S[i] * 1_000 + 15 * 60_000;
        i += 1;
    }
    sum_ms
};

/// A receiver that is overloaded is left alone for this long, in milliseconds.
const OVERLOAD_PAUSE_MS: i64 = 60_000;
/// The most that is added to that.
const OVERLOAD_SPREAD_MS: i64 = 12_000;

/// Bytes of a response body that are kept with the attempt.
pub const RESPONSE_HEAD_MAX: usize = 4_096;

/// What a receiver answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The value of `Retry-After`, as it came.
    pub retry_after: Option<Vec<u8>>,
    /// The beginning of the body.
    pub body: Vec<u8>,
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoAnswer {
    /// The whole attempt, or its connection, took too long.
    #[error("no answer in time")]
    Timeout,
    /// The name has no address, or could not be asked for.
    #[error("the host name could not be resolved")]
    Dns,
    /// The URL or an address behind it is not one that webhooks may go to.
    #[error("the target is not one that webhooks may go to")]
    BlockedTarget,
    /// No connection.
    #[error("the connection could not be made")]
    Connect,
    /// No TLS session.
    #[error("the TLS session could not be made")]
    Tls,
    /// The connection broke before the answer.
    #[error("the connection broke")]
    Reset,
    /// What came back is not HTTP, or too long in its headers.
    #[error("the answer is not HTTP")]
    Protocol,
    /// A connection kept from earlier closed before a byte of the request was written: the receiver
    /// has not failed, and the attempt does not count.
    #[error("the kept connection had been closed")]
    Unsent,
    /// Too many other names were being looked up: the fault is ours, and the attempt does not count.
    #[error("too many names are being looked up")]
    Busy,
}

/// What an attempt came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttemptResult {
    /// 2xx.
    Delivered,
    /// 410.
    Gone,
    /// 3xx.
    Redirect,
    /// A status that asks for a pause.
    Overload,
    /// Any other status.
    HttpStatus,
    /// No answer in time.
    Timeout,
    /// The name did not resolve.
    Dns,
    /// No connection.
    Connect,
    /// The connection broke.
    Reset,
    /// No TLS session.
    Tls,
    /// Not a permitted target.
    BlockedTarget,
    /// Not HTTP.
    Protocol,
}

impl AttemptResult {
    /// As stored, shown and counted.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Gone => "gone",
            Self::Redirect => "redirect",
            Self::Overload => "overload",
            Self::HttpStatus => "http_status",
            Self::Timeout => "timeout",
            Self::Dns => "dns",
            Self::Connect => "connect",
            Self::Reset => "reset",
            Self::Tls => "tls",
            Self::BlockedTarget => "blocked_target",
            Self::Protocol => "protocol",
        }
    }

    /// What `answer` comes to; see the table of this module. A connection that was closed before
    /// the request counts as broken, a name that could not be looked up as not resolved.
    pub fn of(answer: &Result<Answer, NoAnswer>) -> Self {
        match answer {
            Ok(answer) => Self::of_status(answer.status),
            Err(NoAnswer::Timeout) => Self::Timeout,
            Err(NoAnswer::Dns | NoAnswer::Busy) => Self::Dns,
            Err(NoAnswer::BlockedTarget) => Self::BlockedTarget,
            Err(NoAnswer::Connect) => Self::Connect,
            Err(NoAnswer::Tls) => Self::Tls,
            Err(NoAnswer::Reset | NoAnswer::Unsent) => Self::Reset,
            Err(NoAnswer::Protocol) => Self::Protocol,
        }
    }

    fn of_status(status: u16) -> Self {
        match status {
            200..=299 => Self::Delivered,
            300..=399 => Self::Redirect,
            410 => Self::Gone,
            408 | 425 | 429 | 502 | 503 | 504 => Self::Overload,
            _ => Self::HttpStatus,
        }
    }

    /// What it says of how much the receiver takes at once.
    pub const fn pressure(self) -> Pressure {
        match self {
            Self::Delivered => Pressure::Ease,
            Self::Overload | Self::Timeout | Self::Connect | Self::Dns | Self::Tls => {
                Pressure::Back
            }
            _ => Pressure::Keep,
        }
    }

    /// Is the receiver to be left alone for a while?
    const fn asks_for_pause(self) -> bool {
        matches!(self, Self::Overload | Self::Timeout)
    }
}

/// Is a delivery made at `created_at_ms` too old at `now_ms` for another attempt? Both are
/// milliseconds since the epoch.
pub const fn is_too_old(created_at_ms: i64, now_ms: i64) -> bool {
    now_ms.saturating_sub(created_at_ms) > AGE_MAX_MS
}

/// An attempt that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// When it began, milliseconds since the epoch.
    pub started_at_ms: i64,
    /// When it ended.
    pub ended_at_ms: i64,
    /// What came back.
    pub answer: Result<Answer, NoAnswer>,
}

/// Writes the attempt into its delivery, and decides what is next: `row.status` and `row.due_at_ms`
/// say it. The jitter of the next attempt comes from `random`.
///
/// The next attempt is due after the schedule's delay and jitter, and not before the receiver's
/// `Retry-After`, counted from the end of this one. Where the delivery would then be too old, there
/// is none.
pub fn settle(
    delivery: DeliveryId,
    row: &mut DeliveryRow,
    ended: Ended,
    random: u32,
) -> AttemptResult {
    let result = AttemptResult::of(&ended.answer);
    let number = u32::try_from(row.attempts.len()).unwrap_or(u32::MAX).saturating_add(1);
    let next = match result {
        AttemptResult::Delivered | AttemptResult::Gone => None,
        _ => {
            let floor_ms = floor_ms(result, &ended, random);
            schedule::next_attempt_ms(number, ended.ended_at_ms, random, floor_ms)
                .filter(|due_at_ms| !is_too_old(row.created_at_ms, *due_at_ms))
        }
    };
    row.due_at_ms = next.unwrap_or(0);
    row.status = match (result, next) {
        (AttemptResult::Delivered, _) => rows::DELIVERED,
        (_, Some(_)) => rows::PENDING,
        (_, None) => rows::EXHAUSTED,
    }
    .to_owned();
    let status_code = ended.answer.as_ref().ok().map(|answer| answer.status.into());
    row.attempts.push(DeliveryAttempt {
        id: rows::attempt_id(delivery, number).to_proto(),
        number,
        started_at_ms: ended.started_at_ms,
        duration_ms: ended.ended_at_ms.saturating_sub(ended.started_at_ms).max(0),
        result: result.as_str().to_owned(),
        status_code,
        response_head: ended.answer.map(|answer| head(&answer.body)).unwrap_or_default(),
        next_attempt_at_ms: row.due_at_ms,
    });
    result
}

/// The least that the receiver is left alone, in milliseconds: what it asked for, and a pause where
/// it is overloaded, spread so that what failed together is not tried together.
fn floor_ms(result: AttemptResult, ended: &Ended, random: u32) -> Option<i64> {
    let spread_ms = i64::from(random) * OVERLOAD_SPREAD_MS / i64::from(u32::MAX);
    let pause = result.asks_for_pause().then_some(OVERLOAD_PAUSE_MS + spread_ms);
    let hint = ended.answer.as_ref().ok().and_then(|answer| answer.retry_after.as_deref());
    hint.and_then(|value| crate::retry_after::hint_ms(value, ended.ended_at_ms)).max(pause)
}

/// The beginning of a body as text; what is not UTF-8 is replaced.
fn head(body: &[u8]) -> String {
    let mut text = String::from_utf8_lossy(&body[..body.len().min(RESPONSE_HEAD_MAX)]).into_owned();
    // Replacing one bad byte takes three.
    let end = (0..=RESPONSE_HEAD_MAX.min(text.len())).rev().find(|at| text.is_char_boundary(*at));
    text.truncate(end.unwrap_or(0));
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn answered(status: u16, retry_after: Option<&str>) -> Result<Answer, NoAnswer> {
        let retry_after = retry_after.map(|value| value.as_bytes().to_vec());
        Ok(Answer { status, retry_after, body: b"why".to_vec() })
    }

    fn ended(answer: Result<Answer, NoAnswer>) -> Ended {
        Ended { started_at_ms: 1_000, ended_at_ms: 1_250, answer }
    }

    #[test]
    fn what_each_answer_leads_to() {
        // Answer, result, status, when it is due again.
        let cases = [
            (answered(200, None), "delivered", "delivered", 0),
            (answered(299, Some("60")), "delivered", "delivered", 0),
            (answered(410, Some("60")), "gone", "exhausted", 0),
            (answered(304, None), "redirect", "pending", 7_250),
            (answered(400, None), "http_status", "pending", 7_250),
            (answered(501, Some("8")), "http_status", "pending", 9_250),
            (answered(429, None), "overload", "pending", 61_250),
            (answered(503, Some("90")), "overload", "pending", 91_250),
            (answered(199, None), "http_status", "pending", 7_250),
            (Err(NoAnswer::Timeout), "timeout", "pending", 61_250),
            (Err(NoAnswer::Dns), "dns", "pending", 7_250),
            (Err(NoAnswer::Connect), "connect", "pending", 7_250),
            (Err(NoAnswer::Tls), "tls", "pending", 7_250),
            (Err(NoAnswer::Reset), "reset", "pending", 7_250),
            (Err(NoAnswer::Unsent), "reset", "pending", 7_250),
            (Err(NoAnswer::Protocol), "protocol", "pending", 7_250),
            (Err(NoAnswer::BlockedTarget), "blocked_target", "pending", 7_250),
        ];
        for (answer, result, status, due_at_ms) in cases {
            let mut row = DeliveryRow::default();
            let got = settle(DeliveryId::from_u128(1), &mut row, ended(answer.clone()), 0);
            assert_eq!((got.as_str(), row.status.as_str()), (result, status), "{answer:?}");
            assert_eq!(row.due_at_ms, due_at_ms, "{answer:?}");
            let attempt = &row.attempts[0];
            assert_eq!((attempt.number, attempt.duration_ms), (1, 250));
            assert_eq!(attempt.next_attempt_at_ms, due_at_ms);
            assert_eq!(attempt.status_code, answer.as_ref().ok().map(|a| a.status.into()));
            assert_eq!(attempt.response_head.is_empty(), answer.is_err());
        }
    }

    #[test]
    fn no_attempt_is_set_for_when_the_delivery_is_too_old() {
        for (age_ms, want) in [(AGE_MAX_MS - 7_000, "pending"), (AGE_MAX_MS, "exhausted")] {
            let now_ms = 5_000 + age_ms;
            let mut row = DeliveryRow { created_at_ms: 5_000, ..DeliveryRow::default() };
            let answer = answered(500, None);
            let ended = Ended { started_at_ms: now_ms, ended_at_ms: now_ms, answer };
            settle(DeliveryId::from_u128(1), &mut row, ended, 0);
            assert_eq!((row.status.as_str(), row.due_at_ms == 0), (want, want == "exhausted"));
        }
        assert_eq!(AGE_MAX_MS, 272_105_000 + 9 * 900_000 + 10_800_000);
    }

    proptest! {
        #[test]
        fn any_answer_ends_within_ten_attempts(
            status in 300u16..=999,
            retry_after in proptest::option::of(".{0,40}"),
            random: u32,
            body in proptest::collection::vec(any::<u8>(), 0..9_000),
        ) {
            let mut row = DeliveryRow { status: rows::PENDING.into(), ..DeliveryRow::default() };
            let has_hint = retry_after.is_some();
            let answer = Answer { status, retry_after: retry_after.map(Into::into), body };
            let mut now_ms = 0;
            while row.status == rows::PENDING {
                let ended =
                    Ended { started_at_ms: now_ms, ended_at_ms: now_ms, answer: Ok(answer.clone()) };
                settle(DeliveryId::from_u128(1), &mut row, ended, random);
                let head = &row.attempts.last().expect("one more").response_head;
                prop_assert!(head.len() <= RESPONSE_HEAD_MAX);
                if row.status == rows::PENDING {
                    prop_assert!(row.due_at_ms > now_ms);
                    prop_assert!(row.due_at_ms - now_ms <= 86_400_000 + 900_000);
                    now_ms = row.due_at_ms;
                }
            }
            prop_assert_eq!(&row.status, rows::EXHAUSTED);
            // Long pauses that the receiver asks for use up the age, not the attempts.
            let attempts = if status == 410 { 1 } else { 10 };
            prop_assert!(row.attempts.len() <= attempts);
            prop_assert!(has_hint || row.attempts.len() == attempts);
        }
    }
}
