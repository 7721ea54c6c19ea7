//! `/organizations/:id/wallet`: balances as the fold has them, top-ups, the ledger.

use std::ops::Range;

use engine::decision::CommandCode;
use engine::key::{IndexKind, Key};
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::Method;
use schemas::entity::{Organization, TopUp, TopUpStatus};
use schemas::fault::ApiError;
use schemas::id::{LedgerTransactionId, PayoutId, RewardId, TopUpId};
use schemas::input::Fields;
use schemas::money::{Currency, Money};
use schemas::partition::Scope;
use schemas::proto::{self, record::Body};
use schemas::time::Timestamp;
use serde::Serialize;
use sha2::Sha256;
use storage::catalog::FieldFilter;
use utoipa::ToSchema;

use crate::call::{Call, Input, MODE, Reply};
use crate::events::passes;
use crate::history::{self, Listed};
use crate::organizations;
use crate::page::{Listing, PAGE};
use crate::query::{Filter, PageAsked};
use crate::route::{Access, Answer, Route, parameter};
use crate::stored::{Stored as _, Within};
use crate::{Config, ControlParts, error};

/// How long a top-up can be paid.
const PAYABLE_MS: i64 = 24 * 3_600_000;
/// Minor units of one top-up: what JSON readers with 53-bit numbers still show exactly.
const AMOUNT_MAX: i64 = (1 << 53) - 1;
/// How many pages of pending top-ups are summed.
const PENDING_PAGES_MAX: usize = 10;

/// The operations.
pub(crate) fn routes() -> Vec<Route> {
    const WALLET: &str = "/organizations/{id}/wallet";
    const TOPUP: &str = "/organizations/{id}/wallet/topup";
    const DEBITS: &str = "/organizations/{id}/wallet/debits";
    const TRANSACTIONS: &str = "/organizations/{id}/wallet/transactions";
    let read = Access::KeyOrOperator("wallet:read");
    let write = Access::KeyOrOperator("wallet:write");
    vec![
        Route::new(Method::GET, WALLET, "getWallet", read, get)
            .summary("Current wallet and available balance.")
            .query(&[MODE])
            .gives::<WalletView>(200),
        Route::new(Method::POST, TOPUP, "topUpWallet", write, top_up)
            .summary("Initiate a wallet top-up (returns payment URL).")
            .query(&[MODE])
            .takes::<NewTopUp>()
            .gives::<TopUpView>(201),
        Route::new(Method::POST, DEBITS, "debitWallet", Access::Operator, debit)
            .summary("A payment provider took money back: it leaves the wallet.")
            .query(&[MODE])
            .takes::<NewDebit>()
            .gives::<WalletView>(200)
            .also_answers(202, "Taken; it is decided in a moment."),
        Route::new(Method::GET, TRANSACTIONS, "listWalletTransactions", read, transactions)
            .summary("List the ledger, newest first.")
            .query(PAGE)
            .query(&[MODE, parameter(
                    "kind",
                    "topup, reserve, release, approve, hold, reject, reverse, payout, paid, cancel, clawback, debit.",
                )])
            .gives_page::<TransactionView>(),
    ]
}

/// The wallet, in minor units of its currency.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct WalletView {
    /// ISO 4217.
    currency: Currency,
    /// What was topped up and not paid out.
    balance: i64,
    /// What new rewards can reserve.
    available: i64,
    /// What is reserved for rewards that are not approved yet.
    reserved: i64,
    /// What rewards wait for that could not be funded.
    held: i64,
    /// What approved rewards come to.
    payable: i64,
    /// What is in payouts under way.
    processing: i64,
    /// What a payment provider took back after it was spent: the next money fills it, and rewards wait.
    receivable: i64,
    /// Top-ups that have not been paid yet.
    pending_topups: i64,
}

/// A top-up to be paid.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct TopUpView {
    /// Its id.
    topup_id: TopUpId,
    /// `pending` until it is paid.
    status: TopUpStatus,
    /// Minor units.
    amount: i64,
    /// ISO 4217.
    currency: Currency,
    /// Where to pay.
    payment_url: String,
    /// Until when.
    expires_at: Timestamp,
}

/// A top-up to make.
#[derive(Debug, ToSchema)]
#[schema(rename_all = "camelCase")]
struct NewTopUp {
    /// Minor units, at least 1.
    amount: i64,
    /// ISO 4217: that of the organization.
    currency: Currency,
}

impl Input for NewTopUp {
    fn read(fields: &mut Fields<'_, '_>, _: &Config) -> Option<Self> {
        let amount = fields.integer("amount", 1..=AMOUNT_MAX);
        let currency = fields.parsed("currency");
        Some(Self { amount: amount?, currency: currency? })
    }
}

/// What a provider took back.
#[derive(Debug, ToSchema)]
#[schema(rename_all = "camelCase")]
struct NewDebit {
    /// Minor units, at least 1; not more than was topped up.
    amount: i64,
    /// ISO 4217: that of the organization.
    currency: Currency,
    /// In your words; at most 500 bytes.
    reason: String,
}

impl Input for NewDebit {
    fn read(fields: &mut Fields<'_, '_>, _: &Config) -> Option<Self> {
        let amount = fields.integer("amount", 1..=AMOUNT_MAX);
        let currency = fields.parsed("currency");
        let reason = fields.text("reason", 1..=500).map(str::to_owned);
        Some(Self { amount: amount?, currency: currency?, reason: reason? })
    }
}

/// A balanced set of ledger entries.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct TransactionView {
    /// Its id.
    id: LedgerTransactionId,
    /// `topup`, `reserve`, `release`, `approve`, `hold`, `reject`, `reverse`, `payout`, `paid`, `cancel`, `clawback`,
    /// `debit`.
    kind: &'static str,
    /// When, by the time of the fold.
    at: Timestamp,
    /// ISO 4217.
    currency: String,
    /// They sum to zero.
    entries: Vec<EntryView>,
    /// The reward it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    reward_id: Option<RewardId>,
    /// The top-up it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    topup_id: Option<TopUpId>,
    /// The payout it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    payout_id: Option<PayoutId>,
}

/// One signed line.
#[derive(Debug, Serialize, ToSchema)]
struct EntryView {
    /// `external`, `wallet_available`, `wallet_reserved`, `aktvator_payable`, `payout_processing`, `paid`,
    /// `clawback`, `receivable`.
    account: &'static str,
    /// Minor units; negative is out of the account.
    amount: i64,
}

impl TransactionView {
    fn of(transaction: proto::LedgerTransaction) -> Option<Self> {
        Some(Self {
            id: LedgerTransactionId::from_proto(&transaction.id)?,
            kind: kind(transaction.kind())?,
            at: Timestamp::from_ms(transaction.at_ms),
            currency: transaction.currency,
            entries: transaction.entries.iter().map(EntryView::of).collect::<Option<_>>()?,
            reward_id: transaction.reward_id.as_deref().and_then(RewardId::from_proto),
            topup_id: transaction.command_id.as_deref().and_then(TopUpId::from_proto),
            payout_id: transaction.payout_id.as_deref().and_then(PayoutId::from_proto),
        })
    }
}

impl EntryView {
    fn of(entry: &proto::LedgerEntry) -> Option<Self> {
        let account = match entry.account() {
            proto::Account::Unspecified => return None,
            proto::Account::External => "external",
            proto::Account::WalletAvailable => "wallet_available",
            proto::Account::WalletReserved => "wallet_reserved",
            proto::Account::AktvatorPayable => "aktvator_payable",
            proto::Account::PayoutProcessing => "payout_processing",
            proto::Account::Paid => "paid",
            proto::Account::Clawback => "clawback",
            proto::Account::Receivable => "receivable",
        };
        Some(Self { account, amount: entry.amount })
    }
}

/// A kind of transaction as in JSON.
pub(crate) fn kind(kind: proto::LedgerKind) -> Option<&'static str> {
    match kind {
        proto::LedgerKind::Unspecified => None,
        proto::LedgerKind::Topup => Some("topup"),
        proto::LedgerKind::Reserve => Some("reserve"),
        proto::LedgerKind::Release => Some("release"),
        proto::LedgerKind::Approve => Some("approve"),
        proto::LedgerKind::Hold => Some("hold"),
        proto::LedgerKind::Reject => Some("reject"),
        proto::LedgerKind::Reverse => Some("reverse"),
        proto::LedgerKind::Payout => Some("payout"),
        proto::LedgerKind::Paid => Some("paid"),
        proto::LedgerKind::Cancel => Some("cancel"),
        proto::LedgerKind::Clawback => Some("clawback"),
        proto::LedgerKind::Debit => Some("debit"),
    }
}

impl ControlParts {
    /// The secret part of a payment URL: who knows it may pay the top-up.
    ///
    /// # Errors
    /// 503 where the catalog does not answer.
    pub(crate) async fn payment_token(&self, id: TopUpId) -> Result<String, ApiError> {
        let secret = self.catalog.setting("payment_tokens", || self.random.bytes().to_vec()).await;
        let secret = secret.map_err(|e| error::storage(&e))?;
        let mut mac = Hmac::<Sha256>::new_from_slice(&secret)
            .map_err(|e| error::unreadable("payment token secret", &e))?;
        mac.update(&id.to_bytes());
        let bytes = mac.finalize().into_bytes();
        Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
    }
}

/// Which of these top-ups are in the wallet? The fold's decision counts, whether or not the catalog
/// has heard of it: the call that would have noted it may have been cut off.
///
/// # Errors
/// 503 where the store does not answer.
pub(crate) async fn credited(
    parts: &ControlParts,
    scope: Scope,
    top_ups: &[TopUp],
) -> Result<Vec<bool>, ApiError> {
    let key = |top_up: &TopUp| Key::Command(scope, top_up.id.to_u128());
    let keys: Vec<Key> = top_ups.iter().map(key).collect();
    let rows: Vec<Option<proto::CommandRow>> = parts.rows(scope, &keys).await?;
    let is_applied = |row: &proto::CommandRow| row.code == CommandCode::Applied.as_str();
    let is_credited = |(top_up, row): (&TopUp, &Option<proto::CommandRow>)| {
        top_up.status == TopUpStatus::Credited || row.as_ref().is_some_and(is_applied)
    };
    Ok(top_ups.iter().zip(&rows).map(is_credited).collect())
}

/// Until when a top-up can be paid.
pub(crate) fn expires_at(top_up: &TopUp) -> Timestamp {
    Timestamp::from_ms(top_up.created_at.as_ms().saturating_add(PAYABLE_MS))
}

async fn get(mut call: Call) -> Answer {
    let scope = call.organization_scope()?;
    call.query.finish()?;
    Reply::json(200, &view(&call, scope).await?)
}

async fn view(call: &Call, scope: Scope) -> Result<WalletView, ApiError> {
    let organization = organizations::own(call).await?;
    let wallet: proto::WalletRow = call.parts.row(&Key::Wallet(scope)).await?.unwrap_or_default();
    let funds = [wallet.available, wallet.reserved, wallet.payable, wallet.processing];
    Ok(WalletView {
        currency: organization.currency,
        balance: funds.into_iter().fold(0, i64::saturating_add),
        available: wallet.available,
        reserved: wallet.reserved,
        held: wallet.held,
        payable: wallet.payable,
        processing: wallet.processing,
        receivable: -wallet.receivable,
        pending_topups: pending(call, scope).await?,
    })
}

async fn debit(mut call: Call) -> Answer {
    let scope = call.organization_scope()?;
    let organization: Organization = organizations::own(&call).await?;
    let NewDebit { amount, currency, reason } = call.input()?;
    is_its_currency(currency, &organization)?;
    let currency = currency.to_string();
    let command =
        |command_id| Body::WalletDebit(proto::WalletDebit { command_id, amount, currency, reason });
    let status = match call.parts.decide_new(scope, call.now, command).await? {
        Some(code) if code == CommandCode::Applied.as_str() => 200,
        Some(_) => {
            let message = "So much was not topped up.";
            return Err(ApiError::conflict("exceeds_balance", message));
        }
        None => 202,
    };
    Reply::json(status, &view(&call, scope).await?)
}

fn is_its_currency(currency: Currency, organization: &Organization) -> Result<(), ApiError> {
    if currency == organization.currency {
        return Ok(());
    }
    let message = format!("must be {}, the currency of the wallet", organization.currency);
    Err(ApiError::invalid("/currency", "invalid_choice", message))
}

/// The sum of top-ups that can still be paid.
async fn pending(call: &Call, scope: Scope) -> Result<i64, ApiError> {
    let status = FieldFilter {
        field: "status".to_owned(),
        values: vec!["pending".to_owned()],
        exclude: false,
    };
    let (mut sum, mut after) = (0i64, None);
    for _ in 0..PENDING_PAGES_MAX {
        let asked = PageAsked { limit: 100, after: after.take(), before: None };
        let fields = vec![status.clone()];
        let page: Listing<TopUp> =
            call.parts.page(Within::Scope(scope), None, fields, asked).await?;
        let credited = credited(&call.parts, scope, &page.data).await?;
        let pending = page.data.iter().zip(credited).filter(|(_, is_credited)| !is_credited);
        let payable = pending.map(|(top_up, _)| top_up).filter(|t| expires_at(t) > call.now);
        sum = payable.fold(sum, |sum, top_up| sum.saturating_add(top_up.money.amount));
        after = page.next_cursor;
        if after.is_none() {
            break;
        }
    }
    Ok(sum)
}

async fn top_up(mut call: Call) -> Answer {
    let scope = call.organization_scope()?;
    let organization: Organization = organizations::own(&call).await?;
    let NewTopUp { amount, currency } = call.input()?;
    is_its_currency(currency, &organization)?;
    if !call.parts.config.sandbox_payments {
        let message = "This installation has no payment provider.";
        return Err(ApiError::conflict("payments_not_configured", message));
    }
    let top_up = TopUp {
        id: TopUpId::new(call.now.as_ms(), call.parts.random.bits()),
        organization_id: scope.organization,
        mode: scope.mode,
        money: Money { amount, currency },
        status: TopUpStatus::Pending,
        created_at: call.now,
        version: 1,
    };
    let token = call.parts.payment_token(top_up.id).await?;
    let created = call.parts.create(call.now, &top_up, Vec::new()).await;
    created.map_err(|e| e.into_api(TopUp::NOUN))?;
    let base = call.parts.config.public_base_url.trim_end_matches('/');
    Reply::json(
        201,
        &TopUpView {
            topup_id: top_up.id,
            status: top_up.status,
            amount,
            currency,
            payment_url: format!("{base}/sandbox/payments/{}?token={token}", top_up.id),
            expires_at: expires_at(&top_up),
        },
    )
}

impl Listed for proto::LedgerTransaction {
    const INDEX: IndexKind = IndexKind::Ledger;
    type Row = proto::LedgerRow;

    fn len(row: &proto::LedgerRow) -> usize {
        row.transactions.len()
    }

    async fn load(
        _: &ControlParts,
        _: Scope,
        _: u64,
        row: &proto::LedgerRow,
        places: Range<usize>,
    ) -> Result<Vec<Option<Self>>, ApiError> {
        Ok(row.transactions[places].iter().cloned().map(Some).collect())
    }

    /// Transactions are not found by their id.
    async fn find(_: &ControlParts, _: Scope, _: &str) -> Result<Option<u64>, ApiError> {
        Ok(None)
    }
}

async fn transactions(mut call: Call) -> Answer {
    organizations::own(&call).await?;
    let scope = call.organization_scope()?;
    let kinds: Option<Filter<String>> = call.query.filter("kind");
    let asked = call.query.page_of::<String>()?;
    let admits = |transaction: &proto::LedgerTransaction| {
        passes(kinds.as_ref(), kind(transaction.kind()).map(str::to_owned).as_ref())
    };
    let page = history::page(&call.parts, scope, &asked, admits).await?;
    Reply::json(200, &page.try_map(TransactionView::of)?)
}
