//! Payouts, and money that a provider takes back.

use schemas::id::PayoutId;
use schemas::proto::{self, PayoutAction};

use super::{Books, Id, Told};

/// A payout that was made.
pub(super) struct Payout {
    id: PayoutId,
    aktvator: Id,
    amount: i64,
    netted: i64,
    status: &'static str,
    /// Places in `owed`.
    rewards: Vec<usize>,
}

impl Payout {
    fn told(&self) -> Told {
        let (amount, status) = (self.amount - self.netted, self.status.to_owned());
        Told::Payout {
            id: self.id,
            amount,
            netted: self.netted,
            rewards: self.rewards.len(),
            status,
        }
    }
}

impl Books {
    /// Money comes in or back: an open receivable gets it first.
    pub(super) fn gain(&mut self, amount: i64) {
        let filled = amount.min(self.receivable);
        self.receivable -= filled;
        self.available += amount - filled;
    }

    pub(super) fn debit(&mut self, debit: &proto::WalletDebit) -> Vec<Told> {
        let is_new = self.commands.insert(debit.command_id.to_vec(), true).is_none();
        if !is_new || debit.amount <= 0 || debit.amount > self.came_in {
            return Vec::new();
        }
        self.came_in -= debit.amount;
        let taken = debit.amount.min(self.available);
        self.available -= taken;
        self.receivable += debit.amount - taken;
        vec![Told::Debited {
            amount: debit.amount,
            available: self.available,
            receivable: self.receivable,
        }]
    }

    pub(super) fn create_payout(
        &mut self,
        command: &proto::CreatePayout,
        now_ms: i64,
    ) -> Vec<Told> {
        if self.commands.insert(command.command_id.to_vec(), true).is_some() {
            return Vec::new();
        }
        let aktvator = command.aktvator_id.to_vec();
        let is_due = |place: &usize| {
            let owed = &self.owed[*place];
            owed.aktvator == aktvator
                && owed.status == "approved"
                && owed.amount > owed.back
                && owed.approved.1 <= command.cutoff_ms
        };
        let mut rewards: Vec<usize> = (0..self.owed.len()).filter(is_due).collect();
        rewards.sort_by_key(|place| self.owed[*place].approved);
        let amount = rewards.iter().map(|place| self.owed[*place].amount - self.owed[*place].back);
        let amount: i64 = amount.sum();
        let debt = self.debts.entry(aktvator.clone()).or_default();
        let netted = amount.min(*debt);
        if amount == 0 || amount - netted < command.minimum {
            return Vec::new();
        }
        *debt -= netted;
        self.payable -= amount;
        self.processing += amount;
        let id = PayoutId::from_proto(&command.command_id).expect("an id");
        let payout = Payout { id, aktvator, amount, netted, status: "draft", rewards };
        let mut told = vec![payout.told()];
        for place in &payout.rewards {
            told.extend(self.become_in_payout(*place, "processing", now_ms));
        }
        self.payouts.push(payout);
        told
    }

    fn become_in_payout(&mut self, place: usize, status: &'static str, now_ms: i64) -> Vec<Told> {
        self.owed[place].status = status;
        if status == "approved" {
            self.note_approval(place, now_ms);
        }
        self.owed[place].moved()
    }

    pub(super) fn move_payout(&mut self, command: &proto::MovePayout, now_ms: i64) -> Vec<Told> {
        if self.commands.insert(command.command_id.to_vec(), true).is_some() {
            return Vec::new();
        }
        let id = PayoutId::from_proto(&command.payout_id);
        let Some(at) = self.payouts.iter().position(|payout| Some(payout.id) == id) else {
            return Vec::new();
        };
        let mut told = Vec::new();
        let Payout { amount, netted, ref rewards, ref aktvator, status, .. } = self.payouts[at];
        let (rewards, aktvator) = (rewards.clone(), aktvator.clone());
        let status = match (command.action(), status) {
            (PayoutAction::Approve, "draft") | (PayoutAction::Retry, "failed") => "approved",
            (PayoutAction::Process, "approved") => "processing",
            (PayoutAction::Fail, "approved" | "processing") => "failed",
            (PayoutAction::Pay, "approved" | "processing") => {
                self.processing -= amount;
                self.out += amount - netted;
                self.gain(netted);
                for place in rewards {
                    told.extend(self.become_in_payout(place, "paid", now_ms));
                    if self.owed[place].left() == 0 {
                        told.extend(self.become_in_payout(place, "clawed_back", now_ms));
                    }
                }
                "paid"
            }
            (PayoutAction::Cancel, "draft" | "approved" | "failed") => {
                self.processing -= amount;
                self.payable += amount;
                *self.debts.entry(aktvator).or_default() += netted;
                for place in rewards {
                    told.extend(self.become_in_payout(place, "approved", now_ms));
                }
                "canceled"
            }
            _ => return Vec::new(),
        };
        self.payouts[at].status = status;
        told.push(self.payouts[at].told());
        told
    }
}
