//! What a reward comes to before caps: `domain.md` 4.4.

use schemas::money::{Currency, half_even};
use schemas::proto::{self, arithmetic::Base};

use crate::decision::Code;

/// Basis points in one whole.
const BPS: i128 = 10_000;

/// How a reward is computed from an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Formula {
    /// A fixed amount.
    Flat { amount: i64 },
    /// An amount times the event's quantity, of which at most `units_max` count.
    PerUnit { amount: i64, units_max: Option<i64> },
    /// Basis points of the event's amount, rounded half to even, then at least `min`, then at most
    /// `max`.
    Percent { bps: i64, min: Option<i64>, max: Option<i64> },
}

/// Why there is no amount, and which field made it so.
pub(crate) type Unpayable = (Code, &'static str);

impl Formula {
    /// The amount in minor units of the rulebook's currency, above zero, and how it came about. An
    /// amount of `event` must have been found to be [`in_currency`].
    pub(crate) fn amount(
        self,
        event: &proto::ConversionEvent,
    ) -> Result<(i64, proto::Arithmetic), Unpayable> {
        let (base, raw, min, max) = match self {
            Self::Flat { amount } => {
                (Base::Flat(proto::Flat { amount, units: None }), amount, None, None)
            }
            Self::PerUnit { amount, units_max } => {
                let units = units(event, units_max)?;
                let raw = amount.checked_mul(units).ok_or((Code::AmountOverflow, ""))?;
                (Base::Flat(proto::Flat { amount, units: Some(units) }), raw, None, None)
            }
            Self::Percent { bps, min, max } => {
                let of = event_amount(event)?;
                let raw = percent(of, bps)?;
                (Base::Percent(proto::Percent { bps, of }), raw, min, max)
            }
        };
        let raised = min.filter(|min| raw < *min);
        let lowered = max.filter(|max| raised.unwrap_or(raw) > *max);
        let amount = lowered.or(raised).unwrap_or(raw);
        if amount == 0 {
            return Err((Code::ZeroAmount, ""));
        }
        let arithmetic = proto::Arithmetic {
            raw,
            raised_to_min: raised,
            lowered_to_max: lowered,
            base: Some(base),
        };
        Ok((amount, arithmetic))
    }
}

/// An event's amount must be in the rulebook's currency, whatever rules make of it: a condition that
/// compares it would else compare euros with yen. An amount without a currency is not.
pub(crate) fn in_currency(
    event: &proto::ConversionEvent,
    currency: Currency,
) -> Result<(), Unpayable> {
    if event.amount.is_none() || event.currency.as_deref() == Some(currency.as_str()) {
        Ok(())
    } else {
        Err((Code::CurrencyMismatch, "event.currency"))
    }
}

fn units(event: &proto::ConversionEvent, max: Option<i64>) -> Result<i64, Unpayable> {
    let quantity = event.quantity.filter(|quantity| *quantity >= 0);
    let quantity = quantity.ok_or((Code::AmountMissing, "event.quantity"))?;
    Ok(max.map_or(quantity, |max| quantity.min(max)))
}

fn event_amount(event: &proto::ConversionEvent) -> Result<i64, Unpayable> {
    let amount = event.amount.filter(|amount| *amount >= 0);
    amount.ok_or((Code::AmountMissing, "event.amount"))
}

fn percent(of: i64, bps: i64) -> Result<i64, Unpayable> {
    half_even(i128::from(of) * i128::from(bps), BPS).ok_or((Code::AmountOverflow, ""))
}
