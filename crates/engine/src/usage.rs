//! How far caps are used: the counters that they have right now, for whoever is asked about.

use schemas::id::{AktvatorId, CampaignId, GigId, LinkId};
use schemas::partition::Scope;
use schemas::proto;

use crate::calendar::{Period, next_bucket_ms};
use crate::cap::{Cap, CapScope, pair};
use crate::counter;
use crate::entry::customer_of;
use crate::key::{Key, Slot};
use crate::row::Row;
use crate::rulebook::{Rule, Rulebook};

/// Who is asked about.
#[derive(Clone, Debug, Default)]
pub struct Who {
    /// For caps per aktvator.
    pub aktvator: Option<AktvatorId>,
    /// The organization's id of the customer, for caps per customer.
    pub customer: Option<String>,
    /// For caps per link.
    pub link: Option<LinkId>,
    /// For caps per gig.
    pub gig: Option<GigId>,
}

/// A cap, and where its use is counted.
#[derive(Clone, Debug)]
pub struct Usage {
    /// As in the rulebook.
    pub cap_key: String,
    /// Of a cap per rule: which.
    pub rule_key: Option<String>,
    /// Within whom it counts.
    pub scope: proto::CapScope,
    /// Of a cap per group: whose.
    pub group: Option<String>,
    /// What it counts.
    pub metric: proto::CapMetric,
    /// How long it counts.
    pub period: Period,
    /// Minor units, a count, or units.
    pub limit: i64,
    /// The counter; `None` where nobody was named whom it counts for.
    pub counter: Option<Key>,
    /// When it begins anew, in milliseconds since the epoch; never for lifetime and rolling windows.
    pub resets_at_ms: Option<i64>,
    day: i32,
}

impl Usage {
    /// What was used, by the row under [`Usage::counter`].
    #[must_use]
    pub fn used(&self, row: Option<&Row>) -> i64 {
        match (row, self.period) {
            (Some(Row::Counter(value)), _) => *value,
            (Some(Row::Days(row)), Period::Rolling(days)) => {
                counter::sum(&row.days, self.day, i32::from(days))
            }
            _ => 0,
        }
    }
}

/// The caps of all rules at a time, each counter once.
#[must_use]
pub fn caps(
    rulebook: &Rulebook,
    (scope, campaign): (Scope, CampaignId),
    at_ms: i64,
    who: &Who,
) -> Vec<Usage> {
    let date = rulebook.local_date(at_ms);
    let mut found: Vec<Usage> = Vec::new();
    for (rule, cap) in
        rulebook.rules.iter().flat_map(|rule| rule.caps.iter().map(move |c| (rule, c)))
    {
        let is_per_rule = cap.scope == CapScope::Rule;
        let slot = subject(rule, cap, who).map(|subject| Slot {
            campaign,
            of: cap.identity_hash(),
            bucket: date.bucket(cap.period),
            subject,
        });
        let counter = slot.map(|slot| counter::key_of(scope, slot));
        let is_known = found.iter().any(|known| {
            known.cap_key == cap.key
                && known.counter == counter
                && (!is_per_rule || known.rule_key.as_ref() == Some(&rule.key))
        });
        if is_known {
            continue;
        }
        let group = match &cap.scope {
            CapScope::Group(group) => Some(group.clone()),
            _ => None,
        };
        found.push(Usage {
            cap_key: cap.key.clone(),
            rule_key: is_per_rule.then(|| rule.key.clone()),
            scope: cap.scope.to_proto(),
            group,
            metric: cap.metric.to_proto(),
            period: cap.period,
            limit: cap.limit,
            counter,
            resets_at_ms: next_bucket_ms(&rulebook.zone, cap.period, at_ms),
            day: date.day,
        });
    }
    found
}

fn subject(rule: &Rule, cap: &Cap, who: &Who) -> Option<u128> {
    let customer = || who.customer.as_ref().map(|id| customer_of(id));
    let aktvator = || who.aktvator.map(AktvatorId::to_u128);
    match &cap.scope {
        CapScope::Campaign | CapScope::Group(_) => Some(0),
        CapScope::Rule => Some(rule.id),
        CapScope::Gig => who.gig.map(GigId::to_u128),
        CapScope::Link => who.link.map(LinkId::to_u128),
        CapScope::Aktvator => aktvator(),
        CapScope::Customer => customer(),
        CapScope::AktvatorCustomer => Some(pair(customer()?, aktvator()?)),
    }
}
