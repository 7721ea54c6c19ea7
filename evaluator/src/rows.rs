//! The rows a decision may see: what is in memory, what the filter rules out, and only then what must
//! be read.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use engine::{Entry, Key, Plan, Row, Settings, Snapshot, Write};
use rustc_hash::FxHashMap;
use storage::error::{Error, Kind};
use storage::state::{Shard, StateStore};

use crate::claims::Claims;
use crate::config::Config;

/// More rounds than any record needs: what a round asks for depends on what the one before found, as
/// in event, code, rulebook, counters.
const PLAN_ROUNDS_MAX: usize = 16;

/// Where rows that were not in memory came from, in keys.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sources {
    pub(crate) filter: u64,
    pub(crate) store: u64,
}

/// One owner's view of its partition's rows.
pub(crate) struct Rows {
    state: StateStore,
    shard: Shard,
    /// Rows that are asked for again, as the last decision left them.
    known: Snapshot,
    known_max: usize,
    /// Decisions that are not known to be in the store, oldest first.
    on_the_way: VecDeque<OnTheWay>,
    /// Batches of `known` that are in the store.
    committed: u64,
    pub(crate) claims: Claims,
    pub(crate) sources: Sources,
}

/// What one decision writes. Every fetch looks here before it looks into the store, so that the next
/// batch can be decided while earlier ones are on their way.
struct OnTheWay {
    /// Of its write set.
    seq: u64,
    /// Its number in the snapshot.
    batch: u64,
    /// How many rows it writes.
    rows: usize,
    /// Those that are written once and hardly ever asked for, as the store will have them.
    once: FxHashMap<Bytes, Option<Bytes>>,
}

impl Rows {
    /// Knows nothing yet.
    pub(crate) fn new(state: StateStore, shard: Shard, config: &Config) -> Self {
        let filter_bytes_max = usize::try_from(config.filter_bytes_max.0).unwrap_or(usize::MAX);
        let claims = Claims::rebuild(state.clone(), shard, filter_bytes_max);
        let (known, on_the_way, sources) = Default::default();
        let (known_max, committed) = (config.cache_rows_max, 0);
        Self { state, shard, known, known_max, on_the_way, committed, claims, sources }
    }

    /// Everything `entries` may touch, and more. Tell [`Rows::decided`] what was decided with it.
    pub(crate) async fn snapshot(
        &mut self,
        settings: &Settings,
        entries: &[Entry],
    ) -> Result<&mut Snapshot, Error> {
        let (on_the_way, all) = self.len();
        if all.saturating_sub(on_the_way) > self.known_max {
            self.known.shrink(self.committed);
        }
        self.recall_claims(entries);
        let mut plan = Plan::new(settings, entries);
        for _ in 0..PLAN_ROUNDS_MAX {
            let want = plan.wants(&self.known);
            if want.is_empty() {
                return Ok(&mut self.known);
            }
            self.fetch(want).await?;
        }
        // Deciding on a snapshot that lacks rows would be wrong, and asking on would never end.
        tracing::error!("planning does not come to an end");
        Err(Error::determinate("plan", Kind::Corrupt))
    }

    /// One row.
    pub(crate) async fn get(&mut self, key: Key) -> Result<Option<Arc<Row>>, Error> {
        if !self.known.contains(&key) {
            self.fetch(vec![key.clone()]).await?;
        }
        Ok(self.known.get(&key).flatten().cloned())
    }

    /// The snapshot was used to decide `writes`, which go into write set `seq` as these bytes.
    pub(crate) fn decided(&mut self, seq: u64, writes: &[Write], bytes: &[(Bytes, Option<Bytes>)]) {
        let mut once = FxHashMap::default();
        once.reserve(writes.len());
        for ((key, value), (name, row)) in writes.iter().zip(bytes) {
            if value.is_some() {
                self.claims.note(key);
            }
            if !is_asked_for_again(key) {
                self.known.forget(key);
                once.insert(name.clone(), row.clone());
            }
        }
        let (batch, rows) = (self.known.batches(), writes.len());
        self.on_the_way.push_back(OnTheWay { seq, batch, rows, once });
    }

    /// Write set `seq` is durable.
    pub(crate) fn committed(&mut self, seq: u64) {
        while let Some(decision) = self.on_the_way.pop_front_if(|decision| decision.seq <= seq) {
            self.committed = decision.batch;
        }
    }

    /// Rows decided and not yet committed, and all rows in memory.
    pub(crate) fn len(&self) -> (usize, usize) {
        (self.on_the_way.iter().map(|decision| decision.rows).sum(), self.known.len())
    }

    /// Most events are new, and the filter knows it: so most plans are complete at once.
    fn recall_claims(&mut self, entries: &[Entry]) {
        for claim in entries.iter().filter_map(Entry::claim) {
            if self.claims.rule_out(&claim) && !self.known.contains(&claim) {
                self.sources.filter += 1;
                self.known.insert(claim, None);
            }
        }
    }

    async fn fetch(&mut self, want: Vec<Key>) -> Result<(), Error> {
        let mut missing = Vec::new();
        for key in want {
            if self.claims.rule_out(&key) {
                self.sources.filter += 1;
                self.known.insert(key, None);
                continue;
            }
            let name = key.encode();
            match self.on_the_way.iter().rev().find_map(|decision| decision.once.get(&name)) {
                Some(row) => {
                    let row = row.clone();
                    self.learn(key, row)?;
                }
                None => missing.push((key, name)),
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        self.sources.store += missing.len() as u64;
        let (keys, names): (Vec<Key>, Vec<Bytes>) = missing.into_iter().unzip();
        let rows = self.state.get(self.shard, &names).await?;
        keys.into_iter().zip(rows).try_for_each(|(key, row)| self.learn(key, row))
    }

    fn learn(&mut self, key: Key, row: Option<Bytes>) -> Result<(), Error> {
        let corrupt = |error| Error::determinate("get", Kind::Corrupt).because(error);
        let row = row.map(|bytes| Row::decode(&key, bytes).map(Arc::new)).transpose();
        self.known.insert(key, row.map_err(corrupt)?);
        Ok(())
    }
}

/// Is it worth keeping in memory as more than bytes?
fn is_asked_for_again(key: &Key) -> bool {
    !matches!(
        key,
        Key::Event(..)
            | Key::Reward(..)
            | Key::Command(..)
            | Key::EventIndex(..)
            | Key::RewardIndex(..)
            | Key::Ledger(..)
    )
}
