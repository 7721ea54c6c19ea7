//! What a rule gives, in a rulebook's JSON: flat, percentages, tiers.

use std::ops::RangeInclusive;

use schemas::fault::Fault;
use schemas::input::Fields;
use serde_json::Value;

use super::cap_syntax::period;
use super::condition_syntax::Conditions;
use super::{Price, TIERS_MAX};
use crate::amount::{Base, Formula};
use crate::calendar::Period;
use crate::metric::Metric;
use crate::tier::{Mode, Tier, Tiers};

const BPS: RangeInclusive<i64> = 0..=50_000;
const MINOR_UNITS: RangeInclusive<i64> = 0..=i64::MAX;

/// What tiers may go by.
const TIER_METRICS: [(&str, Metric); 5] = [
    ("aktvator.conversions", Metric::AktvatorConversions),
    ("aktvator.revenue", Metric::AktvatorRevenue),
    ("aktvator.earned", Metric::AktvatorEarned),
    ("customer.conversions", Metric::CustomerConversions),
    ("campaign.conversions", Metric::CampaignConversions),
];

/// The `reward` of a rule.
pub(super) fn price(fields: &mut Fields<'_, '_>, conditions: &mut Conditions) -> Option<Price> {
    let value = fields.required("reward")?;
    let path = fields.pointer("reward");
    let mut reward = Fields::of(value, path, fields.faults());
    let price = match reward.required("type")?.as_str() {
        Some("flat") => flat(&mut reward).map(Price::Plain),
        Some("percent") => percent(&mut reward, conditions).map(Price::Plain),
        Some("tiered") => tiered(&mut reward, conditions).map(Price::Tiered),
        _ => {
            reward.fault("type", "invalid_choice", "must be one of: flat, percent, tiered");
            return None;
        }
    };
    reward.finish();
    price
}

/// The reward of a tier, which has no tiers itself.
fn plain(
    value: &Value,
    path: String,
    faults: &mut Vec<Fault>,
    conditions: &mut Conditions,
) -> Option<Formula> {
    let mut reward = Fields::of(value, path, faults);
    let formula = match reward.required("type")?.as_str() {
        Some("flat") => flat(&mut reward),
        Some("percent") => percent(&mut reward, conditions),
        _ => {
            reward.fault("type", "invalid_choice", "must be one of: flat, percent");
            return None;
        }
    };
    reward.finish();
    formula
}

fn flat(reward: &mut Fields<'_, '_>) -> Option<Formula> {
    let amount = reward.integer("amount", MINOR_UNITS);
    let per_unit = reward.optional_bool("perUnit").unwrap_or(false);
    let units_max = reward.optional_integer("maxUnits", 1..=i64::MAX);
    if units_max.is_some() && !per_unit {
        reward.fault("maxUnits", "contradiction", "is for rewards with `perUnit`");
    }
    let amount = amount?;
    Some(match per_unit {
        true => Formula::PerUnit { amount, units_max },
        false => Formula::Flat { amount },
    })
}

fn percent(reward: &mut Fields<'_, '_>, conditions: &mut Conditions) -> Option<Formula> {
    let bps = reward.integer("bps", BPS);
    let of_items = reward.optional_choice("of", &[("event.amount", false), ("items", true)]);
    let of_items = of_items.unwrap_or(false);
    let has_filter = reward.optional("itemFilter").is_some();
    let filter = conditions.read_of_items(reward, "itemFilter");
    if has_filter && !of_items {
        reward.fault("itemFilter", "contradiction", "is for percentages of `items`");
    }
    let min = reward.optional_integer("min", MINOR_UNITS);
    let max = reward.optional_integer("max", MINOR_UNITS);
    if let (Some(min), Some(max)) = (min, max)
        && min > max
    {
        reward.fault("max", "contradiction", "must not be below `min`");
    }
    let of = if of_items { Base::Items(filter?) } else { Base::Event };
    Some(Formula::Percent { of, bps: bps?, min, max })
}

fn tiered(reward: &mut Fields<'_, '_>, conditions: &mut Conditions) -> Option<Tiers> {
    let modes = [("volume", Mode::Volume), ("graduated", Mode::Graduated)];
    let mode = reward.optional_choice("mode", &modes).unwrap_or(Mode::Volume);
    let is_retroactive = reward.optional_bool("retroactive").unwrap_or(false);
    reward.required("metric");
    let metric = reward.optional_choice("metric", &TIER_METRICS);
    let period = period(reward, "period");
    let tiers = tiers(reward, conditions, metric);
    let mode = match (mode, is_retroactive) {
        (mode, false) => mode,
        (Mode::Graduated, true) => {
            reward.fault("retroactive", "contradiction", "is for tiers by `volume`");
            return None;
        }
        (_, true) => Mode::Retroactive,
    };
    let tiers = Tiers { metric: metric?, period, mode, tiers: tiers? };
    match contradiction(&tiers) {
        None => Some(tiers),
        Some((member, message)) => {
            reward.fault(member, "contradiction", message);
            None
        }
    }
}

fn tiers(
    reward: &mut Fields<'_, '_>,
    conditions: &mut Conditions,
    metric: Option<Metric>,
) -> Option<Vec<Tier>> {
    if reward.optional("tiers").is_none() {
        reward.fault("tiers", "required", "is required");
    }
    let items = reward.optional_array("tiers", 1..=TIERS_MAX)?;
    let mut least = match metric? {
        Metric::AktvatorRevenue | Metric::AktvatorEarned => 0,
        _ => 1,
    };
    let mut tiers = Vec::new();
    let count = items.len();
    for (path, value) in items {
        let mut tier = Fields::of(value, path, reward.faults());
        let from = tier.integer("from", 0..=i64::MAX);
        let out_of_order = |from: i64| if tiers.is_empty() { from != least } else { from < least };
        if from.is_some_and(out_of_order) {
            let message = if tiers.is_empty() {
                format!("the first tier begins at {least}")
            } else {
                "must be above that of the tier before".to_owned()
            };
            tier.fault("from", "out_of_range", message);
        }
        let formula = tier.required("reward").and_then(|value| {
            let path = tier.pointer("reward");
            plain(value, path, tier.faults(), conditions)
        });
        tier.finish();
        if let (Some(from), Some(formula)) = (from, formula) {
            least = from.saturating_add(1);
            tiers.push(Tier { from, reward: formula });
        }
    }
    (tiers.len() == count).then_some(tiers)
}

/// Why there are no such tiers, and of which member that is said.
fn contradiction(tiers: &Tiers) -> Option<(&'static str, &'static str)> {
    let whole_percent = |tier: &Tier| {
        matches!(tier.reward, Formula::Percent { of: Base::Event, min: None, max: None, .. })
    };
    let by_unit = |tier: &Tier| {
        matches!(tier.reward, Formula::Flat { .. } | Formula::PerUnit { units_max: None, .. })
    };
    match tiers.mode {
        Mode::Volume => None,
        Mode::Graduated if tiers.metric != Metric::AktvatorRevenue => {
            Some(("metric", "graduated tiers go by `aktvator.revenue`"))
        }
        Mode::Graduated => (!tiers.tiers.iter().all(whole_percent)).then_some((
            "tiers",
            "graduated tiers are percentages of `event.amount` without `min` and `max`",
        )),
        Mode::Retroactive
            if !matches!(tiers.metric, Metric::AktvatorConversions | Metric::AktvatorRevenue) =>
        {
            let message = "retroactive tiers go by `aktvator.conversions` or `aktvator.revenue`";
            Some(("metric", message))
        }
        Mode::Retroactive if matches!(tiers.period, Period::Rolling(_)) => {
            Some(("period", "retroactive tiers need a calendar period"))
        }
        Mode::Retroactive => {
            let sums_up = |tier: &Tier| whole_percent(tier) || by_unit(tier);
            (!tiers.tiers.iter().all(sums_up)).then_some((
                "tiers",
                "retroactive tiers give what can be summed up: no `min`, `max`, `maxUnits` or `items`",
            ))
        }
    }
}
