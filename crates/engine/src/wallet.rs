//! The wallet: a double-entry ledger's balances, and the queue of rewards that wait for money.
//!
//! All accounts always sum to zero, and available is never below zero, nor above it while a receivable is open. Held
//! rewards are no entries: no money has moved for them. They are released strictly first in, first
//! out, and while one waits a new reward waits behind it.

use schemas::money::Currency;
use schemas::proto::{self, Account, LedgerEntry, LedgerKind};

use crate::decision::{Code, CommandCode};

/// How a new reward is paid for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Funding {
    /// Out of the available balance.
    Reserved,
    /// It waits in the queue.
    Held,
}

/// What a wallet can still pay for while an event is judged.
pub(crate) struct Purse<'a> {
    /// Of the wallet; `None` where there is none yet.
    currency: Option<&'a str>,
    available: i64,
    held: i64,
    /// A reward waits for funds already.
    is_queued: bool,
}

impl<'a> Purse<'a> {
    pub(crate) fn of(wallet: Option<&'a proto::WalletRow>) -> Self {
        Self {
            currency: wallet.map(|wallet| wallet.currency.as_str()),
            available: wallet.map_or(0, |wallet| wallet.available),
            held: wallet.map_or(0, |wallet| wallet.held),
            is_queued: wallet.is_some_and(is_queued),
        }
    }

    /// Pays a reward of `amount`, or says why it cannot be made at all: where `may_wait` is false, because
    /// the funds are not there.
    pub(crate) fn pay(
        &mut self,
        currency: Currency,
        amount: i64,
        may_wait: bool,
    ) -> Result<Funding, (Code, &'static str)> {
        if self.currency.is_some_and(|known| known != currency.as_str()) {
            return Err((Code::CurrencyMismatch, "wallet"));
        }
        if !self.is_queued && self.available >= amount {
            self.available -= amount;
            return Ok(Funding::Reserved);
        }
        if !may_wait {
            return Err((Code::InsufficientFunds, "wallet"));
        }
        self.held = self.held.checked_add(amount).ok_or((Code::InsufficientFunds, "held_total"))?;
        self.is_queued = true;
        Ok(Funding::Held)
    }
}

/// A wallet that nothing has gone into.
pub(crate) fn empty(currency: &str) -> proto::WalletRow {
    proto::WalletRow { currency: currency.to_owned(), ..Default::default() }
}

/// Moves `amount` from one account to another; the balanced entries of it.
pub(crate) fn transfer(
    wallet: &mut proto::WalletRow,
    (from, to): (Account, Account),
    amount: i64,
) -> Vec<LedgerEntry> {
    post(wallet, &[(from, -amount), (to, amount)])
}

/// Changes accounts by amounts that sum to zero; the entries of it. What becomes available fills an open
/// receivable first.
pub(crate) fn post(wallet: &mut proto::WalletRow, changes: &[(Account, i64)]) -> Vec<LedgerEntry> {
    let mut entries = Vec::with_capacity(changes.len());
    for (account, mut amount) in changes.iter().copied() {
        if account == Account::WalletAvailable && amount > 0 {
            let filled = amount.min(-wallet.receivable);
            change(wallet, Account::Receivable, filled, &mut entries);
            amount -= filled;
        }
        change(wallet, account, amount, &mut entries);
    }
    entries
}

fn change(
    wallet: &mut proto::WalletRow,
    account: Account,
    amount: i64,
    entries: &mut Vec<LedgerEntry>,
) {
    if amount != 0 {
        *balance(wallet, account) += amount;
        entries.push(LedgerEntry { account: account.into(), amount });
    }
}

fn balance(wallet: &mut proto::WalletRow, account: Account) -> &mut i64 {
    match account {
        Account::WalletAvailable => &mut wallet.available,
        Account::WalletReserved => &mut wallet.reserved,
        Account::AktvatorPayable => &mut wallet.payable,
        Account::PayoutProcessing => &mut wallet.processing,
        Account::Paid => &mut wallet.paid,
        Account::Clawback => &mut wallet.clawback,
        Account::Receivable => &mut wallet.receivable,
        Account::External | Account::Unspecified => &mut wallet.external,
    }
}

/// Whence and whither a transaction about one reward goes; of what is taken back, whether it was `approved`.
/// Those about payouts have more than two entries.
pub(crate) fn way(kind: LedgerKind, approved: bool) -> (Account, Account) {
    match kind {
        LedgerKind::Clawback => (Account::Paid, Account::Clawback),
        LedgerKind::Topup
        | LedgerKind::Payout
        | LedgerKind::Paid
        | LedgerKind::Cancel
        | LedgerKind::Debit
        | LedgerKind::Unspecified => (Account::External, Account::WalletAvailable),
        LedgerKind::Reserve | LedgerKind::Release => {
            (Account::WalletAvailable, Account::WalletReserved)
        }
        LedgerKind::Approve => (Account::WalletReserved, Account::AktvatorPayable),
        LedgerKind::Hold => (Account::AktvatorPayable, Account::WalletReserved),
        LedgerKind::Reject | LedgerKind::Reverse if approved => {
            (Account::AktvatorPayable, Account::WalletAvailable)
        }
        LedgerKind::Reject | LedgerKind::Reverse => {
            (Account::WalletReserved, Account::WalletAvailable)
        }
    }
}

/// Puts `amount` at the end of the queue, and answers its place.
pub(crate) fn hold(wallet: &mut proto::WalletRow, amount: i64) -> u64 {
    let place = wallet.hold_next;
    wallet.hold_next += 1;
    wallet.held += amount;
    place
}

/// Lets go of the first place of the queue, for which `amount` is available or nothing waits any more.
pub(crate) fn release(wallet: &mut proto::WalletRow, amount: i64) -> bool {
    let enough = wallet.available >= amount;
    if enough {
        wallet.held -= amount;
        wallet.hold_first += 1;
    }
    enough
}

/// May something of the queue be released, that could not be before?
pub(crate) fn is_queued(wallet: &proto::WalletRow) -> bool {
    wallet.hold_first < wallet.hold_next
}

/// Money comes in; the entries of it.
pub(crate) fn credit(
    wallet: &mut proto::WalletRow,
    credit: &proto::WalletCredit,
) -> Result<Vec<LedgerEntry>, CommandCode> {
    if wallet.currency != credit.currency {
        return Err(CommandCode::CurrencyMismatch);
    }
    if credit.amount <= 0 {
        return Err(CommandCode::InvalidAmount);
    }
    // External is what the others add up to, so none can overflow before it does.
    wallet.external.checked_sub(credit.amount).ok_or(CommandCode::Overflow)?;
    Ok(transfer(wallet, way(LedgerKind::Topup, false), credit.amount))
}

/// A provider takes money back: what is available, and what is missing then is a receivable. The entries of it.
pub(crate) fn debit(
    wallet: &mut proto::WalletRow,
    debit: &proto::WalletDebit,
) -> Result<Vec<LedgerEntry>, CommandCode> {
    if wallet.currency != debit.currency {
        return Err(CommandCode::CurrencyMismatch);
    }
    // What was paid out was there; more than came in was not.
    if debit.amount <= 0 || debit.amount > -wallet.external {
        return Err(CommandCode::InvalidAmount);
    }
    let taken = debit.amount.min(wallet.available);
    Ok(post(
        wallet,
        &[
            (Account::External, debit.amount),
            (Account::WalletAvailable, -taken),
            (Account::Receivable, taken - debit.amount),
        ],
    ))
}
