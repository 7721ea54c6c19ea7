//! Decimal numbers that stand as text, compared exactly.

use std::str::FromStr;

/// A decimal number in units of 10^-18: up to 18 digits before the point and 18 after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Decimal(i128);

/// The text is not a decimal number of that size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NotDecimal;

const DIGITS_MAX: usize = 18;

impl FromStr for Decimal {
    type Err = NotDecimal;

    /// `-?[0-9]{1,18}(\.[0-9]{1,18})?`
    fn from_str(text: &str) -> Result<Self, NotDecimal> {
        let (negative, digits) = match text.strip_prefix('-') {
            Some(digits) => (true, digits),
            None => (false, text),
        };
        let (whole, fraction) = match digits.split_once('.') {
            Some((whole, fraction)) => (number(whole)?, padded(fraction)?),
            None => (number(digits)?, 0),
        };
        let value = whole * 10i128.pow(DIGITS_MAX as u32) + fraction;
        Ok(Self(if negative { -value } else { value }))
    }
}

fn number(digits: &str) -> Result<i128, NotDecimal> {
    let fits = (1..=DIGITS_MAX).contains(&digits.len());
    if !fits || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return Err(NotDecimal);
    }
    digits.parse().map_err(|_| NotDecimal)
}

fn padded(fraction: &str) -> Result<i128, NotDecimal> {
    let value = number(fraction)?;
    Ok(value * 10i128.pow((DIGITS_MAX - fraction.len()) as u32))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_is_that_of_numbers() {
        let rising = [
            "-999999999999999999.9",
            "-2",
            "-1.50",
            "-0.000000000000000001",
            "0",
            "0.1",
            "9",
            "10.0",
        ];
        let parsed: Vec<Decimal> =
            rising.iter().map(|text| text.parse().expect("a decimal")).collect();
        assert!(parsed.is_sorted_by(|a, b| a < b));
        assert_eq!("1.5".parse::<Decimal>(), "01.500".parse::<Decimal>());
    }

    #[test]
    fn what_is_no_decimal() {
        for text in
            ["", "-", ".5", "5.", "+1", "1e3", " 1", "1_000", "1.2.3", "1234567890123456789"]
        {
            assert_eq!(text.parse::<Decimal>(), Err(NotDecimal), "{text}");
        }
    }
}
