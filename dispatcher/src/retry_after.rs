//! Reads `Retry-After` (RFC 9110, 10.2.3) as a floor for the next attempt, and nothing more.

/// A receiver may ask for at most this long, in milliseconds (10 h).
pub const HINT_MAX_MS: i64 = 10 * 3_600_000;

/// How long the receiver asks us to wait, in milliseconds, at most [`HINT_MAX_MS`].
///
/// Taken: whole seconds of 1 to 9 digits, and dates in the one current form (IMF-fixdate); a date
/// in the past asks for nothing. Anything else is ignored: a hint must never break a delivery.
pub fn hint_ms(value: &[u8], now_ms: i64) -> Option<i64> {
    let text = std::str::from_utf8(value).ok()?;
    let wait = seconds(text).or_else(|| Some(date_ms(text)?.saturating_sub(now_ms).max(0)))?;
    Some(wait.min(HINT_MAX_MS))
}

fn seconds(text: &str) -> Option<i64> {
    let plain = (1..=9).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    plain.then(|| text.parse::<i64>().ok()).flatten().map(|s| s * 1_000)
}

/// Milliseconds since the epoch of `Sun, 06 Nov 1994 08:49:37 GMT`.
fn date_ms(text: &str) -> Option<i64> {
    if text.len() != "Sun, 06 Nov 1994 08:49:37 GMT".len() {
        return None;
    }
    let time = jiff::fmt::strtime::parse("%a, %d %b %Y %H:%M:%S GMT", text).ok()?;
    // By duration, because the last day that the form can name has no instant in every zone.
    let since =
        time.to_datetime().ok()?.duration_since(jiff::civil::date(1970, 1, 1).at(0, 0, 0, 0));
    i64::try_from(since.as_millis()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sun, 06 Nov 1994 08:49:37 GMT.
    const NOW: i64 = 784_111_777_000;

    #[test]
    fn only_the_two_current_forms() {
        let cases: &[(&str, Option<i64>)] = &[
            ("0", Some(0)),
            ("120", Some(120_000)),
            ("000000007", Some(7_000)),
            ("999999999", Some(HINT_MAX_MS)),
            ("1234567890", None),
            ("", None),
            (" 5", None),
            ("+5", None),
            ("-1", None),
            ("1.5", None),
            ("1e300", None),
            ("inf", None),
            ("NaN", None),
            ("٥", None),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(0)),
            ("Sun, 06 Nov 1994 08:50:37 GMT", Some(60_000)),
            ("Sun, 06 Nov 1994 07:00:00 GMT", Some(0)),
            ("Fri, 31 Dec 9999 23:59:59 GMT", Some(HINT_MAX_MS)),
            ("Mon, 06 Nov 1994 08:50:37 GMT", None),
            ("Sun, 06 Nov 1994 08:50:37 CET", None),
            ("Sun, 31 Feb 1994 08:50:37 GMT", None),
            ("Sunday, 06-Nov-94 08:49:37 GMT", None),
            ("Sun Nov  6 08:49:37 1994", None),
            ("tomorrow", None),
        ];
        for (text, want) in cases {
            assert_eq!(hint_ms(text.as_bytes(), NOW), *want, "{text:?}");
        }
        assert_eq!(hint_ms(&[0xff, b'5'], NOW), None);
    }
}
