//! From a rule that matches to a reward: its amount, its caps, its funds (`domain.md` 4.3 steps 8 to 12).

use schemas::hash::{hash128, reward_id};
use schemas::id::RewardId;
use schemas::proto;

use crate::amount::Unpayable;
use crate::cap::{self, CapMetric, Meter, Subject};
use crate::counter::Tab;
use crate::decision::Code;
use crate::facts::Facts;
use crate::judge::{Trial, refused};
use crate::key::Key;
use crate::lookup::{Lookup, Stop, Unfetched};
use crate::row::Row;
use crate::rulebook::{Price, Rule};
use crate::tier::Advance;
use crate::wallet::Funding;

/// A rule that matches, and what it would give before caps.
pub(crate) struct Candidate<'a> {
    pub(crate) rule: &'a Rule,
    version: u64,
    slot: Option<Key>,
    terms: Option<(Key, proto::RecurringRow)>,
    price: Result<(i64, proto::Arithmetic), Unpayable>,
    advance: Option<Advance>,
}

/// A reward to be made.
pub(crate) struct Grant<'a> {
    pub(crate) id: RewardId,
    pub(crate) kind: proto::RewardKind,
    pub(crate) rule: &'a Rule,
    /// Of the rulebook.
    pub(crate) version: u64,
    /// `rewarded` or `clipped`.
    pub(crate) code: Code,
    /// Which of the judgement's rules says so.
    pub(crate) said: usize,
    pub(crate) amount: i64,
    /// What it would have been without caps, where they lowered it.
    pub(crate) uncapped: Option<i64>,
    pub(crate) funding: Funding,
}

/// A reward before its caps.
struct Claim {
    id: RewardId,
    kind: proto::RewardKind,
    amount: i64,
    arithmetic: proto::Arithmetic,
}

impl<'a> Candidate<'a> {
    /// `rule`, with what it gives for `facts`.
    pub(crate) fn price(
        look: &mut Lookup<'a, '_>,
        facts: &Facts<'a>,
        tab: &Tab,
        rule: &'a Rule,
        version: u64,
        slot: Option<Key>,
        terms: Option<(Key, proto::RecurringRow)>,
    ) -> Result<Self, Stop> {
        let mut advance = None;
        let price = match &rule.price {
            Price::Plain(formula) => formula.amount(facts),
            Price::Tiered(tiers) => {
                // A metric per customer is not counted without one; the rule did not match then.
                let key = tiers.key(facts, rule).ok_or(Stop::Unfetched)?;
                match tiers.advance(look, facts, tab, key)? {
                    Ok(found) => tiers.amount(facts, advance.insert(found)),
                    Err(unpayable) => Err(unpayable),
                }
            }
        };
        Ok(Self { rule, version, slot, terms, price, advance })
    }
}

impl Candidate<'_> {
    /// What it would give before caps; `None` where there is no amount.
    pub(crate) fn amount(&self) -> Option<i64> {
        self.price.as_ref().ok().map(|(amount, _)| *amount)
    }

    pub(crate) fn into_arithmetic(self) -> Option<proto::Arithmetic> {
        self.price.ok().map(|(_, arithmetic)| arithmetic)
    }
}

impl<'a> Trial<'a, '_> {
    /// Makes what `candidate` gives, as far as caps and funds allow.
    pub(crate) fn reward(
        &mut self,
        look: &mut Lookup<'a, '_>,
        candidate: Candidate<'a>,
    ) -> Result<(), Stop> {
        let Candidate { rule, version, slot, terms, price, advance } = candidate;
        let (amount, arithmetic) = match price {
            Ok(price) => price,
            Err((code, detail)) => {
                self.refuse(rule, code, detail);
                return Ok(());
            }
        };
        self.is_conversion = true;
        let facts = self.facts;
        let made_up = self.make_up(look, rule, advance.as_ref(), amount)?;
        let id = reward_id(facts.conversion.id, &rule.key);
        let kind = proto::RewardKind::Conversion;
        let mut earned = 0;
        if let Some(paid) =
            self.claim(look, rule, version, Claim { id, kind, amount, arithmetic })?
        {
            earned = paid;
            self.take(look, id, slot, terms)?;
        }
        if let Some((amount, arithmetic)) = made_up {
            let id = adjustment_id(id);
            let kind = proto::RewardKind::TierAdjustment;
            let claim = Claim { id, kind, amount, arithmetic };
            earned += self.claim(look, rule, version, claim)?.unwrap_or(0);
        }
        if let Some((tiers, advance)) = rule.tiers().zip(advance) {
            advance.count(look, facts, &mut self.tab, tiers.metric, earned)?;
        }
        Ok(())
    }

    /// What earlier conversions earn more, now that `rule` has reached a tier.
    fn make_up(
        &mut self,
        look: &mut Lookup<'a, '_>,
        rule: &Rule,
        advance: Option<&Advance>,
        amount: i64,
    ) -> Result<Option<(i64, proto::Arithmetic)>, Unfetched> {
        let facts = self.facts;
        let Some((tiers, advance)) = rule.tiers().zip(advance) else { return Ok(None) };
        let Some(key) = tiers.sums_key(facts, rule) else { return Ok(None) };
        tiers.make_up(look, facts, &mut self.tab, (key, advance), amount)
    }

    /// Grants what is left of a claim after caps, if it can be paid for; how much that is.
    fn claim(
        &mut self,
        look: &mut Lookup<'a, '_>,
        rule: &'a Rule,
        version: u64,
        claim: Claim,
    ) -> Result<Option<i64>, Stop> {
        let Claim { id, kind, amount, arithmetic } = claim;
        let (facts, currency) = (self.facts, self.facts.rulebook.currency);
        let mut said = proto::RuleDecision {
            arithmetic: Some(arithmetic),
            currency: currency.to_string(),
            ..refused(rule, Code::ZeroAmount, "")
        };
        if amount == 0 {
            self.say(said, Code::ZeroAmount, "");
            return Ok(None);
        }
        let meters = self.meters(look, rule, kind)?;
        let capped = cap::check(&meters, amount, facts);
        let binding = capped.binding.map_or("", |i| meters[i].cap.key.as_str());
        let funded = match capped.payable {
            None => Err((Code::CapExceeded, binding)),
            Some(payable) => {
                let may_wait = facts.rulebook.may_wait;
                self.purse.pay(currency, payable, may_wait).map(|funding| (payable, funding))
            }
        };
        said.caps = capped.uses;
        let (payable, funding) = match funded {
            Ok(funded) => funded,
            Err((code, detail)) => {
                (said.code, said.detail) = (code.as_str().to_owned(), detail.to_owned());
                // Nothing is taken of what refuses.
                said.caps.iter_mut().for_each(|cap| cap.taken = 0);
                self.say(said, code, detail);
                return Ok(None);
            }
        };
        for (meter, cap) in meters.into_iter().zip(&said.caps) {
            self.tab.add(look, facts, meter.key, cap.taken)?;
        }
        let code = if payable < amount { Code::Clipped } else { Code::Rewarded };
        (said.code, said.detail) = (code.as_str().to_owned(), binding.to_owned());
        (said.reward_id, said.amount) = (Some(id.to_proto()), payable);
        let uncapped = (payable < amount).then_some(amount);
        let said_at = self.rules.len();
        self.rules.push(said);
        self.grants.push(Grant {
            id,
            kind,
            rule,
            version,
            code,
            said: said_at,
            amount: payable,
            uncapped,
            funding,
        });
        Ok(Some(payable))
    }

    /// The caps of `rule` that are for this event, by key. What earlier conversions are made up for counts as
    /// money only, not as a reward more.
    fn meters(
        &self,
        look: &mut Lookup<'a, '_>,
        rule: &'a Rule,
        kind: proto::RewardKind,
    ) -> Result<Vec<Meter<'a>>, Unfetched> {
        let mut meters = Vec::with_capacity(rule.caps.len());
        for cap in &rule.caps {
            if kind != proto::RewardKind::Conversion && cap.metric != CapMetric::Amount {
                continue;
            }
            let Subject::Is(subject) = cap.subject(rule, self.facts) else { continue };
            let key = cap.counter(self.facts, subject);
            let used = self.tab.most_used(look, self.facts, &key)?;
            meters.push(Meter { cap, key, used });
        }
        Ok(meters)
    }

    /// The reward takes its uniqueness slot, and its place in a series.
    fn take(
        &mut self,
        look: &mut Lookup<'a, '_>,
        id: RewardId,
        slot: Option<Key>,
        terms: Option<(Key, proto::RecurringRow)>,
    ) -> Result<(), Unfetched> {
        match slot {
            Some(slot @ Key::Days(..)) => self.tab.add(look, self.facts, slot, 1)?,
            Some(slot) => {
                let row = proto::UniqueRow { reward_id: id.to_proto(), at_ms: self.facts.now_ms };
                self.tab.put(slot, Row::Unique(row));
            }
            None => {}
        }
        if let Some((key, row)) = terms {
            self.tab.put(key, Row::Recurring(row));
        }
        Ok(())
    }
}

/// The id of the reward that makes up for what went before the one with this id.
fn adjustment_id(reward: RewardId) -> RewardId {
    RewardId::from_u128(hash128("tier_adjustment", &[&reward.to_bytes()]))
}
