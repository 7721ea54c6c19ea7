//! Reversals: an event, or a part of it, is taken back, and with it what it has brought (`domain.md` 4.7).
//!
//! A reversal whose event has not come waits for it a week. When the event comes, the reversal is a record
//! again.

use schemas::hash::hash128;
use schemas::id::{ConversionEventId, RewardId};
use schemas::money::half_even;
use schemas::partition::Scope;
use schemas::proto::{self, LedgerKind, arithmetic::Base, outcome, reverse_event::Event};

use crate::decision::CommandCode;
use crate::entry::{Conversion, Entry};
use crate::fold::Fold;
use crate::key::Key;
use crate::life::{
    APPROVED, CLAWED_BACK, HELD, PAID, PENDING, PROCESSING, REVERSED, ReversalTerms, become_, hour,
    is_paid_out, left, payable,
};
use crate::lookup::Unfetched;
use crate::row::Row;
use crate::undo::{self, Decided, Part, Taken};

/// How long a reversal waits for its event, in milliseconds: a week.
const ORPHAN_MS: i64 = 7 * 86_400_000;
/// Reversals that wait for one event.
const ORPHANS_MAX: usize = 16;
/// The first place among what is due that is of reversals.
const PLACES: u64 = 1 << 63;
/// The reason after which neither slots nor series go on.
const FRAUD: &str = "fraud";

/// The part of an event that has been taken back with this reversal.
#[derive(Clone, Copy, Debug)]
struct Share {
    /// Of the event's own amount or quantity.
    of: i64,
    /// Of these, all reversals together.
    back: i64,
    by_quantity: bool,
    is_whole: bool,
}

/// Reversals that an event finds waiting, and the partition's continuations.
#[derive(Default)]
pub(crate) struct Orphans {
    rows: Vec<(Key, proto::OrphansRow)>,
    continuations: Vec<proto::Record>,
}

/// What a reversal changes.
struct Effects {
    event: Decided,
    share: Share,
    /// The event's amount that this reversal takes back.
    amount: i64,
    rewards: Vec<(Box<proto::RewardRow>, i64)>,
    rows: Vec<(Key, Option<Row>)>,
}

impl Fold {
    /// Decided once per command id, when the event is there or a week later never.
    pub(crate) fn reverse(
        &mut self,
        entry: &Entry,
        id: u128,
        command: &proto::ReverseEvent,
    ) -> Result<(), Unfetched> {
        let scope = entry.scope;
        let opened = self.open(scope).map(drop);
        let key = Key::Command(scope, id);
        let known = self.look().command(key).map(|row| row.map(|row| row.code.clone()));
        let continuations = self.look().continuations(Key::Continuations).map(|row| row.cloned());
        let target = self.target(scope, command)?;
        let event = match target {
            Some(event) => undo::event(&mut self.look(), scope, &event.to_proto())?,
            None => None,
        };
        let known = known?;
        let waited = known.as_deref() == Some(CommandCode::Orphaned.as_str());
        if known.is_some() && (!waited || event.is_none()) {
            opened?;
            continuations?;
            return self.ready();
        }
        let Some(event) = event else {
            opened?;
            continuations?;
            return self.orphan(entry, id, command);
        };
        let effects = self.effects(entry, command, event)?;
        let mut continuations = continuations?.unwrap_or_default();
        opened?;
        self.ready()?;
        if waited {
            continuations.retain(|record| !is_of(record, &command.command_id));
            let row =
                (!continuations.is_empty()).then(|| Row::Continuations(continuations.clone()));
            self.put(Key::Continuations, row);
        }
        let code = effects.as_ref().err().copied().unwrap_or(CommandCode::Applied);
        self.decide_command(entry, id, code, &command.fingerprint);
        if let Ok(effects) = effects {
            self.take_back(entry, command, effects);
            self.go_on_releasing(entry, continuations);
        }
        Ok(())
    }

    /// The event that is meant; `None` where an external reference is not known.
    fn target(
        &mut self,
        scope: Scope,
        command: &proto::ReverseEvent,
    ) -> Result<Option<ConversionEventId>, Unfetched> {
        match &command.event {
            Some(Event::EventId(id)) => Ok(ConversionEventId::from_proto(id)),
            Some(Event::ExternalRef(text)) => {
                let row = self.look().external(Key::External(scope, undo::external(text)))?;
                Ok(row.and_then(|row| ConversionEventId::from_proto(&row.event_id)))
            }
            None => Ok(None),
        }
    }

    fn effects(
        &mut self,
        entry: &Entry,
        command: &proto::ReverseEvent,
        event: Decided,
    ) -> Result<Result<Effects, CommandCode>, Unfetched> {
        let now_ms = self.now_ms;
        let share =
            match event.conversion().map(|conversion| share(&event.row, conversion, command)) {
                Some(Ok(share)) => share,
                Some(Err(code)) => return Ok(Err(code)),
                None => return Ok(Err(CommandCode::AlreadyReversed)),
            };
        let rules = event.decision().map_or(&[][..], |decision| &decision.rules);
        let made: Vec<_> = rules.iter().filter(|said| said.reward_id.is_some()).cloned().collect();
        let ids = made.iter().filter_map(|said| RewardId::from_proto(said.reward_id.as_deref()?));
        let keys: Vec<_> = ids.map(|id| Key::Reward(entry.scope, id)).collect();
        self.look().ask(keys);
        let mut rewards = Vec::new();
        for said in made {
            let id = said.reward_id.as_deref().unwrap_or_default();
            let Some(reward) = self.reward_of(entry, id)? else { continue };
            let terms = self.terms(&event, &reward, now_ms)?;
            let age_ms = entry.accepted_at_ms.saturating_sub(event.row.accepted_at_ms);
            if terms.window_ms.is_some_and(|window| age_ms > window) {
                return Ok(Err(CommandCode::WindowClosed));
            }
            let back = back(&said, &reward, share, terms);
            if back > 0 && self.may_go(&event, &said, &reward)? {
                self.ask_account(entry.scope, &reward.aktvator_id)?;
                rewards.push((reward, back));
            }
        }
        let is_fraud = command.reason == FRAUD;
        let part = |(reward, back): &(Box<proto::RewardRow>, i64)| {
            (reward.clone(), *back, left(reward) == *back)
        };
        let parts: Vec<_> = rewards.iter().map(part).collect();
        let parts: Vec<_> = parts
            .iter()
            .map(|(reward, back, is_whole)| Part { reward, back: *back, is_whole: *is_whole })
            .collect();
        let rows = undo::rewards(&mut self.look(), &event, &parts, is_fraud, now_ms);
        let amount = event_amount(&event, share);
        let earned: Vec<_> =
            parts.iter().map(|part| (part.reward.rule_key.as_str(), part.back)).collect();
        let taken = Taken { amount, earned: &earned, is_whole: share.is_whole };
        let counted = undo::metrics(&mut self.look(), &event, &taken, now_ms);
        let mut rows = rows?;
        rows.extend(counted?);
        Ok(Ok(Effects { event, share, amount, rewards, rows }))
    }

    /// How the reward's rule, as it was then, takes it back.
    fn terms(
        &mut self,
        event: &Decided,
        reward: &proto::RewardRow,
        now_ms: i64,
    ) -> Result<ReversalTerms, Unfetched> {
        let facts = event.facts(&mut self.look(), reward.rulebook_version, now_ms)?;
        let rules = facts.iter().flat_map(|facts| &facts.rulebook.rules);
        let rule = rules.into_iter().find(|rule| rule.key == reward.rule_key);
        Ok(rule.map(|rule| rule.reversal).unwrap_or_default())
    }

    /// What earlier conversions were made up for stays as long as the tier is still reached.
    fn may_go(
        &mut self,
        event: &Decided,
        said: &proto::RuleDecision,
        reward: &proto::RewardRow,
    ) -> Result<bool, Unfetched> {
        if reward.kind() != proto::RewardKind::TierAdjustment {
            return Ok(true);
        }
        let now_ms = self.now_ms;
        let mut look = self.look();
        let Some(facts) = event.facts(&mut look, reward.rulebook_version, now_ms)? else {
            return Ok(true);
        };
        let rule = facts.rulebook.rules.iter().find(|rule| rule.key == said.rule_key);
        let Some((rule, tiers)) = rule.and_then(|rule| Some((rule, rule.tiers()?))) else {
            return Ok(true);
        };
        let Some(key) = tiers.key(&facts, rule) else { return Ok(true) };
        let stands = look.counter(key)?.copied().unwrap_or(0);
        let reached = event.decision().and_then(|decision| {
            let mut priced = decision.rules.iter().filter(|other| other.rule_key == said.rule_key);
            priced.find_map(|other| other.arithmetic.as_ref()?.tier.as_ref()).map(|tier| tier.from)
        });
        let after = stands - tiers.metric.adds(&facts, 0);
        Ok(reached.is_none_or(|from| after < from))
    }

    fn take_back(&mut self, entry: &Entry, command: &proto::ReverseEvent, effects: Effects) {
        let Effects { event, share, amount, rewards, rows } = effects;
        rows.into_iter().for_each(|(key, row)| self.put(key, row));
        let mut told = Vec::with_capacity(rewards.len());
        for (mut reward, back) in rewards {
            let clawed_back = is_paid_out(&reward);
            if clawed_back {
                self.claw_back(&mut reward, back, &command.reason);
            } else {
                self.give_back(LedgerKind::Reverse, &mut reward, back);
                reward.reversed_amount += back;
                // What was owed back before is settled by paying it out.
                if payable(&reward) == 0 {
                    reward.held_reason = None;
                    become_(&mut reward, REVERSED, &command.reason, self.now_ms);
                }
            }
            told.push(proto::RewardReversed {
                reward_id: reward.id.clone(),
                amount: back,
                currency: reward.currency.clone(),
                left: left(&reward),
                status: reward.status.clone(),
                clawed_back,
            });
            self.put_reward(entry, reward);
        }
        self.tell_reversed(entry, &event, share, (amount, told), &command.reason);
        let mut row = event.row;
        row.reversals.push(proto::Reversal {
            command_id: command.command_id.clone(),
            amount: command.amount,
            quantity: command.quantity,
            reason: command.reason.clone(),
            at_ms: self.now_ms,
            whole: share.is_whole,
            revenue: amount,
        });
        if let Some(key) = event.entry.claim() {
            self.put(key, Some(Row::Event(row)));
        }
    }

    /// It went out already, or is about to: its aktvator owes it.
    fn claw_back(&mut self, reward: &mut proto::RewardRow, back: i64, reason: &str) {
        self.enter(LedgerKind::Clawback, reward, back);
        reward.clawed_back_amount += back;
        if left(reward) == 0 && reward.status == PAID {
            become_(reward, CLAWED_BACK, reason, self.now_ms);
        }
    }

    fn tell_reversed(
        &mut self,
        entry: &Entry,
        event: &Decided,
        share: Share,
        (revenue, rewards): (i64, Vec<proto::RewardReversed>),
        reason: &str,
    ) {
        let Some((conversion, decision)) = event.conversion().zip(event.decision()) else { return };
        let reversed = proto::EventReversed {
            event_id: conversion.event.event_id.clone(),
            event_type: conversion.event.event_type.clone(),
            campaign_id: decision.campaign_id.clone(),
            gig_id: decision.gig_id.clone(),
            aktvator_id: decision.aktvator_id.clone(),
            link_id: decision.link_id.clone(),
            code_used: decision.code_used.clone(),
            occurred_at_ms: conversion.occurred_at_ms,
            currency: conversion.event.currency.clone().unwrap_or_default(),
            revenue,
            rewards,
            reason: reason.to_owned(),
            whole: share.is_whole,
            code: decision.code.clone(),
        };
        self.outcome(entry, outcome::Body::EventReversed(reversed));
    }

    /// Keeps the reversal until its event comes, or a week is over.
    fn orphan(
        &mut self,
        entry: &Entry,
        id: u128,
        command: &proto::ReverseEvent,
    ) -> Result<(), Unfetched> {
        let scope = entry.scope;
        let Some(target) = waits_for(command) else { return self.ready() };
        let key = Key::Orphans(scope, target);
        let known = self.look().orphans(key.clone())?.cloned();
        self.ready()?;
        let is_first = known.is_none();
        let mut row = known.unwrap_or_default();
        if row.records.len() == ORPHANS_MAX {
            self.decide_command(entry, id, CommandCode::TooMany, &command.fingerprint);
            return Ok(());
        }
        row.records.push(record(entry, command));
        self.put(key, Some(Row::Orphans(row)));
        if is_first {
            self.books().count_orphans(1);
            let due =
                proto::DueRow { reward_id: bytes::Bytes::copy_from_slice(&target.to_be_bytes()) };
            let key = Key::Due(scope, hour(self.now_ms.saturating_add(ORPHAN_MS)), place(target));
            self.put(key, Some(Row::Due(due)));
        }
        self.decide_command(entry, id, CommandCode::Orphaned, &command.fingerprint);
        Ok(())
    }

    /// Reversals that have waited for this event.
    pub(crate) fn orphans_of(
        &mut self,
        entry: &Entry,
        event: &Conversion,
    ) -> Result<Orphans, Unfetched> {
        let mut orphans = Orphans::default();
        if self.open(entry.scope)?.orphans == 0 {
            return Ok(orphans);
        }
        let external = event.event.external_ref.as_deref().map(undo::external);
        let targets = [Some(event.id.to_u128()), external];
        let keys = targets.into_iter().flatten().map(|target| Key::Orphans(entry.scope, target));
        for key in keys {
            let row = self.look().orphans(key.clone())?.cloned();
            orphans.rows.extend(row.map(|row| (key, row)));
        }
        if !orphans.rows.is_empty() {
            let continuations = self.look().continuations(Key::Continuations)?;
            orphans.continuations = continuations.cloned().unwrap_or_default();
        }
        Ok(orphans)
    }

    /// The event has come: what waited for it not longer than a week is a record again.
    pub(crate) fn adopt(&mut self, entry: &Entry, orphans: Orphans) {
        let Orphans { rows, mut continuations } = orphans;
        if rows.is_empty() {
            return;
        }
        let oldest_ms = entry.accepted_at_ms.saturating_sub(ORPHAN_MS);
        for (key, row) in rows {
            self.put(key, None);
            self.books().count_orphans(-1);
            let in_time =
                row.records.into_iter().filter(|record| record.accepted_at_ms >= oldest_ms);
            continuations.extend(in_time.map(|mut record| {
                record.accepted_at_ms = self.now_ms;
                self.appends.push(record.clone());
                record
            }));
        }
        let row = (!continuations.is_empty()).then_some(Row::Continuations(continuations));
        self.put(Key::Continuations, row);
    }

    /// A week is over.
    pub(crate) fn give_up_orphans(&mut self, key: Key) {
        self.put(key, None);
        self.books().count_orphans(-1);
    }
}

/// Where reversals may wait that are to be given up at this place among what is due.
pub(crate) fn waiting(scope: Scope, place: u64, due: &proto::DueRow) -> Option<Key> {
    let target = due.reward_id[..].try_into().ok().map(u128::from_be_bytes);
    target.filter(|_| place >= PLACES).map(|target| Key::Orphans(scope, target))
}

fn is_of(record: &proto::Record, command: &[u8]) -> bool {
    match &record.body {
        Some(proto::record::Body::ReverseEvent(reverse)) => reverse.command_id == command,
        _ => false,
    }
}

fn waits_for(command: &proto::ReverseEvent) -> Option<u128> {
    match command.event.as_ref()? {
        Event::EventId(id) => ConversionEventId::from_proto(id).map(ConversionEventId::to_u128),
        Event::ExternalRef(text) => Some(undo::external(text)),
    }
}

/// A place among what is due that no reward has: their places count up from zero.
fn place(target: u128) -> u64 {
    PLACES | target as u64
}

fn record(entry: &Entry, command: &proto::ReverseEvent) -> proto::Record {
    proto::Record {
        organization: entry.scope.organization.to_proto(),
        mode: i32::from(proto::Mode::from(entry.scope.mode)),
        accepted_at_ms: entry.accepted_at_ms,
        body: Some(proto::record::Body::ReverseEvent(command.clone())),
    }
}

/// How much of the event is taken back in all.
fn share(
    row: &proto::EventRow,
    conversion: &Conversion,
    command: &proto::ReverseEvent,
) -> Result<Share, CommandCode> {
    if row.reversals.iter().any(|reversal| reversal.whole) {
        return Err(CommandCode::AlreadyReversed);
    }
    let by_quantity = command.quantity.is_some();
    let part = command.quantity.or(command.amount);
    let Some(part) = part else {
        return Ok(Share { of: 1, back: 1, by_quantity: false, is_whole: true });
    };
    let mixed = |reversal: &proto::Reversal| reversal.quantity.is_some() != by_quantity;
    if row.reversals.iter().any(mixed) {
        return Err(CommandCode::MixedUnits);
    }
    let event = &conversion.event;
    let of = if by_quantity { event.quantity } else { event.amount };
    let of = of.filter(|of| *of > 0).ok_or(CommandCode::AmountMissing)?;
    let before =
        row.reversals.iter().filter_map(|r| if by_quantity { r.quantity } else { r.amount });
    let back = before.sum::<i64>().checked_add(part).filter(|back| *back <= of);
    let back = back.ok_or(CommandCode::ExceedsEvent)?;
    Ok(Share { of, back, by_quantity, is_whole: back == of })
}

/// What of a reward goes with this share of its event.
fn back(
    said: &proto::RuleDecision,
    reward: &proto::RewardRow,
    share: Share,
    terms: ReversalTerms,
) -> i64 {
    let is_over = !matches!(reward.status.as_str(), PENDING | APPROVED | HELD | PROCESSING | PAID);
    let left = left(reward);
    if is_over || terms.absorb && is_paid_out(reward) {
        return 0;
    }
    if share.is_whole || terms.whole {
        return left;
    }
    let is_flat = matches!(
        said.arithmetic.as_ref().and_then(|arithmetic| arithmetic.base.as_ref()),
        Some(Base::Flat(_) | Base::Adjustment(_)) | None
    );
    if is_flat && !share.by_quantity || reward.kind() == proto::RewardKind::TierAdjustment {
        return 0;
    }
    let all = i128::from(reward.amount) * i128::from(share.back);
    let target = half_even(all, share.of.into()).unwrap_or(reward.amount);
    (target - (reward.amount - left)).clamp(0, left)
}

/// What of the event's amount this reversal takes back.
fn event_amount(event: &Decided, share: Share) -> i64 {
    let of = event.conversion().and_then(|conversion| conversion.event.amount).unwrap_or(0).max(0);
    let before: i64 = event.row.reversals.iter().map(|reversal| reversal.revenue).sum();
    let all = i128::from(of) * i128::from(share.back);
    half_even(all, share.of.into()).unwrap_or(of) - before
}

/// The id of the reversal that a caller named so.
#[must_use]
pub fn command_id(event: &str, name: &str) -> u128 {
    hash128("reversal", &[event.as_bytes(), name.as_bytes()])
}
