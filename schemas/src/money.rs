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

    /// Digits of a minor unit: 2 of a cent, 0 where there is none (ISO 4217:2015, list one).
    pub const fn exponent(&self) -> u32 {
        match &self.0 {
            b"BIF" | b"CLP" | b"DJF" | b"GNF" | b"ISK" | b"JPY" | b"KMF" | b"KRW" | b"PYG"
            | b"RWF" | b"UGX" | b"UYI" | b"VND" | b"VUV" | b"XAF" | b"XOF" | b"XPF" => 0,
            b"BHD" | b"IQD" | b"JOD" | b"KWD" | b"LYD" | b"OMR" | b"TND" => 3,
            b"CLF" | b"UYW" => 4,
            _ => 2,
        }
    }

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

impl fmt::Display for Money {
    /// In major units with all digits of the minor ones: `50.00 USD`, `5000 JPY`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { amount, currency } = self;
        let sign = if *amount < 0 { "-" } else { "" };
        let units = 10u64.pow(currency.exponent());
        let (whole, rest) = (amount.unsigned_abs() / units, amount.unsigned_abs() % units);
        match currency.exponent() as usize {
            0 => write!(f, "{sign}{whole} {currency}"),
            digits => write!(f, "{sign}{whole}.{rest:0digits$} {currency}"),
        }
    }
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
    fn exponents() {
        for (code, want) in [("USD", 2), ("JPY", 0), ("KWD", 3), ("EUR", 2), ("CLF", 4)] {
            let currency: Currency = code.parse().expect("a currency");
            assert_eq!(currency.exponent(), want, "{code}");
        }
    }

    #[test]
    fn amounts_are_written_by_the_exponent() {
        let cases = [
            (5_000, "USD", "50.00 USD"),
            (-5, "USD", "-0.05 USD"),
            (5_000, "JPY", "5000 JPY"),
            (5_000, "KWD", "5.000 KWD"),
            (i64::MIN, "JPY", "-9223372036854775808 JPY"),
        ];
        for (amount, code, want) in cases {
            let currency = code.parse().expect("a currency");
            assert_eq!(Money { amount, currency }.to_string(), want);
        }
    }
}
