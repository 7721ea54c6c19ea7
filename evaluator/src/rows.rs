//! The rows a decision needs: what the fold knows, what the filter rules out, and only then what must be
//! read.

use engine::{Entry, Fold, Key, Row, Settings, Verdict};
use storage::error::{Error, Kind};
use storage::state::{Shard, StateStore};

use crate::claims::Claims;
use crate::config::Config;
use crate::stop::Stop;

/// More rounds than any record needs: what a round asks for depends on what the one before found, as
/// in event, code, rulebook, counters.
const ROUNDS_MAX: usize = 16;

/// Where rows that were not in memory came from, in keys.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sources {
    pub(crate) filter: u64,
    pub(crate) store: u64,
}

/// One owner's fold, and where its rows come from.
pub(crate) struct Rows {
    state: StateStore,
    shard: Shard,
    fold: Fold,
    known_max: usize,
    pub(crate) claims: Claims,
    pub(crate) sources: Sources,
}

impl Rows {
    /// Goes on from a state whose fold time is `fold_time_ms`.
    pub(crate) fn new(
        state: StateStore,
        shard: Shard,
        config: &Config,
        settings: Settings,
        fold_time_ms: i64,
    ) -> Self {
        let filter_bytes_max = usize::try_from(config.filter_bytes_max.0).unwrap_or(usize::MAX);
        let claims = Claims::rebuild(state.clone(), shard, filter_bytes_max);
        let fold = Fold::new(settings, fold_time_ms);
        let (known_max, sources) = (config.cache_rows_max, Sources::default());
        Self { state, shard, fold, known_max, claims, sources }
    }

    /// Says of each entry whether its idempotency key is certainly new, so that most events need no
    /// row but those they share with others.
    pub(crate) fn recognise(&mut self, entries: &mut [Entry]) {
        for entry in entries {
            let claim = entry.claim();
            entry.is_new = claim.is_some_and(|claim| self.claims.rule_out(&claim));
            self.sources.filter += u64::from(entry.is_new);
        }
    }

    /// Decides some of `entries`, from the first on; how many.
    pub(crate) async fn decide(&mut self, entries: &[Entry]) -> Result<usize, Stop> {
        for _ in 0..ROUNDS_MAX {
            let decided = self.fold.decide(entries);
            if decided > 0 || entries.is_empty() {
                return Ok(decided);
            }
            let wanted = self.fold.wants(entries);
            if wanted.is_empty() {
                break;
            }
            self.fetch(wanted).await?;
        }
        // Going on without a row would be wrong, and asking on would never end.
        Err(Stop::Torn)
    }

    /// One row.
    pub(crate) async fn get(&mut self, key: Key) -> Result<Option<&Row>, Error> {
        if self.fold.get(&key).is_none() {
            self.fetch(vec![key.clone()]).await?;
        }
        Ok(self.fold.get(&key).flatten())
    }

    /// Ends a write set.
    pub(crate) fn take(&mut self) -> Verdict {
        let verdict = self.fold.take();
        for (key, row) in &verdict.writes {
            if row.is_some() {
                self.claims.note(key);
            }
        }
        let (on_the_way, all) = self.fold.len();
        if all.saturating_sub(on_the_way) > self.known_max {
            self.fold.shrink();
        }
        verdict
    }

    /// The first `sets` write sets taken are durable.
    pub(crate) fn committed(&mut self, sets: u64) {
        self.fold.committed(sets);
    }

    /// Rows decided and not yet committed, and all rows in memory.
    pub(crate) fn len(&self) -> (usize, usize) {
        self.fold.len()
    }

    async fn fetch(&mut self, wanted: Vec<Key>) -> Result<(), Error> {
        let mut missing = Vec::new();
        for key in wanted {
            if self.claims.rule_out(&key) {
                self.sources.filter += 1;
                self.fold.learn(key, None);
            } else {
                missing.push(key);
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        self.sources.store += missing.len() as u64;
        let names: Vec<_> = missing.iter().map(Key::encode).collect();
        let rows = self.state.get(self.shard, &names).await?;
        missing.into_iter().zip(rows).try_for_each(|(key, row)| {
            let row = row.map(|bytes| Row::decode(&key, bytes)).transpose();
            let corrupt = |error| Error::determinate("get", Kind::Corrupt).because(error);
            self.fold.learn(key, row.map_err(corrupt)?);
            Ok(())
        })
    }
}
