//! The outbox relay: what the catalog decided is appended to the log, in order, until it is there.
//!
//! One relay runs per catalog. A command may be appended twice, when a crash or a lost answer comes
//! between appending and clearing; the fold ignores a version it has seen.

use std::time::Duration;

use serve::{Clock, Shutdown};
use storage::{Catalog, EventLog, Topic};

use crate::{metrics, sweep};

/// Commands of one append.
const BATCH_MAX: usize = 256;
/// The first wait after a failure; doubles up to [`BACK_OFF_MAX`].
const BACK_OFF_MIN: Duration = Duration::from_millis(50);
/// The longest wait after a failure.
const BACK_OFF_MAX: Duration = Duration::from_secs(5);

/// Moves commands from the catalog's outbox to `events` until `shutdown` is requested. Failures are
/// tried again for ever; nothing is skipped. Beside that, answers recorded for `Idempotency-Key`s more
/// than a day before `clock` are let go of.
pub async fn relay(catalog: Catalog, log: EventLog, clock: Clock, shutdown: Shutdown) {
    tokio::join!(forward(&catalog, &log, &shutdown), sweep::run(&catalog, &clock, &shutdown));
}

async fn forward(catalog: &Catalog, log: &EventLog, shutdown: &Shutdown) {
    let mut back_off = BACK_OFF_MIN;
    loop {
        let moved = tokio::select! {
            biased;
            () = shutdown.requested() => return,
            moved = step(catalog, log) => moved,
        };
        match moved {
            Ok(count) => {
                ::metrics::counter!(metrics::RELAYED).increment(count as u64);
                back_off = BACK_OFF_MIN;
            }
            Err(error) => {
                ::metrics::counter!(metrics::RELAY_FAILURES).increment(1);
                tracing::warn!(%error, "commands wait in the outbox");
                tokio::select! {
                    biased;
                    () = shutdown.requested() => return,
                    () = tokio::time::sleep(back_off) => {}
                }
                back_off = (back_off * 2).min(BACK_OFF_MAX);
            }
        }
    }
}

/// Waits for commands and moves the oldest; says how many.
async fn step(catalog: &Catalog, log: &EventLog) -> Result<usize, storage::Error> {
    catalog.outbox_filled().await?;
    let rows = catalog.outbox(BATCH_MAX).await?;
    let ids: Vec<u64> = rows.iter().map(|row| row.id).collect();
    let records = rows.into_iter().map(|row| (row.partition, row.record)).collect();
    log.append(Topic::Events, records).await?;
    catalog.outbox_clear(&ids).await?;
    Ok(ids.len())
}
