//! One shard's commits, one after another: blob, conditional update; and behind it, while the next
//! is decided, applying and publishing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::{mpsc, oneshot};

use super::head_row::{BlobId, HeadRow};
use super::heads::Advance;
use super::redo::Redo;
use super::store::Store;
use crate::marks::Mark;
use crate::state::embedded::keep_last;
use crate::state::{Epoch, Group, Head, Shard, WriteSet};
use crate::{Certainty, Error, Kind, metrics};

/// Requests of a shard that wait; a further one is refused as full.
const QUEUE_REQUESTS: usize = 64;
/// Write sets that are committed and not finished; the head row lists them.
const UNFINISHED_MAX: usize = 8;

/// Who is told of it.
pub(super) type Answer<T> = oneshot::Sender<Result<T, Error>>;

/// What an owner is asked.
pub(super) enum Request {
    Acquire { answer: Answer<(Epoch, Head)> },
    Commit { epoch: Epoch, set: WriteSet, answer: Answer<()> },
    Head { answer: Answer<Head> },
}

/// What this process knows of its ownership.
enum Held {
    /// It never had the shard, or has lost it.
    No,
    /// The row as it left it.
    Row(HeadRow),
    /// A commit failed half way: only the stored row can tell. The epoch and the owner's name.
    Unknown(Epoch, i64),
}

/// A committed write set on its way to be finished.
enum Unfinished {
    Set {
        seq: u64,
        redo: Redo,
        /// Blobs that no head refers to since this commit.
        released: Vec<BlobId>,
        answer: Answer<()>,
    },
    /// Answered when all before it are.
    Behind(oneshot::Sender<()>),
}

/// Decides; the finisher follows.
struct Owner {
    shard: Shard,
    store: Arc<Store>,
    held: Held,
    /// Stamps must rise also over write sets that were given up.
    last_stamp: i64,
    finisher: mpsc::Sender<Unfinished>,
    progress: Arc<Progress>,
}

/// How far the finisher has come.
struct Progress {
    /// Number of the last write set that is applied and published.
    done: AtomicU64,
    /// Number of the first that could not be; 0 if there is none.
    failed: AtomicU64,
}

/// Starts a shard's two tasks; they end when the sender is dropped.
pub(super) fn start(
    shard: Shard,
    store: Arc<Store>,
    applied: Arc<Mark>,
    runtime: &tokio::runtime::Handle,
) -> mpsc::Sender<Request> {
    let (sender, inbox) = mpsc::channel(QUEUE_REQUESTS);
    let (finisher, unfinished) = mpsc::channel(UNFINISHED_MAX);
    let progress = Arc::new(Progress { done: AtomicU64::new(0), failed: AtomicU64::new(0) });
    let finish = Finisher { shard, store: store.clone(), progress: progress.clone(), applied };
    runtime.spawn(finish.run(unfinished));
    let owner = Owner { shard, store, held: Held::No, last_stamp: 0, finisher, progress };
    runtime.spawn(owner.run(inbox));
    sender
}

impl Owner {
    async fn run(mut self, mut inbox: mpsc::Receiver<Request>) {
        while let Some(request) = inbox.recv().await {
            match request {
                Request::Acquire { answer } => reply(answer, self.acquire().await),
                Request::Head { answer } => reply(answer, self.head().await),
                Request::Commit { epoch, set, answer } => self.commit(epoch, set, answer).await,
            }
        }
    }

    async fn acquire(&mut self) -> Result<(Epoch, Head), Error> {
        self.held = Held::No;
        let owner = self.store.sources.token("acquire")?;
        let row = self.store.heads.acquire(self.shard.into(), owner).await?;
        let taken = (Epoch(row.epoch()), row.head());
        self.go_on_from(row).await.map_err(|e| e.during("acquire"))?;
        Ok(taken)
    }

    /// Finishes what is pending, whoever committed it, and then holds the shard.
    async fn go_on_from(&mut self, row: HeadRow) -> Result<(), Error> {
        self.finisher_is_idle().await;
        self.store.redo(self.shard.into(), &row).await?;
        self.progress.done.store(row.head().seq, Ordering::Release);
        self.progress.failed.store(0, Ordering::Release);
        self.last_stamp = self.last_stamp.max(row.stamp);
        self.held = Held::Row(row);
        Ok(())
    }

    async fn finisher_is_idle(&self) {
        let (sender, idle) = oneshot::channel();
        if self.finisher.send(Unfinished::Behind(sender)).await.is_ok() {
            let _ = idle.await;
        }
    }

    /// While it is not known what a failed commit has left, finds out and finishes it first.
    async fn head(&mut self) -> Result<Head, Error> {
        self.look().await.map_err(|e| e.during("head"))?;
        let row = self.store.heads.read("head", self.shard.into()).await?;
        Ok(row.unwrap_or_default().head())
    }

    async fn look(&mut self) -> Result<(), Error> {
        self.note_failure();
        let Held::Unknown(epoch, owner) = self.held else { return Ok(()) };
        let row = self.store.heads.read("commit", self.shard.into()).await?.unwrap_or_default();
        if (row.epoch(), row.owner) != (epoch.0, owner) {
            self.held = Held::No;
            return Ok(());
        }
        match self.go_on_from(row).await {
            Err(e) if e.kind == Kind::Fenced => self.held = Held::No,
            // Nothing of the write set that is waited for here has happened if this fails.
            done => done.map_err(|e| e.with(Certainty::Determinate))?,
        }
        Ok(())
    }

    fn note_failure(&mut self) {
        if let Held::Row(row) = &self.held
            && self.progress.failed.load(Ordering::Acquire) > 0
        {
            self.held = Held::Unknown(Epoch(row.epoch()), row.owner);
        }
    }

    async fn commit(&mut self, epoch: Epoch, set: WriteSet, answer: Answer<()>) {
        let shard = self.shard;
        match self.decide(epoch, set).await {
            Ok((seq, redo, released)) => {
                let unfinished = Unfinished::Set { seq, redo, released, answer };
                // It ends after this task.
                let _ = self.finisher.send(unfinished).await;
            }
            Err(e) => {
                if e.kind == Kind::Fenced {
                    metrics::fenced();
                    tracing::warn!(?shard, error = ?e, "a commit was fenced");
                }
                reply(answer, Err(e));
            }
        }
    }

    /// Makes the write set durable and moves the head: the commit point.
    async fn decide(
        &mut self,
        epoch: Epoch,
        mut set: WriteSet,
    ) -> Result<(u64, Redo, Vec<BlobId>), Error> {
        if !set.outcomes.is_empty() && self.shard.group != Group::Evaluator {
            let why = "only the evaluator's commits have outcomes";
            return Err(Error::determinate("commit", Kind::Conflict).because(why));
        }
        self.look().await?;
        let Held::Row(from) = &self.held else {
            let why = "this process does not own the shard";
            return Err(Error::determinate("commit", Kind::Fenced).because(why));
        };
        let stamp = self.store.sources.now_us().max(self.last_stamp + 1);
        from.ownership.committed(epoch, &set)?;
        keep_last(&mut set.rows);
        let redo = Redo {
            stamp,
            first_outcome: from.next_outcome,
            next_offset: set.next_offset,
            rows: std::mem::take(&mut set.rows),
            outcomes: std::mem::take(&mut set.outcomes),
        };
        self.last_stamp = stamp;
        let timer = metrics::commit_step("write");
        let blob = self.store.blobs.write(self.shard.into(), epoch.0, set.seq, &redo).await?;
        timer.done();
        let done = self.progress.done.load(Ordering::Acquire);
        let to = from.committed(epoch, &set, redo.outcomes.len(), blob, done)?;
        let timer = metrics::commit_step("decide");
        match self.store.heads.advance(self.shard.into(), from, &to).await {
            Ok(Advance::Done) => {
                timer.done();
                let released = Store::released(from, &to);
                self.held = Held::Row(to);
                Ok((set.seq, redo, released))
            }
            Ok(Advance::Lost) => {
                self.held = Held::No;
                self.store.blobs.delete(self.shard.into(), &[blob]).await;
                let why = format!("another owner came before write set {}", set.seq);
                Err(Error::determinate("commit", Kind::Fenced).because(why))
            }
            Err(e) => {
                self.held = Held::Unknown(epoch, from.owner);
                Err(e)
            }
        }
    }
}

/// Brings about the effects of what was committed, in order.
struct Finisher {
    shard: Shard,
    store: Arc<Store>,
    progress: Arc<Progress>,
    applied: Arc<Mark>,
}

impl Finisher {
    async fn run(self, mut inbox: mpsc::Receiver<Unfinished>) {
        while let Some(next) = inbox.recv().await {
            match next {
                Unfinished::Behind(idle) => drop(idle.send(())),
                Unfinished::Set { seq, redo, released, answer } => {
                    reply(answer, self.finish(seq, &redo).await);
                    self.store.blobs.delete(self.shard.into(), &released).await;
                }
            }
        }
    }

    async fn finish(&self, seq: u64, redo: &Redo) -> Result<(), Error> {
        if self.progress.failed.load(Ordering::Acquire) > 0 {
            // Not before the one it follows.
            let why = "an earlier write set is committed and could not be finished";
            return Err(Error::indeterminate("commit", Kind::Unavailable).because(why));
        }
        let timer = metrics::commit_step("finish");
        if let Err(e) = self.store.finish(self.shard.into(), redo).await {
            self.progress.failed.store(seq, Ordering::Release);
            return Err(e.during("commit"));
        }
        timer.done();
        self.progress.done.store(seq, Ordering::Release);
        self.applied.raise(redo.next_offset);
        Ok(())
    }
}

fn reply<T>(answer: Answer<T>, result: Result<T, Error>) {
    // Who asked may have left.
    let _ = answer.send(result);
}
