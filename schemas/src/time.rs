//! Instants as milliseconds since the Unix epoch (UTC), and their one text form.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// An instant: milliseconds since 1970-01-01T00:00:00Z. Text: RFC 3339 with milliseconds and `Z`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

/// The text is not RFC 3339.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be an RFC 3339 time with a zone, like 2026-01-02T03:04:05.678Z")]
pub struct ParseTimestampError;

impl Timestamp {
    /// The first instant with a four-digit year, 0000-01-01T00:00:00Z.
    pub const MIN: Self = Self(-62_167_219_200_000);
    /// The last instant with a four-digit year, 9999-12-31T23:59:59.999Z, less a day so that every
    /// zone can show it.
    pub const MAX: Self = Self(253_402_214_399_999);

    /// From milliseconds since the epoch.
    pub const fn from_ms(ms: i64) -> Self {
        Self(ms)
    }

    /// Milliseconds since the epoch.
    pub const fn as_ms(self) -> i64 {
        self.0
    }

    /// As jiff's type, clamped to what it can hold.
    pub fn to_jiff(self) -> jiff::Timestamp {
        let ms = self.0.clamp(Self::MIN.0, Self::MAX.0);
        jiff::Timestamp::from_millisecond(ms).unwrap_or(jiff::Timestamp::UNIX_EPOCH)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3}", self.to_jiff())
    }
}

impl FromStr for Timestamp {
    type Err = ParseTimestampError;

    /// Finer than a millisecond is cut off.
    fn from_str(text: &str) -> Result<Self, ParseTimestampError> {
        // jiff also reads a blank for the `T` and other liberties that RFC 3339 users do not expect.
        let strict = text.len() >= 20 && text.as_bytes()[10].eq_ignore_ascii_case(&b'T');
        let parsed: jiff::Timestamp = text.parse().map_err(|_| ParseTimestampError)?;
        let instant = Self(parsed.as_millisecond());
        if strict && (Self::MIN..=Self::MAX).contains(&instant) {
            Ok(instant)
        } else {
            Err(ParseTimestampError)
        }
    }
}

impl Serialize for Timestamp {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(d)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl utoipa::PartialSchema for Timestamp {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        utoipa::openapi::ObjectBuilder::new()
            .schema_type(utoipa::openapi::schema::Type::String)
            .format(Some(utoipa::openapi::SchemaFormat::KnownFormat(
                utoipa::openapi::KnownFormat::DateTime,
            )))
            .into()
    }
}

impl ToSchema for Timestamp {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text() {
        let cases = [
            ("2026-01-02T03:04:05.678Z", Some("2026-01-02T03:04:05.678Z")),
            ("2026-01-02T03:04:05Z", Some("2026-01-02T03:04:05.000Z")),
            ("2026-01-02T03:04:05.6789+02:00", Some("2026-01-02T01:04:05.678Z")),
            ("1997-01-01T00:00:00Z", Some("1997-01-01T00:00:00.000Z")),
            ("2026-01-02", None),
            ("2026-01-02T03:04:05", None),
            ("2026-01-02 03:04:05Z", None),
            ("2026-02-30T03:04:05Z", None),
            ("tomorrow", None),
        ];
        for (text, want) in cases {
            let got = text.parse::<Timestamp>().ok().map(|t| t.to_string());
            assert_eq!(got.as_deref(), want, "{text}");
        }
    }
}
