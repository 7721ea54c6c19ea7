//! `/events/:id/reverse` and `/events/reversals`: an event, or a part of it, is taken back.

use bytes::Bytes;
use engine::decision::CommandCode;
use engine::key::Key;
use http::Method;
use schemas::fault::ApiError;
use schemas::hash::{event_id, hash128};
use schemas::id::{ConversionEventId, RewardId};
use schemas::input::Fields;
use schemas::partition::Scope;
use schemas::proto::{self, record::Body, reverse_event::Event};
use serde::Serialize;
use utoipa::ToSchema;

use crate::Config;
use crate::call::{Call, Input, Reply};
use crate::route::{Access, Answer, Route};

/// Why events are taken back.
const REASONS: [(&str, &str); 9] = [
    ("refund", "refund"),
    ("partial_refund", "partial_refund"),
    ("chargeback", "chargeback"),
    ("canceled", "canceled"),
    ("duplicate", "duplicate"),
    ("fraud", "fraud"),
    ("test", "test"),
    ("error", "error"),
    ("other", "other"),
];

/// The operations.
pub(crate) fn routes() -> Vec<Route> {
    let write = Access::Key("events:write");
    vec![
        Route::new(Method::POST, "/events/{id}/reverse", "reverseEvent", write, of_event)
            .summary("Take an event back, or a part of it, and with it what it has brought.")
            .takes::<NewReversal>()
            .gives::<Reversed>(200)
            .also_answers(202, "Taken; it waits for its event, or for its decision.")
            .also_answers(409, "There is not so much left of the event, or it is too late."),
        Route::new(Method::POST, "/events/reversals", "createReversal", write, named)
            .summary("The same by event id, idempotency key or external reference.")
            .takes::<NamedReversal>()
            .gives::<Reversed>(200)
            .also_answers(202, "Taken; it waits for its event, or for its decision.")
            .also_answers(409, "There is not so much left of the event, or it is too late."),
    ]
}

/// What to take back of an event.
#[derive(Debug, ToSchema)]
#[schema(rename_all = "camelCase")]
struct NewReversal {
    /// `refund`, `partial_refund`, `chargeback`, `canceled`, `duplicate`, `fraud`, `test`, `error` or `other`.
    #[schema(value_type = String)]
    reason: &'static str,
    /// Minor units of the event's amount; all that is left where neither this nor a quantity is given.
    amount: Option<i64>,
    /// Of the event's quantity.
    quantity: Option<i64>,
    /// What you call the reversal, 1 to 255 bytes: the same name again changes nothing.
    idempotency_key: String,
}

/// The same, of which event.
#[derive(Debug, ToSchema)]
#[schema(rename_all = "camelCase")]
struct NamedReversal {
    /// Ours.
    event_id: Option<ConversionEventId>,
    /// The event's.
    event_idempotency_key: Option<String>,
    /// The event's; of several with the same the last.
    external_ref: Option<String>,
    /// As in the reversal of an event by its id.
    #[schema(value_type = String)]
    reason: &'static str,
    /// Minor units of the event's amount; all that is left where neither this nor a quantity is given.
    amount: Option<i64>,
    /// Of the event's quantity.
    quantity: Option<i64>,
    /// What you call the reversal, 1 to 255 bytes: the same name again changes nothing.
    idempotency_key: String,
}

impl Input for NewReversal {
    fn read(fields: &mut Fields<'_, '_>, _: &Config) -> Option<Self> {
        fields.required("reason");
        let reason = fields.optional_choice("reason", &REASONS);
        let amount = fields.optional_integer("amount", 1..=i64::MAX);
        let quantity = fields.optional_integer("quantity", 1..=i64::MAX);
        if amount.is_some() && quantity.is_some() {
            fields.fault("quantity", "contradiction", "give an amount or a quantity, not both");
        }
        let idempotency_key = fields.text("idempotencyKey", 1..=255).map(str::to_owned);
        Some(Self { reason: reason?, amount, quantity, idempotency_key: idempotency_key? })
    }
}

impl Input for NamedReversal {
    fn read(fields: &mut Fields<'_, '_>, config: &Config) -> Option<Self> {
        let event_id = fields.optional_parsed("eventId");
        let key = fields.optional_text("eventIdempotencyKey", 1..=255).map(str::to_owned);
        let external_ref = fields.optional_text("externalRef", 1..=255).map(str::to_owned);
        let names = [event_id.is_some(), key.is_some(), external_ref.is_some()];
        if names.into_iter().filter(|is_there| *is_there).count() != 1 {
            let message = "give one of: eventId, eventIdempotencyKey, externalRef";
            fields.fault("eventId", "required", message);
        }
        let NewReversal { reason, amount, quantity, idempotency_key } =
            NewReversal::read(fields, config)?;
        Some(Self {
            event_id,
            event_idempotency_key: key,
            external_ref,
            reason,
            amount,
            quantity,
            idempotency_key,
        })
    }
}

/// What became of a reversal.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Reversed {
    /// `applied`; `orphaned`: it waits a week for its event; `queued`: it is decided in a moment.
    status: String,
    /// The event, where it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    event_id: Option<ConversionEventId>,
    /// The rewards of the event as they are now.
    rewards: Vec<RewardLeft>,
}

/// What is left of a reward.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct RewardLeft {
    /// Its id.
    reward_id: RewardId,
    /// What it was, minor units.
    amount: i64,
    /// What of that was taken back.
    reversed_amount: i64,
    /// What is owed back since it went into a payout.
    clawed_back_amount: i64,
    /// ISO 4217.
    currency: String,
    /// Where it is now.
    status: String,
}

async fn of_event(mut call: Call) -> Answer {
    let scope = call.scope()?;
    let id: ConversionEventId = call.id("id", "event")?;
    let reversal: NewReversal = call.input()?;
    reverse(&call, scope, Target::Event(id), reversal).await
}

async fn named(mut call: Call) -> Answer {
    let scope = call.scope()?;
    let named: NamedReversal = call.input()?;
    let by_key = named.event_idempotency_key.map(|key| event_id(scope, &key));
    let target = match (named.event_id.or(by_key), named.external_ref) {
        (Some(id), _) => Target::Event(id),
        (None, Some(text)) => Target::ExternalRef(text),
        (None, None) => return Err(ApiError::internal()),
    };
    let NamedReversal { reason, amount, quantity, idempotency_key, .. } = named;
    let reversal = NewReversal { reason, amount, quantity, idempotency_key };
    reverse(&call, scope, target, reversal).await
}

/// Which event is meant.
enum Target {
    Event(ConversionEventId),
    ExternalRef(String),
}

impl Target {
    fn to_proto(&self) -> Event {
        match self {
            Self::Event(id) => Event::EventId(id.to_proto()),
            Self::ExternalRef(text) => Event::ExternalRef(text.clone()),
        }
    }

    /// What tells reversals with the same name apart.
    fn name(&self) -> String {
        match self {
            Self::Event(id) => id.to_string(),
            Self::ExternalRef(text) => format!("ref {text}"),
        }
    }

    /// The event, if it is known: of an external reference once it has come.
    async fn event(
        &self,
        call: &Call,
        scope: Scope,
    ) -> Result<Option<ConversionEventId>, ApiError> {
        match self {
            Self::Event(id) => Ok(Some(*id)),
            Self::ExternalRef(text) => {
                let key = Key::External(scope, engine::external_ref(text));
                let row: Option<proto::ExternalRow> = call.parts.row(&key).await?;
                Ok(row.and_then(|row| ConversionEventId::from_proto(&row.event_id)))
            }
        }
    }
}

/// The same name for the same event is one command, however often and by which name of the event it comes.
async fn reverse(call: &Call, scope: Scope, target: Target, reversal: NewReversal) -> Answer {
    let id = engine::reversal_id(&target.name(), &reversal.idempotency_key);
    let fingerprint = fingerprint(&reversal);
    let body = Body::ReverseEvent(proto::ReverseEvent {
        command_id: Bytes::copy_from_slice(&id.to_be_bytes()),
        event: Some(target.to_proto()),
        amount: reversal.amount,
        quantity: reversal.quantity,
        reason: reversal.reason.to_owned(),
        fingerprint: fingerprint.clone(),
    });
    let decided = call.parts.decide(scope, call.now, id, body).await?;
    let known = target.event(call, scope).await?;
    let Some(row) = decided else { return answer(call, scope, 202, "queued", known).await };
    if row.fingerprint != fingerprint {
        let message = "This name was used for another reversal of the event.";
        return Err(ApiError::conflict("idempotency_conflict", message));
    }
    match row.code.as_str() {
        code if code == CommandCode::Applied.as_str() => {
            answer(call, scope, 200, code, known).await
        }
        code if code == CommandCode::Orphaned.as_str() => {
            answer(call, scope, 202, code, known).await
        }
        code => Err(refused(code)),
    }
}

fn fingerprint(reversal: &NewReversal) -> Bytes {
    let part =
        |figure: Option<i64>| figure.map_or(Vec::new(), |figure| figure.to_be_bytes().to_vec());
    let (amount, quantity) = (part(reversal.amount), part(reversal.quantity));
    let hash = hash128("reversal body", &[reversal.reason.as_bytes(), &amount, &quantity]);
    Bytes::copy_from_slice(&hash.to_be_bytes())
}

fn refused(code: &str) -> ApiError {
    let codes = [
        (CommandCode::AlreadyReversed, "already_reversed", "Nothing is left of the event."),
        (CommandCode::ExceedsEvent, "exceeds_event", "There is not so much left of the event."),
        (CommandCode::AmountMissing, "amount_missing", "The event has no such amount or quantity."),
        (
            CommandCode::MixedUnits,
            "mixed_units",
            "The event's earlier reversals were in the other unit: amounts and quantities do not mix.",
        ),
        (CommandCode::WindowClosed, "reversal_window_closed", "It is too late, says the rule."),
        (CommandCode::TooMany, "too_many_orphans", "Too many reversals wait for this event."),
    ];
    let known = codes.into_iter().find(|(known, ..)| known.as_str() == code);
    known.map_or_else(ApiError::internal, |(_, code, message)| ApiError::conflict(code, message))
}

async fn answer(
    call: &Call,
    scope: Scope,
    status: u16,
    what: &str,
    event: Option<ConversionEventId>,
) -> Answer {
    let row: Option<proto::EventRow> = match event {
        Some(id) => call.parts.row(&Key::Event(scope, id)).await?,
        None => None,
    };
    let rules = row.and_then(|row| row.decision).map(|decision| decision.rules).unwrap_or_default();
    let ids = rules.iter().filter_map(|rule| RewardId::from_proto(rule.reward_id.as_deref()?));
    let keys: Vec<Key> = ids.map(|id| Key::Reward(scope, id)).collect();
    let rows: Vec<Option<proto::RewardRow>> = call.parts.rows(scope, &keys).await?;
    let left = |row: proto::RewardRow| {
        Some(RewardLeft {
            reward_id: RewardId::from_proto(&row.id)?,
            amount: row.amount,
            reversed_amount: row.reversed_amount,
            clawed_back_amount: row.clawed_back_amount,
            currency: row.currency,
            status: row.status,
        })
    };
    let rewards = rows.into_iter().flatten().filter_map(left).collect();
    Reply::json(status, &Reversed { status: what.to_owned(), event_id: event, rewards })
}
