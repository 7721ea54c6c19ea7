//! What becomes of rewards and events after they were decided.

use schemas::id::{ConversionEventId, RewardId};
use schemas::proto::{self, RewardAction, reverse_event::Event};

use super::pricing::half_even;
use super::{Books, Owed, Reward, TakenBack, Told};

const HOUR_MS: i64 = 3_600_000;

impl Owed {
    pub(super) fn left(&self) -> i64 {
        self.amount - self.back - self.clawed
    }

    pub(super) fn told(&self) -> Reward {
        Reward { id: self.id, amount: self.amount, status: self.status.to_owned() }
    }

    fn waits_for_funds(&self) -> bool {
        self.status == "held" && !self.in_review
    }

    pub(super) fn moved(&self) -> Vec<Told> {
        let paid = if self.status == "paid" { self.clawed } else { 0 };
        let (amount, status) = (self.left() + paid, self.status.to_owned());
        vec![Told::Moved { reward: self.id, amount, status }]
    }
}

impl Books {
    /// Out of the wallet, or at the end of those that wait.
    pub(super) fn owe(&mut self, event: ConversionEventId, owed: Owed, now_ms: i64) {
        let place = self.owed.len();
        let is_funded = self.holds.is_empty() && self.available >= owed.amount;
        self.owed.push(owed);
        self.events.get_mut(&event).expect("it was put there").rewards.push(place);
        if is_funded {
            self.reserve(place, now_ms);
        } else {
            self.owed[place].status = "held";
            self.holds.push_back(Some(place));
        }
    }

    fn reserve(&mut self, place: usize, now_ms: i64) {
        let left = self.owed[place].left();
        self.available -= left;
        self.reserved += left;
        self.owed[place].status = "pending";
        self.approve_if_due(place, now_ms);
    }

    fn approve_if_due(&mut self, place: usize, now_ms: i64) -> bool {
        let owed = &mut self.owed[place];
        let is_due = !owed.needs_approval && owed.available_at_ms <= now_ms;
        let approved = owed.status == "pending" && is_due;
        if approved {
            owed.status = "approved";
            let left = owed.left();
            self.note_approval(place, now_ms);
            self.reserved -= left;
            self.payable += left;
        }
        approved
    }

    pub(super) fn note_approval(&mut self, place: usize, now_ms: i64) {
        self.approvals += 1;
        self.owed[place].approved = (self.approvals, now_ms);
    }

    /// First in, first out, as far as the money goes, at most `steps` places.
    pub(super) fn release(&mut self, steps: usize, now_ms: i64) -> Vec<Told> {
        let mut told = Vec::new();
        for _ in 0..steps {
            let Some(first) = self.holds.front().copied() else { break };
            if let Some(place) = first {
                if self.owed[place].left() > self.available {
                    break;
                }
                self.reserve(place, now_ms);
                let Owed { id, status, .. } = self.owed[place];
                let amount = self.owed[place].left();
                told.push(Told::Released { reward: id, amount, status: status.to_owned() });
            }
            self.holds.pop_front();
            self.holds_begin += 1;
        }
        told
    }

    /// Takes so much of a reward back, from where its money is.
    fn give_back(&mut self, place: usize, amount: i64) {
        let owed = &self.owed[place];
        match owed.status {
            "approved" => self.payable -= amount,
            "held" if owed.waits_for_funds() => {
                if owed.left() == amount {
                    let waiting = self.holds.iter_mut().find(|waiting| **waiting == Some(place));
                    waiting.into_iter().for_each(|waiting| *waiting = None);
                }
                return;
            }
            _ => self.reserved -= amount,
        }
        self.gain(amount);
    }

    /// Caps and slots of a reward of which so much goes.
    fn undo(&mut self, place: usize, amount: i64, is_fraud: bool) {
        let is_whole = self.owed[place].left() == amount;
        for (name, day, taken, of_money) in self.owed[place].caps.clone() {
            let back = match of_money {
                true => taken.min(amount),
                false if is_whole => taken,
                false => 0,
            };
            *self.counters.entry((name, day)).or_default() -= back;
        }
        let owed = &self.owed[place];
        if let Some(slot) = owed.slot.clone().filter(|_| is_whole && !is_fraud)
            && self.uniques.get(&slot) == Some(&owed.id)
        {
            self.uniques.remove(&slot);
        }
    }

    pub(super) fn move_reward(&mut self, command: &proto::MoveReward, now_ms: i64) -> Vec<Told> {
        if self.commands.insert(command.command_id.to_vec(), true).is_some() {
            return Vec::new();
        }
        let id = RewardId::from_proto(&command.reward_id);
        let Some(place) = self.owed.iter().position(|owed| Some(owed.id) == id) else {
            return Vec::new();
        };
        let Owed { status, needs_approval, in_review, .. } = self.owed[place];
        let left = self.owed[place].left();
        match (command.action(), status) {
            (RewardAction::Approve, "pending") if needs_approval => {
                self.owed[place].needs_approval = false;
                self.approve_if_due(place, now_ms);
            }
            (RewardAction::Reject, "pending" | "held") => {
                self.give_back(place, left);
                self.undo(place, left, false);
                self.owed[place].status = "rejected";
                let sums = self.sums.entry(self.owed[place].campaign.clone()).or_default();
                sums.rewards -= 1;
                sums.reward_amount -= left;
            }
            (RewardAction::Hold, "pending" | "approved") if self.owed[place].clawed == 0 => {
                if status == "approved" {
                    self.payable -= left;
                    self.reserved += left;
                }
                (self.owed[place].status, self.owed[place].in_review) = ("held", true);
            }
            (RewardAction::Release, "held") if in_review => {
                (self.owed[place].status, self.owed[place].in_review) = ("pending", false);
                self.approve_if_due(place, now_ms);
            }
            _ => return Vec::new(),
        }
        self.owed[place].moved()
    }

    /// The hour of what is due in it has begun.
    pub(super) fn mature(&mut self, mature: &proto::Mature, now_ms: i64) -> Vec<Told> {
        let hour = mature.hour as i64;
        if hour * HOUR_MS > now_ms {
            return Vec::new();
        }
        let mut told = Vec::new();
        for position in &mature.positions {
            let place = *position as usize;
            let is_its = |owed: &Owed| (owed.available_at_ms + HOUR_MS - 1) / HOUR_MS == hour;
            if self.owed.get(place).is_some_and(is_its) && self.approve_if_due(place, now_ms) {
                told.extend(self.owed[place].moved());
            }
        }
        told
    }

    pub(super) fn reverse(&mut self, command: &proto::ReverseEvent) -> Vec<Told> {
        let Some(Event::EventId(id)) = &command.event else { return Vec::new() };
        let id = ConversionEventId::from_proto(id).expect("an id");
        let is_there = self.events.contains_key(&id);
        let name = command.command_id.to_vec();
        match self.commands.get(&name) {
            Some(true) => return Vec::new(),
            Some(false) if !is_there => return Vec::new(),
            _ => self.commands.insert(name, is_there),
        };
        let Some(known) = self.events.get_mut(&id) else { return Vec::new() };
        let all = known.amount.unwrap_or(0).max(0);
        let (of, back, is_whole) = match command.amount {
            None => (1, 1, true),
            Some(part) if known.amount > Some(0) => {
                (all, known.reversed + part, known.reversed + part == all)
            }
            Some(_) => return Vec::new(),
        };
        if known.is_gone || back > of {
            return Vec::new();
        }
        let revenue = half_even(i128::from(all) * i128::from(back), of.into()) - known.reversed;
        known.reversed += revenue;
        known.is_gone = is_whole;
        for (name, day, by, of_revenue) in known.metrics.clone() {
            let less = if of_revenue { revenue } else { by * i64::from(is_whole) };
            *self.counters.entry((name, day)).or_default() -= less;
        }
        let (places, campaign, counts) =
            (known.rewards.clone(), known.campaign.clone(), known.counts);
        let mut rewards = Vec::new();
        for place in places {
            let owed = &self.owed[place];
            let target = match owed.goes_whole || is_whole {
                true => owed.amount,
                false if owed.is_flat => 0,
                false => half_even(i128::from(owed.amount) * i128::from(back), of.into()),
            };
            let amount = (target - owed.back - owed.clawed).clamp(0, owed.left());
            if amount == 0 || matches!(owed.status, "rejected" | "reversed" | "clawed_back") {
                continue;
            }
            self.undo(place, amount, command.reason == "fraud");
            let is_out = matches!(self.owed[place].status, "processing" | "paid");
            if !is_out {
                self.give_back(place, amount);
            }
            let owed = &mut self.owed[place];
            if is_out {
                owed.clawed += amount;
                *self.debts.entry(owed.aktvator.clone()).or_default() += amount;
                if owed.left() == 0 && owed.status == "paid" {
                    owed.status = "clawed_back";
                }
            } else {
                owed.back += amount;
                if owed.amount == owed.back {
                    owed.status = "reversed";
                }
            }
            rewards.push(TakenBack { id: owed.id, back: amount, left: owed.left() });
        }
        if let Some(campaign) = campaign.filter(|_| counts) {
            let sums = self.sums.entry(campaign).or_default();
            sums.revenue -= revenue;
            sums.rewards -= rewards.iter().filter(|reward| reward.left == 0).count() as i64;
            sums.reward_amount -= rewards.iter().map(|reward| reward.back).sum::<i64>();
        }
        vec![Told::Reversed { event: id, whole: is_whole, revenue, rewards }]
    }
}
