//! Commands about one reward, and the end of holding periods.

use bytes::Bytes;
use schemas::id::RewardId;
use schemas::proto::{self, LedgerKind, RewardAction};

use crate::decision::CommandCode;
use crate::entry::Entry;
use crate::fold::Fold;
use crate::key::Key;
use crate::life::{
    APPROVED, HELD, PENDING, REJECTED, REVIEW, become_, hour_ms, left, waits_for_funds,
};
use crate::lookup::Unfetched;
use crate::reversal;
use crate::row::Row;
use crate::undo::{self, Decided, Part};
use crate::wallet;

/// Rows as a refused reward leaves them, and its event.
type Undone = (Vec<(Key, Option<Row>)>, Option<Decided>);

/// What is due at one place.
struct Due {
    key: Key,
    /// Reversals that are given up.
    waiting: Option<Key>,
    reward: Option<Box<proto::RewardRow>>,
}

impl Fold {
    /// Decided once per command id; a repeat changes nothing.
    pub(crate) fn move_reward(
        &mut self,
        entry: &Entry,
        id: u128,
        command: &proto::MoveReward,
    ) -> Result<(), Unfetched> {
        let scope = entry.scope;
        let opened = self.open(scope).map(drop);
        let known = self.look().command(Key::Command(scope, id)).map(|row| row.is_some());
        let reward = self.reward_of(entry, &command.reward_id);
        let continuations = self.look().continuations(Key::Continuations).map(|row| row.cloned());
        let (is_repeat, reward) = (known?, reward?);
        let account = match &reward {
            Some(reward) => self.ask_account(scope, &reward.aktvator_id),
            None => Ok(()),
        };
        let undone = match &reward {
            Some(reward) if command.action() == RewardAction::Reject => {
                self.undone(entry, reward)?
            }
            _ => (Vec::new(), None),
        };
        let continuations = continuations?.unwrap_or_default();
        account?;
        opened?;
        self.ready()?;
        if is_repeat {
            return Ok(());
        }
        let moved = match reward {
            None => Err(CommandCode::UnknownReward),
            Some(mut reward) => self.act(command, &mut reward).map(|()| reward),
        };
        let code = moved.as_ref().err().copied().unwrap_or(CommandCode::Applied);
        self.decide_command(entry, id, code, &Bytes::new());
        let Ok(reward) = moved else { return Ok(()) };
        let (rows, event) = undone;
        if reward.status == REJECTED {
            rows.into_iter().for_each(|(key, row)| self.put(key, row));
            self.go_on_releasing(entry, continuations);
        }
        self.tell_moved(entry, &reward, event.as_ref());
        self.put_reward(entry, reward);
        Ok(())
    }

    /// The reward with this id.
    pub(crate) fn reward_of(
        &mut self,
        entry: &Entry,
        id: &[u8],
    ) -> Result<Option<Box<proto::RewardRow>>, Unfetched> {
        let Some(id) = RewardId::from_proto(id) else { return Ok(None) };
        Ok(self.look().reward(Key::Reward(entry.scope, id))?.cloned())
    }

    pub(crate) fn put_reward(&mut self, entry: &Entry, reward: Box<proto::RewardRow>) {
        if let Some(id) = RewardId::from_proto(&reward.id) {
            self.put(Key::Reward(entry.scope, id), Some(Row::Reward(reward)));
        }
    }

    /// What a refused reward took of caps and slots, and its event.
    fn undone(&mut self, entry: &Entry, reward: &proto::RewardRow) -> Result<Undone, Unfetched> {
        let now_ms = self.now_ms;
        let Some(event) = undo::event(&mut self.look(), entry.scope, &reward.event_id)? else {
            return Ok((Vec::new(), None));
        };
        let parts = [Part { reward, back: left(reward), is_whole: true }];
        let rows = undo::rewards(&mut self.look(), &event, &parts, false, now_ms)?;
        Ok((rows, Some(event)))
    }

    fn act(
        &mut self,
        command: &proto::MoveReward,
        reward: &mut proto::RewardRow,
    ) -> Result<(), CommandCode> {
        let now_ms = self.now_ms;
        let reason = command.reason.as_str();
        match (command.action(), reward.status.as_str()) {
            (RewardAction::Approve, PENDING) if reward.needs_approval => {
                reward.needs_approval = false;
                if !self.approve_if_due(reward, reason) {
                    // Its holding period goes on.
                    become_(reward, PENDING, reason, now_ms);
                }
            }
            (RewardAction::Reject, PENDING | HELD) => {
                self.give_back(LedgerKind::Reject, reward, left(reward));
                reward.held_reason = None;
                become_(reward, REJECTED, reason, now_ms);
            }
            // What its aktvator owes is settled by paying it out.
            (RewardAction::Hold, APPROVED) if reward.clawed_back_amount > 0 => {
                return Err(CommandCode::InvalidTransition);
            }
            (RewardAction::Hold, PENDING | APPROVED) => {
                if reward.status == APPROVED {
                    self.enter(LedgerKind::Hold, reward, left(reward));
                }
                reward.held_reason = Some(REVIEW.to_owned());
                become_(reward, HELD, reason, now_ms);
            }
            (RewardAction::Release, HELD) if !waits_for_funds(reward) => {
                reward.held_reason = None;
                become_(reward, PENDING, reason, now_ms);
                self.approve_if_due(reward, reason);
            }
            _ => return Err(CommandCode::InvalidTransition),
        }
        Ok(())
    }

    /// Takes `amount` of a reward back: from where its money is, or out of the queue.
    pub(crate) fn give_back(
        &mut self,
        kind: LedgerKind,
        reward: &mut proto::RewardRow,
        amount: i64,
    ) {
        if !waits_for_funds(reward) {
            self.enter(kind, reward, amount);
            return;
        }
        let scope = self.books().scope;
        self.books().wallet_mut(&reward.currency).held -= amount;
        let Some(place) = reward.hold_place else { return };
        let left = left(reward) - amount;
        let reward_id = if left > 0 { reward.id.clone() } else { Bytes::new() };
        if left == 0 {
            reward.hold_place = None;
        }
        self.put(
            Key::Hold(scope, place),
            Some(Row::Hold(proto::HoldRow { reward_id, amount: left })),
        );
    }

    /// There may be funds for the queue now: the next record releases them.
    pub(crate) fn go_on_releasing(&mut self, entry: &Entry, continuations: Vec<proto::Record>) {
        let next = self.books().wallet.as_ref().filter(|wallet| wallet::is_queued(wallet));
        let next = next.map(|wallet| proto::ReleaseHolds { hold_first: wallet.hold_first });
        if next.is_some() {
            self.continue_with(entry, continuations, next);
        }
    }

    /// The holding period of rewards is over. Places that are not due in this hour are passed over, so a
    /// repeat changes nothing.
    pub(crate) fn mature(
        &mut self,
        entry: &Entry,
        mature: &proto::Mature,
    ) -> Result<(), Unfetched> {
        let scope = entry.scope;
        let opened = self.open(scope).map(drop);
        if hour_ms(mature.hour) > self.now_ms {
            opened?;
            return self.ready();
        }
        let mut due = Vec::with_capacity(mature.positions.len());
        for position in &mature.positions {
            let key = Key::Due(scope, mature.hour, *position);
            due.push(self.due_at(entry, *position, key));
        }
        let due = due.into_iter().collect::<Result<Vec<_>, Unfetched>>()?;
        opened?;
        self.ready()?;
        for Due { key, waiting, reward } in due.into_iter().flatten() {
            self.put(key, None);
            if let Some(waiting) = waiting {
                self.give_up_orphans(waiting);
            }
            let Some(mut reward) = reward else { continue };
            if self.approve_if_due(&mut reward, "holding_period_over") {
                self.tell_moved(entry, &reward, None);
                self.put_reward(entry, reward);
            }
        }
        Ok(())
    }

    fn due_at(&mut self, entry: &Entry, position: u64, key: Key) -> Result<Option<Due>, Unfetched> {
        let Some(due) = self.look().due(key.clone())?.cloned() else { return Ok(None) };
        let mut waiting = reversal::waiting(entry.scope, position, &due);
        let mut reward = None;
        match &waiting {
            Some(orphans) if self.look().orphans(orphans.clone())?.is_none() => waiting = None,
            Some(_) => {}
            None => {
                reward = self.reward_of(entry, &due.reward_id)?;
                if let Some(reward) = &reward {
                    self.ask_account(entry.scope, &reward.aktvator_id)?;
                }
            }
        }
        Ok(Some(Due { key, waiting, reward }))
    }

    /// Notes what became of a command.
    pub(crate) fn decide_command(
        &mut self,
        entry: &Entry,
        id: u128,
        code: CommandCode,
        fingerprint: &Bytes,
    ) {
        let row = proto::CommandRow {
            code: code.as_str().to_owned(),
            detail: String::new(),
            decided_at_ms: self.now_ms,
            fingerprint: fingerprint.clone(),
        };
        self.put(Key::Command(entry.scope, id), Some(Row::Command(row)));
    }
}
