//! Metrics: what tiers and conditions count of the past (`domain.md` 4.4 and 4.5).
//!
//! A conversion is an event that a rule took to an amount, of zero too, whatever caps and funds made of it. In
//! a rule's tiers a metric counts the conversions of that rule; in conditions those of the campaign, from
//! the first version on that asks for it.

use schemas::hash::hash128;

use crate::calendar::Period;
use crate::counter::{self, Tab};
use crate::facts::Facts;
use crate::key::Key;
use crate::lookup::{Lookup, Unfetched};
use crate::row::Row;

/// What is counted, and for whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Metric {
    AktvatorConversions,
    /// Minor units of the events' amounts.
    AktvatorRevenue,
    /// Minor units of rewards, after caps.
    AktvatorEarned,
    CustomerConversions,
    /// Minor units of the events' amounts.
    CustomerSpend,
    /// When the customer's first conversion happened, in milliseconds since the epoch.
    CustomerFirstSeenAt,
    CampaignConversions,
}

/// All of them, as rulebooks write them.
pub(crate) const METRICS: [(&str, Metric); 7] = [
    ("aktvator.conversions", Metric::AktvatorConversions),
    ("aktvator.revenue", Metric::AktvatorRevenue),
    ("aktvator.earned", Metric::AktvatorEarned),
    ("customer.conversions", Metric::CustomerConversions),
    ("customer.spend", Metric::CustomerSpend),
    ("customer.firstSeenAt", Metric::CustomerFirstSeenAt),
    ("campaign.conversions", Metric::CampaignConversions),
];

impl Metric {
    pub(crate) fn named(name: &str) -> Option<Self> {
        METRICS.iter().find(|(known, _)| *known == name).map(|(_, metric)| *metric)
    }

    pub(crate) fn as_str(self) -> &'static str {
        METRICS.iter().find(|(_, metric)| *metric == self).map_or("", |(name, _)| name)
    }

    pub(crate) const fn is_per_customer(self) -> bool {
        matches!(self, Self::CustomerConversions | Self::CustomerSpend | Self::CustomerFirstSeenAt)
    }

    /// Where it is counted; `rule` is empty for the whole campaign. `None` where the event names no
    /// customer and the metric is of customers.
    pub(crate) fn key(self, facts: &Facts<'_>, rule: &str, period: Period) -> Option<Key> {
        let subject = match self {
            Self::AktvatorConversions | Self::AktvatorRevenue | Self::AktvatorEarned => {
                facts.aktvator_id.to_u128()
            }
            Self::CustomerConversions | Self::CustomerSpend | Self::CustomerFirstSeenAt => {
                facts.conversion.customer()?
            }
            Self::CampaignConversions => 0,
        };
        let of = hash128("metric", &[self.as_str().as_bytes(), rule.as_bytes()]);
        Some(counter::key(facts, of, period, subject))
    }

    /// What a conversion adds, which `earned` so much.
    pub(crate) fn adds(self, facts: &Facts<'_>, earned: i64) -> i64 {
        match self {
            Self::AktvatorConversions | Self::CustomerConversions | Self::CampaignConversions => 1,
            Self::AktvatorRevenue | Self::CustomerSpend => {
                facts.conversion.event.amount.unwrap_or(0).max(0)
            }
            Self::AktvatorEarned => earned,
            Self::CustomerFirstSeenAt => facts.conversion.occurred_at_ms,
        }
    }

    /// Counts a conversion of the campaign that `earned` so much.
    pub(crate) fn count(
        self,
        look: &mut Lookup<'_, '_>,
        facts: &Facts<'_>,
        tab: &mut Tab,
        earned: i64,
    ) -> Result<(), Unfetched> {
        let Some(key) = self.key(facts, "", Period::Lifetime) else { return Ok(()) };
        let adds = self.adds(facts, earned);
        if self != Self::CustomerFirstSeenAt {
            return tab.add(look, facts, key, adds);
        }
        match tab.row(look, &key)? {
            Some(Row::Counter(first)) if *first <= adds => Ok(()),
            _ => {
                tab.put(key, Row::Counter(adds));
                Ok(())
            }
        }
    }
}

/// What the metrics that a rulebook asks for stood at before an event.
#[derive(Default)]
pub(crate) struct Past(Vec<(Metric, Option<i64>)>);

impl Past {
    pub(crate) fn look_up(look: &mut Lookup<'_, '_>, facts: &Facts<'_>) -> Result<Self, Unfetched> {
        let key = |metric: &Metric| metric.key(facts, "", Period::Lifetime);
        look.ask(facts.rulebook.asked.iter().filter_map(key));
        let mut past = Vec::with_capacity(facts.rulebook.asked.len());
        for metric in &facts.rulebook.asked {
            let value = match key(metric) {
                Some(key) => match look.counter(key)? {
                    None if *metric == Metric::CustomerFirstSeenAt => None,
                    counted => Some(counted.copied().unwrap_or(0)),
                },
                None => None,
            };
            past.push((*metric, value));
        }
        Ok(Self(past))
    }

    pub(crate) fn value(&self, metric: Metric) -> Option<i64> {
        self.0.iter().find(|(known, _)| *known == metric)?.1
    }
}
