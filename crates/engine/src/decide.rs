//! The second phase: the fold. The one place that knows the order of checks and effects.

use std::collections::BTreeMap;

use bytes::Bytes;
use schemas::partition::Scope;
use schemas::proto::{self, outcome};

use crate::claim::{self, Standing};
use crate::decision::Code;
use crate::entry::{Body, Conversion, Entry};
use crate::judge::{Grant, Judgement, judge};
use crate::key::Key;
use crate::lookup::{Lookup, Stop};
use crate::resolve::{Trail, resolve};
use crate::row::Row;
use crate::snapshot::{Snapshot, Write};
use crate::wallet::{self, Funding};

/// What the fold is set to. It must not change while a log lives: a replay would differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How much later than its first `acceptedAt`, in milliseconds, a key that led to no reward may
    /// be used again as new. By default 90 days.
    pub claim_retention_ms: i64,
    /// Held rewards released by one record; the rest is left to continuations. 0 counts as 1: a step
    /// that releases nothing would follow itself for ever.
    pub holds_per_step: u32,
}

impl Settings {
    /// How many held rewards one record releases.
    pub(crate) fn step(&self) -> u32 {
        self.holds_per_step.max(1)
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self { claim_retention_ms: 90 * 86_400_000, holds_per_step: 256 }
    }
}

/// Rows that most events write: event, reward, and a few counters or slots.
const WRITES_EACH: usize = 4;

/// What one batch changes.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// One per key.
    pub writes: Vec<Write>,
    /// In log order.
    pub outcomes: Vec<proto::Outcome>,
    /// Records that the owner must append to `events` after it has committed. They also stand under
    /// [`Key::Continuations`] until they are decided, so that a new owner appends what its predecessor
    /// may not have; a repeat does nothing.
    pub appends: Vec<proto::Record>,
    /// The latest `acceptedAt` seen, in milliseconds since the epoch.
    pub fold_time_ms: i64,
}

/// Decides a batch, as [`batch_len`](crate::plan::batch_len) cuts it, over a `snapshot` that
/// [`Plan`](crate::plan::Plan) wants nothing more of. Afterwards the snapshot holds what was decided.
///
/// Any split of a log into batches gives the same rows and outcomes, except that index and ledger
/// rows hold what one batch decided for one scope.
///
/// # Panics
/// Where the snapshot lacks a row: going on as if it were absent could pay twice.
pub fn decide(
    settings: &Settings,
    fold_time_ms: i64,
    entries: &[Entry],
    snapshot: &mut Snapshot,
) -> Verdict {
    snapshot.make_room(entries.len() * WRITES_EACH);
    let mut fold = Fold::new(settings, fold_time_ms, snapshot);
    fold.outcomes.reserve(entries.len());
    for entry in entries {
        fold.now_ms = fold.now_ms.max(entry.accepted_at_ms);
        match &entry.body {
            Body::Conversion(event) => fold.conversion(entry, event),
            _ => fold.command(entry),
        }
    }
    fold.finish()
}

/// The state of one batch while it is decided.
pub(crate) struct Fold<'s> {
    pub(crate) settings: &'s Settings,
    /// Fold time.
    pub(crate) now_ms: i64,
    pub(crate) snapshot: &'s mut Snapshot,
    pub(crate) appends: Vec<proto::Record>,
    outcomes: Vec<proto::Outcome>,
    lists: BTreeMap<Scope, Lists>,
    /// The scope of the last outcome, and its organization's id as bytes.
    whose: Option<(Scope, Bytes)>,
}

/// What one batch adds to the lists of one scope.
struct Lists {
    /// Of the first entry that adds.
    offset: u64,
    events: proto::IndexRow,
    rewards: proto::IndexRow,
    ledger: Vec<proto::LedgerTransaction>,
}

impl<'s> Fold<'s> {
    fn new(settings: &'s Settings, now_ms: i64, snapshot: &'s mut Snapshot) -> Self {
        let (outcomes, appends, lists) = Default::default();
        Self { settings, now_ms, snapshot, appends, outcomes, lists, whose: None }
    }

    fn finish(self) -> Verdict {
        for (scope, lists) in self.lists {
            let Lists { offset, events, rewards, ledger } = lists;
            if !events.ids.is_empty() {
                self.snapshot.put(Key::EventIndex(scope, offset), Some(Row::Index(events)));
            }
            if !rewards.ids.is_empty() {
                self.snapshot.put(Key::RewardIndex(scope, offset), Some(Row::Index(rewards)));
            }
            if !ledger.is_empty() {
                let row = proto::LedgerRow { transactions: ledger };
                self.snapshot.put(Key::Ledger(scope, offset), Some(Row::Ledger(row)));
            }
        }
        Verdict {
            writes: self.snapshot.take_writes(),
            outcomes: self.outcomes,
            appends: self.appends,
            fold_time_ms: self.now_ms,
        }
    }

    pub(crate) fn outcome(&mut self, entry: &Entry, body: outcome::Body) {
        let organization = self.organization(entry.scope);
        self.outcomes.push(proto::Outcome {
            organization,
            mode: proto::Mode::from(entry.scope.mode).into(),
            accepted_at_ms: entry.accepted_at_ms,
            body: Some(body),
        });
    }

    /// The id's bytes: neighbouring entries share them.
    fn organization(&mut self, scope: Scope) -> Bytes {
        match &self.whose {
            Some((whose, bytes)) if *whose == scope => bytes.clone(),
            _ => self.whose.insert((scope, scope.organization.to_proto())).1.clone(),
        }
    }

    pub(crate) fn book(&mut self, entry: &Entry, transaction: proto::LedgerTransaction) {
        self.lists(entry).ledger.push(transaction);
    }

    fn lists(&mut self, entry: &Entry) -> &mut Lists {
        self.lists.entry(entry.scope).or_insert_with(|| Lists {
            offset: entry.offset,
            events: proto::IndexRow::default(),
            rewards: proto::IndexRow::default(),
            ledger: Vec::new(),
        })
    }

    fn conversion(&mut self, entry: &Entry, event: &Conversion) {
        let mut look = Lookup::deciding(self.snapshot);
        if let Some(repeat) = repeat(&mut look, entry, event, self.settings) {
            self.outcome(entry, outcome::Body::EventDecided(repeat));
            return;
        }
        let mut trail = Trail::default();
        let judged =
            resolve(&mut look, entry, event, &mut trail).and_then(|facts| judge(&mut look, &facts));
        let judgement = judged.unwrap_or_else(|stop| match stop {
            Stop::Refused(code, detail) => {
                Judgement { code, detail: detail.to_owned(), rules: Vec::new(), grant: None }
            }
            Stop::Unfetched => unreachable!("only planning leaves rows unfetched"),
        });
        let effects = Effects::of(entry, event, trail, judgement, self.now_ms);
        self.apply(entry, event, effects);
    }

    fn apply(&mut self, entry: &Entry, event: &Conversion, effects: Effects) {
        let Effects { decision, decided, reward } = effects;
        let row = proto::EventRow {
            record: entry.bytes.clone(),
            offset: entry.offset,
            decision: Some(decision),
            accepted_at_ms: entry.accepted_at_ms,
            fingerprint: event.event.fingerprint.clone(),
        };
        self.snapshot.put(Key::Event(entry.scope, event.id), Some(Row::Event(Box::new(row))));
        let id = event.event.event_id.clone();
        list(&mut self.lists(entry).events, id, entry);
        if let Some(reward) = reward {
            self.reward(entry, reward);
        }
        self.outcome(entry, outcome::Body::EventDecided(decided));
    }

    fn reward(&mut self, entry: &Entry, reward: Reward) {
        let Reward { key, row, counters, unique, funding } = reward;
        for (key, value) in counters {
            self.snapshot.put(key, Some(Row::Counter(value)));
        }
        if let Some(slot) = unique {
            let taken = proto::UniqueRow { reward_id: row.id.clone(), at_ms: self.now_ms };
            self.snapshot.put(slot, Some(Row::Unique(taken)));
        }
        self.fund(entry, &row, funding);
        list(&mut self.lists(entry).rewards, row.id.clone(), entry);
        self.snapshot.put(key, Some(Row::Reward(row)));
    }

    fn fund(&mut self, entry: &Entry, reward: &proto::RewardRow, funding: Funding) {
        let mut wallet = self.wallet(entry.scope, &reward.currency);
        match funding {
            Funding::Reserved => {
                wallet::reserve(&mut wallet, reward.amount);
                let transaction =
                    reward_transaction(proto::LedgerKind::Reserve, reward, self.now_ms);
                self.book(entry, transaction);
            }
            Funding::Held => {
                let place = wallet::hold(&mut wallet, reward.amount);
                let hold = proto::HoldRow { reward_id: reward.id.clone(), amount: reward.amount };
                self.snapshot.put(Key::Hold(entry.scope, place), Some(Row::Hold(hold)));
            }
        }
        self.snapshot.put(Key::Wallet(entry.scope), Some(Row::Wallet(wallet)));
    }

    /// The wallet as it stands, or an empty one.
    pub(crate) fn wallet(&self, scope: Scope, currency: &str) -> proto::WalletRow {
        let row = Lookup::deciding(self.snapshot).wallet(Key::Wallet(scope));
        row.ok().flatten().cloned().unwrap_or_else(|| wallet::empty(currency))
    }
}

/// The ledger transaction of funding `reward`. It is named by what caused it: a reward is funded
/// once.
pub(crate) fn reward_transaction(
    kind: proto::LedgerKind,
    reward: &proto::RewardRow,
    at_ms: i64,
) -> proto::LedgerTransaction {
    proto::LedgerTransaction {
        id: reward.id.clone(),
        kind: kind.into(),
        at_ms,
        currency: reward.currency.clone(),
        entries: wallet::entries(kind, reward.amount),
        reward_id: Some(reward.id.clone()),
        command_id: None,
    }
}

fn list(index: &mut proto::IndexRow, id: Bytes, entry: &Entry) {
    index.ids.push(id);
    index.last_offset = entry.offset;
    index.last_accepted_at_ms = index.last_accepted_at_ms.max(entry.accepted_at_ms);
}

/// The outcome of a repeated event; `None` where it is not one.
fn repeat(
    look: &mut Lookup<'_, '_>,
    entry: &Entry,
    event: &Conversion,
    settings: &Settings,
) -> Option<proto::EventDecided> {
    let row = look.event(Key::Event(entry.scope, event.id)).ok().flatten()?;
    let code = match claim::standing(row, entry, event, settings) {
        Standing::New => return None,
        Standing::Duplicate => Code::Duplicate,
        Standing::Conflict => Code::IdempotencyConflict,
    };
    let mut decided = decided(event, code);
    if let Some(recorded) = &row.decision {
        decided.campaign_id = recorded.campaign_id.clone();
        decided.gig_id = recorded.gig_id.clone();
        decided.aktvator_id = recorded.aktvator_id.clone();
        decided.link_id = recorded.link_id.clone();
        decided.code_used = recorded.code_used.clone();
    }
    decided.repeat = true;
    Some(decided)
}

/// The outcome of `event`, without whom and what it was decided for. The revenue is as the event
/// says, in its own currency.
fn decided(event: &Conversion, code: Code) -> proto::EventDecided {
    proto::EventDecided {
        event_id: event.event.event_id.clone(),
        event_type: event.event.event_type.clone(),
        code: code.as_str().to_owned(),
        occurred_at_ms: event.occurred_at_ms,
        revenue: event.event.amount.unwrap_or(0),
        currency: event.event.currency.clone().unwrap_or_default(),
        ..Default::default()
    }
}

/// What deciding an event changes.
struct Effects {
    decision: proto::Decision,
    decided: proto::EventDecided,
    reward: Option<Reward>,
}

/// A reward to be written, with all it takes.
struct Reward {
    key: Key,
    row: Box<proto::RewardRow>,
    counters: Vec<(Key, i64)>,
    unique: Option<Key>,
    funding: Funding,
}

impl Effects {
    fn of(
        entry: &Entry,
        event: &Conversion,
        trail: Trail<'_>,
        judgement: Judgement<'_>,
        now_ms: i64,
    ) -> Self {
        let Judgement { code, detail, rules, grant } = judgement;
        let attribution = trail.attribution;
        let decision = proto::Decision {
            code: code.as_str().to_owned(),
            detail,
            decided_at_ms: now_ms,
            campaign_id: trail.campaign.map(|id| {
                // What the client named; its bytes are there.
                event.event.campaign_id.clone().unwrap_or_else(|| id.to_proto())
            }),
            gig_id: trail.gig.cloned(),
            aktvator_id: attribution.map(|found| found.aktvator_id.clone()),
            link_id: attribution.and_then(|found| found.link).map(|id| id.to_proto()),
            code_used: attribution.map(|found| found.code.to_owned()),
            attributed_by: attribution.map(|found| found.by.as_str().to_owned()),
            rulebook_version: trail.rulebook_version,
            rules,
            notes: trail.notes,
        };
        let mut decided = decided(event, code);
        decided.campaign_id = decision.campaign_id.clone();
        decided.gig_id = decision.gig_id.clone();
        decided.aktvator_id = decision.aktvator_id.clone();
        decided.link_id = decision.link_id.clone();
        decided.code_used = decision.code_used.clone();
        let reward = grant.map(|grant| Reward::of(entry, event, &decision, grant));
        decided.rewards = reward.iter().map(created).collect();
        Self { decision, decided, reward }
    }
}

impl Reward {
    fn of(entry: &Entry, event: &Conversion, decision: &proto::Decision, grant: Grant<'_>) -> Self {
        let said = decision.rules.last();
        let (status, reason) = match grant.funding {
            Funding::Reserved => ("pending", ""),
            Funding::Held => ("held", "insufficient_funds"),
        };
        let moved = proto::RewardMove {
            status: status.to_owned(),
            at_ms: decision.decided_at_ms,
            reason: reason.to_owned(),
        };
        let row = Box::new(proto::RewardRow {
            id: said.and_then(|said| said.reward_id.clone()).unwrap_or_default(),
            event_id: event.event.event_id.clone(),
            campaign_id: decision.campaign_id.clone().unwrap_or_default(),
            aktvator_id: decision.aktvator_id.clone().unwrap_or_default(),
            gig_id: decision.gig_id.clone(),
            rule_key: grant.rule.key.clone(),
            rulebook_version: decision.rulebook_version.unwrap_or_default(),
            amount: grant.amount,
            currency: said.map(|said| said.currency.clone()).unwrap_or_default(),
            status: status.to_owned(),
            held_reason: (!reason.is_empty()).then(|| reason.to_owned()),
            uncapped_amount: grant.uncapped,
            created_at_ms: decision.decided_at_ms,
            moves: vec![moved],
            link_id: decision.link_id.clone(),
            occurred_at_ms: event.occurred_at_ms,
        });
        let key = Key::Reward(entry.scope, grant.id);
        let Grant { counters, unique, funding, .. } = grant;
        Self { key, row, counters, unique, funding }
    }
}

fn created(reward: &Reward) -> proto::RewardCreated {
    proto::RewardCreated {
        reward_id: reward.row.id.clone(),
        rule_key: reward.row.rule_key.clone(),
        amount: reward.row.amount,
        currency: reward.row.currency.clone(),
        held: reward.funding == Funding::Held,
    }
}
