//! `/action-attempts`: work that aktvators show, verified or refused by someone.

use bytes::Bytes;
use engine::key::{IndexKind, Key};
use http::Method;
use schemas::entity::{Aktvator, AktvatorStatus, Campaign, CampaignStatus, Gig, GigStatus};
use schemas::fault::ApiError;
use schemas::hash::hash128;
use schemas::id::{ActionAttemptId, AktvatorId, CampaignId, ConversionEventId, GigId};
use schemas::input::Fields;
use schemas::money::Currency;
use schemas::partition::Scope;
use schemas::proto::{self, record::Body};
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use crate::Config;
use crate::call::{Call, Input, Reply};
use crate::events::passes;
use crate::history::{self, ById};
use crate::page::PAGE;
use crate::query::Filter;
use crate::rewards::Step;
use crate::route::{Access, Answer, Route, parameter};
use crate::stored::Within;

/// Addresses of one proof.
const URLS_MAX: usize = 10;
/// Bytes of one of them.
const URL_LEN_MAX: usize = 2_048;
/// Bytes of its text.
const TEXT_LEN_MAX: usize = 5_000;
/// Minor units, or how many.
const FIGURE_MAX: i64 = (1 << 53) - 1;

/// Why work is refused.
const REASONS: [(&str, &str); 6] = [
    ("invalid_proof", "invalid_proof"),
    ("incomplete", "incomplete"),
    ("duplicate", "duplicate"),
    ("off_brief", "off_brief"),
    ("fraud", "fraud"),
    ("other", "other"),
];

/// The operations.
pub(crate) fn routes() -> Vec<Route> {
    let (read, write) = (Access::Key("events:read"), Access::Key("events:write"));
    vec![
        Route::new(Method::POST, "/action-attempts", "submitActionAttempt", write, submit)
            .summary("Submit the work that an aktvator shows for a gig.")
            .takes::<NewAttempt>()
            .gives::<ActionAttempt>(201)
            .also_answers(202, "Taken; it is listed in a moment."),
        Route::new(Method::GET, "/action-attempts", "listActionAttempts", read, list)
            .summary("List action attempts, newest first.")
            .query(PAGE)
            .query(&[
                parameter("status", "submitted, verified, rejected."),
                parameter("gigId", "Only those of this gig."),
                parameter("aktvatorId", "Only those of this aktvator."),
            ])
            .gives_page::<ActionAttempt>(),
        Route::new(Method::GET, "/action-attempts/{id}", "getActionAttempt", read, get)
            .summary("Fetch a single action attempt.")
            .gives::<ActionAttempt>(200),
        Route::new(
            Method::POST,
            "/action-attempts/{id}/verify",
            "verifyActionAttempt",
            write,
            verify,
        )
        .summary("The work is good: it becomes an event, and the rules decide what it earns.")
        .takes::<Verification>()
        .gives::<ActionAttempt>(200)
        .also_answers(202, "Taken; it is decided in a moment.")
        .also_answers(409, "It was refused, or verified with other figures."),
        Route::new(
            Method::POST,
            "/action-attempts/{id}/reject",
            "rejectActionAttempt",
            write,
            reject,
        )
        .summary("The work is not what it should be.")
        .takes::<Refusal>()
        .gives::<ActionAttempt>(200)
        .also_answers(202, "Taken; it is decided in a moment.")
        .also_answers(409, "It was verified or refused before."),
    ]
}

/// Work to submit.
#[derive(Debug, ToSchema)]
#[schema(rename_all = "camelCase")]
struct NewAttempt {
    /// A published gig.
    gig_id: GigId,
    /// Who did it.
    aktvator_id: AktvatorId,
    /// What shows it.
    proof: Proof,
}

/// What shows that work was done: a text, addresses, or both.
#[derive(Debug, ToSchema)]
struct Proof {
    /// Up to 10 addresses, each up to 2,048 bytes; nobody fetches them.
    urls: Option<Vec<String>>,
    /// Up to 5,000 bytes.
    text: Option<String>,
}

impl Input for NewAttempt {
    fn read(fields: &mut Fields<'_, '_>, _: &Config) -> Option<Self> {
        let gig_id = fields.parsed("gigId");
        let aktvator_id = fields.parsed("aktvatorId");
        let mut shown = None;
        if let Some(value) = fields.required("proof") {
            let path = fields.pointer("proof");
            let mut proof = Fields::of(value, path, fields.faults());
            let urls = proof.optional_texts("urls", 1..=URLS_MAX, 1..=URL_LEN_MAX);
            let text = proof.optional_text("text", 1..=TEXT_LEN_MAX).map(str::to_owned);
            if urls.is_none() && text.is_none() && !proof.has_faults_at("urls") {
                proof.fault("urls", "required", "give addresses, a text, or both");
            }
            for url in urls.iter().flatten() {
                if !url.starts_with("https://") && !url.starts_with("http://") {
                    proof.fault("urls", "invalid_format", "must be http or https addresses");
                }
            }
            proof.finish();
            let urls = urls.map(|urls| urls.into_iter().map(str::to_owned).collect());
            shown = Some(Proof { urls, text });
        }
        Some(Self { gig_id: gig_id?, aktvator_id: aktvator_id?, proof: shown? })
    }
}

/// What of the work counts.
#[derive(Debug, ToSchema)]
#[schema(rename_all = "camelCase")]
struct Verification {
    /// Minor units that rules may take a part of.
    amount: Option<i64>,
    /// ISO 4217: that of the rulebook.
    currency: Option<Currency>,
    /// How many.
    quantity: Option<i64>,
}

impl Input for Verification {
    fn read(fields: &mut Fields<'_, '_>, _: &Config) -> Option<Self> {
        let amount = fields.optional_integer("amount", 0..=FIGURE_MAX);
        let currency = fields.optional_parsed("currency");
        let quantity = fields.optional_integer("quantity", 0..=FIGURE_MAX);
        Some(Self { amount, currency, quantity })
    }
}

/// Why the work is refused.
#[derive(Debug, ToSchema)]
struct Refusal {
    /// `invalid_proof`, `incomplete`, `duplicate`, `off_brief`, `fraud` or `other`.
    #[schema(value_type = String)]
    reason: &'static str,
    /// In your words, for its timeline; at most 500 bytes.
    note: Option<String>,
}

impl Input for Refusal {
    fn read(fields: &mut Fields<'_, '_>, _: &Config) -> Option<Self> {
        fields.required("reason");
        let reason = fields.optional_choice("reason", &REASONS);
        let note = fields.optional_text("note", 1..=500).map(str::to_owned);
        Some(Self { reason: reason?, note })
    }
}

/// Work that an aktvator has shown.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct ActionAttempt {
    /// Its id.
    id: ActionAttemptId,
    /// The campaign of its gig.
    campaign_id: CampaignId,
    /// Its gig.
    gig_id: GigId,
    /// Who did it.
    aktvator_id: AktvatorId,
    /// What shows it.
    #[schema(value_type = Proof)]
    proof: Value,
    /// `submitted`, `verified` or `rejected`.
    status: String,
    /// Why it was rejected: as was said, or the decision code of its event where the rules gave nothing.
    #[serde(skip_serializing_if = "String::is_empty")]
    reason: String,
    /// The event that it became; once it was verified.
    event_id: ConversionEventId,
    /// What happened to it, oldest first.
    timeline: Vec<Step>,
}

impl ActionAttempt {
    fn of(row: proto::AttemptRow) -> Option<Self> {
        let id = ActionAttemptId::from_proto(&row.id)?;
        Some(Self {
            id,
            campaign_id: CampaignId::from_proto(&row.campaign_id)?,
            gig_id: GigId::from_proto(&row.gig_id)?,
            aktvator_id: AktvatorId::from_proto(&row.aktvator_id)?,
            proof: serde_json::from_slice(&row.proof).ok()?,
            status: row.status,
            reason: row.reason,
            event_id: ConversionEventId::from_u128(id.to_u128()),
            timeline: row.moves.into_iter().map(Step::of).collect(),
        })
    }
}

impl ById for proto::AttemptRow {
    const INDEX: IndexKind = IndexKind::Attempts;

    fn key(scope: Scope, id: &[u8]) -> Option<Key> {
        ActionAttemptId::from_proto(id).map(|id| Key::Attempt(scope, id))
    }

    fn named(scope: Scope, id: &str) -> Option<Key> {
        id.parse().ok().map(|id| Key::Attempt(scope, id))
    }

    fn position(&self) -> u64 {
        self.position
    }
}

async fn submit(mut call: Call) -> Answer {
    let scope = call.scope()?;
    let NewAttempt { gig_id, aktvator_id, proof } = call.input()?;
    let within = Within::Scope(scope);
    let gig: Gig = call.parts.find(within, &gig_id.to_string()).await?;
    let aktvator: Aktvator = call.parts.find(within, &aktvator_id.to_string()).await?;
    if gig.status != GigStatus::Published {
        return Err(ApiError::conflict("gig_closed", "The gig is not published."));
    }
    if aktvator.status != AktvatorStatus::Approved {
        return Err(ApiError::conflict("not_eligible", "The aktvator is not approved."));
    }
    let id = ActionAttemptId::new(call.now.as_ms(), call.parts.random.bits());
    let proof = json!({"urls": proof.urls.unwrap_or_default(), "text": proof.text});
    let body = Body::SubmitAttempt(proto::SubmitAttempt {
        attempt_id: id.to_proto(),
        campaign_id: gig.campaign_id.to_proto(),
        gig_id: gig_id.to_proto(),
        aktvator_id: aktvator_id.to_proto(),
        proof: proof.to_string().into(),
    });
    let is_decided = call.parts.decide_all(scope, call.now, vec![body]).await?;
    match single(&call, scope, id).await {
        Ok(attempt) => Reply::json(201, &attempt),
        Err(_) if !is_decided => Reply::json(202, &json!({"id": id, "status": "queued"})),
        Err(error) => Err(error),
    }
}

/// What a list of attempts was asked for.
struct Wanted {
    status: Option<Filter<String>>,
    gig: Option<Filter<GigId>>,
    aktvator: Option<Filter<AktvatorId>>,
}

impl Wanted {
    fn admits(&self, row: &proto::AttemptRow) -> bool {
        passes(self.status.as_ref(), Some(&row.status))
            && passes(self.gig.as_ref(), GigId::from_proto(&row.gig_id).as_ref())
            && passes(self.aktvator.as_ref(), AktvatorId::from_proto(&row.aktvator_id).as_ref())
    }
}

async fn list(mut call: Call) -> Answer {
    let scope = call.scope()?;
    let wanted = Wanted {
        status: call.query.filter("status"),
        gig: call.query.filter("gigId"),
        aktvator: call.query.filter("aktvatorId"),
    };
    let asked = call.query.page_of::<String>()?;
    let admits = |row: &proto::AttemptRow| wanted.admits(row);
    let page = history::page(&call.parts, scope, &asked, admits).await?;
    Reply::json(200, &page.try_map(ActionAttempt::of)?)
}

async fn get(mut call: Call) -> Answer {
    call.query.finish()?;
    let scope = call.scope()?;
    let id: ActionAttemptId = call.id("id", "action attempt")?;
    Reply::json(200, &single(&call, scope, id).await?)
}

async fn row(
    call: &Call,
    scope: Scope,
    id: ActionAttemptId,
) -> Result<proto::AttemptRow, ApiError> {
    let row: Option<proto::AttemptRow> = call.parts.row(&Key::Attempt(scope, id)).await?;
    row.ok_or_else(|| ApiError::not_found("action attempt"))
}

async fn single(call: &Call, scope: Scope, id: ActionAttemptId) -> Result<ActionAttempt, ApiError> {
    ActionAttempt::of(row(call, scope, id).await?).ok_or_else(ApiError::internal)
}

/// The same again gets the same answer: the event has the attempt's id.
async fn verify(mut call: Call) -> Answer {
    let scope = call.scope()?;
    let id: ActionAttemptId = call.id("id", "action attempt")?;
    let asked: Verification = call.input()?;
    let attempt = row(&call, scope, id).await?;
    is_running(&call, scope, &attempt).await?;
    let gig = GigId::from_proto(&attempt.gig_id).ok_or_else(ApiError::internal)?;
    let gig: Gig = call.parts.find(Within::Scope(scope), &gig.to_string()).await?;
    let event = event(id, &attempt, gig.action_type, &asked);
    let fingerprint = event.fingerprint.clone();
    let is_decided = call.parts.decide_all(scope, call.now, vec![Body::Conversion(event)]).await?;
    let attempt = single(&call, scope, id).await?;
    if !is_decided {
        return Reply::json(202, &attempt);
    }
    let key = Key::Event(scope, attempt.event_id);
    let event: Option<proto::EventRow> = call.parts.row(&key).await?;
    let is_its = event.as_ref().is_some_and(|event| event.fingerprint == fingerprint);
    let refused = event.and_then(|event| event.decision);
    let refused = refused.is_some_and(|decision| decision.detail == "attempt.status");
    match is_its {
        true if refused => {
            Err(ApiError::conflict("invalid_transition", "The action attempt is rejected."))
        }
        true => Reply::json(200, &attempt),
        false => {
            let message = "The action attempt was verified with other figures.";
            Err(ApiError::conflict("idempotency_conflict", message))
        }
    }
}

/// Verifying while the campaign pauses would refuse the work for good.
async fn is_running(
    call: &Call,
    scope: Scope,
    attempt: &proto::AttemptRow,
) -> Result<(), ApiError> {
    let id = CampaignId::from_proto(&attempt.campaign_id).ok_or_else(ApiError::internal)?;
    let campaign: Campaign = call.parts.find(Within::Scope(scope), &id.to_string()).await?;
    if attempt.status == "submitted" && campaign.status != CampaignStatus::Active {
        return Err(ApiError::conflict("campaign_not_active", "The campaign is not active."));
    }
    Ok(())
}

/// The event that an attempt becomes.
fn event(
    id: ActionAttemptId,
    attempt: &proto::AttemptRow,
    event_type: String,
    asked: &Verification,
) -> proto::ConversionEvent {
    let mut event = proto::ConversionEvent {
        event_id: id.to_proto(),
        idempotency_key: id.to_string(),
        event_type,
        campaign_id: Some(attempt.campaign_id.clone()),
        gig_id: Some(attempt.gig_id.clone()),
        aktvator_id: Some(attempt.aktvator_id.clone()),
        amount: asked.amount,
        currency: asked.currency.map(|currency| currency.to_string()),
        quantity: asked.quantity,
        ..Default::default()
    };
    let figures = format!("{:?} {:?} {:?}", asked.amount, asked.currency, asked.quantity);
    let fingerprint = hash128("attempt", &[figures.as_bytes()]);
    event.fingerprint = Bytes::copy_from_slice(&fingerprint.to_be_bytes());
    event
}

async fn reject(mut call: Call) -> Answer {
    let scope = call.scope()?;
    let id: ActionAttemptId = call.id("id", "action attempt")?;
    let Refusal { reason, note } = call.input()?;
    let command = |command_id| {
        Body::RejectAttempt(proto::RejectAttempt {
            command_id,
            attempt_id: id.to_proto(),
            reason: reason.to_owned(),
            note: note.unwrap_or_default(),
        })
    };
    let code = call.parts.decide_new(scope, call.now, command).await?;
    let attempt = single(&call, scope, id).await?;
    let status = &attempt.status;
    Reply::decided(code.as_deref(), &attempt, || format!("The action attempt is {status}."))
}
