//! Recurring rewards: how long, and how often, a rule pays for one aktvator and customer (`domain.md` 4.8).

use jiff::Span;
use schemas::hash::hash128;
use schemas::proto;

use crate::calendar::{Period, local};
use crate::cap::pair;
use crate::decision::Code;
use crate::facts::Facts;
use crate::key::{Key, Slot};
use crate::rulebook::Rule;

/// The terms of a recurring rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Recurring {
    /// Calendar months of the rulebook's zone from the first rewarded event on; 0 is only that one.
    pub(crate) months_max: Option<i32>,
    /// Rewarded events.
    pub(crate) count_max: Option<i64>,
    /// Who began under one version stays under it.
    pub(crate) lock_terms: bool,
}

/// Where it stands what `rule` has given for the event's aktvator and customer; `None` without a customer.
pub(crate) fn key(facts: &Facts<'_>, rule: &Rule) -> Option<Key> {
    let customer = facts.conversion.customer()?;
    let of = hash128("recurring", &[rule.key.as_bytes()]);
    let bucket = facts.bucket(Period::Lifetime);
    let subject = pair(customer, facts.aktvator_id.to_u128());
    Some(Key::Recurring(facts.scope, Slot { campaign: facts.campaign, of, bucket, subject }))
}

impl Recurring {
    /// Why the rule pays no more, if it does not.
    pub(crate) fn ended(
        self,
        facts: &Facts<'_>,
        row: Option<&proto::RecurringRow>,
    ) -> Option<(Code, &'static str)> {
        let row = row?;
        if row.stopped {
            return Some((Code::AlreadyRewarded, "recurring_stopped"));
        }
        if self.count_max.is_some_and(|max| row.rewards >= max) {
            return Some((Code::AlreadyRewarded, "recurring_count"));
        }
        let months = self.months_max?;
        let zone = &facts.rulebook.zone;
        let (first, _) = local(zone, row.first_occurred_at_ms);
        let (now, _) = local(zone, facts.conversion.occurred_at_ms);
        // Beyond the calendar it never ends.
        let end = first.checked_add(Span::new().months(months)).ok()?;
        (months == 0 || now >= end).then_some((Code::AlreadyRewarded, "recurring_months"))
    }
}

/// The row after one more reward by the terms of `version`.
pub(crate) fn rewarded(
    row: Option<&proto::RecurringRow>,
    facts: &Facts<'_>,
    version: u64,
) -> proto::RecurringRow {
    let mut row = row.copied().unwrap_or(proto::RecurringRow {
        first_occurred_at_ms: facts.conversion.occurred_at_ms,
        rewards: 0,
        rulebook_version: version,
        stopped: false,
    });
    row.rewards += 1;
    row
}
