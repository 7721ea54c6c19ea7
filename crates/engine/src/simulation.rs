//! What a rulebook would have made of events: a fold over a campaign as it is now, that begins with empty
//! counters and a full wallet, and keeps nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use schemas::id::CampaignId;
use schemas::partition::Scope;
use schemas::proto::{self, outcome};

use crate::entry::Entry;
use crate::fold::{Fold, Settings};
use crate::key::Key;
use crate::row::Row;
use crate::rulebook::Rulebook;

/// Funds that no rulebook comes to the end of, in minor units.
const FUNDS: i64 = 1 << 60;
/// Events decided in one step.
const STEP: usize = 1_000;

/// What came of events, or of one rule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Rewards made.
    pub rewards: u64,
    /// What they come to, in minor units of the rulebook's currency.
    pub amount: i64,
}

/// What came of all events.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Events decided.
    pub events: u64,
    /// How many, by decision code.
    pub by_code: BTreeMap<String, u64>,
    /// By key of the rule.
    pub by_rule: BTreeMap<String, Tally>,
    /// Of all rules.
    pub all: Tally,
}

/// A rulebook under trial.
#[derive(Debug)]
pub struct Simulation {
    fold: Fold,
    scope: Scope,
    campaign: CampaignId,
    sets: u64,
    totals: Totals,
}

impl Simulation {
    /// Tries `rulebook`, whichever time events are of.
    #[must_use]
    pub fn new(scope: Scope, campaign: CampaignId, rulebook: Arc<Rulebook>) -> Self {
        let mut fold = Fold::new(Settings::default(), 0);
        let funds = proto::WalletRow {
            currency: rulebook.currency().as_str().to_owned(),
            available: FUNDS,
            external: -FUNDS,
            ..Default::default()
        };
        let version = proto::RulebookVersion { version: 1, effective_from_ms: i64::MIN };
        fold.learn(Key::Wallet(scope), Some(Row::Wallet(funds)));
        fold.learn(Key::Rulebooks(scope, campaign), Some(Row::Rulebooks(vec![version])));
        fold.learn(Key::Rulebook(scope, campaign, 1), Some(Row::Rulebook(rulebook)));
        Self { fold, scope, campaign, sets: 0, totals: Totals::default() }
    }

    /// The keys of what deciding `entries` needs to know of the catalog: [`Simulation::learn`] what stands under
    /// them, and ask again until there are none.
    pub fn wants(&mut self, entries: &[Entry]) -> Vec<Key> {
        loop {
            let wanted = self.fold.wants(entries);
            let is_catalog = |key: &Key| {
                matches!(
                    key,
                    Key::Campaign(..)
                        | Key::Gigs(..)
                        | Key::Aktvator(..)
                        | Key::Link(..)
                        | Key::Code(..)
                )
            };
            let (catalog, own): (Vec<Key>, Vec<Key>) = wanted.into_iter().partition(is_catalog);
            let is_done = own.is_empty();
            own.into_iter().for_each(|key| self.fold.learn(key, None));
            if !catalog.is_empty() || is_done {
                return catalog;
            }
        }
    }

    /// What stands under a key that was wanted. The campaign counts as active, whatever it is.
    pub fn learn(&mut self, key: Key, row: Option<Row>) {
        let row = match row {
            Some(Row::Campaign(mut state)) if key == Key::Campaign(self.scope, self.campaign) => {
                "active".clone_into(&mut state.status);
                Some(Row::Campaign(state))
            }
            row => row,
        };
        self.fold.learn(key, row);
    }

    /// Decides `entries` in their order; nothing of the catalog may be wanted for them any more.
    pub fn decide(&mut self, entries: &[Entry]) {
        for mut step in entries.chunks(STEP) {
            while !step.is_empty() {
                let decided = self.fold.decide(step);
                step = &step[decided..];
                let unknown = if step.is_empty() { Vec::new() } else { self.fold.wants(step) };
                if decided == 0 && unknown.is_empty() {
                    return;
                }
                unknown.into_iter().for_each(|key| self.fold.learn(key, None));
            }
            let verdict = self.fold.take();
            verdict.outcomes.iter().for_each(|outcome| self.totals.count(outcome));
            self.sets += 1;
            // Nobody stores it: what is asked for again is still known.
            self.fold.committed(self.sets);
        }
    }

    /// What came of the events so far.
    #[must_use]
    pub fn totals(&self) -> &Totals {
        &self.totals
    }
}

impl Totals {
    fn count(&mut self, outcome: &proto::Outcome) {
        let Some(outcome::Body::EventDecided(event)) = &outcome.body else { return };
        self.events += 1;
        *self.by_code.entry(event.code.clone()).or_default() += 1;
        for reward in &event.rewards {
            let rule = self.by_rule.entry(reward.rule_key.clone()).or_default();
            for tally in [rule, &mut self.all] {
                tally.rewards += 1;
                tally.amount = tally.amount.saturating_add(reward.amount);
            }
        }
    }
}
