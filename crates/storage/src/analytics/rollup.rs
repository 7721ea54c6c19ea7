//! Facts summed by what they are counted by, before they reach a store: a batch is few upserts.

use std::collections::BTreeMap;

use super::{BUCKET_MS, Fact};

/// The figures of a report. Sums stop at the ends of 64 bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Metrics {
    /// Clicks.
    pub clicks: i64,
    /// Conversion events.
    pub conversions: i64,
    /// Value of the conversions, minor units.
    pub revenue: i64,
    /// Number of rewards.
    pub rewards: i64,
    /// Sum of the rewards, minor units.
    pub reward_amount: i64,
}

impl Metrics {
    pub(super) fn add(&mut self, other: &Self) {
        self.clicks = self.clicks.saturating_add(other.clicks);
        self.conversions = self.conversions.saturating_add(other.conversions);
        self.revenue = self.revenue.saturating_add(other.revenue);
        self.rewards = self.rewards.saturating_add(other.rewards);
        self.reward_amount = self.reward_amount.saturating_add(other.reward_amount);
    }
}

/// What figures are summed by, in the order of the table's primary key. Ids are their 16 bytes, or
/// none.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct RollupKey {
    pub(super) organization: [u8; 16],
    pub(super) mode: u8,
    pub(super) campaign: [u8; 16],
    pub(super) bucket_ms: i64,
    pub(super) gig: Option<[u8; 16]>,
    pub(super) aktvator: Option<[u8; 16]>,
    pub(super) link: Option<[u8; 16]>,
    pub(super) code: String,
    pub(super) event_type: String,
}

/// The sums of a batch, in the order of the table.
pub(super) fn sum(facts: &[Fact]) -> BTreeMap<RollupKey, Metrics> {
    let mut sums = BTreeMap::<_, Metrics>::new();
    for fact in facts {
        sums.entry(key(fact)).or_default().add(&metrics(fact));
    }
    sums
}

pub(super) fn key(fact: &Fact) -> RollupKey {
    RollupKey {
        organization: fact.scope.organization.to_bytes(),
        mode: fact.scope.mode.byte(),
        campaign: fact.campaign.to_bytes(),
        bucket_ms: fact.at.as_ms().div_euclid(BUCKET_MS).saturating_mul(BUCKET_MS),
        gig: present(fact.gig.map(|id| id.to_bytes())),
        aktvator: present(fact.aktvator.map(|id| id.to_bytes())),
        link: present(fact.link.map(|id| id.to_bytes())),
        code: fact.code.clone().unwrap_or_default(),
        event_type: fact.event_type.clone().unwrap_or_default(),
    }
}

fn present(id: Option<[u8; 16]>) -> Option<[u8; 16]> {
    id.filter(|id| *id != [0; 16])
}

pub(super) fn metrics(fact: &Fact) -> Metrics {
    Metrics {
        clicks: fact.clicks,
        conversions: fact.conversions,
        revenue: fact.revenue,
        rewards: fact.rewards,
        reward_amount: fact.reward_amount,
    }
}
