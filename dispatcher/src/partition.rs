//! The owner of a partition's deliveries: follows its outcomes, attempts what is due, writes what
//! came of it.
//!
//! All waiting is in futures of one set ([`Owner::work`]); between them the owner's state changes
//! without a pause. One commit is under way at a time and carries everything that came up during
//! the one before. What a commit makes true happens after it: a new delivery is attempted, and one
//! attempted again, only when that it exists, and how the attempt went, is durable.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use metrics::counter;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use schemas::delivery_key::DeliveryKey;
use serve::{Clock, Shutdown};
use storage::state::{Epoch, Group, Head, Shard, WriteSet};
use storage::{EventLog, StateStore};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::attempt::{AttemptResult, settle};
use crate::board::{Board, Consumer};
use crate::chain::chain;
use crate::commit::{Lost, commit};
use crate::config::Config;
use crate::endpoints::Endpoints;
use crate::expand::Due;
use crate::follow::{self, Expanded};
use crate::lanes::{Lanes, PageWanted, Pressure};
use crate::metrics as names;
use crate::notice::Place;
use crate::rows::{self, Writes};
use crate::send::{Attempted, attempt, count};
use crate::store;
use crate::transport::Transport;

/// Rows that wait for a commit; with more, no further outcomes are read and no attempt is begun.
const BATCH_ROWS_MAX: usize = 8_192;
/// Outcomes without deliveries after which the position is stored even before its time.
const UNSTORED_OUTCOMES_MAX: u64 = 100_000;
/// Pages that are read at once.
const PAGES_MAX: usize = 8;
/// Between steps of forgetting when there is more to forget, and when there is not.
const FORGET_PAUSES_MS: (i64, i64) = (200, 60_000);
/// The owner looks around at least this often, because the machine's clock may be set.
const NAP_MAX: Duration = Duration::from_secs(60);
/// How often the board is told about deliveries that wait.
const BOARD_EVERY_MS: i64 = 1_000;
/// After the longest attempt, for the last commit.
const DRAIN_MARGIN: Duration = Duration::from_secs(5);

/// What all partitions share.
pub(crate) struct Shared {
    pub(crate) log: EventLog,
    pub(crate) state: StateStore,
    pub(crate) endpoints: Endpoints,
    pub(crate) clock: Clock,
    pub(crate) transport: Transport,
    pub(crate) config: Config,
    pub(crate) board: Board,
    /// One for each attempt that may be under way.
    pub(crate) permits: Arc<Semaphore>,
}

type Work = Pin<Box<dyn Future<Output = Done> + Send>>;

/// What one of the owner's futures came to.
enum Done {
    Expanded(Expanded),
    Permit(OwnedSemaphorePermit),
    Attempted(Due, Attempted),
    Page(PageWanted, Vec<Due>, bool),
    Committed(Result<(), Lost>),
    Forgettable(Writes, bool),
    Disabled,
}

/// What a commit makes true.
enum Effect {
    /// The delivery is pending.
    Offer(Due),
    /// The delivery is finished.
    Release(DeliveryKey),
}

/// What waits for the next commit.
#[derive(Default)]
struct Batch {
    rows: Writes,
    effects: Vec<Effect>,
}

/// One ownership of one partition.
pub(crate) struct Owner {
    shared: Arc<Shared>,
    shard: Shard,
    epoch: Epoch,
    /// As of the last commit that was begun.
    head: Head,
    /// The first outcome not yet expanded.
    expanded_to: u64,
    as_of_ms: i64,
    /// Since when the position has moved further than what is stored or being stored.
    unstored_since_ms: Option<i64>,
    lanes: Lanes,
    batch: Batch,
    /// Of the commit under way.
    committing: Option<Vec<Effect>>,
    work: FuturesUnordered<Work>,
    following: bool,
    wants_permit: bool,
    attempts: usize,
    forgetting: bool,
    forget_at_ms: i64,
    board_at_ms: i64,
    random: StdRng,
    shutdown: Shutdown,
    /// Set once the process stops: by when it must be done.
    draining: Option<Instant>,
}

impl Owner {
    /// Takes the partition, whoever had it before, and finds what is pending.
    ///
    /// # Errors
    /// Where it cannot be taken, or the stored position is not one of this log: outcomes are never
    /// skipped.
    pub(crate) async fn take(
        shared: Arc<Shared>,
        partition: u16,
        seed: u64,
        shutdown: Shutdown,
    ) -> Result<Self, storage::Error> {
        let shard = Shard { group: Group::Webhooks, partition };
        let (epoch, head) = acquire(&shared, shard).await?;
        let mut lanes = Lanes::new(shared.config.endpoint_in_flight_max);
        for lane in store::lanes(&shared.state, shard).await? {
            lanes.found(lane);
        }
        shared
            .board
            .progress(Consumer::Webhooks, partition)
            .moved(head.next_offset, head.fold_time_ms);
        Ok(Self {
            shard,
            epoch,
            head,
            expanded_to: head.next_offset,
            as_of_ms: head.fold_time_ms,
            unstored_since_ms: None,
            lanes,
            batch: Batch::default(),
            committing: None,
            work: FuturesUnordered::new(),
            following: false,
            wants_permit: false,
            attempts: 0,
            forgetting: false,
            forget_at_ms: 0,
            board_at_ms: 0,
            random: StdRng::seed_from_u64(seed ^ head.seq.rotate_left(17) ^ u64::from(partition)),
            shutdown,
            draining: None,
            shared,
        })
    }

    /// Owns until the process stops and what was begun is durable.
    ///
    /// # Errors
    /// Where the partition is lost to another owner.
    pub(crate) async fn run(mut self) -> Result<(), Lost> {
        let shutdown = self.shutdown.clone();
        loop {
            let now_ms = self.shared.clock.now_ms();
            self.start_work(now_ms);
            self.tell_board(now_ms);
            if self.is_drained() {
                return Ok(());
            }
            let nap = self.nap(now_ms);
            tokio::select! {
                biased;
                () = shutdown.requested(), if self.draining.is_none() => self.drain(),
                Some(done) = self.work.next() => self.on(done)?,
                () = tokio::time::sleep(nap) => {}
            }
        }
    }

    fn drain(&mut self) {
        self.draining = Some(Instant::now() + self.shared.config.attempt_timeout.0 + DRAIN_MARGIN);
    }

    fn is_drained(&self) -> bool {
        let idle = self.attempts == 0 && self.committing.is_none() && self.is_stored();
        self.draining.is_some_and(|until| idle || Instant::now() >= until)
    }

    fn is_stored(&self) -> bool {
        self.batch.rows.is_empty() && self.unstored_since_ms.is_none()
    }

    /// Begins everything that may begin.
    fn start_work(&mut self, now_ms: i64) {
        self.start_commit(now_ms);
        if self.draining.is_some() {
            return;
        }
        self.start_following();
        self.start_pages();
        self.start_forgetting(now_ms);
        if self.may_ask() && self.lanes.is_ready(now_ms) {
            self.wants_permit = true;
            let permits = self.shared.permits.clone();
            self.add(async move {
                // Permits are given in the order of asking, and a partition asks for one at a time:
                // partitions take turns.
                Done::Permit(permits.acquire_owned().await.expect("permits are never closed"))
            });
        }
    }

    /// May it ask for a permit? Not while it waits for one, nor while so much waits for a commit.
    const fn may_ask(&self) -> bool {
        !self.wants_permit && self.batch.rows.len() < BATCH_ROWS_MAX
    }

    fn start_commit(&mut self, now_ms: i64) {
        let linger_ms = span_ms(self.shared.config.position_linger.0);
        let position_is_due = self.unstored_since_ms.is_some_and(|since| {
            now_ms - since >= linger_ms
                || self.draining.is_some()
                || self.expanded_to - self.head.next_offset >= UNSTORED_OUTCOMES_MAX
        });
        if self.committing.is_some() || (self.batch.rows.is_empty() && !position_is_due) {
            return;
        }
        let Batch { rows, effects } = std::mem::take(&mut self.batch);
        self.unstored_since_ms = None;
        self.head.seq += 1;
        self.head.next_offset = self.expanded_to;
        self.head.fold_time_ms = self.as_of_ms;
        let set = WriteSet {
            seq: self.head.seq,
            next_offset: self.head.next_offset,
            log_identity: self.head.log_identity,
            fold_time_ms: self.head.fold_time_ms,
            rows,
            outcomes: Vec::new(),
        };
        self.committing = Some(effects);
        let (shared, shard, epoch) = (self.shared.clone(), self.shard, self.epoch);
        self.add(async move { Done::Committed(commit(&shared.state, shard, epoch, set).await) });
    }

    fn start_following(&mut self) {
        if self.following || self.batch.rows.len() >= BATCH_ROWS_MAX {
            return;
        }
        self.following = true;
        let (shared, identity, partition) =
            (self.shared.clone(), self.head.log_identity, self.shard.partition);
        let from = Place { identity, partition, offset: self.expanded_to };
        self.add(async move { Done::Expanded(follow::next(&shared, from).await) });
    }

    fn start_pages(&mut self) {
        for wanted in self.lanes.pages_wanted(PAGES_MAX) {
            let (shared, shard) = (self.shared.clone(), self.shard);
            self.add(async move {
                let (dues, complete) = store::page(&shared.state, shard, &wanted).await;
                Done::Page(wanted, dues, complete)
            });
        }
    }

    fn start_forgetting(&mut self, now_ms: i64) {
        if self.forgetting || now_ms < self.forget_at_ms {
            return;
        }
        self.forgetting = true;
        let before_ms = now_ms - span_ms(self.shared.config.delivery_retention.0);
        let (shared, shard) = (self.shared.clone(), self.shard);
        self.add(async move {
            match store::forgettable(&shared.state, shard, before_ms).await {
                Ok((writes, more)) => Done::Forgettable(writes, more),
                Err(e) => {
                    tracing::warn!(
                        partition = shard.partition,
                        error = chain(&e),
                        "old deliveries cannot be read"
                    );
                    Done::Forgettable(Writes::new(), false)
                }
            }
        });
    }

    fn add(&self, work: impl Future<Output = Done> + Send + 'static) {
        self.work.push(Box::pin(work));
    }

    fn on(&mut self, done: Done) -> Result<(), Lost> {
        match done {
            Done::Expanded(expanded) => self.on_expanded(expanded),
            Done::Permit(permit) => self.on_permit(permit),
            Done::Attempted(due, attempted) => self.on_attempted(due, attempted),
            Done::Page(wanted, dues, complete) => self.lanes.load(&wanted, &dues, complete),
            Done::Committed(committed) => {
                committed?;
                self.on_committed();
            }
            Done::Forgettable(writes, more) => self.on_forgettable(writes, more),
            Done::Disabled => {}
        }
        Ok(())
    }

    fn on_expanded(&mut self, expanded: Expanded) {
        self.following = false;
        self.expanded_to = expanded.next;
        self.as_of_ms = self.as_of_ms.max(expanded.as_of_ms);
        self.unstored_since_ms.get_or_insert_with(|| self.shared.clock.now_ms());
        counter!(names::DELIVERIES_CREATED).increment(expanded.dues.len() as u64);
        self.batch.rows.extend(expanded.writes);
        self.batch.effects.extend(expanded.dues.into_iter().map(Effect::Offer));
        self.shared
            .board
            .progress(Consumer::Webhooks, self.shard.partition)
            .moved(self.expanded_to, self.as_of_ms);
    }

    fn on_permit(&mut self, permit: OwnedSemaphorePermit) {
        self.wants_permit = false;
        if self.draining.is_some() {
            return;
        }
        let Some(due) = self.lanes.pop(self.shared.clock.now_ms()) else { return };
        self.attempts += 1;
        let (shared, shard, shutdown) = (self.shared.clone(), self.shard, self.shutdown.clone());
        self.add(async move {
            Done::Attempted(due, attempt(shared, shard, due, permit, shutdown).await)
        });
    }

    fn on_attempted(&mut self, due: Due, attempted: Attempted) {
        self.attempts -= 1;
        let (row, result) = match attempted {
            Attempted::Ended(mut row, ended) => {
                let result = settle(due.key.delivery, &mut row, ended, self.random.next_u32());
                count(due, &row, result);
                (row, Some(result))
            }
            Attempted::Finished(mut row, status) => {
                rows::finish(&mut row, status);
                (row, None)
            }
            Attempted::Stale | Attempted::Dropped => {
                self.lanes.attempted(&due.key, Pressure::Keep);
                return self.lanes.release(&due.key);
            }
        };
        self.lanes.attempted(&due.key, result.map_or(Pressure::Keep, AttemptResult::pressure));
        rows::update(&due.key, &row, due.at_ms, self.shared.clock.now_ms(), &mut self.batch.rows);
        let effect = if row.status == rows::PENDING {
            Effect::Offer(Due { at_ms: row.due_at_ms, ..due })
        } else {
            counter!(names::DELIVERIES_FINISHED, "status" => finished_as(&row.status)).increment(1);
            Effect::Release(due.key)
        };
        self.batch.effects.push(effect);
        if result == Some(AttemptResult::Gone) {
            self.disable(due.key);
        }
    }

    /// The receiver said that it is gone. Where this fails, the next delivery hears it again.
    fn disable(&self, key: DeliveryKey) {
        counter!(names::ENDPOINTS_GONE).increment(1);
        let shared = self.shared.clone();
        self.add(async move {
            match shared.endpoints.disable(key.endpoint).await {
                Ok(()) => tracing::info!(endpoint = %key.endpoint, "endpoint is gone, disabled"),
                Err(error) => {
                    tracing::warn!(endpoint = %key.endpoint, error = chain(&error), "endpoint cannot be disabled");
                }
            }
            Done::Disabled
        });
    }

    fn on_committed(&mut self) {
        for effect in self.committing.take().unwrap_or_default() {
            match effect {
                Effect::Offer(due) => self.lanes.offer(due),
                Effect::Release(key) => self.lanes.release(&key),
            }
        }
    }

    fn on_forgettable(&mut self, writes: Writes, more: bool) {
        self.forgetting = false;
        let (soon_ms, late_ms) = FORGET_PAUSES_MS;
        self.forget_at_ms = self.shared.clock.now_ms() + if more { soon_ms } else { late_ms };
        self.batch.rows.extend(writes);
    }

    fn tell_board(&mut self, now_ms: i64) {
        if (now_ms - self.board_at_ms).abs() >= BOARD_EVERY_MS {
            self.board_at_ms = now_ms;
            let (waiting, oldest_due_ms) = self.lanes.backlog();
            self.shared.board.sending(self.shard.partition).saw(waiting, oldest_due_ms);
        }
    }

    /// How long nothing happens by itself.
    fn nap(&self, now_ms: i64) -> Duration {
        if let Some(until) = self.draining {
            return until.saturating_duration_since(Instant::now());
        }
        let linger_ms = span_ms(self.shared.config.position_linger.0);
        let store = self.unstored_since_ms.filter(|_| self.committing.is_none());
        let forget = Some(self.forget_at_ms).filter(|_| !self.forgetting);
        // A lane that comes due changes nothing before the permit or the commit is there.
        let wake = self.lanes.next_wake_ms().filter(|_| self.may_ask());
        let next = [wake, store.map(|since| since + linger_ms), forget];
        let left = next.into_iter().flatten().min().map_or(i64::MAX, |at| at - now_ms);
        Duration::from_millis(left.max(1).unsigned_abs()).min(NAP_MAX)
    }
}

/// Takes the shard from whoever had it, and says where to go on.
///
/// # Errors
/// As [`Owner::take`].
pub(crate) async fn acquire(
    shared: &Shared,
    shard: Shard,
) -> Result<(Epoch, Head), storage::Error> {
    let (epoch, head) = shared.state.acquire(shard).await?;
    let bounds = shared.log.bounds(Consumer::Webhooks.topic(), shard.partition).await?;
    if head.seq == 0 {
        let head = Head { next_offset: bounds.start, log_identity: bounds.identity, ..head };
        return Ok((epoch, head));
    }
    let within = (bounds.start..=bounds.end).contains(&head.next_offset);
    if head.log_identity != bounds.identity || !within {
        return Err(storage::Error::determinate("take", storage::Kind::OutOfRange));
    }
    Ok((epoch, head))
}

/// The same in a word that metrics may have.
fn finished_as(status: &str) -> &'static str {
    match status {
        rows::DELIVERED => rows::DELIVERED,
        rows::CANCELED => rows::CANCELED,
        _ => rows::EXHAUSTED,
    }
}

fn span_ms(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}
