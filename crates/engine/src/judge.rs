//! What the rules say of an attributed event (`domain.md` 4.3 steps 5 and 7): which of them match, and which
//! of those give a reward. [`crate::reward`] makes it.

use schemas::proto;

use crate::attribution::By;
use crate::cap::Subject;
use crate::counter::Tab;
use crate::decision::Code;
use crate::facts::Facts;
use crate::key::Key;
use crate::lookup::{Lookup, Stop};
use crate::recurring;
use crate::reward::{Candidate, Grant};
use crate::row::Row;
use crate::rulebook::{Binding, Combine, Rule, Rulebook};
use crate::wallet::Purse;

/// What the rules said.
pub(crate) struct Judgement<'a> {
    pub(crate) code: Code,
    pub(crate) detail: String,
    /// Each rule that takes such events, as far as they were tried.
    pub(crate) rules: Vec<proto::RuleDecision>,
    pub(crate) grants: Vec<Grant<'a>>,
    /// Counters and slots as the event leaves them.
    pub(crate) rows: Vec<(Key, Option<Row>)>,
}

/// What the rules say of `facts`, paid from `wallet`.
pub(crate) fn judge<'a>(
    look: &mut Lookup<'a, '_>,
    facts: &Facts<'a>,
    wallet: Option<&proto::WalletRow>,
) -> Result<Judgement<'a>, Stop> {
    let judgement = Trial::of(facts, wallet).run(look);
    if matches!(judgement, Err(Stop::Unfetched)) {
        ask(look, facts);
    }
    judgement
}

/// Asks for every row that judging `facts` may read.
fn ask<'a>(look: &mut Lookup<'a, '_>, facts: &Facts<'a>) {
    for rule in facts.rulebook.rules.iter().filter(|rule| rule.takes(facts)) {
        let Ok(rule) = in_terms(look, facts, rule).map(|(rule, _)| rule) else { continue };
        if mismatch(rule, facts).is_some() {
            continue;
        }
        look.ask(rule.caps.iter().filter_map(|cap| match cap.subject(rule, facts) {
            Subject::Is(subject) => Some(cap.counter(facts, subject)),
            Subject::Nobody | Subject::Missing(_) => None,
        }));
        let slot = rule.uniqueness.and_then(|unique| unique.key(facts));
        let recurring = rule.recurring.and_then(|_| recurring::key(facts, rule));
        if let Some(tiers) = rule.tiers() {
            look.ask([tiers.key(facts, rule), tiers.sums_key(facts, rule)].into_iter().flatten());
        }
        let may_pass_over = slot.is_some() || recurring.is_some();
        look.ask([slot, recurring].into_iter().flatten());
        if !may_pass_over && facts.rulebook.combine == Combine::FirstMatch {
            return;
        }
    }
}

/// One event before the rules.
pub(crate) struct Trial<'a, 'f> {
    pub(crate) facts: &'f Facts<'a>,
    pub(crate) purse: Purse<'f>,
    pub(crate) tab: Tab,
    pub(crate) rules: Vec<proto::RuleDecision>,
    pub(crate) grants: Vec<Grant<'a>>,
    /// A rule took the event to an amount.
    pub(crate) is_conversion: bool,
    /// What was said against it by the rule that it came furthest with.
    refusal: (Code, String),
}

impl<'a, 'f> Trial<'a, 'f> {
    fn of(facts: &'f Facts<'a>, wallet: Option<&'f proto::WalletRow>) -> Self {
        Self {
            facts,
            purse: Purse::of(wallet),
            tab: Tab::default(),
            rules: Vec::new(),
            grants: Vec::new(),
            is_conversion: false,
            refusal: (Code::ConditionsNotMet, "no_rule".to_owned()),
        }
    }

    /// Tries the rules in their order.
    fn run(mut self, look: &mut Lookup<'a, '_>) -> Result<Judgement<'a>, Stop> {
        let rulebook = self.facts.rulebook;
        let mut candidates = Vec::new();
        for rule in rulebook.rules.iter().filter(|rule| rule.takes(self.facts)) {
            let Some(candidate) = self.candidate(look, rule)? else { continue };
            match rulebook.combine {
                Combine::FirstMatch => {
                    self.reward(look, candidate)?;
                    break;
                }
                Combine::Sum => self.reward(look, candidate)?,
                Combine::Best => candidates.push(candidate),
            }
        }
        self.reward_best(look, candidates)?;
        self.count(look)?;
        self.bind(look)?;
        Ok(self.judgement())
    }

    /// The rule, if it matches; else why it does not is noted.
    fn candidate(
        &mut self,
        look: &mut Lookup<'a, '_>,
        rule: &'a Rule,
    ) -> Result<Option<Candidate<'a>>, Stop> {
        let facts = self.facts;
        let (rule, version) = in_terms(look, facts, rule)?;
        if let Some((code, detail)) = mismatch(rule, facts) {
            self.refuse(rule, code, detail);
            return Ok(None);
        }
        let slot = rule.uniqueness.and_then(|unique| unique.key(facts));
        let is_taken = match &slot {
            Some(slot @ Key::Days(..)) => self.tab.most_used(look, facts, slot)? > 0,
            Some(slot) => self.tab.row(look, slot)?.is_some(),
            None => false,
        };
        if is_taken {
            self.refuse(rule, Code::AlreadyRewarded, "");
            return Ok(None);
        }
        let mut terms = None;
        if let Some((recurring, key)) = rule.recurring.zip(recurring::key(facts, rule)) {
            let row = look.recurring(key.clone())?;
            if let Some((code, detail)) = recurring.ended(facts, row) {
                self.refuse(rule, code, detail);
                return Ok(None);
            }
            terms = Some((key, recurring::rewarded(row, facts, version)));
        }
        Candidate::price(look, facts, &self.tab, rule, version, slot, terms).map(Some)
    }

    /// Of several rules the one that gives the most for this event, the first of equals.
    fn reward_best(
        &mut self,
        look: &mut Lookup<'a, '_>,
        candidates: Vec<Candidate<'a>>,
    ) -> Result<(), Stop> {
        let most = candidates.iter().filter_map(Candidate::amount).max();
        let best = candidates.iter().position(|candidate| candidate.amount() == most);
        for (at, candidate) in candidates.into_iter().enumerate() {
            match candidate.amount() {
                Some(_) if best != Some(at) => self.outdone(candidate),
                _ => self.reward(look, candidate)?,
            }
        }
        Ok(())
    }

    fn outdone(&mut self, candidate: Candidate<'a>) {
        let (rule, arithmetic) = (candidate.rule, candidate.into_arithmetic());
        self.refuse(rule, Code::ConditionsNotMet, "not_best");
        if let Some(said) = self.rules.last_mut() {
            said.arithmetic = arithmetic;
        }
    }

    /// Counts the conversion in the metrics that conditions of the rulebook ask for.
    fn count(&mut self, look: &mut Lookup<'a, '_>) -> Result<(), Stop> {
        if !self.is_conversion {
            return Ok(());
        }
        let earned = self.grants.iter().fold(0i64, |sum, grant| sum.saturating_add(grant.amount));
        for metric in &self.facts.rulebook.asked {
            metric.count(look, self.facts, &mut self.tab, earned)?;
        }
        Ok(())
    }

    /// Binds the customer to the aktvator, if the rulebook says so.
    fn bind(&mut self, look: &mut Lookup<'a, '_>) -> Result<(), Stop> {
        let facts = self.facts;
        let found = facts.attribution;
        let binds = match facts.rulebook.attribution.binding {
            Binding::None => false,
            Binding::FirstConversion => !self.grants.is_empty(),
            Binding::LastTouch => found.by != By::Customer,
        };
        let Some(customer) = facts.conversion.customer().filter(|_| binds) else { return Ok(()) };
        let key = Key::Binding(facts.scope, facts.campaign, customer);
        let bound = look.binding(key.clone())?;
        let stays = match facts.rulebook.attribution.binding {
            Binding::FirstConversion => bound.is_some(),
            _ => bound.is_some_and(|bound| bound.aktvator_id == *found.aktvator_id),
        };
        if !stays {
            let row = proto::BindingRow {
                aktvator_id: found.aktvator_id.clone(),
                link_id: found.link.map(|link| link.to_proto()),
                code: found.code.to_owned(),
            };
            self.tab.put(key, Row::Binding(row));
        }
        Ok(())
    }

    /// Notes what `rule` says against the event.
    pub(crate) fn refuse(&mut self, rule: &Rule, code: Code, detail: &str) {
        self.say(refused(rule, code, detail), code, detail);
    }

    /// The same, with all that it has to say.
    pub(crate) fn say(&mut self, said: proto::RuleDecision, code: Code, detail: &str) {
        self.rules.push(said);
        let furthest = if self.rules.len() == 1 { 0 } else { stage(self.refusal.0) };
        if stage(code) > furthest {
            self.refusal = (code, detail.to_owned());
        }
    }

    fn judgement(self) -> Judgement<'a> {
        let granted = |grant: &Grant<'_>| {
            let said = &self.rules[grant.said];
            (grant.code, said.detail.clone())
        };
        let clipped = self.grants.iter().find(|grant| grant.code == Code::Clipped);
        let decisive = clipped.or(self.grants.first()).map(granted);
        let (code, detail) = decisive.unwrap_or(self.refusal);
        let Self { rules, grants, tab, .. } = self;
        Judgement { code, detail, rules, grants, rows: tab.into_rows() }
    }
}

/// The rule as it stands for this event, and its rulebook's version: where its terms are locked for
/// aktvator and customer, of the version that they began with, as long as that has the rule.
fn in_terms<'a>(
    look: &mut Lookup<'a, '_>,
    facts: &Facts<'a>,
    rule: &'a Rule,
) -> Result<(&'a Rule, u64), Stop> {
    let locked = rule.recurring.filter(|recurring| recurring.lock_terms);
    let Some(key) = locked.and_then(|_| recurring::key(facts, rule)) else {
        return Ok((rule, facts.version));
    };
    let began = look.recurring(key)?.map_or(facts.version, |row| row.rulebook_version);
    if began == facts.version {
        return Ok((rule, began));
    }
    let rulebook: Option<&Rulebook> =
        look.rulebook(Key::Rulebook(facts.scope, facts.campaign, began))?.map(AsRef::as_ref);
    let known = rulebook.and_then(|rulebook| rulebook.rules.iter().find(|r| r.key == rule.key));
    Ok(known.map_or((rule, facts.version), |rule| (rule, began)))
}

/// Why `rule` is not for these facts. What it could not count, because the event does not say whose it
/// is, the rule does not take: a cap per customer must not be passed by leaving the customer out.
fn mismatch(rule: &Rule, facts: &Facts<'_>) -> Option<(Code, &'static str)> {
    if !rule.active.is_open(facts) {
        return Some((Code::ConditionsNotMet, "not_active"));
    }
    if !rule.eligibility.holds(facts) {
        return Some((Code::NotEligible, ""));
    }
    if let Some(what) = uncountable(rule, facts) {
        return Some((Code::NotEligible, what));
    }
    (!rule.when.holds(facts)).then_some((Code::ConditionsNotMet, ""))
}

fn uncountable(rule: &Rule, facts: &Facts<'_>) -> Option<&'static str> {
    let tiered = rule.tiers().is_some_and(|tiers| tiers.metric.is_per_customer());
    if (tiered || rule.recurring.is_some()) && facts.conversion.customer().is_none() {
        return Some("customer_missing");
    }
    rule.caps.iter().find_map(|cap| match cap.subject(rule, facts) {
        Subject::Missing(what) => Some(what),
        Subject::Nobody | Subject::Is(_) => None,
    })
}

/// Of several rules that did not give a reward, the one that came furthest speaks for the event.
const fn stage(code: Code) -> u8 {
    match code {
        Code::NotEligible => 1,
        Code::ConditionsNotMet => 2,
        Code::AlreadyRewarded => 3,
        _ => 4,
    }
}

pub(crate) fn refused(rule: &Rule, code: Code, detail: &str) -> proto::RuleDecision {
    proto::RuleDecision {
        rule_key: rule.key.clone(),
        code: code.as_str().to_owned(),
        detail: detail.to_owned(),
        ..Default::default()
    }
}
