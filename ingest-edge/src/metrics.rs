//! What the edge counts, by name.

use ::metrics::{Counter, Histogram, counter, histogram};
use http::StatusCode;

/// Events of ingest requests, by `result`: `queued`, `rejected` (not valid), `unavailable` (the log
/// did not take them).
pub const EVENTS: &str = "aktvator_ingest_edge_events_total";
/// Ingest requests by `status`: the class of the answer, `2xx`, `4xx` or `5xx`.
pub const REQUESTS: &str = "aktvator_ingest_edge_requests_total";
/// Seconds from the whole body to the durable append; requests that append nothing do not count.
pub const ACK_SECONDS: &str = "aktvator_ingest_edge_ack_seconds";
/// Events in one batch request.
pub const BATCH_EVENTS: &str = "aktvator_ingest_edge_batch_events";
/// Seconds that requests with `?wait` waited for their decision.
pub const WAIT_SECONDS: &str = "aktvator_ingest_edge_wait_seconds";
/// Redirect requests by `result`: `counted`, `uncounted` (HEAD, or a campaign that is not active),
/// `unknown`, `failed`.
pub const REDIRECTS: &str = "aktvator_ingest_edge_redirects_total";
/// Clicks by `result`: `stored`, `dropped` (the queue was full), `failed` (the log did not take them).
pub const CLICKS: &str = "aktvator_ingest_edge_clicks_total";

/// What every request counts, looked up once: the registry's look-up costs more than the counting.
pub(crate) struct Meters {
    answered: [Counter; 3],
    queued: Counter,
    rejected: Counter,
    unavailable: Counter,
    ack_seconds: Histogram,
}

impl Meters {
    pub(crate) fn new() -> Self {
        let answered = |status| counter!(REQUESTS, "status" => status);
        let events = |result| counter!(EVENTS, "result" => result);
        Self {
            answered: [answered("2xx"), answered("4xx"), answered("5xx")],
            queued: events("queued"),
            rejected: events("rejected"),
            unavailable: events("unavailable"),
            ack_seconds: histogram!(ACK_SECONDS),
        }
    }

    /// A request was answered with this status.
    pub(crate) fn answered(&self, status: StatusCode) {
        let class = match status.as_u16() {
            200..=299 => 0,
            500.. => 2,
            _ => 1,
        };
        self.answered[class].increment(1);
    }

    /// Events are in the log, `seconds` after their request's body was there.
    pub(crate) fn queued(&self, events: usize, seconds: f64) {
        self.queued.increment(events as u64);
        self.ack_seconds.record(seconds);
    }

    /// Events were not valid.
    pub(crate) fn rejected(&self, events: usize) {
        self.rejected.increment(events as u64);
    }

    /// The log did not take events.
    pub(crate) fn unavailable(&self, events: usize) {
        self.unavailable.increment(events as u64);
    }
}
