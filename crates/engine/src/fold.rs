//! The fold: the state machine behind one partition. The one place that knows the order of effects.
//!
//! A record is decided in two parts: first everything it needs is looked up, then what it changes is
//! put; [`Fold::ready`] stands between them. A record that needs an unknown row has changed nothing
//! when that turns out, and waits until the row is there. So there is no plan beside the decision that
//! could differ from it.

use rustc_hash::FxHashMap;
use schemas::partition::Scope;
use schemas::proto::{self, outcome};

use crate::books::Books;
use crate::entry::{Body, Entry};
use crate::key::Key;
use crate::known::{Known, Write};
use crate::lookup::{Lookup, Missed, Unfetched};
use crate::row::Row;

/// What the fold is set to. It must not change while a log lives: a replay would differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How much later than its first `acceptedAt`, in milliseconds, a key that led to no reward may
    /// be used again as new. By default 90 days.
    pub claim_retention_ms: i64,
    /// Held rewards released by one record; the rest is left to continuations. 0 counts as 1: a step
    /// that releases nothing would follow itself for ever.
    pub holds_per_step: u32,
}

impl Settings {
    /// How many held rewards one record releases.
    pub(crate) fn step(&self) -> u32 {
        self.holds_per_step.max(1)
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self { claim_retention_ms: 90 * 86_400_000, holds_per_step: 256 }
    }
}

/// What was decided between two calls of [`Fold::take`].
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// One per key.
    pub writes: Vec<Write>,
    /// In log order.
    pub outcomes: Vec<proto::Outcome>,
    /// Records that the owner must append to `events` after it has committed. They also stand under
    /// [`Key::Continuations`] until they are decided, so that a new owner appends what its predecessor
    /// may not have; a repeat does nothing.
    pub appends: Vec<proto::Record>,
    /// The latest `acceptedAt` seen, in milliseconds since the epoch.
    pub fold_time_ms: i64,
}

/// Decides the records of one partition in log order, over rows that its owner fetches for it.
///
/// Any split of a log into calls, write sets and fetches gives the same rows and outcomes, byte by
/// byte.
#[derive(Debug)]
pub struct Fold {
    pub(crate) settings: Settings,
    /// Fold time.
    pub(crate) now_ms: i64,
    pub(crate) known: Known,
    pub(crate) appends: Vec<proto::Record>,
    outcomes: Vec<proto::Outcome>,
    /// Of every scope with a record since the last write set was taken.
    books: Vec<Books>,
    places: FxHashMap<Scope, usize>,
    /// The place in `books` of the last record's.
    at: usize,
    pub(crate) missed: Missed,
    /// Records are looked into, not decided.
    is_probing: bool,
}

impl Fold {
    /// Goes on from a committed state whose fold time is `fold_time_ms`, knowing none of its rows.
    pub fn new(settings: Settings, fold_time_ms: i64) -> Self {
        Self {
            settings,
            now_ms: fold_time_ms,
            known: Known::default(),
            appends: Vec::new(),
            outcomes: Vec::new(),
            books: Vec::new(),
            places: FxHashMap::default(),
            at: 0,
            missed: Missed::default(),
            is_probing: false,
        }
    }

    /// Decides `entries` from the first on, up to one that needs a row which is not known; how many.
    /// Ask [`Fold::wants`] what to fetch before going on with the others.
    pub fn decide(&mut self, entries: &[Entry]) -> usize {
        let decided = entries.iter().position(|entry| !self.decides(entry));
        decided.unwrap_or(entries.len())
    }

    /// The keys of rows that deciding `entries` needs, as far as they are not known. [`Fold::learn`]
    /// what stands under them. Which row is needed may depend on another: after a few rounds the first
    /// entry can be decided, and mostly all can. None, where it still cannot: then rows do not fit
    /// together, because they are damaged or were read while another owner wrote them.
    pub fn wants(&mut self, entries: &[Entry]) -> Vec<Key> {
        self.missed.take();
        self.is_probing = true;
        let before = self.now_ms;
        for entry in entries {
            self.now_ms = self.now_ms.max(entry.accepted_at_ms);
            // Where the way ends does not matter: what it lacked has been noted.
            let _ = self.entry(entry);
        }
        self.is_probing = false;
        self.now_ms = before;
        let mut wanted = self.missed.take();
        wanted.retain(|key| !self.known.recall(key));
        wanted
    }

    /// What the store has under a key that was wanted.
    pub fn learn(&mut self, key: Key, row: Option<Row>) {
        self.known.learn(key, row);
    }

    /// The row under `key`, if it is known: the outer `None` where it must be learnt first.
    pub fn get(&self, key: &Key) -> Option<Option<&Row>> {
        self.known.get(key)
    }

    /// Ends a write set: what was decided since the last call.
    pub fn take(&mut self) -> Verdict {
        self.close_all();
        Verdict {
            writes: self.known.take(),
            outcomes: std::mem::take(&mut self.outcomes),
            appends: std::mem::take(&mut self.appends),
            fold_time_ms: self.now_ms,
        }
    }

    /// The first `sets` write sets taken are in the store.
    pub fn committed(&mut self, sets: u64) {
        self.known.committed(sets);
    }

    /// Forgets rows that are in the store and were not needed since the last call; between write sets
    /// only.
    pub fn shrink(&mut self) {
        self.known.shrink();
    }

    /// Rows that are not known to be in the store, and rows kept as more than bytes.
    pub fn len(&self) -> (usize, usize) {
        self.known.len()
    }

    fn decides(&mut self, entry: &Entry) -> bool {
        loop {
            let before = self.now_ms;
            self.now_ms = before.max(entry.accepted_at_ms);
            if self.entry(entry).is_ok() {
                return true;
            }
            self.now_ms = before;
            // A repeat needs no more than its event, whatever else was asked for beside it.
            let missed = self.missed.take();
            if missed.iter().filter(|key| self.known.recall(key)).count() == 0 {
                return false;
            }
        }
    }

    fn entry(&mut self, entry: &Entry) -> Result<(), Unfetched> {
        match &entry.body {
            Body::Conversion(event) => self.conversion(entry, event),
            _ => self.command(entry),
        }
    }

    /// Everything has been looked up; what follows changes the state. While probing it goes no further.
    pub(crate) fn ready(&self) -> Result<(), Unfetched> {
        if self.is_probing { Err(Unfetched) } else { Ok(()) }
    }

    pub(crate) fn look(&mut self) -> Lookup<'_, '_> {
        Lookup::new(&self.known, &mut self.missed)
    }

    /// The same, and the wallet of `scope` if its books are in hand.
    pub(crate) fn look_with_wallet(
        &mut self,
        scope: Scope,
    ) -> (Lookup<'_, '_>, Option<&proto::WalletRow>) {
        let books = self.books.get(self.at).filter(|books| books.scope == scope);
        let wallet = books.and_then(|books| books.wallet.as_ref());
        (Lookup::new(&self.known, &mut self.missed), wallet)
    }

    /// Takes the books of `scope` in hand.
    pub(crate) fn open(&mut self, scope: Scope) -> Result<&mut Books, Unfetched> {
        if self.books.get(self.at).is_none_or(|books| books.scope != scope) {
            self.at = match self.places.get(&scope) {
                Some(at) => *at,
                None => {
                    let books = Books::open(&mut self.look(), scope)?;
                    self.places.insert(scope, self.books.len());
                    self.books.push(books);
                    self.books.len() - 1
                }
            };
        }
        Ok(&mut self.books[self.at])
    }

    /// Puts all books back, so that the rows they are kept in are as they stand.
    pub(crate) fn close_all(&mut self) {
        self.places.clear();
        self.books.drain(..).for_each(|books| books.close(&mut self.known));
    }

    /// The books taken in hand last.
    pub(crate) fn books(&mut self) -> &mut Books {
        &mut self.books[self.at]
    }

    pub(crate) fn put(&mut self, key: Key, row: Option<Row>) {
        debug_assert!(!self.is_probing, "changed {key:?} before it was ready");
        self.known.put(key, row);
    }

    /// Adds an outcome of a record of the books in hand.
    pub(crate) fn outcome(&mut self, entry: &Entry, body: outcome::Body) {
        self.outcomes.push(proto::Outcome {
            organization: self.books[self.at].organization.clone(),
            mode: proto::Mode::from(entry.scope.mode).into(),
            accepted_at_ms: entry.accepted_at_ms,
            body: Some(body),
        });
    }
}
