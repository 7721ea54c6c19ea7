//! L1: ledger entries sum to zero, balances are folds of them, and what is available never goes below
//! zero.

use std::collections::BTreeMap;

use engine::{IndexKind, Key};
use prost::Message;
use schemas::partition::Scope;
use schemas::proto::{Account, LedgerRow, RewardRow, WalletRow};
use storage::state::KeyRange;

use crate::invariant::{Checked, Invariant, Violation, ensure};
use crate::life::shard;
use crate::model::Books;
use crate::oracle::{Found, unreadable};
use crate::world::PARTITIONS;

/// Checks the wallet, the ledger and the rewards of a scope against each other and the model.
pub(crate) async fn balances(found: &Found, scope: Scope, books: Option<&Books>) -> Checked {
    let wallet = wallet(found, scope).await?;
    let accounts = accounts(found, scope).await?;
    let of = |account: Account| accounts.get(&(account as i32)).copied().unwrap_or_default();
    let rows = [
        (Account::External, wallet.external),
        (Account::WalletAvailable, wallet.available),
        (Account::WalletReserved, wallet.reserved),
        (Account::AktvatorPayable, wallet.payable),
        (Account::PayoutProcessing, wallet.processing),
        (Account::Paid, wallet.paid),
        (Account::Clawback, wallet.clawback),
        (Account::Receivable, wallet.receivable),
    ];
    let entries = rows.map(|(account, _)| (account, of(account)));
    ensure(rows == entries, Invariant::L1, || {
        format!("{scope}: the wallet says {rows:?}, its entries {entries:?}")
    })?;
    let model = books.map_or([0; 7], |books| {
        let Books { available, reserved, payable, processing, out, receivable, .. } = *books;
        let debts = books.debts.values().sum();
        [available, reserved, payable, processing, out, debts, receivable]
    });
    let out = wallet.paid + wallet.clawback;
    let known = [
        wallet.available,
        wallet.reserved,
        wallet.payable,
        wallet.processing,
        out,
        wallet.clawback,
        -wallet.receivable,
    ];
    ensure(known == model, Invariant::Model, || {
        format!("{scope}: wallet {wallet:?}, the model says {model:?}")
    })?;
    let waiting = books.and_then(Books::first_held);
    ensure(waiting.is_none_or(|amount| amount > wallet.available), Invariant::Liveness, || {
        format!("{scope}: {waiting:?} is held, and {} available", wallet.available)
    })?;
    let owed = rewards(found, scope).await?;
    let funds = (wallet.reserved, wallet.payable, wallet.held, wallet.processing);
    ensure(owed == funds, Invariant::L1, || {
        format!("{scope}: rewards reserved, payable, held, processing {owed:?}; wallet {wallet:?}")
    })
}

async fn wallet(found: &Found, scope: Scope) -> Result<WalletRow, Violation> {
    let shard = shard(scope.partition(PARTITIONS));
    let rows = found.state.get(shard, &[Key::Wallet(scope).encode()]).await.map_err(unreadable)?;
    let row = rows.into_iter().flatten().next();
    Ok(row.map(WalletRow::decode).transpose().map_err(unreadable)?.unwrap_or_default())
}

/// What each account's entries add up to. Every transaction is balanced, and what is available is
/// never below zero on the way.
async fn accounts(found: &Found, scope: Scope) -> Result<BTreeMap<i32, i64>, Violation> {
    let mut accounts = BTreeMap::new();
    for row in scan(found, scope, Key::index_range(scope, IndexKind::Ledger)).await? {
        for transaction in LedgerRow::decode(row).map_err(unreadable)?.transactions {
            let sum: i64 = transaction.entries.iter().map(|entry| entry.amount).sum();
            ensure(sum == 0, Invariant::L1, || format!("{transaction:?} is not balanced"))?;
            for entry in &transaction.entries {
                *accounts.entry(entry.account).or_default() += entry.amount;
            }
            let available = accounts.get(&(Account::WalletAvailable as i32)).copied();
            ensure(available >= Some(0), Invariant::L1, || {
                format!("{scope}: {available:?} available after {transaction:?}")
            })?;
        }
    }
    Ok(accounts)
}

/// What rewards add up to that have funds and are not approved, that are, that wait for funds, and that are in
/// payouts.
async fn rewards(found: &Found, scope: Scope) -> Result<(i64, i64, i64, i64), Violation> {
    let first = Key::Reward(scope, schemas::id::RewardId::from_u128(0)).encode();
    let last = Key::Reward(scope, schemas::id::RewardId::from_u128(u128::MAX)).encode();
    let (mut reserved, mut payable, mut held, mut processing) = (0, 0, 0, 0);
    for row in scan(found, scope, (first, last)).await? {
        let reward = RewardRow::decode(row).map_err(unreadable)?;
        let left = reward.amount - reward.reversed_amount;
        match (reward.status.as_str(), reward.held_reason.as_deref()) {
            ("pending", None) | ("held", Some("review")) => reserved += left,
            ("approved", None) => payable += left,
            ("held", Some("insufficient_funds")) => held += left,
            ("processing", None) => processing += left,
            ("paid" | "clawed_back", None) => {}
            ("reversed", None) if left == 0 => {}
            ("rejected", None) => {}
            other => {
                let message = format!("{scope}: a reward is {other:?}");
                return Err(Violation::new(Invariant::L1, message));
            }
        }
    }
    Ok((reserved, payable, held, processing))
}

/// The rows of a range, in key order.
pub(crate) async fn scan(
    found: &Found,
    scope: Scope,
    (from, to): (bytes::Bytes, bytes::Bytes),
) -> Result<Vec<bytes::Bytes>, Violation> {
    let shard = shard(scope.partition(PARTITIONS));
    let rows = found.state.scan(shard, KeyRange { from, to }, false, usize::MAX).await;
    Ok(rows.map_err(unreadable)?.into_iter().map(|(_, row)| row).collect())
}
