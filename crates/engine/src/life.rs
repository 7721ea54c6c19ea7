//! The life of a reward after it was made: what it waits for, and who decides (`domain.md` 4.6).
//!
//! `pending` waits for its holding period, for approval, or both; `approved` may be paid out; `processing` is in a
//! payout, `paid` went out with it; `held` waits for funds, or for a second look. `rejected`, `reversed` and
//! `clawed_back` are final. Money is where the status says: nowhere while funds are missing, else reserved until
//! it is approved, then payable, processing, paid. What is taken back of a reward once it is in a payout is a debt
//! of its aktvator's, and the reward stays what it is until all of it is.

use bytes::Bytes;
use schemas::hash::hash128;
use schemas::proto::{self, LedgerKind, outcome};

use crate::account::About;
use crate::entry::{Conversion, Entry};
use crate::fold::Fold;
use crate::undo::Decided;
use crate::wallet;

pub(crate) const PENDING: &str = "pending";
pub(crate) const APPROVED: &str = "approved";
pub(crate) const PROCESSING: &str = "processing";
pub(crate) const PAID: &str = "paid";
pub(crate) const HELD: &str = "held";
pub(crate) const REJECTED: &str = "rejected";
pub(crate) const REVERSED: &str = "reversed";
pub(crate) const CLAWED_BACK: &str = "clawed_back";
/// Why a reward is held: no funds, or someone wants to look at it.
pub(crate) const NO_FUNDS: &str = "insufficient_funds";
pub(crate) const REVIEW: &str = "review";

const HOUR_MS: i64 = 3_600_000;

/// How long a rule's rewards wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Holding {
    pub(crate) period_ms: i64,
    /// It begins when the event was accepted, not when it happened, if that was later.
    pub(crate) from_accepted: bool,
    /// Someone must approve them.
    pub(crate) by_hand: bool,
}

/// How a rule's rewards are taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ReversalTerms {
    /// How long after the event was accepted; `None` is for ever.
    pub(crate) window_ms: Option<i64>,
    /// Whatever part of the event is taken back, the whole reward goes.
    pub(crate) whole: bool,
    pub(crate) restore_caps: bool,
    /// What went out already stays with the aktvator.
    pub(crate) absorb: bool,
}

impl Default for ReversalTerms {
    fn default() -> Self {
        Self { window_ms: None, whole: false, restore_caps: true, absorb: false }
    }
}

impl Holding {
    /// When a reward for `event` may be paid out, in milliseconds since the epoch.
    pub(crate) fn available_at_ms(&self, entry: &Entry, event: &Conversion) -> i64 {
        let basis_ms = match self.from_accepted {
            true => entry.accepted_at_ms,
            false => entry.accepted_at_ms.max(event.occurred_at_ms),
        };
        basis_ms.saturating_add(self.period_ms)
    }
}

/// What is left of a reward.
pub(crate) fn left(reward: &proto::RewardRow) -> i64 {
    payable(reward) - reward.clawed_back_amount
}

/// What goes out for it: what is owed back of that is a debt.
pub(crate) fn payable(reward: &proto::RewardRow) -> i64 {
    reward.amount - reward.reversed_amount
}

/// Is it in a payout, or went out with one?
pub(crate) fn is_paid_out(reward: &proto::RewardRow) -> bool {
    matches!(reward.status.as_str(), PROCESSING | PAID)
}

/// Does nothing but funds and reviews keep the reward from being paid out?
pub(crate) fn is_due(reward: &proto::RewardRow, now_ms: i64) -> bool {
    !reward.needs_approval && reward.available_at_ms <= now_ms
}

/// The first hour, since the epoch, that begins when the holding period is over.
pub(crate) fn hour(available_at_ms: i64) -> u64 {
    let hours = available_at_ms.div_euclid(HOUR_MS) + i64::from(available_at_ms % HOUR_MS != 0);
    u64::try_from(hours).unwrap_or(0)
}

/// When that hour begins.
pub(crate) fn hour_ms(hour: u64) -> i64 {
    i64::try_from(hour).unwrap_or(i64::MAX).saturating_mul(HOUR_MS)
}

/// Notes that the reward becomes this.
pub(crate) fn become_(reward: &mut proto::RewardRow, status: &str, reason: &str, at_ms: i64) {
    reward.status = status.to_owned();
    reward.moves.push(step(status, reason, at_ms));
}

/// One line of a timeline.
pub(crate) fn step(status: &str, reason: &str, at_ms: i64) -> proto::RewardMove {
    proto::RewardMove { status: status.to_owned(), at_ms, reason: reason.to_owned() }
}

/// Does it wait for funds?
pub(crate) fn waits_for_funds(reward: &proto::RewardRow) -> bool {
    reward.status == HELD && reward.held_reason.as_deref() == Some(NO_FUNDS)
}

impl Fold {
    /// Moves `amount` of a reward as `kind` says, in the books in hand. What is its aktvator's must have been asked
    /// for: [`Fold::ask_account`].
    pub(crate) fn enter(&mut self, kind: LedgerKind, reward: &proto::RewardRow, amount: i64) {
        let (from, to) = wallet::way(kind, reward.status == APPROVED);
        let transaction = proto::LedgerTransaction {
            id: transaction_id(kind, reward),
            kind: kind.into(),
            at_ms: self.now_ms,
            currency: reward.currency.clone(),
            reward_id: Some(reward.id.clone()),
            ..Default::default()
        };
        let about = About::Reward(reward.id.clone());
        self.post(transaction, &[(from, -amount), (to, amount)], &reward.aktvator_id, about);
    }

    /// A reward that nothing keeps any more is approved.
    pub(crate) fn approve_if_due(&mut self, reward: &mut proto::RewardRow, reason: &str) -> bool {
        let approved = reward.status == PENDING && is_due(reward, self.now_ms);
        if approved {
            self.enter(LedgerKind::Approve, reward, left(reward));
            become_(reward, APPROVED, reason, self.now_ms);
        }
        approved
    }

    /// Tells that a reward has become something else; and what it counted for, where it counts no more.
    pub(crate) fn tell_moved(
        &mut self,
        entry: &Entry,
        reward: &proto::RewardRow,
        event: Option<&Decided>,
    ) {
        let reason = reward.moves.last().map(|moved| moved.reason.clone()).unwrap_or_default();
        let mut moved = proto::RewardMoved {
            reward_id: reward.id.clone(),
            campaign_id: reward.campaign_id.clone(),
            aktvator_id: reward.aktvator_id.clone(),
            amount: if reward.status == PAID { payable(reward) } else { left(reward) },
            currency: reward.currency.clone(),
            status: reward.status.clone(),
            reason,
            event_id: reward.event_id.clone(),
            occurred_at_ms: reward.occurred_at_ms,
            ..Default::default()
        };
        if let Some((conversion, decision)) = event.and_then(|e| e.conversion().zip(e.decision())) {
            moved.event_type = conversion.event.event_type.clone();
            moved.gig_id = decision.gig_id.clone();
            moved.link_id = decision.link_id.clone();
            moved.code_used = decision.code_used.clone();
        }
        self.outcome(entry, outcome::Body::RewardMoved(moved));
    }
}

/// A reward is funded once, and that is named by it; what comes later by how much had happened to it.
fn transaction_id(kind: LedgerKind, reward: &proto::RewardRow) -> Bytes {
    if let LedgerKind::Reserve | LedgerKind::Release = kind {
        return reward.id.clone();
    }
    let taken_back = (reward.reversed_amount + reward.clawed_back_amount) as u64;
    let steps = [reward.moves.len() as u64, taken_back].map(u64::to_be_bytes);
    let kind = (kind as i32).to_be_bytes();
    let id = hash128("transaction", &[&reward.id, &kind, &steps[0], &steps[1]]);
    Bytes::copy_from_slice(&id.to_be_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hours() {
        for (at_ms, want) in [(0, 0), (1, 1), (HOUR_MS, 1), (HOUR_MS + 1, 2), (-1, 0)] {
            assert_eq!(hour(at_ms), want, "{at_ms}");
        }
        assert!(hour_ms(hour(i64::MAX)) >= i64::MAX - HOUR_MS);
    }
}
