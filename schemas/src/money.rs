//! Money: whole minor units of an ISO 4217 currency.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// An ISO 4217 code: three upper-case letters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Currency([u8; 3]);

/// The text is not an ISO 4217 code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be three upper-case letters of ISO 4217, like USD")]
pub struct ParseCurrencyError;

impl Currency {
    /// United States dollar, the default of new organizations.
    pub const USD: Self = Self(*b"USD");

    /// The three letters.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Currency {
    type Err = ParseCurrencyError;

    fn from_str(text: &str) -> Result<Self, ParseCurrencyError> {
        match text.as_bytes() {
            &[a, b, c] if [a, b, c].iter().all(u8::is_ascii_uppercase) => Ok(Self([a, b, c])),
            _ => Err(ParseCurrencyError),
        }
    }
}

impl Serialize for Currency {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Currency {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(d)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl utoipa::PartialSchema for Currency {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        utoipa::openapi::ObjectBuilder::new()
            .schema_type(utoipa::openapi::schema::Type::String)
            .pattern(Some("^[A-Z]{3}$"))
            .into()
    }
}

impl ToSchema for Currency {}

/// An amount in minor units, with its currency.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Money {
    /// Minor units (cents).
    pub amount: i64,
    /// ISO 4217.
    pub currency: Currency,
}

/// `amount * bps / 10000`, rounded half to even (IEEE 754's default), computed in 128 bits.
///
/// `None` where the result does not fit 64 bits.
pub fn basis_points(amount: i64, bps: i64) -> Option<i64> {
    half_even(i128::from(amount) * i128::from(bps), 10_000)
}

/// `numerator / denominator`, rounded half to even; `None` where it does not fit 64 bits or the
/// denominator is not positive.
pub fn half_even(numerator: i128, denominator: i128) -> Option<i64> {
    if denominator <= 0 {
        return None;
    }
    let floor = numerator.div_euclid(denominator);
    let twice_rest = numerator.rem_euclid(denominator).checked_mul(2)?;
    let up = twice_rest > denominator || (twice_rest == denominator && floor % 2 != 0);
    i64::try_from(floor + i128::from(up)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_go_to_the_even_neighbour() {
        let cases =
            [(1, 2, 0), (3, 2, 2), (5, 2, 2), (-1, 2, 0), (-3, 2, -2), (7, 3, 2), (8, 3, 3)];
        for (numerator, denominator, want) in cases {
            assert_eq!(half_even(numerator, denominator), Some(want), "{numerator}/{denominator}");
        }
    }

    #[test]
    fn basis_points_of_extremes() {
        assert_eq!(basis_points(4900, 2000), Some(980));
        assert_eq!(basis_points(i64::MAX, 10_000), Some(i64::MAX));
        assert_eq!(basis_points(i64::MAX, 10_001), None);
    }
}
