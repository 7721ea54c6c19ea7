//! `/payouts`: approved rewards of an aktvator that go out together.

use std::fmt::Write as _;

use engine::key::{IndexKind, Key};
use http::Method;
use schemas::fault::ApiError;
use schemas::id::{AktvatorId, PayoutId, RewardId};
use schemas::input::Fields;
use schemas::partition::Scope;
use schemas::proto::{self, PayoutAction, record::Body};
use schemas::time::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use crate::Config;
use crate::balances::{self, Balance};
use crate::call::{Call, Input, Reply};
use crate::events::passes;
use crate::history::{self, ById};
use crate::page::PAGE;
use crate::query::{Filter, PageAsked};
use crate::rewards::Step;
use crate::route::{Access, Answer, Route, parameter};

/// Payouts made by one call.
const PAYOUTS_MAX: usize = 500;
/// Aktvators named in one call.
const AKTVATORS_MAX: usize = 100;
/// Payouts of one export.
const EXPORTED_MAX: usize = 10_000;
/// Minor units.
const AMOUNT_MAX: i64 = (1 << 53) - 1;

/// The operations.
pub(crate) fn routes() -> Vec<Route> {
    let (read, write) = (Access::Key("payouts:read"), Access::Key("payouts:write"));
    let filters = [
        parameter("aktvatorId", "Only those of this aktvator."),
        parameter("status", "draft, approved, processing, paid, failed, canceled."),
    ];
    vec![
        Route::new(Method::POST, "/payouts", "createPayouts", write, create)
            .summary("Collect approved rewards into payouts, one per aktvator.")
            .takes::<NewPayouts>()
            .gives::<Created>(201),
        Route::new(Method::GET, "/payouts", "listPayouts", read, list)
            .summary("List payouts, newest first.")
            .query(PAGE)
            .query(&filters)
            .gives_page::<Payout>(),
        Route::new(Method::GET, "/payouts/export", "exportPayouts", read, export)
            .summary(
                "Payouts as CSV, newest first: by default those that are approved, up to 10,000.",
            )
            .query(&filters)
            .gives_content("text/csv"),
        Route::new(Method::GET, "/payouts/{id}", "getPayout", read, get)
            .summary("Fetch a single payout, with its rewards.")
            .gives::<Payout>(200),
        act("/payouts/{id}/approve", "approvePayout", PayoutAction::Approve, "Approve a draft."),
        act(
            "/payouts/{id}/process",
            "processPayout",
            PayoutAction::Process,
            "An approved payout was handed to whoever pays.",
        ),
        act(
            "/payouts/{id}/mark-paid",
            "markPayoutPaid",
            PayoutAction::Pay,
            "An approved or processing payout went out: its rewards are paid.",
        ),
        act(
            "/payouts/{id}/mark-failed",
            "markPayoutFailed",
            PayoutAction::Fail,
            "An approved or processing payout did not arrive.",
        ),
        act(
            "/payouts/{id}/retry",
            "retryPayout",
            PayoutAction::Retry,
            "A failed payout is approved again.",
        ),
        act(
            "/payouts/{id}/cancel",
            "cancelPayout",
            PayoutAction::Cancel,
            "Give a draft, approved or failed payout up: its rewards are approved, and go with the next.",
        ),
    ]
}

/// One thing to do with a payout.
fn act(
    path: &'static str,
    name: &'static str,
    action: PayoutAction,
    summary: &'static str,
) -> Route {
    let write = Access::Key("payouts:write");
    Route::new(Method::POST, path, name, write, move |call| move_payout(call, action))
        .summary(summary)
        .takes::<Moved>()
        .gives::<Payout>(200)
        .also_answers(202, "Taken; what comes of it is seen in a moment.")
        .also_answers(409, "The payout's status does not allow it.")
}

/// Which rewards to collect.
#[derive(Debug, ToSchema)]
#[schema(rename_all = "camelCase")]
struct NewPayouts {
    /// Up to 100 aktvators; without them all to whom enough is owed, up to 500 at once.
    aktvator_ids: Option<Vec<AktvatorId>>,
    /// Only what was approved until then; now when absent.
    cutoff_at: Option<Timestamp>,
    /// Minor units that must be owed, debt taken off; 1 when absent.
    #[schema(value_type = Option<i64>)]
    minimum_amount: i64,
}

impl Input for NewPayouts {
    fn read(fields: &mut Fields<'_, '_>, _: &Config) -> Option<Self> {
        let texts = fields.optional_texts("aktvatorIds", 1..=AKTVATORS_MAX, 1..=64);
        let mut ids = Vec::new();
        for text in texts.iter().flatten() {
            match text.parse::<AktvatorId>() {
                Ok(id) if !ids.contains(&id) => ids.push(id),
                Ok(_) => {}
                Err(error) => fields.fault("aktvatorIds", "invalid_format", error.to_string()),
            }
        }
        let cutoff_at = fields.optional_parsed("cutoffAt");
        let minimum = fields.optional_integer("minimumAmount", 0..=AMOUNT_MAX);
        let aktvator_ids = texts.map(|_| ids);
        Some(Self { aktvator_ids, cutoff_at, minimum_amount: minimum.unwrap_or(1) })
    }
}

/// What came of it.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Created {
    /// The payouts: drafts.
    data: Vec<Payout>,
    /// Aktvators with nothing to pay out under these terms.
    skipped: Vec<AktvatorId>,
    /// There is more to collect: call again, with another key.
    has_more: bool,
}

/// Approved rewards of an aktvator that go out together.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Payout {
    /// Its id.
    id: PayoutId,
    /// Whose.
    aktvator_id: AktvatorId,
    /// `draft`, `approved`, `processing`, `paid`, `failed` or `canceled`.
    status: String,
    /// What goes out: the rewards less the debt; minor units.
    amount: i64,
    /// ISO 4217.
    currency: String,
    /// What the rewards come to.
    rewards_amount: i64,
    /// What of that settles a debt.
    debt_settled: i64,
    /// How many rewards; what is more than 1,000 goes with the next payout.
    rewards: usize,
    /// What whoever pays calls it.
    #[serde(skip_serializing_if = "String::is_empty")]
    reference: String,
    /// Rewards approved until then.
    cutoff_at: Timestamp,
    /// When it came to be.
    created_at: Timestamp,
    /// What happened to it, oldest first.
    timeline: Vec<Step>,
    /// The rewards; in the answer for a single payout.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    reward_ids: Vec<RewardId>,
}

impl Payout {
    fn of(row: proto::PayoutRow) -> Option<Self> {
        Some(Self {
            id: PayoutId::from_proto(&row.id)?,
            aktvator_id: AktvatorId::from_proto(&row.aktvator_id)?,
            status: row.status,
            amount: row.amount - row.netted,
            currency: row.currency,
            rewards_amount: row.amount,
            debt_settled: row.netted,
            rewards: row.reward_ids.len(),
            reference: row.reference,
            cutoff_at: Timestamp::from_ms(row.cutoff_ms),
            created_at: Timestamp::from_ms(row.created_at_ms),
            timeline: row.moves.into_iter().map(Step::of).collect(),
            reward_ids: Vec::new(),
        })
    }
}

/// What was said of a payout.
#[derive(Debug, ToSchema)]
struct Moved {
    /// In your words, for its timeline and its webhooks; at most 500 bytes.
    reason: Option<String>,
    /// What whoever pays calls it; at most 255 bytes.
    reference: Option<String>,
}

impl Input for Moved {
    fn read(fields: &mut Fields<'_, '_>, _: &Config) -> Option<Self> {
        let reason = fields.optional_text("reason", 1..=500).map(str::to_owned);
        let reference = fields.optional_text("reference", 1..=255).map(str::to_owned);
        Some(Self { reason, reference })
    }
}

impl ById for proto::PayoutRow {
    const INDEX: IndexKind = IndexKind::Payouts;

    fn key(scope: Scope, id: &[u8]) -> Option<Key> {
        PayoutId::from_proto(id).map(|id| Key::Payout(scope, id))
    }

    fn named(scope: Scope, id: &str) -> Option<Key> {
        id.parse().ok().map(|id| Key::Payout(scope, id))
    }

    fn position(&self) -> u64 {
        self.position
    }
}

async fn create(mut call: Call) -> Answer {
    let scope = call.scope()?;
    let asked: NewPayouts = call.input()?;
    let (aktvators, has_more) = match asked.aktvator_ids {
        Some(ids) => (ids, false),
        None => owed(&call, scope, asked.minimum_amount.max(1)).await?,
    };
    let cutoff = asked.cutoff_at.unwrap_or(call.now);
    let ids: Vec<PayoutId> = aktvators
        .iter()
        .map(|_| PayoutId::new(call.now.as_ms(), call.parts.random.bits()))
        .collect();
    let commands = ids.iter().zip(&aktvators).map(|(id, aktvator)| {
        Body::CreatePayout(proto::CreatePayout {
            command_id: id.to_proto(),
            aktvator_id: aktvator.to_proto(),
            cutoff_ms: cutoff.as_ms(),
            minimum: asked.minimum_amount,
        })
    });
    let is_decided = call.parts.decide_all(scope, call.now, commands.collect()).await?;
    let keys: Vec<Key> = ids.iter().map(|id| Key::Payout(scope, *id)).collect();
    let rows: Vec<Option<proto::PayoutRow>> = call.parts.rows(scope, &keys).await?;
    let mut created = Created { data: Vec::new(), skipped: Vec::new(), has_more };
    for (row, aktvator) in rows.into_iter().zip(aktvators) {
        match row {
            Some(row) => created.data.push(Payout::of(row).ok_or_else(ApiError::internal)?),
            None => created.skipped.push(aktvator),
        }
    }
    if !is_decided {
        let message = "The payouts are being made; list them in a moment.";
        return Err(ApiError::new(503, "decision_pending", message));
    }
    Reply::json(201, &created)
}

/// To whom at least `minimum` is owed, and whether there are more of them.
async fn owed(
    call: &Call,
    scope: Scope,
    minimum: i64,
) -> Result<(Vec<AktvatorId>, bool), ApiError> {
    let (mut owed, mut after) = (Vec::new(), None);
    loop {
        let page = balances::read(&call.parts, scope, after, PAYOUTS_MAX).await?;
        after = page.last().map(|balance| balance.aktvator_id);
        let enough = page.iter().filter(|balance| balance.owed >= minimum);
        owed.extend(enough.map(|balance: &Balance| balance.aktvator_id));
        if owed.len() > PAYOUTS_MAX {
            owed.truncate(PAYOUTS_MAX);
            return Ok((owed, true));
        }
        if page.len() < PAYOUTS_MAX {
            return Ok((owed, false));
        }
    }
}

/// What a list of payouts was asked for.
struct Wanted {
    aktvator: Option<Filter<AktvatorId>>,
    status: Option<Filter<String>>,
}

impl Wanted {
    fn read(call: &mut Call) -> Self {
        let aktvator = call.query.filter("aktvatorId");
        Self { aktvator, status: call.query.filter("status") }
    }

    fn admits(&self, row: &proto::PayoutRow) -> bool {
        passes(self.aktvator.as_ref(), AktvatorId::from_proto(&row.aktvator_id).as_ref())
            && passes(self.status.as_ref(), Some(&row.status))
    }
}

async fn list(mut call: Call) -> Answer {
    let scope = call.scope()?;
    let wanted = Wanted::read(&mut call);
    let asked = call.query.page_of::<String>()?;
    let admits = |row: &proto::PayoutRow| wanted.admits(row);
    let page = history::page(&call.parts, scope, &asked, admits).await?;
    Reply::json(200, &page.try_map(Payout::of)?)
}

async fn export(mut call: Call) -> Answer {
    let scope = call.scope()?;
    let mut wanted = Wanted::read(&mut call);
    call.query.finish()?;
    let approved = Filter { values: vec!["approved".to_owned()], exclude: false };
    wanted.status.get_or_insert(approved);
    let mut csv = String::from("payoutId,aktvatorId,amount,currency,status,rewards,createdAt\n");
    let (mut after, mut rows) = (None, 0);
    while rows < EXPORTED_MAX {
        let asked = PageAsked { limit: 100, after: after.take(), before: None };
        let admits = |row: &proto::PayoutRow| wanted.admits(row);
        let page = history::page(&call.parts, scope, &asked, admits).await?;
        let page = page.try_map(Payout::of)?;
        rows += page.data.len();
        page.data.iter().for_each(|payout| add_line(&mut csv, payout));
        after = page.next_cursor;
        if after.is_none() {
            break;
        }
    }
    Ok(Reply::bytes(200, "text/csv", csv.into()))
}

/// No field can hold a comma or a quote: ids, numbers and our own words.
fn add_line(csv: &mut String, payout: &Payout) {
    let Payout { id, aktvator_id, amount, currency, status, rewards, created_at, .. } = payout;
    let _ = writeln!(csv, "{id},{aktvator_id},{amount},{currency},{status},{rewards},{created_at}");
}

async fn get(mut call: Call) -> Answer {
    call.query.finish()?;
    let scope = call.scope()?;
    let id: PayoutId = call.id("id", "payout")?;
    Reply::json(200, &single(&call, scope, id).await?)
}

async fn single(call: &Call, scope: Scope, id: PayoutId) -> Result<Payout, ApiError> {
    let row: Option<proto::PayoutRow> = call.parts.row(&Key::Payout(scope, id)).await?;
    let row = row.ok_or_else(|| ApiError::not_found("payout"))?;
    let reward_ids = row.reward_ids.iter().filter_map(|id| RewardId::from_proto(id)).collect();
    let payout = Payout::of(row).ok_or_else(ApiError::internal)?;
    Ok(Payout { reward_ids, ..payout })
}

/// What becomes of it, or where that takes too long, as it is.
async fn move_payout(mut call: Call, action: PayoutAction) -> Answer {
    let scope = call.scope()?;
    let id: PayoutId = call.id("id", "payout")?;
    let Moved { reason, reference } = call.input()?;
    let command = |command_id| {
        Body::MovePayout(proto::MovePayout {
            command_id,
            payout_id: id.to_proto(),
            action: action.into(),
            reason: reason.unwrap_or_default(),
            reference: reference.unwrap_or_default(),
        })
    };
    let code = call.parts.decide_new(scope, call.now, command).await?;
    let payout = single(&call, scope, id).await?;
    Reply::decided(code.as_deref(), &payout, || format!("The payout is {}.", payout.status))
}
