//! C1: no cap is exceeded. Counts every cap again from what is left of the rewards that were made.

use std::collections::BTreeMap;

use bytes::Bytes;
use engine::Key;
use prost::Message;
use schemas::id::{ConversionEventId, RewardId};
use schemas::partition::Scope;
use schemas::proto::{
    CapMetric, CapPeriod, CapScope, CapUse, Decision, EventRow, Record, RewardRow, RuleDecision,
    record::Body,
};

use crate::invariant::{Checked, Invariant, Violation, ensure};
use crate::ledger::scan;
use crate::oracle::{Found, unreadable};

/// What one cap counts: campaign, key, bucket, and within whom.
type Counted = (Vec<u8>, String, i32, String);

/// What stands of one: used by rewards as far as they were not taken back, and the highest limit it had.
#[derive(Default)]
struct Standing {
    used: i64,
    limit: i64,
}

/// Checks every use of every cap of a scope. How much of it stood before each use, the model knows.
pub(crate) async fn hold(found: &Found, scope: Scope) -> Checked {
    let left = left(found, scope).await?;
    let first = Key::Event(scope, ConversionEventId::from_u128(0)).encode();
    let last = Key::Event(scope, ConversionEventId::from_u128(u128::MAX)).encode();
    let rows = scan(found, scope, (first, last)).await?;
    let mut standing: BTreeMap<Counted, Standing> = BTreeMap::new();
    for row in rows {
        let row = EventRow::decode(row).map_err(unreadable)?;
        let record = Record::decode(row.record.clone()).map_err(unreadable)?;
        let decision = row.decision.unwrap_or_default();
        for rule in &decision.rules {
            let Some(left) = rule.reward_id.as_ref().and_then(|id| left.get(id)) else { continue };
            for cap in &rule.caps {
                ensure(cap.used_before + cap.taken <= cap.limit, Invariant::C1, || {
                    format!("{scope}: {cap:?}")
                })?;
                let Some(counted) = counted(&decision, &record, rule, cap) else { continue };
                let standing = standing.entry(counted).or_default();
                standing.limit = standing.limit.max(cap.limit);
                standing.used += match cap.metric() {
                    CapMetric::Amount => (cap.taken - (rule.amount - left)).max(0),
                    _ if *left > 0 => cap.taken,
                    _ => 0,
                };
            }
        }
    }
    for (counted, Standing { used, limit }) in standing {
        ensure(used <= limit, Invariant::C1, || {
            format!("{scope}: {counted:?} at {used} of {limit}")
        })?;
    }
    Ok(())
}

/// What is left of each reward.
async fn left(found: &Found, scope: Scope) -> Result<BTreeMap<Bytes, i64>, Violation> {
    let first = Key::Reward(scope, RewardId::from_u128(0)).encode();
    let last = Key::Reward(scope, RewardId::from_u128(u128::MAX)).encode();
    let mut left = BTreeMap::new();
    for row in scan(found, scope, (first, last)).await? {
        let reward = RewardRow::decode(row).map_err(unreadable)?;
        let is_there = i64::from(reward.status != "rejected");
        let back = reward.reversed_amount + reward.clawed_back_amount;
        left.insert(reward.id, (reward.amount - back) * is_there);
    }
    Ok(left)
}

/// Nothing for a cap per customer of an event without one, which counts for itself, and for one of a rolling
/// window, whose days the model has.
fn counted(
    decision: &Decision,
    record: &Record,
    rule: &RuleDecision,
    cap: &CapUse,
) -> Option<Counted> {
    if cap.period() == CapPeriod::Rolling {
        return None;
    }
    let customer = || match record.body.as_ref()? {
        Body::Conversion(event) => event.customer.as_ref()?.id.clone(),
        _ => None,
    };
    let within = match cap.scope() {
        CapScope::Aktvator => format!("{:?}", decision.aktvator_id),
        CapScope::Customer => customer()?,
        CapScope::AktvatorCustomer => format!("{:?} {}", decision.aktvator_id, customer()?),
        CapScope::Rule => rule.rule_key.clone(),
        CapScope::Gig => format!("{:?}", decision.gig_id),
        CapScope::Link => format!("{:?}", decision.link_id),
        CapScope::Campaign | CapScope::Group | CapScope::Unspecified => String::new(),
    };
    let campaign = decision.campaign_id.clone().unwrap_or_default().to_vec();
    let key = format!("{} {:?} {:?} {:?}", cap.key, cap.scope(), cap.metric(), cap.period());
    Some((campaign, key, cap.bucket, within))
}
