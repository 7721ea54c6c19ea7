//! Lets go of recorded answers whose keys are free again.

use std::time::Duration;

use schemas::time::Timestamp;
use serve::{Clock, Shutdown};
use storage::Catalog;
use storage::catalog::Kind;

use crate::metrics;
use crate::replay::KEPT_MS;

/// Answers of one sweep: it holds the catalog's one writer.
const SWEEP_MAX: usize = 500;
/// From one round to the next.
const ROUND: Duration = Duration::from_secs(3_600);
/// Between the sweeps of one round, so that writers get their turn.
const PAUSE: Duration = Duration::from_millis(20);

/// Sweeps every hour until `shutdown` is requested. What fails is tried again in the next round.
pub(crate) async fn run(catalog: &Catalog, clock: &Clock, shutdown: &Shutdown) {
    loop {
        let before = Timestamp::from_ms(clock.now_ms().saturating_sub(KEPT_MS));
        let pause = match catalog.sweep(Kind::Idempotency, before, SWEEP_MAX).await {
            Ok(count) => {
                ::metrics::counter!(metrics::SWEPT).increment(count as u64);
                if count < SWEEP_MAX { ROUND } else { PAUSE }
            }
            Err(error) => {
                tracing::warn!(%error, "recorded answers cannot be swept");
                ROUND
            }
        };
        tokio::select! {
            biased;
            () = shutdown.requested() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}
