//! What deciding a conversion event changes.

use schemas::proto::{self, outcome};

use crate::claim::{self, Standing};
use crate::decision::Code;
use crate::entry::{Conversion, Entry};
use crate::fold::{Fold, Settings};
use crate::judge::{Judgement, judge};
use crate::key::Key;
use crate::lookup::{Stop, Unfetched};
use crate::resolve::{Trail, resolve};
use crate::reward::Grant;
use crate::row::Row;
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
        let effects = self.judged(entry, event);
        opened.and(repeated.map(drop))?;
        let effects = effects?;
        self.ready()?;
        self.apply(entry, event, effects);
        Ok(())
    }

    fn judged(&mut self, entry: &Entry, event: &Conversion) -> Result<Effects, Unfetched> {
        let now_ms = self.now_ms;
        let (look, wallet) = self.look_with_wallet(entry.scope);
        let look = &mut { look };
        let mut trail = Trail::default();
        let judged = resolve(look, entry, event, now_ms, &mut trail)
            .and_then(|facts| judge(look, &facts, wallet));
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
        };
        self.put(Key::Event(entry.scope, event.id), Some(Row::Event(Box::new(row))));
        for (key, row) in rows {
            self.put(key, Some(row));
        }
        for reward in rewards {
            self.reward(entry, reward);
        }
        self.outcome(entry, outcome::Body::EventDecided(decided));
    }

    fn reward(&mut self, entry: &Entry, reward: Reward) {
        let Reward { key, mut row, funding } = reward;
        self.fund(entry, &row, funding);
        row.position = self.books().list_reward(row.id.clone(), entry.accepted_at_ms);
        self.put(key, Some(Row::Reward(row)));
    }

    fn fund(&mut self, entry: &Entry, reward: &proto::RewardRow, funding: Funding) {
        let at_ms = self.now_ms;
        let books = self.books();
        let wallet = books.wallet_mut(&reward.currency);
        match funding {
            Funding::Reserved => {
                wallet::reserve(wallet, reward.amount);
                books.enter(reward_transaction(proto::LedgerKind::Reserve, reward, at_ms));
            }
            Funding::Held => {
                let place = wallet::hold(wallet, reward.amount);
                let hold = proto::HoldRow { reward_id: reward.id.clone(), amount: reward.amount };
                self.put(Key::Hold(entry.scope, place), Some(Row::Hold(hold)));
            }
        }
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
    rows: Vec<(Key, Row)>,
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
        let reward = |grant| Reward::of(entry, event, &decision, grant);
        let rewards: Vec<_> = grants.into_iter().map(reward).collect();
        decided.rewards = rewards.iter().map(created).collect();
        Self { decision, decided, rewards, rows }
    }
}

impl Reward {
    fn of(entry: &Entry, event: &Conversion, decision: &proto::Decision, grant: Grant<'_>) -> Self {
        let said = decision.rules.get(grant.said);
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
    }
}
