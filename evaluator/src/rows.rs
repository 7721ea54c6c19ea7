//! The rows a decision may see: what is decided and on its way, what is kept in memory, what the
//! filter rules out, and only then what must be read.

use std::sync::Arc;

use bytes::Bytes;
use engine::{Entry, Key, Row, Settings, Snapshot};
use storage::error::{Error, Kind};
use storage::state::{Shard, StateStore};

use crate::cache::{Cache, is_asked_for_again};
use crate::claims::Claims;
use crate::config::Config;
use crate::overlay::{Overlay, Value, Writes};

/// More rounds than any record needs: what a round asks for depends on what the one before found, as
/// in event, code, rulebook, counters.
const PLAN_ROUNDS_MAX: usize = 16;

/// Rows carried from one decision to the next; with more, the next begins with none.
const CARRIED_MAX: usize = 8_192;

/// Where the answers came from, in keys.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sources {
    pub(crate) filter: u64,
    pub(crate) overlay: u64,
    pub(crate) cache: u64,
    pub(crate) store: u64,
}

/// One owner's view of its partition's rows.
pub(crate) struct Rows {
    state: StateStore,
    shard: Shard,
    /// What the last decision saw and made, as far as the next may ask for it.
    carried: Snapshot,
    overlay: Overlay,
    cache: Cache,
    pub(crate) claims: Claims,
    pub(crate) sources: Sources,
}

impl Rows {
    /// Knows nothing yet.
    pub(crate) fn new(state: StateStore, shard: Shard, config: &Config) -> Self {
        let filter_bytes_max = usize::try_from(config.filter_bytes_max.0).unwrap_or(usize::MAX);
        let claims = Claims::rebuild(state.clone(), shard, filter_bytes_max);
        let cache = Cache::new(config.cache_rows_max);
        let (overlay, sources) = (Overlay::default(), Sources::default());
        let carried = Snapshot::default();
        Self { state, shard, carried, overlay, cache, claims, sources }
    }

    /// Everything `entries` may touch, and what was decided last: what every event asks for is in it
    /// already, so that planning mostly needs one round. Give it back with [`Rows::decided`].
    pub(crate) async fn snapshot(
        &mut self,
        settings: &Settings,
        entries: &[Entry],
    ) -> Result<Snapshot, Error> {
        let mut snapshot = std::mem::take(&mut self.carried);
        let mut want = Vec::new();
        for _ in 0..PLAN_ROUNDS_MAX {
            engine::plan(settings, entries, &snapshot, &mut want);
            if want.is_empty() {
                return Ok(snapshot);
            }
            self.fetch(&mut snapshot, &mut want).await?;
        }
        // Deciding on a snapshot that lacks rows would be wrong, and asking on would never end.
        tracing::error!(want = want.len(), "planning does not come to an end");
        Err(Error::determinate("plan", Kind::Corrupt))
    }

    /// One row.
    pub(crate) async fn get(&mut self, key: Key) -> Result<Value, Error> {
        let mut snapshot = Snapshot::default();
        self.fetch(&mut snapshot, &mut vec![key.clone()]).await?;
        Ok(snapshot.get(&key).flatten().cloned())
    }

    /// A decision of write set `seq` makes these values, which `snapshot` now holds.
    pub(crate) fn decided(&mut self, seq: u64, writes: Writes, mut snapshot: Snapshot) {
        snapshot.retain(is_asked_for_again);
        if snapshot.len() <= CARRIED_MAX {
            self.carried = snapshot;
        }
        let made = writes.iter().filter(|(_, value)| value.is_some());
        made.for_each(|(key, _)| self.claims.note(key));
        self.overlay.put(seq, writes);
    }

    /// Write set `seq` is durable.
    pub(crate) fn committed(&mut self, seq: u64) {
        while let Some(writes) = self.overlay.take(seq) {
            let kept = writes.iter().filter(|(key, _)| is_asked_for_again(key));
            kept.for_each(|(key, value)| self.cache.put(key.clone(), value.clone()));
        }
    }

    /// Rows decided and not committed, and committed rows in memory.
    pub(crate) fn len(&self) -> (usize, usize) {
        (self.overlay.len(), self.cache.len())
    }

    async fn fetch(&mut self, snapshot: &mut Snapshot, want: &mut Vec<Key>) -> Result<(), Error> {
        let mut missing = Vec::new();
        for key in want.drain(..) {
            match self.recall(&key) {
                Some(value) => snapshot.insert(key, value),
                None => missing.push(key),
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        missing.sort_unstable();
        missing.dedup();
        self.sources.store += missing.len() as u64;
        let keys: Vec<Bytes> = missing.iter().map(Key::encode).collect();
        let rows = self.state.get(self.shard, &keys).await?;
        for (key, bytes) in missing.into_iter().zip(rows) {
            let value = bytes.map(|bytes| decode(&key, bytes)).transpose()?;
            self.cache.put(key.clone(), value.clone());
            snapshot.insert(key, value);
        }
        Ok(())
    }

    /// What is known without a read.
    fn recall(&mut self, key: &Key) -> Option<Value> {
        if self.claims.rule_out(key) {
            self.sources.filter += 1;
            return Some(None);
        }
        if let Some(value) = self.overlay.get(key) {
            self.sources.overlay += 1;
            return Some(value.clone());
        }
        let value = self.cache.get(key)?;
        self.sources.cache += 1;
        Some(value)
    }
}

fn decode(key: &Key, bytes: Bytes) -> Result<Arc<Row>, Error> {
    let corrupt = |error| Error::determinate("get", Kind::Corrupt).because(error);
    Row::decode(key, bytes).map(Arc::new).map_err(corrupt)
}
