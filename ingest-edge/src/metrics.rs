//! What the edge counts, by name.

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
