//! `/events`: conversion events and how they were decided, from the fold's own rows.

use std::ops::Range;

use engine::key::{IndexKind, Key};
use http::Method;
use prost::Message as _;
use schemas::fault::ApiError;
use schemas::hash::event_id;
use schemas::id::{AktvatorId, CampaignId, ConversionEventId};
use schemas::partition::Scope;
use schemas::proto::{self, record::Body};
use schemas::time::Timestamp;
use schemas::view::{EventView, ReversalView};

use crate::ControlParts;
use crate::call::{Call, Reply};
use crate::error;
use crate::history::{self, Listed};
use crate::page::{Listing, PAGE};
use crate::query::{Filter, Query};
use crate::route::{Access, Answer, Route, parameter};

/// The operations.
pub(crate) fn routes() -> Vec<Route> {
    let read = Access::Key("events:read");
    vec![
        Route::new(Method::GET, "/events", "listEvents", read, list)
            .summary("List decided conversion events, newest first.")
            .query(PAGE)
            .query(&[
                parameter("campaignId", "The campaign sent or decided for."),
                parameter("eventType", "What happened."),
                parameter("aktvatorId", "Who it was attributed to."),
                parameter("idempotencyKey", "What you called it."),
                parameter("customerId", "Your own id of the customer."),
                parameter("code", "The decision's code, like rewarded."),
                parameter("from", "Taken (`acceptedAt`) at or after this time, RFC 3339."),
                parameter("to", "Taken before this time, RFC 3339."),
            ])
            .gives_page::<EventView>(),
        Route::new(Method::GET, "/events/{id}", "getEvent", read, get)
            .summary("Fetch a single event: status, decision, arithmetic, caps, timeline.")
            .gives::<EventView>(200),
    ]
}

/// A decided event.
#[derive(Debug)]
pub(crate) struct Decided {
    row: proto::EventRow,
    record: proto::Record,
}

impl Decided {
    fn of(row: proto::EventRow) -> Result<Self, ApiError> {
        let record = proto::Record::decode(row.record.clone());
        Ok(Self { record: record.map_err(|e| error::unreadable("event", &e))?, row })
    }

    fn view(self) -> Result<EventView, ApiError> {
        let view = EventView::of_record(self.record, self.row.decision.as_ref());
        let view = view.map_err(|e| error::unreadable("event", &e))?;
        Ok(EventView {
            reversals: self.row.reversals.iter().map(ReversalView::of).collect(),
            ..view
        })
    }

    fn event(&self) -> Option<&proto::ConversionEvent> {
        match &self.record.body {
            Some(Body::Conversion(event)) => Some(event),
            _ => None,
        }
    }
}

impl Listed for Decided {
    const INDEX: IndexKind = IndexKind::Events;
    type Row = proto::IndexRow;

    fn len(row: &proto::IndexRow) -> usize {
        row.ids.len()
    }

    async fn load(
        parts: &ControlParts,
        scope: Scope,
        first: u64,
        row: &proto::IndexRow,
        places: Range<usize>,
    ) -> Result<Vec<Option<Self>>, ApiError> {
        // An empty place is that of an event forgotten since.
        let (ids, is_taken) = (&row.ids[places.clone()], |id: &&bytes::Bytes| !id.is_empty());
        let taken = ids.iter().filter(is_taken).map(|id| ConversionEventId::from_proto(id));
        let keys: Option<Vec<Key>> = taken.map(|id| Some(Key::Event(scope, id?))).collect();
        let rows = parts.rows(scope, &keys.ok_or_else(ApiError::internal)?).await?;
        let mut rows = rows.into_iter();
        let next = |(place, id)| {
            let row: proto::EventRow = is_taken(&id).then(|| rows.next().flatten()).flatten()?;
            // A key that was used again after its retention has another place.
            (row.position == first + place as u64).then_some(row)
        };
        places.zip(ids).map(next).map(|event| event.map(Self::of).transpose()).collect()
    }

    async fn find(parts: &ControlParts, scope: Scope, id: &str) -> Result<Option<u64>, ApiError> {
        let Ok(id) = id.parse::<ConversionEventId>() else { return Ok(None) };
        let row: Option<proto::EventRow> = parts.row(&Key::Event(scope, id)).await?;
        Ok(row.map(|row| row.position))
    }
}

/// What a list of events was asked for.
struct Wanted {
    campaign: Option<Filter<CampaignId>>,
    event_type: Option<Filter<String>>,
    aktvator: Option<Filter<AktvatorId>>,
    idempotency_key: Option<String>,
    customer: Option<Filter<String>>,
    code: Option<Filter<String>>,
    from: Timestamp,
    to: Timestamp,
}

impl Wanted {
    fn read(query: &mut Query) -> Self {
        Self {
            campaign: query.filter("campaignId"),
            event_type: query.filter("eventType"),
            aktvator: query.filter("aktvatorId"),
            idempotency_key: query.text("idempotencyKey").map(str::to_owned),
            customer: query.filter("customerId"),
            code: query.filter("code"),
            from: query.parsed("from").unwrap_or(Timestamp::MIN),
            to: query.parsed("to").unwrap_or(Timestamp::MAX),
        }
    }

    fn admits(&self, decided: &Decided) -> bool {
        let Some(event) = decided.event() else { return false };
        let decision = decided.row.decision.clone().unwrap_or_default();
        let campaign = decision.campaign_id.as_deref().or(event.campaign_id.as_deref());
        let campaign = campaign.and_then(CampaignId::from_proto);
        let aktvator = decision.aktvator_id.as_deref().and_then(AktvatorId::from_proto);
        let customer = event.customer.as_ref().and_then(|customer| customer.id.clone());
        let accepted_at = Timestamp::from_ms(decided.record.accepted_at_ms);
        passes(self.campaign.as_ref(), campaign.as_ref())
            && passes(self.event_type.as_ref(), Some(&event.event_type))
            && passes(self.aktvator.as_ref(), aktvator.as_ref())
            && passes(self.customer.as_ref(), customer.as_ref())
            && passes(self.code.as_ref(), Some(&decision.code))
            && self.idempotency_key.as_ref().is_none_or(|key| *key == event.idempotency_key)
            && (self.from..self.to).contains(&accepted_at)
    }
}

/// Does something with `value` pass? What has none passes only what excludes.
pub(crate) fn passes<T: PartialEq>(filter: Option<&Filter<T>>, value: Option<&T>) -> bool {
    match (filter, value) {
        (None, _) => true,
        (Some(filter), Some(value)) => filter.admits(value),
        (Some(filter), None) => filter.exclude,
    }
}

async fn list(mut call: Call) -> Answer {
    let scope = call.scope()?;
    let wanted = Wanted::read(&mut call.query);
    let asked = call.query.page_of::<String>()?;
    let page = match &wanted.idempotency_key {
        // A key names one event, so there is nothing to scan.
        Some(key) => by_key(&call, scope, key, &wanted).await?,
        None => {
            let admits = |decided: &Decided| wanted.admits(decided);
            history::page(&call.parts, scope, &asked, admits).await?
        }
    };
    let Listing { data, has_more, next_cursor } = page;
    let data = data.into_iter().map(Decided::view).collect::<Result<Vec<_>, _>>()?;
    Reply::json(200, &Listing { data, has_more, next_cursor })
}

async fn by_key(
    call: &Call,
    scope: Scope,
    key: &str,
    wanted: &Wanted,
) -> Result<Listing<Decided>, ApiError> {
    let row = settled(call, scope, event_id(scope, key)).await?;
    let decided = row.map(Decided::of).transpose()?.filter(|decided| wanted.admits(decided));
    Ok(Listing { data: decided.into_iter().collect(), has_more: false, next_cursor: None })
}

async fn get(mut call: Call) -> Answer {
    call.query.finish()?;
    let scope = call.scope()?;
    let id: ConversionEventId = call.id("id", "event")?;
    let row = settled(&call, scope, id).await?;
    let decided = Decided::of(row.ok_or_else(|| ApiError::not_found("event"))?)?;
    let mut view = decided.view()?;
    rewards_now(&call, scope, &mut view).await?;
    Reply::json(200, &view)
}

/// The event's row, once everything that was on the log is decided; `None` where there is none then.
///
/// # Errors
/// 503 where the fold is too far behind to say.
async fn settled(
    call: &Call,
    scope: Scope,
    id: ConversionEventId,
) -> Result<Option<proto::EventRow>, ApiError> {
    let key = Key::Event(scope, id);
    if let Some(row) = call.parts.row(&key).await? {
        return Ok(Some(row));
    }
    let caught_up = call.parts.caught_up(scope).await?;
    match call.parts.row(&key).await? {
        None if !caught_up => {
            Err(ApiError::unavailable("Events taken earlier are still being decided. Ask again."))
        }
        row => Ok(row),
    }
}

/// Puts the present state of each reward into the view, and what became of it into the timeline.
async fn rewards_now(call: &Call, scope: Scope, view: &mut EventView) -> Result<(), ApiError> {
    let Some(decision) = &mut view.decision else { return Ok(()) };
    let keys: Vec<Key> =
        decision.rewards.iter().map(|reward| Key::Reward(scope, reward.reward_id)).collect();
    let rows: Vec<Option<proto::RewardRow>> = call.parts.rows(scope, &keys).await?;
    for (reward, row) in decision.rewards.iter_mut().zip(rows) {
        let Some(row) = row else { continue };
        for step in &row.moves {
            view.timeline.push(schemas::view::MomentView {
                at: Timestamp::from_ms(step.at_ms),
                what: format!("reward_{}", step.status),
            });
        }
        reward.status = Some(row.status);
    }
    view.timeline.sort_by_key(|moment| moment.at);
    Ok(())
}
