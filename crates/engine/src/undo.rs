//! What a reward took of caps, slots and metrics, given back. An event's decision says what it took; where
//! that is counted follows from the same facts as when it was decided.

use std::cell::OnceCell;

use schemas::hash::hash128;
use schemas::id::{AktvatorId, CampaignId, ConversionEventId, GigId, LinkId};
use schemas::partition::Scope;
use schemas::proto::{self, CapMetric};

use crate::attribution::{Attribution, By};
use crate::calendar::Period;
use crate::cap::{self, Cap, CapScope, Subject};
use crate::counter::{self, Tab};
use crate::entry::{Body, Conversion, Entry};
use crate::facts::Facts;
use crate::key::Key;
use crate::lookup::{Lookup, Unfetched};
use crate::metric::{Metric, Past};
use crate::recurring;
use crate::row::Row;
use crate::rulebook::Rule;

/// A decided event, read again.
pub(crate) struct Decided {
    pub(crate) entry: Entry,
    pub(crate) row: Box<proto::EventRow>,
}

/// What is taken back of one reward.
pub(crate) struct Part<'r> {
    pub(crate) reward: &'r proto::RewardRow,
    /// Minor units.
    pub(crate) back: i64,
    /// Nothing is left of it.
    pub(crate) is_whole: bool,
}

/// The event with this id; `None` where there is none.
pub(crate) fn event(
    look: &mut Lookup<'_, '_>,
    scope: Scope,
    id: &[u8],
) -> Result<Option<Decided>, Unfetched> {
    let Some(id) = ConversionEventId::from_proto(id) else { return Ok(None) };
    let Some(row) = look.event(Key::Event(scope, id))?.cloned() else { return Ok(None) };
    // It was decided, so it could be decoded.
    let entry = Entry::decode(row.offset, row.record.clone()).map_err(|_| Unfetched)?;
    Ok(Some(Decided { entry, row }))
}

impl Decided {
    pub(crate) fn conversion(&self) -> Option<&Conversion> {
        match &self.entry.body {
            Body::Conversion(conversion) => Some(conversion),
            _ => None,
        }
    }

    pub(crate) fn decision(&self) -> Option<&proto::Decision> {
        self.row.decision.as_ref()
    }

    /// What the rules judged, by the rulebook of this version; `None` where they judged nothing.
    pub(crate) fn facts<'a>(
        &'a self,
        look: &mut Lookup<'a, '_>,
        version: u64,
        now_ms: i64,
    ) -> Result<Option<Facts<'a>>, Unfetched> {
        let scope = self.entry.scope;
        let Some((conversion, decision)) = self.conversion().zip(self.decision()) else {
            return Ok(None);
        };
        let Some((attribution, gig)) = whose(decision) else { return Ok(None) };
        let rulebook = look.rulebook(Key::Rulebook(scope, attribution.campaign, version));
        let aktvator = look.aktvator(Key::Aktvator(scope, attribution.aktvator))?;
        let (Some(rulebook), Some(aktvator)) = (rulebook?, aktvator) else { return Ok(None) };
        Ok(Some(Facts {
            scope,
            conversion,
            campaign: attribution.campaign,
            gig,
            aktvator_id: attribution.aktvator,
            aktvator,
            attribution,
            accepted_at_ms: self.entry.accepted_at_ms,
            now_ms,
            rulebook,
            version,
            date: OnceCell::new(),
            past: Past::default(),
        }))
    }

    /// What the rule said that made this reward.
    fn said(&self, reward: &[u8]) -> Option<&proto::RuleDecision> {
        let is_its = |said: &&proto::RuleDecision| said.reward_id.as_deref() == Some(reward);
        self.decision()?.rules.iter().find(is_its)
    }
}

fn whose(decision: &proto::Decision) -> Option<(Attribution<'_>, GigId)> {
    let aktvator_id = decision.aktvator_id.as_ref()?;
    let by = match decision.attributed_by.as_deref()? {
        "link" => By::Link,
        "click" => By::Click,
        "code" => By::Code,
        "attempt" => By::Attempt,
        _ => By::Customer,
    };
    let attribution = Attribution {
        by,
        campaign: CampaignId::from_proto(decision.campaign_id.as_deref()?)?,
        aktvator: AktvatorId::from_proto(aktvator_id)?,
        aktvator_id,
        link: decision.link_id.as_deref().and_then(LinkId::from_proto),
        code: decision.code_used.as_deref().unwrap_or_default(),
    };
    Some((attribution, GigId::from_proto(decision.gig_id.as_deref()?)?))
}

/// Rows after these parts of the event's rewards are taken back: use of caps as far as their rules restore
/// it, and slots.
pub(crate) fn rewards<'a>(
    look: &mut Lookup<'a, '_>,
    event: &'a Decided,
    parts: &[Part<'_>],
    is_fraud: bool,
    now_ms: i64,
) -> Result<Vec<(Key, Option<Row>)>, Unfetched> {
    let mut tab = Tab::default();
    let mut undone = Vec::with_capacity(parts.len());
    for part in parts {
        let reward = part.reward;
        let Some(facts) = event.facts(look, reward.rulebook_version, now_ms)? else { continue };
        let rule = facts.rulebook.rules.iter().find(|rule| rule.key == reward.rule_key);
        let (Some(rule), Some(said)) = (rule, event.said(&reward.id)) else { continue };
        let caps = if rule.reversal.restore_caps { &said.caps[..] } else { &[] };
        let given = caps.iter().filter_map(|used| given_back(&facts, rule, used, part));
        let given: Vec<(Key, i64)> = given.collect();
        // Asked for together, so that one fetch brings them.
        look.ask(given.iter().map(|(key, _)| key.clone()));
        look.ask(rule.uniqueness.and_then(|unique| unique.key(&facts)));
        look.ask(rule.recurring.and_then(|_| recurring::key(&facts, rule)));
        undone.push((part, facts, rule, given));
    }
    for (part, facts, rule, given) in undone {
        for (key, value) in given {
            tab.add(look, &facts, key, -value)?;
        }
        if part.reward.kind() == proto::RewardKind::Conversion && part.is_whole {
            free(look, &facts, &mut tab, rule, part.reward, is_fraud)?;
        }
    }
    Ok(tab.into_rows())
}

/// The counter of a cap, and what is to be taken off it.
fn given_back(
    facts: &Facts<'_>,
    rule: &Rule,
    used: &proto::CapUse,
    part: &Part<'_>,
) -> Option<(Key, i64)> {
    let value = match used.metric() {
        CapMetric::Amount => used.taken.min(part.back),
        _ if part.is_whole => used.taken,
        _ => 0,
    };
    let scope = CapScope::of(used.scope(), &used.group).filter(|_| value > 0)?;
    let period = Period::of(used.period(), used.bucket);
    let of = Cap::identity(&used.key, &scope, used.metric());
    match cap::subject(&scope, rule.id, facts, true) {
        Subject::Is(subject) => Some((counter::key(facts, of, period, subject), value)),
        Subject::Nobody | Subject::Missing(_) => None,
    }
}

/// The uniqueness slot is free again, and the place in a series; not after fraud.
fn free(
    look: &mut Lookup<'_, '_>,
    facts: &Facts<'_>,
    tab: &mut Tab,
    rule: &Rule,
    reward: &proto::RewardRow,
    is_fraud: bool,
) -> Result<(), Unfetched> {
    let slot = rule.uniqueness.and_then(|unique| unique.key(facts)).filter(|_| !is_fraud);
    match slot {
        Some(slot @ Key::Days(..)) => tab.add(look, facts, slot, -1)?,
        Some(slot) => {
            let holds = matches!(tab.row(look, &slot)?, Some(Row::Unique(row)) if row.reward_id == reward.id);
            if holds {
                tab.delete(slot);
            }
        }
        None => {}
    }
    let Some(key) = rule.recurring.and_then(|_| recurring::key(facts, rule)) else { return Ok(()) };
    let Some(Row::Recurring(row)) = tab.row(look, &key)? else { return Ok(()) };
    let mut row = *row;
    match is_fraud {
        true => row.stopped = true,
        false => row.rewards -= 1,
    }
    tab.put(key, Row::Recurring(row));
    Ok(())
}

/// What of an event is taken back, for what counts events.
pub(crate) struct Taken<'a> {
    /// Of the event's amount.
    pub(crate) amount: i64,
    /// Of its rewards, by rule.
    pub(crate) earned: &'a [(&'a str, i64)],
    /// Nothing is left of the event.
    pub(crate) is_whole: bool,
}

/// Rows after an event is no conversion any more, or a smaller one.
pub(crate) fn metrics<'a>(
    look: &mut Lookup<'a, '_>,
    event: &'a Decided,
    taken: &Taken<'_>,
    now_ms: i64,
) -> Result<Vec<(Key, Option<Row>)>, Unfetched> {
    let mut tab = Tab::default();
    let version = event.decision().and_then(|decision| decision.rulebook_version);
    let Some(facts) = version.map(|v| event.facts(look, v, now_ms)).transpose()?.flatten() else {
        return Ok(Vec::new());
    };
    let said = event.decision().map_or(&[][..], |decision| &decision.rules);
    let priced =
        |said: &&proto::RuleDecision| said.arithmetic.is_some() && said.detail != "not_best";
    let mut counted: Vec<&str> = Vec::new();
    let asked = facts.rulebook.asked.iter();
    look.ask(asked.filter_map(|metric| metric.key(&facts, "", Period::Lifetime)));
    for rule in &facts.rulebook.rules {
        let keys =
            rule.tiers().map(|tiers| [tiers.key(&facts, rule), tiers.sums_key(&facts, rule)]);
        look.ask(keys.into_iter().flatten().flatten());
    }
    for said in said.iter().filter(priced) {
        let rule = facts.rulebook.rules.iter().find(|rule| rule.key == said.rule_key);
        let Some(rule) = rule.filter(|rule| !counted.contains(&rule.key.as_str())) else {
            continue;
        };
        counted.push(&rule.key);
        let earned = taken.earned.iter().filter(|(key, _)| *key == rule.key).map(|(_, e)| e).sum();
        let Some(tiers) = rule.tiers() else { continue };
        if let Some(key) = tiers.key(&facts, rule) {
            tab.add(look, &facts, key, -less(tiers.metric, taken, earned))?;
        }
        if let Some(key) = tiers.sums_key(&facts, rule)
            && let Some(Row::Tier(sums)) = tab.row(look, &key)?
        {
            let mut sums = *sums;
            let whole = i64::from(taken.is_whole);
            sums.conversions -= whole;
            sums.amount -= taken.amount;
            sums.units -= whole * facts.quantity().unwrap_or(0);
            sums.earned -= earned;
            tab.put(key, Row::Tier(sums));
        }
    }
    if !counted.is_empty() {
        let earned = taken.earned.iter().map(|(_, earned)| earned).sum();
        for metric in &facts.rulebook.asked {
            let Some(key) = metric.key(&facts, "", Period::Lifetime) else { continue };
            if *metric != Metric::CustomerFirstSeenAt {
                tab.add(look, &facts, key, -less(*metric, taken, earned))?;
            }
        }
    }
    Ok(tab.into_rows())
}

fn less(metric: Metric, taken: &Taken<'_>, earned: i64) -> i64 {
    match metric {
        Metric::AktvatorConversions | Metric::CustomerConversions | Metric::CampaignConversions => {
            i64::from(taken.is_whole)
        }
        Metric::AktvatorRevenue | Metric::CustomerSpend => taken.amount,
        Metric::AktvatorEarned => earned,
        Metric::CustomerFirstSeenAt => 0,
    }
}

/// What stands for an external reference.
#[must_use]
pub fn external(external_ref: &str) -> u128 {
    hash128("external_ref", &[external_ref.as_bytes()])
}
