//! Makes one attempt: reads the delivery and its endpoint, signs, sends, brings back what came of
//! it. It changes nothing; the partition's owner writes the result.

use std::sync::Arc;
use std::time::Duration;

use metrics::{counter, gauge, histogram};
use prost::Message;
use schemas::entity::Endpoint;
use schemas::id::NoticeId;
use schemas::proto::DeliveryRow;
use schemas::target;
use serve::Shutdown;
use storage::state::Shard;
use tokio::sync::OwnedSemaphorePermit;

use crate::attempt::{AttemptResult, Ended, NoAnswer, is_too_old};
use crate::chain::chain;
use crate::expand::Due;
use crate::metrics as names;
use crate::partition::Shared;
use crate::rows;
use crate::sign::{BadSecret, Secret};
use crate::transport::WebhookRequest;

/// How long a delivery waits when the fault is ours; that is no attempt.
const OUR_FAULT_PAUSE: Duration = Duration::from_secs(5);

/// What became of a delivery that was due.
#[derive(Debug)]
pub(crate) enum Attempted {
    /// An attempt was made.
    Ended(Box<DeliveryRow>, Ended),
    /// It gets no further attempt and this status: its endpoint no longer gets anything, or it is
    /// too old.
    Finished(Box<DeliveryRow>, &'static str),
    /// It was not due any more.
    Stale,
    /// The process stops; nothing was sent.
    Dropped,
}

/// What is to be done with a delivery.
enum Prepared {
    Send(Box<DeliveryRow>, Secret, target::Target),
    Done(Attempted),
}

/// The fault is ours.
#[derive(Debug, thiserror::Error)]
enum OurFault {
    #[error("the store or catalog failed")]
    Storage(#[from] storage::Error),
    #[error("the endpoint's secret cannot be used")]
    Secret(#[from] BadSecret),
    #[error("the delivery's row cannot be read")]
    Row,
    #[error("too many names are being looked up")]
    Busy,
}

/// Attempts a delivery that is due, holding `permit` while it does.
///
/// While the fault is ours it waits without the permit, and takes one again.
pub(crate) async fn attempt(
    shared: Arc<Shared>,
    shard: Shard,
    due: Due,
    permit: OwnedSemaphorePermit,
    shutdown: Shutdown,
) -> Attempted {
    let mut permit = Some(permit);
    loop {
        match attempt_now(&shared, shard, due).await {
            Ok(attempted) => return attempted,
            Err(fault) => {
                let delivery = due.key.delivery;
                tracing::warn!(%delivery, error = chain(&fault), "delivery waits");
            }
        }
        drop(permit.take());
        permit = tokio::select! {
            biased;
            () = shutdown.requested() => return Attempted::Dropped,
            permit = permit_after(&shared, OUR_FAULT_PAUSE) => permit,
        };
    }
}

async fn attempt_now(shared: &Shared, shard: Shard, due: Due) -> Result<Attempted, OurFault> {
    match prepare(shared, shard, due).await? {
        Prepared::Done(attempted) => Ok(attempted),
        Prepared::Send(row, secret, target) => {
            let ended = send(shared, due, &row, &secret, target).await;
            if ended.answer == Err(NoAnswer::Busy) {
                return Err(OurFault::Busy);
            }
            Ok(Attempted::Ended(row, ended))
        }
    }
}

async fn permit_after(shared: &Shared, pause: Duration) -> Option<OwnedSemaphorePermit> {
    tokio::time::sleep(pause).await;
    shared.permits.clone().acquire_owned().await.ok()
}

async fn prepare(shared: &Shared, shard: Shard, due: Due) -> Result<Prepared, OurFault> {
    let found = shared.state.get(shard, &[due.key.encode()]).await?;
    let Some(bytes) = found.into_iter().next().flatten() else {
        return Ok(Prepared::Done(Attempted::Stale));
    };
    let row = Box::new(DeliveryRow::decode(bytes).map_err(|_| OurFault::Row)?);
    if row.status != rows::PENDING || row.due_at_ms != due.at_ms {
        return Ok(Prepared::Done(Attempted::Stale));
    }
    if is_too_old(row.created_at_ms, shared.clock.now_ms()) {
        return Ok(Prepared::Done(Attempted::Finished(row, rows::EXHAUSTED)));
    }
    let endpoints = shared.endpoints.of(due.key.scope).await?;
    let endpoint = endpoints.iter().find(|e| e.id == due.key.endpoint && e.active);
    let Some(endpoint) = endpoint else {
        return Ok(Prepared::Done(Attempted::Finished(row, rows::CANCELED)));
    };
    let secret = Secret::parse(&endpoint.secret)?;
    match target::webhook(&endpoint.target_url, shared.config.allow_loopback_targets) {
        Ok(target) => Ok(Prepared::Send(row, secret, target)),
        Err(fault) => Ok(Prepared::Done(blocked(shared, endpoint, row, fault))),
    }
}

/// The URL was fine when it was registered, by the rules of that time.
fn blocked(
    shared: &Shared,
    endpoint: &Endpoint,
    row: Box<DeliveryRow>,
    fault: target::TargetFault,
) -> Attempted {
    tracing::warn!(endpoint = %endpoint.id, %fault, "webhook target is not permitted");
    let now_ms = shared.clock.now_ms();
    let answer = Err(NoAnswer::BlockedTarget);
    Attempted::Ended(row, Ended { started_at_ms: now_ms, ended_at_ms: now_ms, answer })
}

async fn send(
    shared: &Shared,
    due: Due,
    row: &DeliveryRow,
    secret: &Secret,
    target: target::Target,
) -> Ended {
    let started_at_ms = shared.clock.now_ms();
    let request = signed(due, row, secret, target, started_at_ms);
    gauge!(names::IN_FLIGHT).increment(1);
    let mut answer = shared.transport.send(request.clone()).await;
    if answer == Err(NoAnswer::Unsent) {
        // Not a byte went out: a connection kept from earlier had been closed meanwhile. If that
        // happens again, it is the receiver who closes.
        answer = shared.transport.send(request).await;
    }
    gauge!(names::IN_FLIGHT).decrement(1);
    let ended_at_ms = shared.clock.now_ms();
    Ended { started_at_ms, ended_at_ms, answer }
}

fn signed(
    due: Due,
    row: &DeliveryRow,
    secret: &Secret,
    target: target::Target,
    now_ms: i64,
) -> WebhookRequest {
    let id = NoticeId::from_proto(&row.notice_id).map(|id| id.to_string()).unwrap_or_default();
    let timestamp_s = now_ms.div_euclid(1_000);
    WebhookRequest {
        target,
        signature: secret.sign(&id, timestamp_s, &row.payload),
        id,
        timestamp_s,
        delivery: due.key.delivery,
        attempt: u32::try_from(row.attempts.len()).unwrap_or(u32::MAX).saturating_add(1),
        body: row.payload.clone(),
    }
}

/// Counts an attempt that [`crate::attempt::settle`] has written into `row`.
pub(crate) fn count(due: Due, row: &DeliveryRow, result: AttemptResult) {
    let Some(attempt) = row.attempts.last() else { return };
    let class = if attempt.number == 1 { "first" } else { "retry" };
    counter!(names::ATTEMPTS, "result" => result.as_str(), "attempt" => class).increment(1);
    histogram!(names::ATTEMPT_LATENESS).record(seconds(attempt.started_at_ms - due.at_ms));
    histogram!(names::ATTEMPT_DURATION).record(seconds(attempt.duration_ms));
    if result == AttemptResult::Delivered {
        let ended_at_ms = attempt.started_at_ms + attempt.duration_ms;
        histogram!(names::DELIVERY_LAG).record(seconds(ended_at_ms - row.created_at_ms));
    }
}

fn seconds(ms: i64) -> f64 {
    ms.max(0) as f64 / 1e3
}
