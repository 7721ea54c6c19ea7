//! What one organization and mode has one of, and most of its records change: the wallet, and the ends
//! of its lists. Taken in hand once for a write set, so that events find them without looking.

use bytes::Bytes;
use schemas::partition::Scope;
use schemas::proto;

use crate::key::{BLOCK_LEN, Key};
use crate::known::Known;
use crate::lookup::{Lookup, Unfetched};
use crate::row::Row;

/// One scope's books.
#[derive(Debug)]
pub(crate) struct Books {
    pub(crate) scope: Scope,
    /// The organization's id.
    pub(crate) organization: Bytes,
    /// `None` while nothing has gone into or out of it.
    pub(crate) wallet: Option<proto::WalletRow>,
    wallet_changed: bool,
    pub(crate) events: List<proto::IndexRow>,
    pub(crate) rewards: List<proto::IndexRow>,
    pub(crate) ledger: List<proto::LedgerRow>,
    payouts: List<proto::IndexRow>,
    attempts: List<proto::IndexRow>,
    /// Rows of reversals that wait for their event.
    pub(crate) orphans: u64,
    orphans_changed: bool,
}

/// The end of a list: how long it is, and its blocks from the last one that was not full on.
#[derive(Debug)]
pub(crate) struct List<B> {
    len: u64,
    /// Full blocks, by the position of their first place.
    full: Vec<(u64, B)>,
    last: B,
    changed: bool,
}

impl Books {
    /// The books of `scope` as they are known.
    pub(crate) fn open(look: &mut Lookup<'_, '_>, scope: Scope) -> Result<Self, Unfetched> {
        let wallet = look.wallet(Key::Wallet(scope));
        let lists = look.lists(Key::Lists(scope))?.cloned().unwrap_or_default();
        let block = |len| (len % BLOCK_LEN > 0).then(|| len - len % BLOCK_LEN);
        let event_block = block(lists.events).map(|at| Key::EventIndex(scope, at));
        let reward_block = block(lists.rewards).map(|at| Key::RewardIndex(scope, at));
        let payout_block = block(lists.payouts).map(|at| Key::PayoutIndex(scope, at));
        let ledger_block = block(lists.transactions).map(|at| Key::Ledger(scope, at));
        let attempt_block = block(lists.attempts).map(|at| Key::AttemptIndex(scope, at));
        let blocks = [&event_block, &reward_block, &ledger_block, &payout_block, &attempt_block];
        look.ask(blocks.into_iter().flatten().cloned());
        let mut index = |key: Option<Key>| key.map_or(Ok(None), |key| look.index(key));
        let (events, rewards) = (index(event_block)?.cloned(), index(reward_block)?.cloned());
        let (payouts, attempts) = (index(payout_block)?.cloned(), index(attempt_block)?.cloned());
        let ledger = ledger_block.map_or(Ok(None), |key| look.ledger(key))?.cloned();
        Ok(Self {
            scope,
            organization: scope.organization.to_proto(),
            wallet: wallet?.cloned(),
            wallet_changed: false,
            events: List::new(lists.events, events),
            rewards: List::new(lists.rewards, rewards),
            ledger: List::new(lists.transactions, ledger),
            payouts: List::new(lists.payouts, payouts),
            attempts: List::new(lists.attempts, attempts),
            orphans: lists.orphans,
            orphans_changed: false,
        })
    }

    /// The wallet, to be changed; one of `currency` if there is none yet.
    pub(crate) fn wallet_mut(&mut self, currency: &str) -> &mut proto::WalletRow {
        self.wallet_changed = true;
        self.wallet.get_or_insert_with(|| crate::wallet::empty(currency))
    }

    /// Lists an event accepted at `at_ms`; at which position.
    pub(crate) fn list_event(&mut self, id: Bytes, at_ms: i64) -> u64 {
        self.events.push(|block| list(block, id, at_ms))
    }

    /// Lists a reward of an event accepted at `at_ms`; at which position.
    pub(crate) fn list_reward(&mut self, id: Bytes, at_ms: i64) -> u64 {
        self.rewards.push(|block| list(block, id, at_ms))
    }

    /// Lists a payout made at `at_ms`; at which position.
    pub(crate) fn list_payout(&mut self, id: Bytes, at_ms: i64) -> u64 {
        self.payouts.push(|block| list(block, id, at_ms))
    }

    /// Lists an action attempt made at `at_ms`; at which position.
    pub(crate) fn list_attempt(&mut self, id: Bytes, at_ms: i64) -> u64 {
        self.attempts.push(|block| list(block, id, at_ms))
    }

    /// Enters a balanced transaction.
    pub(crate) fn enter(&mut self, transaction: proto::LedgerTransaction) {
        self.ledger.push(|block| block.transactions.push(transaction));
    }

    /// Counts rows of reversals that wait for their event.
    pub(crate) fn count_orphans(&mut self, by: i64) {
        self.orphans = self.orphans.saturating_add_signed(by);
        self.orphans_changed = true;
    }

    /// Puts back what has changed.
    pub(crate) fn close(self, known: &mut Known) {
        let Self { scope, wallet, wallet_changed, events, rewards, ledger, .. } = self;
        let (payouts, attempts, orphans) = (self.payouts, self.attempts, self.orphans);
        if wallet_changed {
            known.put(Key::Wallet(scope), wallet.map(Row::Wallet));
        }
        let listed = events.changed || rewards.changed || payouts.changed || attempts.changed;
        if !(listed || ledger.changed || self.orphans_changed) {
            return;
        }
        let lists = proto::ListsRow {
            events: events.len,
            rewards: rewards.len,
            transactions: ledger.len,
            orphans,
            payouts: payouts.len,
            attempts: attempts.len,
        };
        known.put(Key::Lists(scope), Some(Row::Lists(lists)));
        for (at, block) in events.blocks() {
            known.put(Key::EventIndex(scope, at), Some(Row::Index(block)));
        }
        for (at, block) in rewards.blocks() {
            known.put(Key::RewardIndex(scope, at), Some(Row::Index(block)));
        }
        for (at, block) in attempts.blocks() {
            known.put(Key::AttemptIndex(scope, at), Some(Row::Index(block)));
        }
        for (at, block) in payouts.blocks() {
            known.put(Key::PayoutIndex(scope, at), Some(Row::Index(block)));
        }
        for (at, block) in ledger.blocks() {
            known.put(Key::Ledger(scope, at), Some(Row::Ledger(block)));
        }
    }
}

fn list(block: &mut proto::IndexRow, id: Bytes, at_ms: i64) {
    let first = if block.ids.is_empty() { at_ms } else { block.first_accepted_at_ms };
    block.first_accepted_at_ms = first.min(at_ms);
    block.last_accepted_at_ms = block.last_accepted_at_ms.max(at_ms);
    block.ids.push(id);
}

impl<B: Default> List<B> {
    fn new(len: u64, last: Option<B>) -> Self {
        Self { len, full: Vec::new(), last: last.unwrap_or_default(), changed: false }
    }

    fn push(&mut self, add: impl FnOnce(&mut B)) -> u64 {
        let position = self.len;
        add(&mut self.last);
        self.len += 1;
        self.changed = true;
        if self.len.is_multiple_of(BLOCK_LEN) {
            self.full.push((self.len - BLOCK_LEN, std::mem::take(&mut self.last)));
        }
        position
    }

    /// Those that have changed.
    fn blocks(self) -> impl Iterator<Item = (u64, B)> {
        let open = self.len % BLOCK_LEN;
        let last = (self.changed && open > 0).then_some((self.len - open, self.last));
        self.full.into_iter().chain(last)
    }
}
