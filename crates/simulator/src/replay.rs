//! D2: the same log gives the same bytes. Another evaluator, with other batches, over a copy of the log.

use bytes::Bytes;
use evaluator::EvaluatorParts;
use serve::config::Span;
use serve::{Clock, Health, Shutdown};
use storage::StateStore;
use storage::log::{ReadLimit, Topic};
use storage::memory::Memory;
use storage::state::KeyRange;

use crate::cast::START_MS;
use crate::invariant::{Checked, Invariant, Violation, ensure};
use crate::life::shard;
use crate::oracle::{Found, unreadable};
use crate::world::{HOLDS_PER_STEP, PARTITIONS};

/// Compares outcomes and rows byte by byte.
pub(crate) async fn gives_the_same(found: &Found) -> Checked {
    let (log, state) = Memory::new(PARTITIONS, 1).open();
    for (partition, events) in &found.events {
        let records = events.iter().map(|(_, bytes)| (*partition, bytes.clone())).collect();
        log.append(Topic::Events, records).await.map_err(unreadable)?;
    }
    let shutdown = Shutdown::new();
    let never = Span::from_secs(u64::from(u32::MAX));
    let config = evaluator::Config {
        batch_records_max: 7,
        slice_records_max: 3,
        cache_rows_max: 8,
        holds_per_step: HOLDS_PER_STEP,
        tick_every: never,
        sample_every: never,
        ..evaluator::Config::default()
    };
    let (clock, health) = (Clock::tokio(START_MS), Health::new());
    let parts = EvaluatorParts { log: log.clone(), state: state.clone(), clock, health, config };
    let evaluator = serve::spawn("replay", evaluator::run(parts, shutdown.clone()));
    for (partition, events) in &found.events {
        let end = events.len() as u64;
        state.committed(shard(*partition), end).await.map_err(unreadable)?;
    }
    // Continuations of the replay are repeats of what the log holds already.
    shutdown.request();
    evaluator.await.map_err(unreadable)?;
    for partition in 0..PARTITIONS {
        let limit = ReadLimit { records: usize::MAX, bytes: usize::MAX };
        let again = log.read(Topic::Outcomes, partition, 0, limit).await.map_err(unreadable)?;
        let first =
            found.log.read(Topic::Outcomes, partition, 0, limit).await.map_err(unreadable)?;
        ensure(first == again, Invariant::D2, || {
            format!("partition {partition}: a replay has other outcomes")
        })?;
        let (first, again) = (rows(&found.state, partition).await?, rows(&state, partition).await?);
        ensure(first == again, Invariant::D2, || {
            let other = first.iter().find(|row| !again.contains(row));
            format!("partition {partition}: a replay has other rows, like {other:?}")
        })?;
    }
    Ok(())
}

/// Every row of a partition.
pub(crate) async fn rows(
    state: &StateStore,
    partition: u16,
) -> Result<Vec<(Bytes, Bytes)>, Violation> {
    let range = KeyRange { from: Bytes::new(), to: Bytes::from_static(&[u8::MAX; 32]) };
    state.scan(shard(partition), range, false, usize::MAX).await.map_err(unreadable)
}
