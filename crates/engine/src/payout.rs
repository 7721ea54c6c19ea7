//! Payouts: approved rewards of one aktvator are collected, less what he owes, and go out together.
//!
//! `draft`, `approved`, `processing`, then `paid` or `failed`; a failed one is tried again or, like a draft and an
//! approved one, canceled. Its rewards are `processing` from the draft on, and `paid` with it; canceled, they are
//! `approved` again. His debt is settled by the draft, and stands again when that is canceled.

use bytes::Bytes;
use rustc_hash::FxHashSet;
use schemas::hash::hash128;
use schemas::id::{AktvatorId, PayoutId, RewardId};
use schemas::proto::{self, Account, LedgerKind, PayoutAction, outcome};

use crate::account::{About, owed, statement_line};
use crate::decision::CommandCode;
use crate::entry::Entry;
use crate::fold::Fold;
use crate::key::{Key, LINES};
use crate::life::{APPROVED, CLAWED_BACK, PAID, PROCESSING, become_, left, payable, step};
use crate::lookup::Unfetched;
use crate::row::Row;

/// Rewards of one payout; what is more goes with the next.
pub(crate) const REWARDS_MAX: usize = 1_000;
/// Lines of a statement looked through for them.
const LINES_MAX: u64 = 2_000;

const DRAFT: &str = "draft";
const FAILED: &str = "failed";
const CANCELED: &str = "canceled";

type Rewards = Vec<Box<proto::RewardRow>>;

/// What a payout would collect.
struct Collected {
    rewards: Rewards,
    /// The first line that was not looked at.
    next: u64,
    amount: i64,
    netted: i64,
}

impl Fold {
    /// Decided once per command id; a repeat changes nothing.
    pub(crate) fn create_payout(
        &mut self,
        entry: &Entry,
        id: u128,
        command: &proto::CreatePayout,
    ) -> Result<(), Unfetched> {
        let scope = entry.scope;
        let opened = self.open(scope).map(drop);
        let known = self.look().command(Key::Command(scope, id)).map(|row| row.is_some());
        let collected = self.collect(entry, command);
        let account = self.ask_account(scope, &command.aktvator_id);
        let (is_repeat, collected) = (known?, collected?);
        account?;
        opened?;
        self.ready()?;
        if is_repeat {
            return Ok(());
        }
        let is_enough =
            collected.amount > 0 && collected.amount - collected.netted >= command.minimum.max(0);
        let code = if is_enough { CommandCode::Applied } else { CommandCode::NothingToPay };
        self.decide_command(entry, id, code, &Bytes::new());
        if is_enough {
            self.draft(entry, command, collected);
        } else if collected.rewards.is_empty() {
            // The next need not look at them again.
            self.change_balance(&command.aktvator_id, |balance| balance.collected = collected.next);
        }
        Ok(())
    }

    /// Walks the aktvator's statement from where the last payout ended: whatever was approved until the cutoff
    /// and still is.
    fn collect(
        &mut self,
        entry: &Entry,
        command: &proto::CreatePayout,
    ) -> Result<Collected, Unfetched> {
        let scope = entry.scope;
        let mut collected = Collected { rewards: Vec::new(), next: 0, amount: 0, netted: 0 };
        let Some(aktvator) = AktvatorId::from_proto(&command.aktvator_id) else {
            return Ok(collected);
        };
        let balance = self.balance_of(scope, aktvator)?;
        let end = balance.lines.min(balance.collected.saturating_add(LINES_MAX));
        let first_block = balance.collected - balance.collected % LINES;
        let blocks = || (first_block..end).step_by(LINES as usize);
        let key = |at| Key::Statement(scope, aktvator, at);
        self.look().ask(blocks().map(key));
        let mut ids = Vec::new();
        collected.next = balance.collected;
        'walk: for at in blocks() {
            let Some(block) = self.look().statement(key(at))? else { break };
            for (position, line) in (at..end).zip(&block.lines) {
                if position < balance.collected {
                    continue;
                }
                if line.at_ms > command.cutoff_ms || ids.len() == REWARDS_MAX {
                    break 'walk;
                }
                collected.next = position + 1;
                if let LedgerKind::Approve | LedgerKind::Cancel = line.kind() {
                    ids.extend(line.reward_id.as_deref().and_then(RewardId::from_proto));
                }
            }
        }
        // Of a reward that was approved more than once, the last time counts.
        let mut seen = FxHashSet::default();
        ids.reverse();
        ids.retain(|id| seen.insert(*id));
        ids.reverse();
        self.look().ask(ids.iter().map(|id| Key::Reward(scope, *id)));
        for id in ids {
            let Some(reward) = self.look().reward(Key::Reward(scope, id))? else { continue };
            let since_ms = reward.moves.last().map_or(0, |moved| moved.at_ms);
            let in_time = reward.status == APPROVED && since_ms <= command.cutoff_ms;
            if in_time && payable(reward) > 0 {
                collected.amount += payable(reward);
                collected.rewards.push(reward.clone());
            }
        }
        collected.netted = balance.clawback.clamp(0, collected.amount);
        Ok(collected)
    }

    fn draft(&mut self, entry: &Entry, command: &proto::CreatePayout, collected: Collected) {
        let Collected { rewards, next, amount, netted } = collected;
        let id = command.command_id.clone();
        let mut payout = Box::new(proto::PayoutRow {
            id: id.clone(),
            aktvator_id: command.aktvator_id.clone(),
            currency: rewards.first().map(|reward| reward.currency.clone()).unwrap_or_default(),
            amount,
            netted,
            reward_ids: rewards.iter().map(|reward| reward.id.clone()).collect(),
            created_at_ms: self.now_ms,
            cutoff_ms: command.cutoff_ms,
            position: self.books().list_payout(id.clone(), entry.accepted_at_ms),
            ..Default::default()
        });
        self.post_payout(LedgerKind::Payout, &payout, &collecting(amount, netted));
        self.change_balance(&command.aktvator_id, |balance| balance.collected = next);
        self.become_payout(entry, &mut payout, DRAFT, "");
        for mut reward in rewards {
            reward.payout_id = Some(id.clone());
            become_(&mut reward, PROCESSING, "payout", self.now_ms);
            self.tell_moved(entry, &reward, None);
            self.put_reward(entry, reward);
        }
        self.put_payout(entry, payout);
    }

    /// Decided once per command id; a repeat changes nothing.
    pub(crate) fn move_payout(
        &mut self,
        entry: &Entry,
        id: u128,
        command: &proto::MovePayout,
    ) -> Result<(), Unfetched> {
        let scope = entry.scope;
        let opened = self.open(scope).map(drop);
        let known = self.look().command(Key::Command(scope, id)).map(|row| row.is_some());
        let continuations = self.look().continuations(Key::Continuations).map(|row| row.cloned());
        let payout = match PayoutId::from_proto(&command.payout_id) {
            Some(payout) => self.look().payout(Key::Payout(scope, payout))?.cloned(),
            None => None,
        };
        let rewards = match &payout {
            Some(payout) if becomes(payout, command.action()).is_some() => {
                let rewards = self.rewards_of(entry, payout, command.action());
                self.ask_account(scope, &payout.aktvator_id)?;
                rewards?
            }
            _ => Vec::new(),
        };
        let (is_repeat, continuations) = (known?, continuations?.unwrap_or_default());
        opened?;
        self.ready()?;
        if is_repeat {
            return Ok(());
        }
        let status = payout.as_ref().map(|payout| becomes(payout, command.action()));
        let code = match status {
            None => CommandCode::UnknownPayout,
            Some(None) => CommandCode::InvalidTransition,
            Some(Some(_)) => CommandCode::Applied,
        };
        self.decide_command(entry, id, code, &Bytes::new());
        let (Some(mut payout), Some(Some(status))) = (payout, status) else { return Ok(()) };
        if !command.reference.is_empty() {
            payout.reference.clone_from(&command.reference);
        }
        match command.action() {
            PayoutAction::Pay => self.pay(entry, &payout, rewards, continuations),
            PayoutAction::Cancel => self.cancel(entry, &payout, rewards),
            _ => {}
        }
        self.become_payout(entry, &mut payout, status, &command.reason);
        self.put_payout(entry, payout);
        Ok(())
    }

    /// Those of a payout that goes out or is given up.
    fn rewards_of(
        &mut self,
        entry: &Entry,
        payout: &proto::PayoutRow,
        action: PayoutAction,
    ) -> Result<Rewards, Unfetched> {
        if !matches!(action, PayoutAction::Pay | PayoutAction::Cancel) {
            return Ok(Vec::new());
        }
        let ids = payout.reward_ids.iter().filter_map(|id| RewardId::from_proto(id));
        let keys: Vec<_> = ids.map(|id| Key::Reward(entry.scope, id)).collect();
        self.look().ask(keys.iter().cloned());
        let mut look = self.look();
        let rows = keys.into_iter().map(|key| look.reward(key));
        let rows: Vec<_> = rows.collect::<Result<_, Unfetched>>()?;
        Ok(rows.into_iter().flatten().cloned().collect())
    }

    fn pay(
        &mut self,
        entry: &Entry,
        payout: &proto::PayoutRow,
        rewards: Rewards,
        continuations: Vec<proto::Record>,
    ) {
        let changes = [
            (Account::PayoutProcessing, -payout.amount),
            (Account::Paid, payout.amount - payout.netted),
            (Account::WalletAvailable, payout.netted),
        ];
        self.post_payout(LedgerKind::Paid, payout, &changes);
        for mut reward in rewards {
            become_(&mut reward, PAID, "payout", self.now_ms);
            self.tell_moved(entry, &reward, None);
            if left(&reward) == 0 {
                // Taken back while it was on its way.
                become_(&mut reward, CLAWED_BACK, "payout", self.now_ms);
                self.tell_moved(entry, &reward, None);
            }
            self.put_reward(entry, reward);
        }
        if payout.netted > 0 {
            self.go_on_releasing(entry, continuations);
        }
    }

    /// All as before; each reward has a line again, so that the next payout finds it.
    fn cancel(&mut self, entry: &Entry, payout: &proto::PayoutRow, rewards: Rewards) {
        let changes = collecting(-payout.amount, -payout.netted);
        self.post_payout(LedgerKind::Cancel, payout, &changes);
        let balance =
            self.change_balance(&payout.aktvator_id, |balance| owed(balance)).unwrap_or(0);
        for mut reward in rewards {
            reward.payout_id = None;
            become_(&mut reward, APPROVED, "payout_canceled", self.now_ms);
            self.tell_moved(entry, &reward, None);
            let about = About::Reward(reward.id.clone());
            let when = (LedgerKind::Cancel, self.now_ms);
            self.state(&payout.aktvator_id, statement_line(when, 0, balance, about));
            self.put_reward(entry, reward);
        }
    }

    fn post_payout(
        &mut self,
        kind: LedgerKind,
        payout: &proto::PayoutRow,
        changes: &[(Account, i64)],
    ) {
        let parts = [payout.moves.len() as u64, kind as u64].map(u64::to_be_bytes);
        let id = hash128("payout transaction", &[&payout.id, &parts[0], &parts[1]]);
        let transaction = proto::LedgerTransaction {
            id: Bytes::copy_from_slice(&id.to_be_bytes()),
            kind: kind.into(),
            at_ms: self.now_ms,
            currency: payout.currency.clone(),
            payout_id: Some(payout.id.clone()),
            ..Default::default()
        };
        let about = About::Payout(payout.id.clone());
        self.post(transaction, changes, &payout.aktvator_id, about);
    }

    fn become_payout(
        &mut self,
        entry: &Entry,
        payout: &mut proto::PayoutRow,
        status: &str,
        reason: &str,
    ) {
        payout.status = status.to_owned();
        payout.moves.push(step(status, reason, self.now_ms));
        let moved = proto::PayoutMoved {
            payout_id: payout.id.clone(),
            aktvator_id: payout.aktvator_id.clone(),
            amount: payout.amount - payout.netted,
            netted: payout.netted,
            currency: payout.currency.clone(),
            status: payout.status.clone(),
            reason: reason.to_owned(),
            rewards: u32::try_from(payout.reward_ids.len()).unwrap_or(u32::MAX),
            reference: payout.reference.clone(),
        };
        self.outcome(entry, outcome::Body::PayoutMoved(moved));
    }

    fn put_payout(&mut self, entry: &Entry, payout: Box<proto::PayoutRow>) {
        if let Some(id) = PayoutId::from_proto(&payout.id) {
            self.put(Key::Payout(entry.scope, id), Some(Row::Payout(payout)));
        }
    }
}

/// What it becomes, where its status allows that.
fn becomes(payout: &proto::PayoutRow, action: PayoutAction) -> Option<&'static str> {
    match (action, payout.status.as_str()) {
        (PayoutAction::Approve, DRAFT) | (PayoutAction::Retry, FAILED) => Some(APPROVED),
        (PayoutAction::Process, APPROVED) => Some(PROCESSING),
        (PayoutAction::Pay, APPROVED | PROCESSING) => Some(PAID),
        (PayoutAction::Fail, APPROVED | PROCESSING) => Some(FAILED),
        (PayoutAction::Cancel, DRAFT | APPROVED | FAILED) => Some(CANCELED),
        _ => None,
    }
}

/// Rewards of `amount` are collected, and `netted` of it settles a debt.
fn collecting(amount: i64, netted: i64) -> [(Account, i64); 4] {
    [
        (Account::AktvatorPayable, -amount),
        (Account::PayoutProcessing, amount),
        (Account::Clawback, -netted),
        (Account::Paid, netted),
    ]
}
