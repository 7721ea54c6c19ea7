//! `?wait`: holding an answer until the fold has decided.

use std::time::Duration;

use engine::key::Key;
use engine::row::Row;
use schemas::partition::Scope;
use schemas::proto;
use schemas::view::{DecisionView, EventStatus};
use storage::state::Group;
use storage::{Shard, StateStore};
use tokio::time::{Instant, timeout};

use crate::answer::Fate;
use crate::event::Accepted;
use crate::metrics;

/// Where events came to stand on the log.
pub(crate) struct Placed {
    pub(crate) partition: u16,
    /// In the order of the events.
    pub(crate) offsets: Vec<u64>,
    /// When they were accepted, in milliseconds since the epoch: offsets of one log mean nothing on another.
    pub(crate) accepted_at_ms: i64,
}

impl Placed {
    /// Was the decision in `row` made for the record at `offset`?
    fn is_of(&self, row: &proto::EventRow, offset: u64) -> bool {
        (row.offset, row.accepted_at_ms) == (offset, self.accepted_at_ms)
    }
}

/// Reads decisions from the committed state.
pub(crate) struct Decisions(StateStore);

/// The decision did not come in time, or could not be read; the event is queued all the same.
#[derive(Debug, thiserror::Error)]
enum WaitError {
    #[error("the decision did not come in time")]
    Late,
    #[error("the state could not be read")]
    Storage(#[from] storage::Error),
    #[error("a decided event could not be read")]
    Row(#[from] engine::row::RowError),
}

impl Decisions {
    /// Decisions that stand in `state`.
    pub(crate) fn new(state: StateStore) -> Self {
        Self(state)
    }

    /// What became of `events`, in their order, waiting up to `wait`; [`Fate::QUEUED`] for each where that
    /// is not long enough.
    pub(crate) async fn wait(
        &self,
        scope: Scope,
        events: &[&Accepted],
        placed: &Placed,
        wait: Duration,
    ) -> Vec<Fate> {
        let started = Instant::now();
        let rows = self.rows(scope, events, placed, wait).await;
        ::metrics::histogram!(metrics::WAIT_SECONDS).record(started.elapsed().as_secs_f64());
        match rows {
            Ok(rows) => {
                let places = events.iter().zip(&placed.offsets).zip(rows);
                places.map(|((event, offset), row)| fate(event, placed, *offset, row)).collect()
            }
            Err(error) => {
                if !matches!(error, WaitError::Late) {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(error, "answered without the decision");
                }
                events.iter().map(|_| Fate::QUEUED).collect()
            }
        }
    }

    async fn rows(
        &self,
        scope: Scope,
        events: &[&Accepted],
        placed: &Placed,
        wait: Duration,
    ) -> Result<Vec<Option<proto::EventRow>>, WaitError> {
        let shard = Shard { group: Group::Evaluator, partition: placed.partition };
        let next = placed.offsets.iter().max().map_or(0, |last| last + 1);
        let committed = timeout(wait, self.0.committed(shard, next)).await;
        committed.map_err(|_elapsed| WaitError::Late)??;
        let keys: Vec<_> = events.iter().map(|event| Key::Event(scope, event.id)).collect();
        let names: Vec<_> = keys.iter().map(Key::encode).collect();
        let rows = self.0.get(shard, &names).await?;
        let rows = keys.iter().zip(rows).map(|(key, bytes)| match bytes {
            Some(bytes) => match Row::decode(key, bytes)? {
                Row::Event(row) => Ok(Some(*row)),
                _ => Ok(None),
            },
            None => Ok(None),
        });
        rows.collect()
    }
}

/// The decision that stands, and whether it was made for this very record.
fn fate(event: &Accepted, placed: &Placed, offset: u64, row: Option<proto::EventRow>) -> Fate {
    let Some(row) = row else { return Fate::QUEUED };
    let Some(decision) = &row.decision else { return Fate::QUEUED };
    let status = if placed.is_of(&row, offset) {
        EventStatus::Evaluated
    } else if row.fingerprint == event.fingerprint[..] {
        EventStatus::Duplicate
    } else {
        EventStatus::Conflict
    };
    Fate { status, decision: Some(DecisionView::of(decision)) }
}
