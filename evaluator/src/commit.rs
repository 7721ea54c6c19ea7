//! What is decided, on its way to the store: one task commits write sets one after another while the
//! owner decides the next.

use std::collections::BTreeMap;

use bytes::Bytes;
use engine::Verdict;
use engine::entry::Body;
use prost::Message;
use schemas::proto::{Outcome, Record};
use serve::Clock;
use storage::error::{Error, Kind};
use storage::log::{EventLog, Topic};
use storage::state::{Epoch, Head, Shard, StateStore, WriteSet};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::intake::Batch;
use crate::metrics;
use crate::partition::Context;
use crate::running::Running;

/// Bytes to make room for per outcome, before their lengths are known.
const OUTCOME_LEN: usize = 256;

/// One write set on its way.
#[derive(Debug)]
pub(crate) struct Draft {
    pub(crate) set: WriteSet,
    /// Records to append to the events log once this is committed.
    pub(crate) appends: Vec<Record>,
    /// Events in it, by decision code.
    pub(crate) decisions: BTreeMap<&'static str, u64>,
    /// Of the oldest conversion event in it.
    pub(crate) oldest_accepted_ms: Option<i64>,
}

impl Draft {
    /// What `batch` came to, after which the head is `head`.
    pub(crate) fn new(head: Head, batch: &Batch, verdict: Verdict) -> Self {
        let Head { seq, next_offset, log_identity, fold_time_ms } = head;
        let Verdict { writes: rows, outcomes, appends, .. } = verdict;
        let conversions = batch.entries.iter();
        let accepted = conversions
            .filter(|entry| matches!(entry.body, Body::Conversion(_)))
            .map(|entry| entry.accepted_at_ms);
        Self {
            decisions: metrics::count(&outcomes),
            oldest_accepted_ms: accepted.min(),
            appends,
            set: WriteSet {
                seq,
                next_offset,
                log_identity,
                fold_time_ms,
                rows,
                // At once, while the processor still has them at hand.
                outcomes: encode(&outcomes),
            },
        }
    }
}

/// The bytes of each, all cut from one buffer.
fn encode(outcomes: &[Outcome]) -> Vec<Bytes> {
    let mut bytes = Vec::with_capacity(outcomes.len() * OUTCOME_LEN);
    let mut ends = Vec::with_capacity(outcomes.len());
    for outcome in outcomes {
        outcome.encode_raw(&mut bytes);
        ends.push(bytes.len());
    }
    let (all, mut start) = (Bytes::from(bytes), 0);
    ends.into_iter().map(|end| all.slice(std::mem::replace(&mut start, end)..end)).collect()
}

/// The task that commits, and the way to it. What it has not begun is dropped with it.
#[derive(Debug)]
pub(crate) struct Committer {
    drafts: mpsc::Sender<Draft>,
    results: mpsc::Receiver<Result<u64, Error>>,
    in_flight: usize,
    in_flight_max: usize,
    _task: Running,
}

impl Committer {
    /// Commits as `epoch`.
    pub(crate) fn start(context: &Context, shard: Shard, epoch: Epoch) -> Self {
        let in_flight_max = context.config.write_sets_in_flight_max.max(1);
        let (drafts, inbox) = mpsc::channel(in_flight_max);
        let (outbox, results) = mpsc::channel(in_flight_max);
        let (log, state) = (context.log.clone(), context.state.clone());
        let lane = Lane { log, state, clock: context.clock.clone(), shard, epoch };
        let task = Running::spawn("committer", lane.run(inbox, outbox));
        Self { drafts, results, in_flight: 0, in_flight_max, _task: task }
    }

    /// Is there room for one more?
    pub(crate) fn has_room(&self) -> bool {
        self.in_flight < self.in_flight_max
    }

    /// Nothing is on its way.
    pub(crate) fn is_idle(&self) -> bool {
        self.in_flight == 0
    }

    /// Hands over the next write set; there must be room.
    pub(crate) fn submit(&mut self, draft: Draft) {
        debug_assert!(self.has_room());
        self.in_flight += 1;
        // Refused only by a lane that has failed, whose error waits in `results`.
        let _ = self.drafts.try_send(draft);
    }

    /// The next result, where one is there already: the number of a write set that is durable now.
    pub(crate) fn try_next(&mut self) -> Option<Result<u64, Error>> {
        let result = self.results.try_recv().ok()?;
        self.in_flight -= 1;
        Some(result)
    }

    /// Waits for the next result; for ever where nothing is on its way.
    pub(crate) async fn next(&mut self) -> Result<u64, Error> {
        if self.in_flight == 0 {
            return std::future::pending().await;
        }
        let result = self.results.recv().await;
        self.in_flight -= 1;
        // Without a result the lane panicked: what it was at may have happened.
        result.unwrap_or_else(|| Err(Error::indeterminate("commit", Kind::Unavailable)))
    }
}

struct Lane {
    log: EventLog,
    state: StateStore,
    clock: Clock,
    shard: Shard,
    epoch: Epoch,
}

impl Lane {
    /// Ends at the first failure: what was decided on top of it must not be committed.
    async fn run(self, mut inbox: mpsc::Receiver<Draft>, outbox: mpsc::Sender<Result<u64, Error>>) {
        while let Some(draft) = inbox.recv().await {
            let result = self.commit(draft).await;
            let failed = result.is_err();
            if outbox.send(result).await.is_err() || failed {
                return;
            }
        }
    }

    /// A crash between the commit and the append loses nothing: the records also stand in the row
    /// [`Key::Continuations`], which the next owner appends again.
    async fn commit(&self, mut draft: Draft) -> Result<u64, Error> {
        let started = Instant::now();
        let set = std::mem::take(&mut draft.set);
        let seq = set.seq;
        self.state.commit(self.shard, self.epoch, set).await?;
        append(&self.log, self.shard, draft.appends.drain(..)).await?;
        metrics::committed(&draft, started, self.clock.now_ms());
        Ok(seq)
    }
}

/// Appends the owner's own records to the events log.
pub(crate) async fn append(
    log: &EventLog,
    shard: Shard,
    records: impl Iterator<Item = Record>,
) -> Result<(), Error> {
    let records: Vec<_> =
        records.map(|record| (shard.partition, record.encode_to_vec().into())).collect();
    if !records.is_empty() {
        log.append(Topic::Events, records).await?;
    }
    Ok(())
}
