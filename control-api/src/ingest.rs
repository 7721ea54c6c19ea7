//! The ingest endpoints as the document shows them. The ingest edge stands in front and answers them;
//! nothing here is routed.

use http::Method;
use schemas::fault::ApiError;
use schemas::ingest::{IngestBatch, IngestBatchReceived, IngestEvent, IngestReceived};

use crate::call::Call;
use crate::route::{Access, Answer, Parameter, Replay, Route, parameter};

const WAIT: [Parameter; 1] = [parameter(
    "wait",
    "Milliseconds, 0 to 5,000: how long the answer may wait to tell the decision.",
)];

/// The operations, for the document only.
pub(crate) fn documented() -> Vec<Route> {
    let ingest = Access::Key("events:ingest");
    vec![
        Route::new(Method::POST, "/events/ingest", "ingestEvent", ingest, elsewhere)
            .summary("Take a conversion event; answered once it is durable. At most 64 KiB.")
            .answered_by("ingest edge")
            .replay(Replay::Ignored)
            .query(&WAIT)
            .takes::<IngestEvent>()
            .gives::<IngestReceived>(202),
        Route::new(Method::POST, "/events/ingest/batch", "ingestEvents", ingest, elsewhere)
            .summary("Take up to 1,000 conversion events of at most 1 MiB.")
            .answered_by("ingest edge")
            .replay(Replay::Ignored)
            .query(&WAIT)
            .takes::<IngestBatch>()
            .takes_also("application/x-ndjson")
            .gives::<IngestBatchReceived>(202)
            .also_answers(207, "Some events are queued, and some are rejected."),
    ]
}

async fn elsewhere(_: Call) -> Answer {
    Err(ApiError::not_found("path"))
}
