//! What is one aktvator's: his part of the ledger's accounts, and a statement with a line for everything that
//! changed what is owed to him.

use bytes::Bytes;
use schemas::id::AktvatorId;
use schemas::partition::Scope;
use schemas::proto::{self, Account, LedgerEntry, LedgerKind};

use crate::fold::Fold;
use crate::key::{Key, LINES};
use crate::lookup::Unfetched;
use crate::row::Row;
use crate::wallet;

/// What a transaction is about.
#[derive(Clone, Debug)]
pub(crate) enum About {
    /// The id of a reward.
    Reward(Bytes),
    /// The id of a payout.
    Payout(Bytes),
}

/// What is owed to the aktvator and in no payout yet; below zero he owes.
pub(crate) fn owed(balance: &proto::BalanceRow) -> i64 {
    balance.payable - balance.clawback
}

impl Fold {
    /// Makes sure that what is about to be entered for an aktvator can be: his balance, and the end of his
    /// statement.
    pub(crate) fn ask_account(&mut self, scope: Scope, aktvator: &[u8]) -> Result<(), Unfetched> {
        let Some(id) = AktvatorId::from_proto(aktvator) else { return Ok(()) };
        let lines = self.balance_of(scope, id)?.lines;
        if !lines.is_multiple_of(LINES) {
            self.look().statement(Key::Statement(scope, id, lines - lines % LINES))?;
        }
        Ok(())
    }

    /// The balance of an aktvator; all zero where nothing has been his yet.
    pub(crate) fn balance_of(
        &mut self,
        scope: Scope,
        aktvator: AktvatorId,
    ) -> Result<proto::BalanceRow, Unfetched> {
        Ok(self.look().balance(Key::Balance(scope, aktvator))?.cloned().unwrap_or_default())
    }

    /// Changes the balance of an aktvator, which [`Fold::ask_account`] has asked for.
    pub(crate) fn change_balance<T>(
        &mut self,
        aktvator: &[u8],
        change: impl FnOnce(&mut proto::BalanceRow) -> T,
    ) -> Option<T> {
        let key = Key::Balance(self.books().scope, AktvatorId::from_proto(aktvator)?);
        let row = self.known.change(key, || Row::Balance(proto::BalanceRow::default()));
        match row {
            Row::Balance(row) => Some(change(row)),
            _ => None,
        }
    }

    /// Enters a transaction of `kind` for an aktvator, in the books in hand: in the wallet, in his balance, and
    /// in his statement where it changes what is owed to him or goes out.
    pub(crate) fn post(
        &mut self,
        transaction: proto::LedgerTransaction,
        changes: &[(Account, i64)],
        aktvator: &[u8],
        about: About,
    ) {
        let (kind, at_ms) = (transaction.kind(), transaction.at_ms);
        let entries = wallet::post(self.books().wallet_mut(&transaction.currency), changes);
        let mut line = None;
        self.change_balance(aktvator, |balance| {
            let before = owed(balance);
            balance.currency.clone_from(&transaction.currency);
            let is_shown = entries.iter().filter(|entry| apply(balance, entry)).count() > 0;
            let after = owed(balance);
            line = is_shown.then(|| statement_line((kind, at_ms), after - before, after, about));
        });
        self.books().enter(proto::LedgerTransaction { entries, ..transaction });
        if let Some(line) = line {
            self.state(aktvator, line);
        }
    }

    /// Adds a line to the statement of an aktvator.
    pub(crate) fn state(&mut self, aktvator: &[u8], line: proto::StatementLine) {
        let Some(id) = AktvatorId::from_proto(aktvator) else { return };
        let at = self.change_balance(aktvator, |balance| {
            balance.lines += 1;
            balance.lines - 1
        });
        let Some(at) = at else { return };
        let key = Key::Statement(self.books().scope, id, at - at % LINES);
        if at.is_multiple_of(LINES) {
            let row = proto::StatementRow { lines: vec![line] };
            self.put(key, Some(Row::Statement(row)));
        } else if let Row::Statement(row) =
            self.known.change(key, || Row::Statement(proto::StatementRow::default()))
        {
            row.lines.push(line);
        }
    }
}

/// A line of a statement.
pub(crate) fn statement_line(
    (kind, at_ms): (LedgerKind, i64),
    amount: i64,
    balance: i64,
    about: About,
) -> proto::StatementLine {
    let (reward_id, payout_id) = match about {
        About::Reward(id) => (Some(id), None),
        About::Payout(id) => (None, Some(id)),
    };
    proto::StatementLine { kind: kind.into(), at_ms, amount, balance, reward_id, payout_id }
}

/// Applies an entry as far as the account is the aktvator's; says whether it belongs into his statement.
fn apply(balance: &mut proto::BalanceRow, entry: &LedgerEntry) -> bool {
    let account = match entry.account() {
        Account::WalletReserved => {
            balance.reserved += entry.amount;
            return false;
        }
        Account::AktvatorPayable => &mut balance.payable,
        Account::PayoutProcessing => &mut balance.processing,
        Account::Paid => &mut balance.paid,
        Account::Clawback => &mut balance.clawback,
        Account::External
        | Account::WalletAvailable
        | Account::Receivable
        | Account::Unspecified => return false,
    };
    *account += entry.amount;
    true
}
