//! Makes every change of the catalog: a transaction after another, each over all that wait.
//!
//! A transaction reads what it must know, writes its effects down as a blob, and moves the
//! catalog's head by a conditional update from what it has read: if another process was quicker
//! nothing of it has happened, and it is made again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};

use super::draft::{Draft, Writes, keys_of};
use super::follow::Revisions;
use super::keys::{self, List};
use super::tables::{PLACE, Tables};
use crate::catalog::{CatalogError, Change, Kind};
use crate::cql::Patience;
use crate::error::{Certainty, Error, Kind as ErrorKind};
use crate::state::cql::{Advance, HeadRow, Redo};
use crate::state::{Head, KeyRange};

/// Jobs that wait; a further one is refused as full.
pub(super) const QUEUE_JOBS: usize = 1024;
/// Jobs of one transaction.
const TOGETHER_MAX: usize = 64;
/// How long other processes may be quicker again and again.
const RACE_FOR: Duration = Duration::from_secs(10);

/// Who is told of it.
pub(super) type Answer<T, E = Error> = oneshot::Sender<Result<T, E>>;

/// What is wanted.
pub(super) enum Job {
    Apply(Vec<Change>, Answer<Vec<u64>, CatalogError>),
    Clear(Vec<u64>, Answer<()>),
    /// Made before, in milliseconds since 1970; at most so many.
    Sweep(i64, usize, Answer<usize>),
    Setting(String, Vec<u8>, Answer<Vec<u8>>),
    /// Finish what another process has left half done.
    Repair,
}

/// What a job will be answered if the transaction is committed. A refusal holds without one.
enum Outcome {
    Applied(Result<Vec<u64>, CatalogError>),
    Cleared,
    Swept(usize),
    Set(Vec<u8>),
    Nothing,
}

pub(super) struct Writer {
    pub(super) tables: Tables,
    pub(super) revisions: Arc<Revisions>,
    /// The outbox's floor, for those who wait.
    pub(super) floor: watch::Sender<u64>,
    /// Where the head stands, with everything before it finished; `None` if only the stored row can
    /// tell.
    pub(super) head: Option<HeadRow>,
    /// Drawn once: names the blobs of this process.
    pub(super) token: u64,
    /// Stamps must rise also over transactions that were given up, of which they are part of the name.
    pub(super) last_stamp: i64,
}

impl Writer {
    pub(super) async fn run(mut self, mut inbox: mpsc::Receiver<Job>) {
        let mut jobs = Vec::with_capacity(TOGETHER_MAX);
        while inbox.recv_many(&mut jobs, TOGETHER_MAX).await > 0 {
            let result = self.transact(&jobs).await;
            let kinds = kinds(&jobs);
            // After a failure too, which may be an indeterminate one.
            self.revisions.raise(kinds);
            if kinds != 0 {
                self.revisions.tell(kinds).await;
            }
            answer(&mut jobs, result);
        }
    }

    async fn transact(&mut self, jobs: &[Job]) -> Result<Vec<Outcome>, Error> {
        let mut patience = Patience::new(RACE_FOR);
        loop {
            let from = self.head().await?;
            let (draft, outcomes) = self.draft(&from, jobs).await?;
            if draft.writes.is_empty() {
                return Ok(outcomes);
            }
            let floor = draft.row(&keys::floor()).and_then(|value| keys::number(&value));
            if self.commit(from, draft.writes, draft.next_id).await? {
                if let Some(floor) = floor {
                    self.floor.send_if_modified(|f| std::mem::replace(f, floor.max(*f)) < floor);
                }
                return Ok(outcomes);
            }
            if !patience.pause().await {
                return Err(outrun());
            }
        }
    }

    /// With everything before it finished, whoever began it.
    async fn head(&mut self) -> Result<HeadRow, Error> {
        let mut patience = Patience::new(RACE_FOR);
        loop {
            match self.try_head().await {
                Err(e) if e.kind == ErrorKind::Fenced => {}
                done => return done.map_err(|e| e.during("apply")),
            }
            if !patience.pause().await {
                return Err(outrun());
            }
        }
    }

    async fn try_head(&mut self) -> Result<HeadRow, Error> {
        if let Some(row) = &self.head {
            return Ok(row.clone());
        }
        let heads = &self.tables.store.heads;
        let row = match heads.read("apply", PLACE).await? {
            Some(row) => row,
            None => heads.acquire(PLACE, self.token.cast_signed()).await?,
        };
        // Nothing of what waits here has happened yet.
        let redone = self.tables.store.redo(PLACE, &row).await;
        redone.map_err(|e| e.with(Certainty::Determinate))?;
        self.head = Some(row.clone());
        Ok(row)
    }

    /// What all of them come to, after what is stored.
    async fn draft(&self, from: &HeadRow, jobs: &[Job]) -> Result<(Draft, Vec<Outcome>), Error> {
        let mut wanted = Vec::new();
        let mut cleared = BTreeSet::new();
        let mut swept = BTreeMap::new();
        for (at, job) in jobs.iter().enumerate() {
            match job {
                Job::Apply(changes, _) => wanted.extend(keys_of(changes)),
                Job::Setting(name, _, _) => wanted.push(keys::setting(name)),
                Job::Clear(ids, _) => cleared.extend(ids),
                Job::Sweep(before_ms, limit, _) => {
                    let ids = self.old(*before_ms, *limit).await?;
                    wanted.extend(ids.iter().map(|id| keys::document(Kind::Idempotency, id)));
                    swept.insert(at, ids);
                }
                Job::Repair => {}
            }
        }
        let values = self.tables.get("apply", &wanted).await?;
        let stored = wanted.into_iter().zip(values).collect();
        let mut draft = Draft::new(stored, from.next_outcome + 1);
        if !cleared.is_empty() {
            let floor = self.tables.floor("outbox_clear").await?;
            let waiting = self.tables.outbox(floor, cleared.len() + 1).await?;
            let waiting: Vec<_> = waiting.iter().map(|row| row.id).collect();
            draft.clear(&cleared, &waiting);
        }
        let mut outcomes = Vec::with_capacity(jobs.len());
        for (at, job) in jobs.iter().enumerate() {
            outcomes.push(match job {
                Job::Apply(changes, _) => Outcome::Applied(draft.apply(changes)),
                Job::Setting(name, value, _) => Outcome::Set(draft.setting(name, value.clone())),
                Job::Clear(..) => Outcome::Cleared,
                Job::Sweep(..) => {
                    let mut count = 0;
                    for id in swept.get(&at).into_iter().flatten() {
                        count += usize::from(draft.forget(Kind::Idempotency, id)?);
                    }
                    Outcome::Swept(count)
                }
                Job::Repair => Outcome::Nothing,
            });
        }
        Ok((draft, outcomes))
    }

    /// Ids of recorded answers made before, the oldest first.
    async fn old(&self, before_ms: i64, limit: usize) -> Result<Vec<String>, Error> {
        let list = List::of_kind(Kind::Idempotency);
        let to = list.from(schemas::time::Timestamp::from_ms(before_ms));
        let range = KeyRange { from: list.start(), to };
        let places = self.tables.scan(&range, false, limit).await.map_err(|e| e.during("sweep"))?;
        Ok(places.iter().filter_map(|(place, _)| list.id_at(place)).collect())
    }

    /// Whether it was committed; not if another process was quicker.
    async fn commit(&mut self, from: HeadRow, writes: Writes, next_id: u64) -> Result<bool, Error> {
        self.head = None;
        let store = &self.tables.store;
        self.last_stamp = store.sources.now_us().max(from.stamp + 1).max(self.last_stamp + 1);
        let redo = Redo {
            stamp: self.last_stamp,
            first_outcome: from.next_outcome,
            next_offset: 0,
            rows: writes.into_iter().collect(),
            outcomes: Vec::new(),
        };
        let seq = from.head().seq + 1;
        let blob = store.blobs.write(PLACE, self.token, seq, &redo).await;
        let blob = blob.map_err(|e| e.during("apply"))?;
        let mut to = from.clone();
        to.ownership.head = Head { seq, ..Head::default() };
        to.next_outcome = next_id - 1;
        to.stamp = redo.stamp;
        to.pending = vec![blob];
        let moved = store.heads.advance(PLACE, &from, &to).await;
        if moved.map_err(|e| e.during("apply"))? == Advance::Lost {
            store.blobs.delete(PLACE, &[blob]).await;
            return Ok(false);
        }
        store.finish(PLACE, &redo).await.map_err(|e| e.during("apply"))?;
        store.blobs.delete(PLACE, &from.pending).await;
        self.head = Some(to);
        Ok(true)
    }
}

fn outrun() -> Error {
    let why = "other processes change the catalog all the time";
    Error::determinate("apply", ErrorKind::Unavailable).because(why)
}

/// The kinds that the jobs change, a bit each.
fn kinds(jobs: &[Job]) -> u16 {
    let of = |job: &Job| match job {
        Job::Apply(changes, _) => {
            changes.iter().fold(0, |kinds, change| kinds | 1 << change.document.kind as u16)
        }
        Job::Sweep(..) => 1 << Kind::Idempotency as u16,
        Job::Clear(..) | Job::Setting(..) | Job::Repair => 0,
    };
    jobs.iter().map(of).fold(0, |kinds, of| kinds | of)
}

fn answer(jobs: &mut Vec<Job>, result: Result<Vec<Outcome>, Error>) {
    match result {
        Ok(outcomes) => {
            for (job, outcome) in jobs.drain(..).zip(outcomes) {
                // Who asked may have left.
                let _ = match (job, outcome) {
                    (Job::Apply(_, to), Outcome::Applied(result)) => to.send(result).is_ok(),
                    (Job::Clear(_, to), Outcome::Cleared) => to.send(Ok(())).is_ok(),
                    (Job::Sweep(_, _, to), Outcome::Swept(count)) => to.send(Ok(count)).is_ok(),
                    (Job::Setting(_, _, to), Outcome::Set(value)) => to.send(Ok(value)).is_ok(),
                    _ => false,
                };
            }
        }
        Err(e) => {
            for job in jobs.drain(..) {
                let e = e.again();
                let _ = match job {
                    Job::Apply(_, to) => to.send(Err(e.into())).is_ok(),
                    Job::Clear(_, to) => to.send(Err(e.during("outbox_clear"))).is_ok(),
                    Job::Sweep(_, _, to) => to.send(Err(e.during("sweep"))).is_ok(),
                    Job::Setting(_, _, to) => to.send(Err(e.during("setting"))).is_ok(),
                    Job::Repair => false,
                };
            }
        }
    }
}
