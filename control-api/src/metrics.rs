//! Names of what the control API measures.

/// Requests answered. Labels: `operation` (an operation id, or `none`), `status` (`2xx` to `5xx`).
pub const REQUESTS: &str = "aktvator_control_api_requests_total";
/// Time from a request's head to its answer. Label: `operation`.
pub const REQUEST_DURATION: &str = "aktvator_control_api_request_duration_seconds";
/// Handlers that panicked.
pub const PANICS: &str = "aktvator_control_api_panics_total";
/// Catalog commands the relay has appended to the log.
pub const RELAYED: &str = "aktvator_control_api_relayed_commands_total";
/// Tries of the relay that failed.
pub const RELAY_FAILURES: &str = "aktvator_control_api_relay_failures_total";
/// Recorded answers to `Idempotency-Key`s that were old enough to let go of.
pub const SWEPT: &str = "aktvator_control_api_swept_answers_total";

/// The class of an HTTP status.
pub(crate) const fn status_class(status: u16) -> &'static str {
    match status {
        0..=199 => "1xx",
        200..=299 => "2xx",
        300..=399 => "3xx",
        400..=499 => "4xx",
        _ => "5xx",
    }
}
