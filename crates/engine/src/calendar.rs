//! Calendar buckets: which day or month of a rulebook's zone an instant falls into.

use jiff::Span;
use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use schemas::proto;
use schemas::time::Timestamp;

/// How long a cap, a tier's metric or a uniqueness slot lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Period {
    /// For ever.
    Lifetime,
    /// A local calendar day.
    Day,
    /// A local calendar month.
    Month,
    /// A local week of ISO 8601: Monday to Sunday.
    Week,
    /// Three local calendar months: January to March, and so on.
    Quarter,
    /// A local calendar year.
    Year,
    /// So many local calendar days, the event's own the last of them.
    Rolling(u16),
}

/// One day, one month, ..., or all time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bucket {
    /// Which kind of bucket.
    pub period: Period,
    /// Days since 1970-01-01, weeks since Monday 1969-12-29, months, quarters or years since 1970, local; 0
    /// for lifetime; the number of days of a rolling window, whose days are told apart in its row.
    pub index: i32,
}

/// The local calendar date of one instant.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LocalDate {
    /// Since 1970-01-01.
    pub(crate) day: i32,
    /// Since January 1970.
    month: i32,
}

pub(crate) const DAY_MS: i64 = 86_400_000;

/// The local date and time of an instant in `zone`, and its offset from UTC in milliseconds. The zone's
/// offset at the instant decides, so days of 23 and 25 hours need no care.
pub(crate) fn local(zone: &TimeZone, at_ms: i64) -> (DateTime, i64) {
    let at = Timestamp::from_ms(at_ms).to_jiff();
    let offset = zone.to_offset(at);
    (offset.to_datetime(at), i64::from(offset.seconds()) * 1_000)
}

impl LocalDate {
    /// The date in `zone` at `at_ms`.
    pub(crate) fn of(zone: &TimeZone, at_ms: i64) -> Self {
        let (local, offset_ms) = local(zone, at_ms);
        let local_ms = Timestamp::from_ms(at_ms).as_ms() + offset_ms;
        Self {
            day: i32::try_from(local_ms.div_euclid(DAY_MS)).unwrap_or(i32::MAX),
            month: (i32::from(local.year()) - 1970) * 12 + i32::from(local.month()) - 1,
        }
    }

    /// The bucket of `period` that this date is in.
    pub(crate) const fn bucket(self, period: Period) -> Bucket {
        let index = match period {
            Period::Lifetime => 0,
            Period::Day => self.day,
            // 1970-01-01 was a Thursday.
            Period::Week => (self.day + 3).div_euclid(7),
            Period::Month => self.month,
            Period::Quarter => self.month.div_euclid(3),
            Period::Year => self.month.div_euclid(12),
            Period::Rolling(days) => days as i32,
        };
        Bucket { period, index }
    }
}

/// When the bucket after the one of `at_ms` begins in `zone`, in milliseconds since the epoch; `None` for periods
/// that never begin anew.
pub(crate) fn next_bucket_ms(zone: &TimeZone, period: Period, at_ms: i64) -> Option<i64> {
    let date = local(zone, at_ms).0.date();
    let months = |len: i8| {
        let month = (date.month() - 1) / len * len;
        Date::new(date.year(), month + 1, 1).ok()?.checked_add(Span::new().months(len)).ok()
    };
    let next = match period {
        Period::Lifetime | Period::Rolling(_) => None,
        Period::Day => date.tomorrow().ok(),
        Period::Week => {
            let days = 8 - date.weekday().to_monday_one_offset();
            date.checked_add(Span::new().days(days)).ok()
        }
        Period::Month => months(1),
        Period::Quarter => months(3),
        Period::Year => months(12),
    };
    Some(zone.to_timestamp(next?.at(0, 0, 0, 0)).ok()?.as_millisecond())
}

impl Period {
    pub(crate) const fn to_proto(self) -> proto::CapPeriod {
        match self {
            Self::Lifetime => proto::CapPeriod::Lifetime,
            Self::Day => proto::CapPeriod::Day,
            Self::Week => proto::CapPeriod::Week,
            Self::Month => proto::CapPeriod::Month,
            Self::Quarter => proto::CapPeriod::Quarter,
            Self::Year => proto::CapPeriod::Year,
            Self::Rolling(_) => proto::CapPeriod::Rolling,
        }
    }

    /// `bucket` is that of a use, which of a rolling window is its number of days.
    pub(crate) fn of(period: proto::CapPeriod, bucket: i32) -> Self {
        match period {
            proto::CapPeriod::Day => Self::Day,
            proto::CapPeriod::Week => Self::Week,
            proto::CapPeriod::Month => Self::Month,
            proto::CapPeriod::Quarter => Self::Quarter,
            proto::CapPeriod::Year => Self::Year,
            proto::CapPeriod::Rolling => Self::Rolling(u16::try_from(bucket).unwrap_or(1)),
            proto::CapPeriod::Lifetime | proto::CapPeriod::Unspecified => Self::Lifetime,
        }
    }

    const fn order(self) -> u8 {
        match self {
            Self::Lifetime => 0,
            Self::Day => 1,
            Self::Month => 2,
            Self::Week => 3,
            Self::Quarter => 4,
            Self::Year => 5,
            Self::Rolling(_) => 6,
        }
    }
}

impl Bucket {
    /// Five bytes that sort by period, then by time. Stable for ever.
    pub(crate) const fn to_bytes(self) -> [u8; 5] {
        let [a, b, c, d] = ((self.index as u32) ^ (1 << 31)).to_be_bytes();
        [self.period.order(), a, b, c, d]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_dates() {
        // Zone, instant, days since 1970-01-01, months since 1970-01.
        let cases = [
            ("UTC", "1970-01-01T00:00:00Z", 0, 0),
            ("UTC", "1969-12-31T23:59:59.999Z", -1, -1),
            ("America/New_York", "1970-01-01T04:59:59Z", -1, -1),
            ("America/New_York", "1970-01-01T05:00:00Z", 0, 0),
            // The day summer time ends has 25 hours.
            ("Europe/Berlin", "2026-10-24T22:00:00Z", 20_751, 681),
            ("Europe/Berlin", "2026-10-25T22:59:59Z", 20_751, 681),
            ("Europe/Berlin", "2026-10-25T23:00:00Z", 20_752, 681),
            ("Pacific/Kiritimati", "2025-12-31T10:00:00Z", 20_454, 672),
            ("UTC", "0000-01-01T00:00:00Z", -719_528, -23_640),
        ];
        for (zone, at, day, month) in cases {
            let zone = TimeZone::get(zone).expect("bundled");
            let at: Timestamp = at.parse().expect("an instant");
            let date = LocalDate::of(&zone, at.as_ms());
            assert_eq!((date.day, date.month), (day, month), "{at}");
        }
    }

    #[test]
    fn weeks_quarters_and_years() {
        // Instant (UTC), index of its week, quarter and year.
        let cases = [
            ("1970-01-01T00:00:00Z", 0, 0, 0),
            ("1970-01-04T23:59:59Z", 0, 0, 0),
            ("1970-01-05T00:00:00Z", 1, 0, 0),
            ("1969-12-28T23:59:59Z", -1, -1, -1),
            ("2026-03-31T23:59:59Z", 2_935, 224, 56),
            ("2026-04-01T00:00:00Z", 2_935, 225, 56),
            ("2026-04-06T00:00:00Z", 2_936, 225, 56),
            // Week 53 of 2026 reaches into 2027.
            ("2026-12-28T00:00:00Z", 2_974, 227, 56),
            ("2027-01-03T23:59:59Z", 2_974, 228, 57),
        ];
        for (at, week, quarter, year) in cases {
            let at: Timestamp = at.parse().expect("an instant");
            let date = LocalDate::of(&TimeZone::UTC, at.as_ms());
            let indexes =
                [Period::Week, Period::Quarter, Period::Year].map(|p| date.bucket(p).index);
            assert_eq!(indexes, [week, quarter, year], "{at}");
        }
    }

    #[test]
    fn the_next_bucket_begins_where_the_local_one_ends() {
        let cases = [
            ("UTC", Period::Day, "2026-03-10T12:00:00Z", Some("2026-03-11T00:00:00Z")),
            ("Europe/Berlin", Period::Day, "2026-10-24T22:00:00Z", Some("2026-10-25T23:00:00Z")),
            ("UTC", Period::Week, "2026-03-09T00:00:00Z", Some("2026-03-16T00:00:00Z")),
            ("UTC", Period::Week, "2026-03-15T23:59:59Z", Some("2026-03-16T00:00:00Z")),
            ("UTC", Period::Month, "2026-12-31T23:00:00Z", Some("2027-01-01T00:00:00Z")),
            (
                "America/New_York",
                Period::Month,
                "2026-04-01T02:00:00Z",
                Some("2026-04-01T04:00:00Z"),
            ),
            ("UTC", Period::Quarter, "2026-05-31T00:00:00Z", Some("2026-07-01T00:00:00Z")),
            ("UTC", Period::Year, "2026-01-01T00:00:00Z", Some("2027-01-01T00:00:00Z")),
            ("UTC", Period::Lifetime, "2026-01-01T00:00:00Z", None),
            ("UTC", Period::Rolling(7), "2026-01-01T00:00:00Z", None),
        ];
        for (zone, period, at, next) in cases {
            let zone = TimeZone::get(zone).expect("bundled");
            let ms = |text: &str| text.parse::<Timestamp>().expect("an instant").as_ms();
            assert_eq!(next_bucket_ms(&zone, period, ms(at)), next.map(ms), "{period:?} {at}");
        }
    }

    #[test]
    fn buckets_sort_by_time() {
        let bytes = |index| Bucket { period: Period::Day, index }.to_bytes();
        assert!(bytes(i32::MIN) < bytes(-1) && bytes(-1) < bytes(0) && bytes(0) < bytes(i32::MAX));
    }
}
