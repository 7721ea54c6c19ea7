//! What deciding a conversion event changes.

use schemas::proto::{self, LedgerKind, outcome};

use crate::attempt;
use crate::attribution::By;
use crate::claim::{self, Standing};
use crate::decision::Code;
use crate::entry::{Conversion, Entry};
use crate::fold::{Fold, Settings};
use crate::judge::{Judgement, judge};
use crate::key::Key;
use crate::life::{APPROVED, HELD, NO_FUNDS, PENDING, hour, step};
use crate::lookup::{Stop, Unfetched};
use crate::resolve::{Trail, resolve};
use crate::reward::Grant;
use crate::row::Row;
use crate::undo;
use crate::wallet::{self, Funding};

impl Fold {
    pub(crate) fn conversion(
        &mut self,
        entry: &Entry,
        event: &Conversion,
    ) -> Result<(), Unfetched> {
        let settings = self.settings;
        let opened = self.open(entry.scope).map(drop);
        let claimed = self.look().claim(entry, event);
        let repeated = claimed.map(|row| row.and_then(|row| repeat(row, entry, event, &settings)));
        if let Ok(Some(repeat)) = repeated {
            opened?;
            self.ready()?;
            self.outcome(entry, outcome::Body::EventDecided(repeat));
            return Ok(());
        }
        // Rows are asked for together, whichever is missing first.
        let attempt = self.attempt_of(entry, event);
        let attempt_fails = match &attempt {
            Ok(attempt) if event.attempt.is_some() => {
                attempt.as_ref().is_none_or(|(_, row)| row.status != attempt::SUBMITTED)
            }
            _ => false,
        };
        let effects = self.judged(entry, event, attempt_fails);
        opened.and(repeated.map(drop))?;
        let orphans = self.orphans_of(entry, event);
        let effects = effects?;
        if let Some(reward) = effects.rewards.first() {
            self.ask_account(entry.scope, &reward.row.aktvator_id)?;
        }
        let (orphans, attempt) = (orphans?, attempt?);
        self.ready()?;
        let attempt = attempt
            .map(|attempt| (attempt, effects.decision.code.clone(), !effects.rewards.is_empty()));
        self.apply(entry, event, effects);
        if let Some((attempt, code, is_rewarded)) = attempt {
            self.verified(attempt, &code, is_rewarded);
        }
        self.adopt(entry, orphans);
        Ok(())
    }

    fn judged(
        &mut self,
        entry: &Entry,
        event: &Conversion,
        attempt_fails: bool,
    ) -> Result<Effects, Unfetched> {
        let now_ms = self.now_ms;
        let (look, wallet) = self.look_with_wallet(entry.scope);
        let look = &mut { look };
        let mut trail = Trail::default();
        let judged = match attempt_fails {
            true => Err(Stop::Refused(Code::NotEligible, "attempt.status")),
            false => resolve(look, entry, event, now_ms, &mut trail)
                .and_then(|facts| judge(look, &facts, wallet)),
        };
        let judgement = match judged {
            Ok(judgement) => judgement,
            Err(Stop::Refused(code, detail)) => Judgement {
                code,
                detail: detail.to_owned(),
                rules: Vec::new(),
                grants: Vec::new(),
                rows: Vec::new(),
            },
            Err(Stop::Unfetched) => return Err(Unfetched),
        };
        Ok(Effects::of(entry, event, trail, judgement, now_ms))
    }

    fn apply(&mut self, entry: &Entry, event: &Conversion, effects: Effects) {
        let Effects { decision, decided, rewards, rows } = effects;
        let id = event.event.event_id.clone();
        let position = self.books().list_event(id, entry.accepted_at_ms);
        let row = proto::EventRow {
            record: entry.bytes.clone(),
            offset: entry.offset,
            decision: Some(decision),
            accepted_at_ms: entry.accepted_at_ms,
            fingerprint: event.event.fingerprint.clone(),
            position,
            reversals: Vec::new(),
        };
        self.put(Key::Event(entry.scope, event.id), Some(Row::Event(Box::new(row))));
        if let Some(external_ref) = &event.event.external_ref {
            let row = proto::ExternalRow { event_id: event.event.event_id.clone() };
            let key = Key::External(entry.scope, undo::external(external_ref));
            self.put(key, Some(Row::External(row)));
        }
        for (key, row) in rows {
            self.put(key, row);
        }
        for reward in rewards {
            self.reward(entry, reward);
        }
        self.outcome(entry, outcome::Body::EventDecided(decided));
    }

    fn reward(&mut self, entry: &Entry, reward: Reward) {
        let Reward { key, mut row, funding } = reward;
        let status = row.status.clone();
        match funding {
            Funding::Reserved => {
                PENDING.clone_into(&mut row.status);
                self.enter(LedgerKind::Reserve, &row, row.amount);
                if status == APPROVED {
                    self.enter(LedgerKind::Approve, &row, row.amount);
                }
            }
            Funding::Held => row.hold_place = Some(self.hold(entry, &row)),
        }
        row.status = status;
        row.position = self.books().list_reward(row.id.clone(), entry.accepted_at_ms);
        if row.available_at_ms > self.now_ms {
            let due = proto::DueRow { reward_id: row.id.clone() };
            let key = Key::Due(entry.scope, hour(row.available_at_ms), row.position);
            self.put(key, Some(Row::Due(due)));
        }
        self.put(key, Some(Row::Reward(row)));
    }

    /// Puts the reward at the end of those that wait for funds; at which place.
    fn hold(&mut self, entry: &Entry, reward: &proto::RewardRow) -> u64 {
        let place = wallet::hold(self.books().wallet_mut(&reward.currency), reward.amount);
        let hold = proto::HoldRow { reward_id: reward.id.clone(), amount: reward.amount };
        self.put(Key::Hold(entry.scope, place), Some(Row::Hold(hold)));
        place
    }
}

/// The outcome of a repeat of the event whose claim is `row`; `None` where it is not one.
fn repeat(
    row: &proto::EventRow,
    entry: &Entry,
    event: &Conversion,
    settings: &Settings,
) -> Option<proto::EventDecided> {
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
    rewards: Vec<Reward>,
    /// Counters and slots.
    rows: Vec<(Key, Option<Row>)>,
}

/// A reward to be written.
struct Reward {
    key: Key,
    row: Box<proto::RewardRow>,
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
        let Judgement { code, detail, rules, grants, rows } = judgement;
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
            code_used: attribution
                .filter(|found| found.by != By::Attempt)
                .map(|found| found.code.to_owned()),
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
        let reward = |grant| Reward::of(entry, event, &decision, grant);
        let rewards: Vec<_> = grants.into_iter().map(reward).collect();
        decided.rewards = rewards.iter().map(created).collect();
        Self { decision, decided, rewards, rows }
    }
}

impl Reward {
    fn of(entry: &Entry, event: &Conversion, decision: &proto::Decision, grant: Grant<'_>) -> Self {
        let said = decision.rules.get(grant.said);
        let holding = grant.rule.holding;
        let available_at_ms = holding.available_at_ms(entry, event);
        let is_due = !holding.by_hand && available_at_ms <= decision.decided_at_ms;
        let (status, reason) = match grant.funding {
            Funding::Reserved if is_due => (APPROVED, ""),
            Funding::Reserved => (PENDING, ""),
            Funding::Held => (HELD, NO_FUNDS),
        };
        let moved = step(status, reason, decision.decided_at_ms);
        let row = Box::new(proto::RewardRow {
            id: said.and_then(|said| said.reward_id.clone()).unwrap_or_default(),
            event_id: event.event.event_id.clone(),
            campaign_id: decision.campaign_id.clone().unwrap_or_default(),
            aktvator_id: decision.aktvator_id.clone().unwrap_or_default(),
            gig_id: decision.gig_id.clone(),
            rule_key: grant.rule.key.clone(),
            rulebook_version: grant.version,
            amount: grant.amount,
            currency: said.map(|said| said.currency.clone()).unwrap_or_default(),
            status: status.to_owned(),
            held_reason: (!reason.is_empty()).then(|| reason.to_owned()),
            uncapped_amount: grant.uncapped,
            created_at_ms: decision.decided_at_ms,
            moves: vec![moved],
            link_id: decision.link_id.clone(),
            occurred_at_ms: event.occurred_at_ms,
            position: 0,
            kind: grant.kind.into(),
            available_at_ms,
            needs_approval: holding.by_hand,
            ..Default::default()
        });
        let key = Key::Reward(entry.scope, grant.id);
        Self { key, row, funding: grant.funding }
    }
}

fn created(reward: &Reward) -> proto::RewardCreated {
    proto::RewardCreated {
        reward_id: reward.row.id.clone(),
        rule_key: reward.row.rule_key.clone(),
        amount: reward.row.amount,
        currency: reward.row.currency.clone(),
        held: reward.funding == Funding::Held,
        status: reward.row.status.clone(),
    }
}
