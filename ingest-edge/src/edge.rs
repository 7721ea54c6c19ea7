//! `POST /events/ingest` and `POST /events/ingest/batch`: authenticate, admit, append, answer.
//!
//! 202 is answered only after the log has the event durably. A 4xx stores nothing and uses up no
//! idempotency key.

use std::sync::Arc;

use access::{Admission, Caller, Class, Gate};
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use schemas::fault::ApiError;
use schemas::partition::Scope;
use schemas::time::Timestamp;
use serve::{Body, BoxError, Clock};
use storage::{EventLog, StateStore, Topic};
use tokio::time::Instant;

use crate::answer::{self, Fate, RequestIds, RequestName};
use crate::batch;
use crate::click::ClickKey;
use crate::config::Config;
use crate::event::{Accepted, EventReader, Refused};
use crate::metrics::{self, Meters};
use crate::request::{self, Asked, Route};
use crate::wait::{Decisions, Placed};

/// The scope an API key needs here.
const SCOPE: &str = "events:ingest";

/// What an [`Edge`] is made of.
pub struct EdgeParts {
    /// Where events are appended.
    pub log: EventLog,
    /// Where decisions are read, for `?wait`.
    pub state: StateStore,
    /// Who may do what, and how often.
    pub gate: Arc<Gate>,
    /// The time that becomes `acceptedAt`.
    pub clock: Clock,
    /// The installation's key for click ids.
    pub click_key: [u8; 32],
    /// Random bits of this process, for request ids.
    pub random: u64,
    /// Settings.
    pub config: Config,
}

/// The ingest endpoints. One is shared by all connections.
pub struct Edge {
    log: EventLog,
    decisions: Decisions,
    gate: Arc<Gate>,
    clock: Clock,
    click_key: ClickKey,
    request_ids: RequestIds,
    meters: Meters,
    config: Config,
}

/// A request that passed the door: who asks, when, and what was admitted so far.
struct Visit {
    caller: Arc<Caller>,
    now: Timestamp,
    id: RequestName,
    admission: Option<Admission>,
}

/// A request whose body is there.
struct Arrival {
    scope: Scope,
    asked: Asked,
    accepted_at: Timestamp,
    started: Instant,
}

/// Status and JSON of an answer that is no error.
type Answer = (StatusCode, Vec<u8>);

impl Edge {
    /// An edge over these parts.
    pub fn new(parts: EdgeParts) -> Self {
        Self {
            decisions: Decisions::new(parts.state),
            log: parts.log,
            gate: parts.gate,
            clock: parts.clock,
            click_key: ClickKey::new(&parts.click_key),
            request_ids: RequestIds::new(parts.random),
            meters: Meters::new(),
            config: parts.config,
        }
    }

    /// Is the request's path one that [`Edge::handle`] answers?
    pub fn takes<B>(request: &Request<B>) -> bool {
        Route::of(request.uri().path()).is_some()
    }

    /// Answers a request; 404 where [`Edge::takes`] says no.
    ///
    /// Dropping the future gives up the answer, not what the log has already taken.
    pub async fn handle<B>(&self, request: Request<B>) -> Response<Body>
    where
        B: hyper::body::Body<Data = Bytes> + Unpin,
        B::Error: Into<BoxError>,
    {
        let now = Timestamp::from_ms(self.clock.now_ms());
        let id = RequestName::of(request.headers(), || self.request_ids.next(now.as_ms()));
        let response = self.respond(request, now, id).await;
        self.meters.answered(response.status());
        response
    }

    async fn respond<B>(
        &self,
        request: Request<B>,
        now: Timestamp,
        id: RequestName,
    ) -> Response<Body>
    where
        B: hyper::body::Body<Data = Bytes> + Unpin,
        B::Error: Into<BoxError>,
    {
        let Some(route) = Route::of(request.uri().path()) else {
            return answer::error(&ApiError::not_found("path"), &id);
        };
        if request.method() != Method::POST {
            return answer::method_not_allowed("POST", &id);
        }
        let caller = match self.gate.authenticate(request.headers(), now).await {
            Ok(caller) => caller,
            Err(error) => return answer::error(&error, &id),
        };
        let mut visit = Visit { caller, now, id, admission: None };
        let answer = match self.ingest(route, request, &mut visit).await {
            Ok((status, body)) => answer::json(status, body, &visit.id),
            Err(error) => {
                let error = self.charged(error, &mut visit);
                answer::error(&error, &visit.id)
            }
        };
        with_rate(answer, visit.admission.as_ref())
    }

    /// What is refused before its events are counted costs one.
    fn charged(&self, error: ApiError, visit: &mut Visit) -> ApiError {
        if visit.admission.is_some() {
            return error;
        }
        match self.admit(visit, 1) {
            Ok(()) => error,
            Err(refused) => refused,
        }
    }

    fn admit(&self, visit: &mut Visit, cost: usize) -> Result<(), ApiError> {
        let cost = u32::try_from(cost).unwrap_or(u32::MAX);
        let admission = self.gate.admit(&visit.caller, Class::Ingest, cost, visit.now.as_ms());
        visit.admission.insert(admission).check()
    }

    async fn ingest<B>(
        &self,
        route: Route,
        request: Request<B>,
        visit: &mut Visit,
    ) -> Result<Answer, ApiError>
    where
        B: hyper::body::Body<Data = Bytes> + Unpin,
        B::Error: Into<BoxError>,
    {
        let scope = permitted(&visit.caller)?;
        let asked = Asked::of(route, request.uri(), request.headers())?;
        let timeout = self.config.body_timeout();
        let body = request::body(request.into_body(), route, timeout).await?;
        let arrival = Arrival {
            scope,
            asked,
            accepted_at: Timestamp::from_ms(self.clock.now_ms()),
            started: Instant::now(),
        };
        match route {
            Route::Single => self.single(&body, &arrival, visit).await,
            Route::Batch => self.batch(&body, &arrival, visit).await,
        }
    }

    async fn single(
        &self,
        body: &[u8],
        arrival: &Arrival,
        visit: &mut Visit,
    ) -> Result<Answer, ApiError> {
        self.admit(visit, 1)?;
        let event =
            batch::single(body, &mut self.reader(arrival)).map_err(|refused: Refused| {
                self.meters.rejected(1);
                ApiError::validation(refused.faults)
            })?;
        let fates = self.store(&[&event], arrival, &visit.id).await?;
        Ok((StatusCode::ACCEPTED, answer::received(event.id, fates.first())))
    }

    async fn batch(
        &self,
        body: &[u8],
        arrival: &Arrival,
        visit: &mut Visit,
    ) -> Result<Answer, ApiError> {
        let items = batch::read(body, arrival.asked.format, &mut self.reader(arrival))?;
        self.admit(visit, items.len())?;
        ::metrics::histogram!(metrics::BATCH_EVENTS).record(items.len() as f64);
        let accepted: Vec<_> = items.iter().flatten().collect();
        self.meters.rejected(items.len() - accepted.len());
        let fates = match accepted.is_empty() {
            true => Vec::new(),
            false => self.store(&accepted, arrival, &visit.id).await?,
        };
        Ok(answer::batch(&items, &fates, &visit.id))
    }

    fn reader(&self, arrival: &Arrival) -> EventReader<'_> {
        EventReader::new(arrival.scope, arrival.accepted_at, &self.click_key)
    }

    /// Appends the events, and returns what became of each if the client waits for that; nothing
    /// otherwise.
    async fn store(
        &self,
        events: &[&Accepted],
        arrival: &Arrival,
        id: &RequestName,
    ) -> Result<Vec<Fate>, ApiError> {
        let partition = arrival.scope.partition(self.log.partitions());
        let records = events.iter().map(|event| (partition, event.record.clone())).collect();
        let offsets = self.log.append(Topic::Events, records).await.map_err(|error| {
            self.meters.unavailable(events.len());
            not_appended(&error, id)
        })?;
        self.meters.queued(events.len(), arrival.started.elapsed().as_secs_f64());
        let Some(wait) = arrival.asked.wait else { return Ok(Vec::new()) };
        let accepted_at_ms = arrival.accepted_at.as_ms();
        let placed = Placed { partition, offsets, accepted_at_ms };
        Ok(self.decisions.wait(arrival.scope, events, &placed, wait).await)
    }
}

/// Whose events these are.
///
/// # Errors
/// 403 for keys without [`SCOPE`], and for the operator, who is no organization.
fn permitted(caller: &Caller) -> Result<Scope, ApiError> {
    access::require(caller, SCOPE)?;
    caller.principal().map(|principal| principal.scope).ok_or_else(|| {
        let message = "Events belong to an organization: send one of its API keys.";
        ApiError::new(403, "organization_key_required", message)
    })
}

fn with_rate(mut response: Response<Body>, admission: Option<&Admission>) -> Response<Body> {
    if let Some(admission) = admission {
        admission.headers(response.headers_mut());
    }
    response
}

fn not_appended(error: &storage::Error, id: &RequestName) -> ApiError {
    use storage::{Certainty, Kind};
    match (error.certainty, error.kind) {
        (Certainty::Indeterminate, _) => {
            tracing::error!(error = error as &dyn std::error::Error, %id, "append may have failed");
            ApiError::unavailable(
                "The event may or may not have been stored. It is safe to send it again with the \
                 same idempotencyKey.",
            )
        }
        (Certainty::Determinate, Kind::Full | Kind::Unavailable) => {
            tracing::warn!(error = error as &dyn std::error::Error, %id, "log takes no events");
            ApiError::unavailable(
                "The log takes no events for now; nothing was stored. Send again.",
            )
        }
        (Certainty::Determinate, _) => {
            tracing::error!(error = error as &dyn std::error::Error, %id, "append failed");
            ApiError::internal()
        }
    }
}
