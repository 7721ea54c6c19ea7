//! Clients of the edge: each sends its request again until it is acknowledged, whatever happens to
//! the server meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt, Either, Full};
use ingest_edge::Edge;
use schemas::hash;
use schemas::id::ConversionEventId;
use schemas::partition::Scope;
use serde_json::Value;

use crate::invariant::{Invariant, Violation};

/// The first wait before a request is sent again; it doubles.
const RETRY_FIRST: Duration = Duration::from_millis(50);
/// The longest wait before a request is sent again.
const RETRY_MAX: Duration = Duration::from_secs(5);

/// One request, and whose it is.
#[derive(Clone, Debug)]
pub(crate) struct Order {
    pub(crate) number: u64,
    pub(crate) scope: Scope,
    pub(crate) token: String,
    /// One event, or several as a batch.
    pub(crate) events: Vec<Value>,
}

/// What all clients know; it outlives every crash of the server.
#[derive(Clone, Default)]
pub(crate) struct Book(Arc<Mutex<Pages>>);

#[derive(Default)]
pub(crate) struct Pages {
    /// Sent and not acknowledged, by number.
    pub(crate) waiting: BTreeMap<u64, Order>,
    /// Answered "queued".
    pub(crate) queued: BTreeSet<(Scope, ConversionEventId)>,
    /// What happened, in order.
    pub(crate) trace: Vec<String>,
    /// The first breach a client saw.
    pub(crate) violation: Option<Violation>,
}

impl Book {
    /// To read or write in it; never across an await.
    pub(crate) fn open(&self) -> MutexGuard<'_, Pages> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes down what happened.
    pub(crate) fn note(&self, line: String) {
        self.open().trace.push(line);
    }
}

impl Pages {
    fn acknowledged(&mut self, order: &Order, ids: Vec<ConversionEventId>) {
        self.trace.push(format!("acknowledged #{}: {ids:?}", order.number));
        self.waiting.remove(&order.number);
        self.queued.extend(ids.into_iter().map(|id| (order.scope, id)));
    }
}

/// Sends `order` until it is acknowledged.
pub(crate) async fn send(edge: Arc<Edge>, order: Order, book: Book) {
    let mut wait = RETRY_FIRST;
    loop {
        let response = edge.handle(request(&order)).await;
        let status = response.status().as_u16();
        let body = read(response.into_body()).await;
        match status {
            202 => match queued(&order, &body) {
                Ok(ids) => return book.open().acknowledged(&order, ids),
                Err(violation) => return fail(&book, violation),
            },
            429 | 500 | 503 => {
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(RETRY_MAX);
            }
            _ => {
                let body = String::from_utf8_lossy(&body);
                let message = format!("request #{} answered {status}: {body}", order.number);
                return fail(&book, Violation::new(Invariant::A1, message));
            }
        }
    }
}

/// The whole of an answer; of one that breaks off, nothing.
async fn read(body: serve::Body) -> Bytes {
    match body {
        Either::Left(full) => full.collect().await.map(|body| body.to_bytes()).unwrap_or_default(),
        Either::Right(some) => some.collect().await.map(|body| body.to_bytes()).unwrap_or_default(),
    }
}

fn fail(book: &Book, violation: Violation) {
    book.open().violation.get_or_insert(violation);
}

fn request(order: &Order) -> Request<Full<Bytes>> {
    let (path, body) = match &order.events[..] {
        [event] => ("/events/ingest", event.to_string()),
        events => ("/events/ingest/batch", Value::from(events.to_vec()).to_string()),
    };
    Request::builder()
        .method(Method::POST)
        .uri(path)
        .header("authorization", format!("Bearer {}", order.token))
        .header("content-type", "application/json")
        .body(Full::new(body.into()))
        .expect("path and headers are fixed and well formed")
}

/// The ids that were answered "queued": all of them, and the ones any client can compute.
fn queued(order: &Order, body: &[u8]) -> Result<Vec<ConversionEventId>, Violation> {
    let wrong = || {
        let body = String::from_utf8_lossy(body);
        Violation::new(Invariant::A1, format!("request #{} was answered {body}", order.number))
    };
    let answer: Value = serde_json::from_slice(body).map_err(|_| wrong())?;
    let results = match answer["results"].as_array() {
        Some(results) => results.clone(),
        None => vec![answer],
    };
    let mut ids = Vec::new();
    for (event, result) in order.events.iter().zip(&results) {
        let key = event["idempotencyKey"].as_str().unwrap_or_default();
        let expected = hash::event_id(order.scope, key);
        let id: Option<ConversionEventId> =
            result["eventId"].as_str().and_then(|id| id.parse().ok());
        if id != Some(expected) || result["status"] != "queued" {
            return Err(wrong());
        }
        ids.push(expected);
    }
    if ids.len() == order.events.len() { Ok(ids) } else { Err(wrong()) }
}
