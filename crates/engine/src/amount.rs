//! What a reward comes to before caps: `domain.md` 4.4.

use schemas::money::{Currency, half_even};
use schemas::proto::{self, arithmetic};

use crate::condition::Condition;
use crate::decision::Code;
use crate::facts::Facts;

/// Basis points in one whole.
const BPS: i128 = 10_000;
/// The reward does not fit 64 bits.
pub(crate) const OVERFLOW: Unpayable = (Code::AmountOverflow, "");

/// How a reward is computed from the event alone.
#[derive(Clone, Debug)]
pub(crate) enum Formula {
    /// A fixed amount.
    Flat { amount: i64 },
    /// An amount times the event's quantity, of which at most `units_max` count.
    PerUnit { amount: i64, units_max: Option<i64> },
    /// Basis points, rounded half to even, then at least `min`, then at most `max`.
    Percent { of: Base, bps: i64, min: Option<i64>, max: Option<i64> },
}

/// What a percentage is of.
#[derive(Clone, Debug)]
pub(crate) enum Base {
    /// The event's amount.
    Event,
    /// The amounts of the items that the condition holds of; each is rounded for itself.
    Items(Condition),
}

/// Why there is no amount, and which field made it so.
pub(crate) type Unpayable = (Code, &'static str);

impl Formula {
    /// The amount in minor units of the rulebook's currency, not below zero, and how it came about. An
    /// amount of the event must have been found to be [`in_currency`].
    pub(crate) fn amount(&self, facts: &Facts<'_>) -> Result<(i64, proto::Arithmetic), Unpayable> {
        let event = &facts.conversion.event;
        let (base, raw, min, max) = match self {
            Self::Flat { amount } => {
                let flat = proto::Flat { amount: *amount, units: None };
                (arithmetic::Base::Flat(flat), *amount, None, None)
            }
            Self::PerUnit { amount, units_max } => {
                let units = units(event, *units_max)?;
                let raw = amount.checked_mul(units).ok_or(OVERFLOW)?;
                let flat = proto::Flat { amount: *amount, units: Some(units) };
                (arithmetic::Base::Flat(flat), raw, None, None)
            }
            Self::Percent { of: Base::Event, bps, min, max } => {
                let of = event_amount(event)?;
                let base = arithmetic::Base::Percent(proto::Percent { bps: *bps, of });
                (base, percent(of.into(), *bps)?, *min, *max)
            }
            Self::Percent { of: Base::Items(filter), bps, min, max } => {
                let (items, raw) = percent_of_items(facts, filter, *bps)?;
                (arithmetic::Base::Items(items), raw, *min, *max)
            }
        };
        let raised = min.filter(|min| raw < *min);
        let lowered = max.filter(|max| raised.unwrap_or(raw) > *max);
        let amount = lowered.or(raised).unwrap_or(raw);
        let arithmetic = proto::Arithmetic {
            raw,
            raised_to_min: raised,
            lowered_to_max: lowered,
            base: Some(base),
            ..Default::default()
        };
        Ok((amount, arithmetic))
    }

    /// What conversions with these sums would have earned by it, as one reward: rounded once. `None` where
    /// it does not fit 64 bits, or is for none that can be summed up.
    pub(crate) fn owed(&self, sums: &proto::TierRow) -> Option<i64> {
        match self {
            Self::Flat { amount } => amount.checked_mul(sums.conversions),
            Self::PerUnit { amount, .. } => amount.checked_mul(sums.units),
            Self::Percent { bps, .. } => percent(sums.amount.into(), *bps).ok(),
        }
    }
}

fn percent_of_items(
    facts: &Facts<'_>,
    filter: &Condition,
    bps: i64,
) -> Result<(proto::ItemsPercent, i64), Unpayable> {
    let missing = (Code::AmountMissing, "event.items");
    let items = &facts.conversion.event.items;
    if items.is_empty() {
        return Err(missing);
    }
    let (mut counted, mut raw) = (proto::ItemsPercent { bps, items: 0, of: 0 }, 0i64);
    for item in items.iter().filter(|item| filter.holds_of(facts, item)) {
        let amount = item.amount.filter(|amount| *amount >= 0).ok_or(missing)?;
        counted.items += 1;
        counted.of = counted.of.checked_add(amount).ok_or(OVERFLOW)?;
        raw = raw.checked_add(percent(amount.into(), bps)?).ok_or(OVERFLOW)?;
    }
    Ok((counted, raw))
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

/// The amount of the event, which must have one that is not below zero.
pub(crate) fn event_amount(event: &proto::ConversionEvent) -> Result<i64, Unpayable> {
    let amount = event.amount.filter(|amount| *amount >= 0);
    amount.ok_or((Code::AmountMissing, "event.amount"))
}

/// `of * bps / 10000`, rounded half to even.
pub(crate) fn percent(of: i128, bps: i64) -> Result<i64, Unpayable> {
    rounded(of * i128::from(bps))
}

/// `tenthousandths / 10000`, rounded half to even.
pub(crate) fn rounded(tenthousandths: i128) -> Result<i64, Unpayable> {
    half_even(tenthousandths, BPS).ok_or(OVERFLOW)
}
