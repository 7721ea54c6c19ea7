//! What the rules say of an attributed event: the first that matches, its amount, its caps, and
//! whether the wallet can pay (`domain.md` 4.3 steps 5 and 7 to 12).

use schemas::hash::reward_id;
use schemas::id::RewardId;
use schemas::proto;

use crate::cap::{self, Cap};
use crate::decision::Code;
use crate::facts::Facts;
use crate::key::Key;
use crate::lookup::{Lookup, Stop};
use crate::rulebook::Rule;
use crate::wallet::{self, Funding};

/// What the rules said.
pub(crate) struct Judgement<'a> {
    pub(crate) code: Code,
    pub(crate) detail: String,
    /// Each rule that takes such events, as far as they were tried.
    pub(crate) rules: Vec<proto::RuleDecision>,
    pub(crate) grant: Option<Grant<'a>>,
}

/// A reward to be made.
pub(crate) struct Grant<'a> {
    pub(crate) id: RewardId,
    pub(crate) rule: &'a Rule,
    pub(crate) amount: i64,
    /// What it would have been without caps, where they lowered it.
    pub(crate) uncapped: Option<i64>,
    pub(crate) funding: Funding,
    /// Counters with their new values.
    pub(crate) counters: Vec<(Key, i64)>,
    /// The slot it takes.
    pub(crate) unique: Option<Key>,
}

/// What the rules say of `facts`, paid from `wallet`.
pub(crate) fn judge<'a>(
    look: &mut Lookup<'a, '_>,
    facts: &Facts<'a>,
    wallet: Option<&proto::WalletRow>,
) -> Result<Judgement<'a>, Stop> {
    let judgement = judge_in_order(look, facts, wallet);
    if matches!(judgement, Err(Stop::Unfetched)) {
        ask(look, facts);
    }
    judgement
}

/// Asks for every counter and slot that judging `facts` may read.
fn ask(look: &mut Lookup<'_, '_>, facts: &Facts<'_>) {
    let taking = facts.rulebook.rules.iter().filter(|rule| rule.takes(facts));
    for rule in taking.filter(|rule| mismatch(rule, facts).is_none()) {
        look.ask(rule.caps.iter().filter_map(|cap| cap.counter(facts)));
        let slot = rule.uniqueness.and_then(|unique| unique.key(facts));
        let may_pass_over = slot.is_some();
        look.ask(slot);
        if !may_pass_over {
            return;
        }
    }
}

/// Tries the rules in their order.
fn judge_in_order<'a>(
    look: &mut Lookup<'a, '_>,
    facts: &Facts<'a>,
    wallet: Option<&proto::WalletRow>,
) -> Result<Judgement<'a>, Stop> {
    let mut rules = Vec::new();
    let mut refusal = (Code::ConditionsNotMet, "no_rule");
    let mut furthest = 0;
    for rule in facts.rulebook.rules.iter().filter(|rule| rule.takes(facts)) {
        let unique = rule.uniqueness.and_then(|unique| unique.key(facts));
        let mismatch = match mismatch(rule, facts) {
            None if taken(look, unique.clone())? => Some((Code::AlreadyRewarded, "")),
            found => found,
        };
        let Some((code, detail)) = mismatch else {
            return pay(look, facts, wallet, rule, unique, rules);
        };
        rules.push(refused(rule, code, detail));
        if stage(code) > furthest {
            furthest = stage(code);
            refusal = (code, detail);
        }
    }
    let (code, detail) = refusal;
    Ok(Judgement { code, detail: detail.to_owned(), rules, grant: None })
}

/// Why `rule` is not for these facts. A cap per customer must not be passed by leaving the customer
/// out: what it could not count, the rule does not take.
fn mismatch(rule: &Rule, facts: &Facts<'_>) -> Option<(Code, &'static str)> {
    if !rule.eligibility.holds(facts) {
        Some((Code::NotEligible, ""))
    } else if facts.conversion.customer().is_none() && rule.caps.iter().any(Cap::is_per_customer) {
        Some((Code::NotEligible, "customer_missing"))
    } else if !rule.when.holds(facts) {
        Some((Code::ConditionsNotMet, ""))
    } else {
        None
    }
}

/// Of several rules that did not match, the one that came furthest speaks for the event.
const fn stage(code: Code) -> u8 {
    match code {
        Code::NotEligible => 1,
        Code::ConditionsNotMet => 2,
        _ => 3,
    }
}

fn taken(look: &mut Lookup<'_, '_>, slot: Option<Key>) -> Result<bool, Stop> {
    match slot {
        Some(slot) => Ok(look.unique(slot)?.is_some()),
        None => Ok(false),
    }
}

fn refused(rule: &Rule, code: Code, detail: &str) -> proto::RuleDecision {
    proto::RuleDecision {
        rule_key: rule.key.clone(),
        code: code.as_str().to_owned(),
        detail: detail.to_owned(),
        ..Default::default()
    }
}

/// `rule` matched: whatever comes of it is the judgement.
fn pay<'a>(
    look: &mut Lookup<'a, '_>,
    facts: &Facts<'a>,
    wallet: Option<&proto::WalletRow>,
    rule: &'a Rule,
    unique: Option<Key>,
    mut rules: Vec<proto::RuleDecision>,
) -> Result<Judgement<'a>, Stop> {
    let currency = facts.rulebook.currency;
    let (amount, arithmetic) = match rule.reward.amount(&facts.conversion.event) {
        Ok(computed) => computed,
        Err((code, detail)) => {
            rules.push(refused(rule, code, detail));
            return Ok(Judgement { code, detail: detail.to_owned(), rules, grant: None });
        }
    };
    let counters: Vec<Option<Key>> = rule.caps.iter().map(|cap| cap.counter(facts)).collect();
    let used = used(look, &counters)?;
    let capped = cap::check(&rule.caps, &used, amount, facts);
    let binding = capped.binding.map_or("", |i| rule.caps[i].key.as_str());
    let funded = match capped.payable {
        None => Err((Code::CapExceeded, binding)),
        Some(payable) => wallet::funding(wallet, currency, payable).map(|f| (payable, f)),
    };
    let mut said = proto::RuleDecision {
        caps: capped.uses,
        arithmetic: Some(arithmetic),
        currency: currency.to_string(),
        ..refused(rule, Code::Rewarded, binding)
    };
    let (code, detail, grant) = match funded {
        Err((code, detail)) => (code, detail, None),
        Ok((payable, funding)) => {
            let id = reward_id(facts.conversion.id, &rule.key);
            said.reward_id = Some(id.to_proto());
            said.amount = payable;
            let code = if payable < amount { Code::Clipped } else { Code::Rewarded };
            let counters = counters
                .into_iter()
                .zip(&said.caps)
                .filter_map(|(key, cap)| Some((key?, cap.used_before + cap.taken)))
                .collect();
            let uncapped = (payable < amount).then_some(amount);
            let grant = Grant { id, rule, amount: payable, uncapped, funding, counters, unique };
            (code, binding, Some(grant))
        }
    };
    said.code = code.as_str().to_owned();
    said.detail = detail.to_owned();
    rules.push(said);
    Ok(Judgement { code, detail: detail.to_owned(), rules, grant })
}

/// What the counters stand at; a cap without a counter is unused.
fn used(look: &mut Lookup<'_, '_>, counters: &[Option<Key>]) -> Result<Vec<i64>, Stop> {
    let read = |key: &Option<Key>| match key {
        Some(key) => Ok(look.counter(key.clone())?.copied().unwrap_or(0)),
        None => Ok(0),
    };
    counters.iter().map(read).collect()
}
