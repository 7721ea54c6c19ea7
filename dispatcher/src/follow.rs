//! Reads the next outcomes of a partition and expands them into deliveries.

use std::time::Duration;

use metrics::counter;
use prost::Message;
use schemas::proto::Outcome;
use storage::Error;
use storage::log::LogRecord;

use crate::backoff::Backoff;
use crate::board::Consumer;
use crate::chain::chain;
use crate::expand::{Due, expand};
use crate::metrics as names;
use crate::notice::{self, Place, Unreadable};
use crate::partition::Shared;
use crate::rows::Writes;

const CONSUMER: &str = Consumer::Webhooks.as_str();
/// Rows after which the rest of what was read is left for the next time.
const ROWS_MAX: usize = 8_192;
/// How long to wait where only an operator can help.
const HALT_PAUSE: Duration = Duration::from_secs(30);

/// What some outcomes come to.
#[derive(Debug)]
pub(crate) struct Expanded {
    /// The first outcome not among them.
    pub(crate) next: u64,
    /// When the last of them was accepted, milliseconds since the epoch.
    pub(crate) as_of_ms: i64,
    /// What makes the deliveries.
    pub(crate) writes: Writes,
    /// When they are due.
    pub(crate) dues: Vec<Due>,
}

/// Why outcomes were not expanded.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("log or catalog failed")]
    Storage(#[from] Error),
    #[error("a newer build wrote the outcome at offset {0}")]
    Unknown(u64),
}

/// Waits for outcomes at `from`, and expands them. Where that fails it tries again, for as
/// long as it takes; it never passes over an outcome that could be read by another build.
pub(crate) async fn next(shared: &Shared, from: Place) -> Expanded {
    let mut backoff = Backoff::new();
    let partition = from.partition;
    loop {
        shared.log.wait(Consumer::Webhooks.topic(), partition, from.offset).await;
        match read(shared, from).await {
            Ok(expanded) => return expanded,
            Err(failure) => {
                counter!(names::RETRIES, "consumer" => CONSUMER).increment(1);
                if is_hopeless(&failure) {
                    shared.board.progress(Consumer::Webhooks, partition).halted();
                    tracing::error!(
                        partition,
                        error = chain(&failure),
                        "outcomes cannot be followed"
                    );
                    tokio::time::sleep(HALT_PAUSE).await;
                } else {
                    tracing::warn!(partition, error = chain(&failure), "outcomes wait");
                    backoff.wait().await;
                }
            }
        }
    }
}

const fn is_hopeless(failure: &Failure) -> bool {
    match failure {
        Failure::Unknown(_) => true,
        Failure::Storage(e) => matches!(e.kind, storage::Kind::OutOfRange | storage::Kind::Corrupt),
    }
}

/// Expands outcomes from `from` on, as many as are there at once; none at the end.
pub(crate) async fn read(shared: &Shared, from: Place) -> Result<Expanded, Failure> {
    let (topic, limit) = (Consumer::Webhooks.topic(), shared.config.read_limit());
    let records = shared.log.read(topic, from.partition, from.offset, limit).await?;
    let mut expanded =
        Expanded { next: from.offset, as_of_ms: 0, writes: Writes::new(), dues: Vec::new() };
    for record in &records {
        let place = Place { offset: record.offset, ..from };
        match one(shared, place, record, &mut expanded).await {
            Ok(()) => {}
            // What was expanded before it is stored first.
            Err(_) if expanded.next > from.offset => break,
            Err(failure) => return Err(failure),
        }
        expanded.next = record.offset + 1;
        if expanded.writes.len() >= ROWS_MAX {
            break;
        }
    }
    Ok(expanded)
}

async fn one(
    shared: &Shared,
    place: Place,
    record: &LogRecord,
    expanded: &mut Expanded,
) -> Result<(), Failure> {
    let decoded = Outcome::decode(record.bytes.clone()).map_err(|_| Unreadable::Malformed);
    let read = decoded.and_then(|outcome| notice::scope(&outcome).map(|scope| (scope, outcome)));
    let (scope, outcome) = match read {
        Ok(read) => read,
        Err(_) => return passed_over(place),
    };
    expanded.as_of_ms = outcome.accepted_at_ms;
    let endpoints = shared.endpoints.of(scope).await?;
    // Most organizations have none: then the outcome need not be understood.
    if endpoints.is_empty() {
        return Ok(());
    }
    match notice::notices(place, &outcome) {
        Ok(notices) => {
            let now_ms = shared.clock.now_ms();
            expand(&notices, &endpoints, now_ms, &mut expanded.writes, &mut expanded.dues);
            Ok(())
        }
        Err(Unreadable::Unknown) => Err(Failure::Unknown(record.offset)),
        Err(Unreadable::Malformed) => passed_over(place),
    }
}

/// Damaged bytes stay on the log, where their offset finds them; the partition goes on.
fn passed_over(Place { partition, offset, .. }: Place) -> Result<(), Failure> {
    tracing::error!(partition, offset, "outcome cannot be read and tells nobody");
    counter!(names::UNREADABLE, "consumer" => CONSUMER).increment(1);
    Ok(())
}
