//! Tiers: rewards that depend on how much went before (`domain.md` 4.5).

use schemas::hash::hash128;
use schemas::proto::{self, arithmetic};

use crate::amount::{Formula, OVERFLOW, Unpayable, event_amount, rounded};
use crate::calendar::Period;
use crate::counter::Tab;
use crate::facts::Facts;
use crate::key::{Key, Slot};
use crate::lookup::{Lookup, Unfetched};
use crate::metric::Metric;
use crate::row::Row;
use crate::rulebook::Rule;

/// A reward by tiers.
#[derive(Clone, Debug)]
pub(crate) struct Tiers {
    pub(crate) metric: Metric,
    pub(crate) period: Period,
    pub(crate) mode: Mode,
    /// Rising from 1 of a count, 0 of an amount.
    pub(crate) tiers: Vec<Tier>,
}

/// How the tiers apply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// The whole event at the tier it reaches.
    Volume,
    /// The same, and what went before in the bucket is made up for when a tier is reached.
    Retroactive,
    /// The event's amount is split where tiers begin, and each part has its own percentage.
    Graduated,
}

/// What is given once the metric has come to `from`, this event included.
#[derive(Clone, Debug)]
pub(crate) struct Tier {
    pub(crate) from: i64,
    pub(crate) reward: Formula,
}

/// What an event does to the metric of a rule's tiers.
pub(crate) struct Advance {
    key: Key,
    pub(crate) before: i64,
    pub(crate) after: i64,
}

impl Tiers {
    /// Where the metric of `rule` is counted; `None` for an event without a customer, if it is per customer.
    pub(crate) fn key(&self, facts: &Facts<'_>, rule: &Rule) -> Option<Key> {
        self.metric.key(facts, &rule.key, self.period)
    }

    /// Where the sums of the rule's conversions stand.
    pub(crate) fn sums_key(&self, facts: &Facts<'_>, rule: &Rule) -> Option<Key> {
        (self.mode == Mode::Retroactive).then(|| {
            let of = hash128("tier", &[rule.key.as_bytes()]);
            let (bucket, subject) = (facts.bucket(self.period), facts.aktvator_id.to_u128());
            Key::Tier(facts.scope, Slot { campaign: facts.campaign, of, bucket, subject })
        })
    }

    /// From where to where the event takes the metric.
    pub(crate) fn advance(
        &self,
        look: &mut Lookup<'_, '_>,
        facts: &Facts<'_>,
        tab: &Tab,
        key: Key,
    ) -> Result<Result<Advance, Unpayable>, Unfetched> {
        let before = tab.used(look, facts, &key)?;
        let own = match self.metric {
            Metric::AktvatorRevenue => match event_amount(&facts.conversion.event) {
                Ok(amount) => amount,
                Err(unpayable) => return Ok(Err(unpayable)),
            },
            metric => metric.adds(facts, 0),
        };
        let after = before.checked_add(own).ok_or(OVERFLOW);
        Ok(after.map(|after| Advance { key, before, after }))
    }

    /// The amount, not below zero, of an event that takes the metric so far, and how it came about.
    pub(crate) fn amount(
        &self,
        facts: &Facts<'_>,
        advance: &Advance,
    ) -> Result<(i64, proto::Arithmetic), Unpayable> {
        let tier = self.at(advance.after);
        let (amount, mut arithmetic) = match self.mode {
            Mode::Graduated => self.graduated(advance)?,
            Mode::Volume | Mode::Retroactive => tier.reward.amount(facts)?,
        };
        arithmetic.tier = Some(proto::TierReached {
            metric: self.metric.as_str().to_owned(),
            period: self.period.to_proto().into(),
            bucket: facts.bucket(self.period).index,
            before: advance.before,
            after: advance.after,
            from: tier.from,
        });
        Ok((amount, arithmetic))
    }

    /// The last tier that begins at or below `value`; the first, if none does.
    fn at(&self, value: i64) -> &Tier {
        let begun = self.tiers.iter().rev().find(|tier| tier.from <= value);
        begun.unwrap_or(&self.tiers[0])
    }

    fn graduated(&self, advance: &Advance) -> Result<(i64, proto::Arithmetic), Unpayable> {
        let ends = self.tiers.iter().skip(1).map(|tier| tier.from).chain([i64::MAX]);
        let (mut parts, mut tenthousandths) = (Vec::new(), 0i128);
        for (tier, end) in self.tiers.iter().zip(ends) {
            let Formula::Percent { bps, .. } = tier.reward else { continue };
            let of = advance.after.min(end) - advance.before.max(tier.from);
            if of > 0 {
                tenthousandths += i128::from(of) * i128::from(bps);
                parts.push(proto::Percent { bps, of });
            }
        }
        let raw = rounded(tenthousandths)?;
        let base = Some(arithmetic::Base::Graduated(proto::Graduated { parts }));
        Ok((raw, proto::Arithmetic { base, raw, ..Default::default() }))
    }

    /// What conversions before this event have earned too little, now that a tier is reached; and then
    /// counts this one, which earned `amount` before caps.
    pub(crate) fn make_up(
        &self,
        look: &mut Lookup<'_, '_>,
        facts: &Facts<'_>,
        tab: &mut Tab,
        (key, advance): (Key, &Advance),
        amount: i64,
    ) -> Result<Option<(i64, proto::Arithmetic)>, Unfetched> {
        let mut sums = match tab.row(look, &key)? {
            Some(Row::Tier(sums)) => *sums,
            _ => proto::TierRow::default(),
        };
        let (was, is) = (self.at(advance.before), self.at(advance.after));
        let owed = is.reward.owed(&sums).filter(|_| was.from != is.from && sums.conversions > 0);
        let adjustment = owed.filter(|owed| *owed > sums.earned).map(|owed| {
            let (conversions, earned) = (sums.conversions, sums.earned);
            let base = proto::Adjustment { conversions, owed, earned };
            let raw = owed - earned;
            let base = Some(arithmetic::Base::Adjustment(base));
            (raw, proto::Arithmetic { base, raw, ..Default::default() })
        });
        let event = &facts.conversion.event;
        sums.conversions += 1;
        sums.amount = sums.amount.saturating_add(event.amount.unwrap_or(0).max(0));
        sums.units = sums.units.saturating_add(facts.quantity().unwrap_or(0));
        let made_up = adjustment.as_ref().map_or(0, |(raw, _)| *raw);
        sums.earned = sums.earned.saturating_add(amount).saturating_add(made_up);
        tab.put(key, Row::Tier(sums));
        Ok(adjustment)
    }
}

impl Advance {
    /// Counts the event, which `earned` so much after caps.
    pub(crate) fn count(
        self,
        look: &mut Lookup<'_, '_>,
        facts: &Facts<'_>,
        tab: &mut Tab,
        metric: Metric,
        earned: i64,
    ) -> Result<(), Unfetched> {
        tab.add(look, facts, self.key, metric.adds(facts, earned))
    }
}
