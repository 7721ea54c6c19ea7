//! When a webhook delivery is tried again: pure arithmetic.

/// Seconds to wait before each attempt, after the one before: the first goes out at once.
pub const WAITS_S: [i64; 10] = [0, 5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400];
/// The least that jitter adds to a retry, in milliseconds.
const JITTER_MIN_MS: i64 = 1_000;
/// The most that jitter adds to a retry, in milliseconds.
const JITTER_MAX_MS: i64 = 15 * 60 * 1_000;
/// Jitter spreads over this part of the wait, in percent.
const JITTER_PERCENT: i64 = 20;

/// When the next attempt is due, in milliseconds since the epoch, after attempt number `attempt`
/// (from 1) failed at `now_ms`; `None` where it was the last.
///
/// The wait grows by `random` (all of its range used) between 0 and 20 %, at least 1 s and at most
/// 15 min, so that receivers that failed together are not tried together. It is never shorter than
/// `retry_after_ms`, which the receiver asked for.
pub fn next_attempt_ms(
    attempt: u32,
    now_ms: i64,
    random: u32,
    retry_after_ms: Option<i64>,
) -> Option<i64> {
    let wait_ms = WAITS_S.get(usize::try_from(attempt).ok()?)? * 1_000;
    let spread_ms = wait_ms * JITTER_PERCENT / 100;
    let part_ms = (i128::from(spread_ms) * i128::from(random) / i128::from(u32::MAX)) as i64;
    let jittered_ms = wait_ms + part_ms.clamp(JITTER_MIN_MS, JITTER_MAX_MS);
    Some(now_ms.saturating_add(jittered_ms.max(retry_after_ms.unwrap_or(0))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits() {
        // Attempt that failed, random, Retry-After in s, wait in ms.
        let cases = [
            (1, 0, None, Some(6_000)),
            (1, u32::MAX, None, Some(6_000)),
            (2, 0, None, Some(301_000)),
            (2, u32::MAX, None, Some(360_000)),
            (9, u32::MAX, None, Some(86_400_000 + 900_000)),
            (1, 0, Some(60), Some(60_000)),
            (2, 0, Some(60), Some(301_000)),
            (10, 0, None, None),
            (u32::MAX, 0, None, None),
        ];
        for (attempt, random, retry_after_s, want) in cases {
            let retry_after_ms = retry_after_s.map(|s: i64| s * 1_000);
            let got = next_attempt_ms(attempt, 0, random, retry_after_ms);
            assert_eq!(got, want, "attempt {attempt}, random {random}");
        }
    }
}
