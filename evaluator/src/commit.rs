//! What is decided, on its way to the store: one task commits write sets one after another while the
//! owner decides the next.

use engine::entry::Body;
use engine::{Key, Verdict};
use prost::Message;
use rustc_hash::FxHashSet;
use schemas::proto::{Outcome, Record};
use serve::Clock;
use storage::error::{Error, Kind};
use storage::log::{EventLog, Topic};
use storage::state::{Epoch, Head, Shard, StateStore, WriteSet};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::intake::Batch;
use crate::metrics;
use crate::rows::Writes;
use crate::partition::Context;
use crate::running::Running;

/// Everything one write set will hold, not yet encoded.
#[derive(Debug, Default)]
pub(crate) struct Draft {
    /// What the head becomes.
    pub(crate) head: Head,
    /// Of each decision in it; later writes of a key win.
    pub(crate) writes: Vec<Writes>,
    pub(crate) outcomes: Vec<Outcome>,
    /// Records to append to the events log once this is committed.
    pub(crate) appends: Vec<Record>,
    /// Of the oldest conversion event in it.
    pub(crate) oldest_accepted_ms: Option<i64>,
}

impl Draft {
    /// Nothing decided yet of `batch`, after which the head will be `head`.
    pub(crate) fn new(head: Head, batch: &Batch) -> Self {
        let conversions = batch.entries.iter();
        let accepted = conversions
            .filter(|entry| matches!(entry.body, Body::Conversion(_)))
            .map(|entry| entry.accepted_at_ms);
        Self { head, oldest_accepted_ms: accepted.min(), ..Self::default() }
    }

    /// Adds what a further part of the batch came to; gives its writes to look at.
    pub(crate) fn extend(&mut self, verdict: Verdict) -> Writes {
        let writes = Writes::new(verdict.writes);
        self.head.fold_time_ms = verdict.fold_time_ms;
        self.writes.push(writes.clone());
        self.outcomes.extend(verdict.outcomes);
        self.appends.extend(verdict.appends);
        writes
    }

    /// As bytes. Of rows that many records write, only the newest value goes in; of the others, where
    /// one is written twice, the later one holds.
    fn encode(&self) -> WriteSet {
        let mut later = FxHashSet::default();
        let mut rows = Vec::with_capacity(self.writes.iter().map(|writes| writes.len()).sum());
        for (key, row) in self.writes.iter().rev().flat_map(|writes| writes.iter().rev()) {
            if !is_shared(key) || later.insert(key) {
                rows.push((key, row.as_deref()));
            }
        }
        rows.reverse();
        WriteSet {
            seq: self.head.seq,
            next_offset: self.head.next_offset,
            log_identity: self.head.log_identity,
            fold_time_ms: self.head.fold_time_ms,
            rows: engine::row::encode(rows.into_iter()),
            outcomes: self.outcomes.iter().map(|o| o.encode_to_vec().into()).collect(),
        }
    }
}

/// Do many records write the row? What is made for one event is written once, or seldom twice.
const fn is_shared(key: &Key) -> bool {
    !matches!(
        key,
        Key::Event(..)
            | Key::Reward(..)
            | Key::Unique(..)
            | Key::EventIndex(..)
            | Key::RewardIndex(..)
            | Key::Ledger(..)
    )
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
        self.state.commit(self.shard, self.epoch, draft.encode()).await?;
        append(&self.log, self.shard, draft.appends.drain(..)).await?;
        metrics::committed(&draft, started, self.clock.now_ms());
        Ok(draft.head.seq)
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
