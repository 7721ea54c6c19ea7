//! C1: no cap is exceeded. Counts every cap again from the rewards that were made, in log order.

use std::collections::BTreeMap;

use engine::Key;
use prost::Message;
use schemas::id::ConversionEventId;
use schemas::partition::Scope;
use schemas::proto::{
    CapPeriod, CapScope, CapUse, Decision, EventRow, Record, RuleDecision, record::Body,
};

use crate::invariant::{Checked, Invariant, ensure};
use crate::ledger::scan;
use crate::oracle::{Found, unreadable};

/// What one cap counts: campaign, key, bucket, and within whom.
type Counted = (Vec<u8>, String, i32, String);

/// Checks every use of every cap of a scope.
pub(crate) async fn hold(found: &Found, scope: Scope) -> Checked {
    let first = Key::Event(scope, ConversionEventId::from_u128(0)).encode();
    let last = Key::Event(scope, ConversionEventId::from_u128(u128::MAX)).encode();
    let rows = scan(found, scope, (first, last)).await?;
    let rows = rows.into_iter().map(EventRow::decode);
    let mut rows: Vec<EventRow> = rows.collect::<Result<_, _>>().map_err(unreadable)?;
    rows.sort_by_key(|row| row.offset);
    let mut used: BTreeMap<Counted, i64> = BTreeMap::new();
    for row in rows {
        let record = Record::decode(row.record.clone()).map_err(unreadable)?;
        let decision = row.decision.unwrap_or_default();
        let rewarded = decision.rules.iter().filter(|rule| rule.reward_id.is_some());
        for (rule, cap) in rewarded.flat_map(|rule| rule.caps.iter().map(move |cap| (rule, cap))) {
            let Some(counted) = counted(&decision, &record, rule, cap) else { continue };
            let used = used.entry(counted).or_default();
            ensure(cap.used_before == *used, Invariant::C1, || {
                format!("{scope}: {cap:?} stood at {used} when {:?} was decided", row.offset)
            })?;
            *used += cap.taken;
            ensure(*used <= cap.limit, Invariant::C1, || format!("{scope}: {cap:?} at {used}"))?;
        }
    }
    Ok(())
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
