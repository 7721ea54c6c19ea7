//! The wallet: a double-entry ledger's balances, and the queue of rewards that wait for money.
//!
//! External, available and reserved always sum to zero, and available is never below zero. Held
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

/// How a reward of `amount` would be paid for, or why it cannot be made at all.
pub(crate) fn funding(
    wallet: Option<&proto::WalletRow>,
    currency: Currency,
    amount: i64,
) -> Result<Funding, (Code, &'static str)> {
    let Some(wallet) = wallet else { return Ok(Funding::Held) };
    if wallet.currency != currency.as_str() {
        return Err((Code::CurrencyMismatch, "wallet"));
    }
    let nobody_waits = wallet.hold_first == wallet.hold_next;
    if nobody_waits && wallet.available >= amount {
        return Ok(Funding::Reserved);
    }
    match wallet.held.checked_add(amount) {
        Some(_) => Ok(Funding::Held),
        None => Err((Code::InsufficientFunds, "held_total")),
    }
}

/// A wallet that nothing has gone into.
pub(crate) fn empty(currency: &str) -> proto::WalletRow {
    proto::WalletRow { currency: currency.to_owned(), ..Default::default() }
}

/// Takes `amount`, which [`funding`] found to be available, out of it.
pub(crate) fn reserve(wallet: &mut proto::WalletRow, amount: i64) {
    wallet.available -= amount;
    wallet.reserved += amount;
}

/// Puts `amount` at the end of the queue, and answers its place.
pub(crate) fn hold(wallet: &mut proto::WalletRow, amount: i64) -> u64 {
    let place = wallet.hold_next;
    wallet.hold_next += 1;
    wallet.held += amount;
    place
}

/// Releases the first of the queue, of `amount`, if that much is available.
pub(crate) fn release(wallet: &mut proto::WalletRow, amount: i64) -> bool {
    let enough = wallet.available >= amount;
    if enough {
        reserve(wallet, amount);
        wallet.held -= amount;
        wallet.hold_first += 1;
    }
    enough
}

/// Money comes in.
pub(crate) fn credit(
    wallet: &mut proto::WalletRow,
    credit: &proto::WalletCredit,
) -> Result<(), CommandCode> {
    if wallet.currency != credit.currency {
        return Err(CommandCode::CurrencyMismatch);
    }
    if credit.amount <= 0 {
        return Err(CommandCode::InvalidAmount);
    }
    // External is what available and reserved add up to, so neither can overflow before it does.
    let external = wallet.external.checked_sub(credit.amount);
    wallet.external = external.ok_or(CommandCode::Overflow)?;
    wallet.available += credit.amount;
    Ok(())
}

/// The balanced entries of moving `amount` from one account to another.
pub(crate) fn entries(kind: LedgerKind, amount: i64) -> Vec<LedgerEntry> {
    let (from, to) = match kind {
        LedgerKind::Topup => (Account::External, Account::WalletAvailable),
        LedgerKind::Reserve | LedgerKind::Release | LedgerKind::Unspecified => {
            (Account::WalletAvailable, Account::WalletReserved)
        }
    };
    vec![
        LedgerEntry { account: from.into(), amount: -amount },
        LedgerEntry { account: to.into(), amount },
    ]
}
