//! The rows a decision may see: what is in memory, what the filter rules out, and only then what must
//! be read.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use engine::{Entry, Key, Plan, Row, Settings, Snapshot, Write};
use storage::error::{Error, Kind};
use storage::state::{Shard, StateStore};

use crate::claims::Claims;
use crate::config::Config;

/// More rounds than any record needs: what a round asks for depends on what the one before found, as
/// in event, code, rulebook, counters.
const PLAN_ROUNDS_MAX: usize = 16;

/// What one decision writes. Shared with the write set it goes into.
pub(crate) type Writes = Arc<Vec<Write>>;

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
    /// Every row that is decided and not committed, so that the next batch can be decided while earlier
    /// ones are on their way to the store; and committed rows, as they are asked for.
    known: Snapshot,
    known_max: usize,
    /// Decisions on their way, oldest first, with the number of their write set.
    on_the_way: VecDeque<(u64, Writes)>,
    pub(crate) claims: Claims,
    pub(crate) sources: Sources,
}

impl Rows {
    /// Knows nothing yet.
    pub(crate) fn new(state: StateStore, shard: Shard, config: &Config) -> Self {
        let filter_bytes_max = usize::try_from(config.filter_bytes_max.0).unwrap_or(usize::MAX);
        let claims = Claims::rebuild(state.clone(), shard, filter_bytes_max);
        let (known, on_the_way, sources) = Default::default();
        let known_max = config.cache_rows_max;
        Self { state, shard, known, known_max, on_the_way, claims, sources }
    }

    /// Everything `entries` may touch, and more. Tell [`Rows::decided`] what was decided with it.
    pub(crate) async fn snapshot(
        &mut self,
        settings: &Settings,
        entries: &[Entry],
    ) -> Result<&mut Snapshot, Error> {
        if self.known.len() - self.known.pinned().min(self.known.len()) > self.known_max {
            self.known.shrink();
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

    /// A decision of write set `seq` makes these values, which the snapshot now holds.
    pub(crate) fn decided(&mut self, seq: u64, writes: Writes) {
        let made = writes.iter().filter(|(_, value)| value.is_some());
        made.for_each(|(key, _)| self.claims.note(key));
        self.on_the_way.push_back((seq, writes));
    }

    /// Write set `seq` is durable.
    pub(crate) fn committed(&mut self, seq: u64) {
        while let Some((_, writes)) = self.on_the_way.pop_front_if(|(of, _)| *of <= seq) {
            self.known.committed(&writes, is_asked_for_again);
        }
    }

    /// Rows decided and not yet committed, and all rows in memory.
    pub(crate) fn len(&self) -> (usize, usize) {
        (self.known.pinned(), self.known.len())
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
        let (ruled_out, missing): (Vec<_>, Vec<_>) =
            want.into_iter().partition(|key| self.claims.rule_out(key));
        self.sources.filter += ruled_out.len() as u64;
        ruled_out.into_iter().for_each(|key| self.known.insert(key, None));
        if missing.is_empty() {
            return Ok(());
        }
        self.sources.store += missing.len() as u64;
        let keys: Vec<Bytes> = missing.iter().map(Key::encode).collect();
        let rows = self.state.get(self.shard, &keys).await?;
        for (key, bytes) in missing.into_iter().zip(rows) {
            let row = bytes.map(|bytes| decode(&key, bytes)).transpose()?;
            self.known.insert(key, row);
        }
        Ok(())
    }
}

/// Rows that are written once and hardly ever read by a decision would only push out the others.
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

fn decode(key: &Key, bytes: Bytes) -> Result<Arc<Row>, Error> {
    let corrupt = |error| Error::determinate("get", Kind::Corrupt).because(error);
    Row::decode(key, bytes).map(Arc::new).map_err(corrupt)
}
