//! Calendar buckets: which day or month of a rulebook's zone an instant falls into.

use jiff::tz::TimeZone;
use schemas::proto;
use schemas::time::Timestamp;

/// How long a cap or a uniqueness slot lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Period {
    /// For ever.
    Lifetime,
    /// A local calendar day.
    Day,
    /// A local calendar month.
    Month,
}

/// One day, one month, or all time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bucket {
    /// Which kind of bucket.
    pub period: Period,
    /// Days since 1970-01-01 or months since 1970-01, local; 0 for lifetime.
    pub index: i32,
}

/// The local calendar date of one instant.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LocalDate {
    day: i32,
    month: i32,
}

const DAY_MS: i64 = 86_400_000;

impl LocalDate {
    /// The date in `zone` at `at_ms`. The zone's offset at the instant decides, so days of 23 and 25
    /// hours need no care.
    pub(crate) fn of(zone: &TimeZone, at_ms: i64) -> Self {
        let at = Timestamp::from_ms(at_ms).to_jiff();
        let offset = zone.to_offset(at);
        let date = offset.to_datetime(at).date();
        let local_ms = at.as_millisecond() + i64::from(offset.seconds()) * 1_000;
        Self {
            day: i32::try_from(local_ms.div_euclid(DAY_MS)).unwrap_or(i32::MAX),
            month: (i32::from(date.year()) - 1970) * 12 + i32::from(date.month()) - 1,
        }
    }

    /// The bucket of `period` that this date is in.
    pub(crate) const fn bucket(self, period: Period) -> Bucket {
        let index = match period {
            Period::Lifetime => 0,
            Period::Day => self.day,
            Period::Month => self.month,
        };
        Bucket { period, index }
    }
}

impl Period {
    /// As rulebooks write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Lifetime => "lifetime",
            Self::Day => "day",
            Self::Month => "month",
        }
    }

    pub(crate) const fn to_proto(self) -> proto::CapPeriod {
        match self {
            Self::Lifetime => proto::CapPeriod::Lifetime,
            Self::Day => proto::CapPeriod::Day,
            Self::Month => proto::CapPeriod::Month,
        }
    }
}

impl Bucket {
    /// Five bytes that sort by period, then by time.
    pub(crate) const fn to_bytes(self) -> [u8; 5] {
        let period = match self.period {
            Period::Lifetime => 0,
            Period::Day => 1,
            Period::Month => 2,
        };
        let [a, b, c, d] = ((self.index as u32) ^ (1 << 31)).to_be_bytes();
        [period, a, b, c, d]
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
    fn buckets_sort_by_time() {
        let bytes = |index| Bucket { period: Period::Day, index }.to_bytes();
        assert!(bytes(i32::MIN) < bytes(-1) && bytes(-1) < bytes(0) && bytes(0) < bytes(i32::MAX));
    }
}
