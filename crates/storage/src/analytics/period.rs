//! Hours, days, weeks and months of a time zone, as ranges of instants.

use jiff::civil::Date;
use jiff::tz::TimeZone;
use schemas::time::Timestamp;

use super::Granularity;

const HOUR_MS: i64 = 3_600_000;

/// Instants from `start` to before `end`, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Period {
    pub(super) start: i64,
    pub(super) end: i64,
}

impl Period {
    /// The one that `at` lies in. `None` without granularity, and at the end of the calendar.
    pub(super) fn of(at: i64, granularity: Granularity, zone: &TimeZone) -> Option<Self> {
        let date = || zone.to_datetime(Timestamp::from_ms(at).to_jiff()).date();
        let (first, next) = match granularity {
            Granularity::None => return None,
            Granularity::Hour => return Some(hour(at, zone)),
            Granularity::Day => (date(), date().tomorrow().ok()?),
            Granularity::Week => week(date())?,
            Granularity::Month => {
                (date().first_of_month(), date().last_of_month().tomorrow().ok()?)
            }
        };
        Some(Self { start: begin(first, zone)?, end: begin(next, zone)? })
    }
}

/// Monday and the Monday after.
fn week(date: Date) -> Option<(Date, Date)> {
    let since_monday = i64::from(date.weekday().to_monday_zero_offset());
    let monday = date.checked_sub(jiff::Span::new().days(since_monday)).ok()?;
    Some((monday, monday.checked_add(jiff::Span::new().days(7)).ok()?))
}

/// The day's first instant: midnight, the first of two, or where the clock goes over it, after that.
fn begin(date: Date, zone: &TimeZone) -> Option<i64> {
    Some(date.to_zoned_datetime(zone.clone()).ok()?.timestamp().as_millisecond())
}

/// From the last full hour on the clock to the next one, cut where the clock was changed: an hour
/// that comes twice is two, and one that a change shortens is short.
fn hour(at: i64, zone: &TimeZone) -> Period {
    let offset = |at: i64| zone.to_offset(Timestamp::from_ms(at).to_jiff());
    let shift = i64::from(offset(at).seconds()) * 1_000;
    let start = (at + shift).div_euclid(HOUR_MS) * HOUR_MS - shift;
    let end = start + HOUR_MS;
    let changed = |from: i64, to: i64| {
        let mut after = zone.following(Timestamp::from_ms(from).to_jiff());
        after.next().map(|t| t.timestamp().as_millisecond()).filter(|&t| t <= to)
    };
    Period {
        start: if offset(start) == offset(at) {
            start
        } else {
            changed(start, at).unwrap_or(start)
        },
        end: if offset(end - 1) == offset(at) { end } else { changed(at, end).unwrap_or(end) },
    }
}
