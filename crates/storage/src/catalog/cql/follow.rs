//! How this process hears of changes that others have made.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::tables::Tables;
use super::writer::Job;
use crate::catalog::Kind;
use crate::error::{Error, Kind as ErrorKind};
use crate::log::{EventLog, ReadLimit, Topic};

/// Where notices are; there are few.
const PARTITION: u16 = 0;
const READ: ReadLimit = ReadLimit { records: 1_000, bytes: 64 * 1024 };
const RETRY: Duration = Duration::from_secs(1);
/// Everything counts as changed this often, whatever was heard: the longest that a revoked key
/// lives.
const BACKSTOP: Duration = Duration::from_secs(60);
/// Between looks at the outbox, while somebody waits for it.
const LOOK: Duration = Duration::from_millis(25);

/// Numbers that rise with every change, by kind.
pub(super) struct Revisions {
    numbers: [AtomicU64; Kind::ALL.len()],
    log: EventLog,
}

impl Revisions {
    pub(super) fn new(log: EventLog) -> Self {
        Self { numbers: Default::default(), log }
    }

    pub(super) fn of(&self, kind: Kind) -> u64 {
        self.numbers[kind as usize].load(Ordering::Acquire)
    }

    /// Of the kinds whose bit is set.
    pub(super) fn raise(&self, kinds: u16) {
        for (at, number) in self.numbers.iter().enumerate() {
            if kinds & 1 << at != 0 {
                number.fetch_add(1, Ordering::AcqRel);
            }
        }
    }

    fn raise_all(&self) {
        self.raise(u16::MAX);
    }

    /// Tells the other processes; if that fails they learn it from [`BACKSTOP`].
    pub(super) async fn tell(&self, kinds: u16) {
        let notice = Bytes::copy_from_slice(&kinds.to_be_bytes());
        let told = self.log.append(Topic::CatalogChanges, vec![(PARTITION, notice)]).await;
        if let Err(e) = told {
            tracing::warn!(error = %e, "other processes hear late of a change of the catalog");
        }
    }

    /// Where what others tell from now on begins.
    pub(super) async fn told(&self) -> Result<u64, Error> {
        Ok(self.log.bounds(Topic::CatalogChanges, PARTITION).await?.end)
    }

    /// Hears what others tell, for ever.
    pub(super) async fn follow(self: Arc<Self>, mut next: u64) {
        loop {
            self.follow_from(next).await;
            next = loop {
                match self.told().await {
                    Ok(next) => break next,
                    Err(_) => sleep(RETRY).await,
                }
            };
            // What was told in between is lost, and may have been about anything.
            self.raise_all();
        }
    }

    /// Until what comes next is no longer there.
    async fn follow_from(&self, mut next: u64) {
        loop {
            self.log.wait(Topic::CatalogChanges, PARTITION, next).await;
            match self.log.read(Topic::CatalogChanges, PARTITION, next, READ).await {
                Ok(records) => {
                    for record in records {
                        next = record.offset + 1;
                        let kinds = record.bytes[..].try_into().map(u16::from_be_bytes);
                        // What is not understood may be about anything.
                        self.raise(kinds.unwrap_or(u16::MAX));
                    }
                }
                Err(e) if e.kind == ErrorKind::OutOfRange => return,
                Err(_) => sleep(RETRY).await,
            }
        }
    }
}

/// Takes everything for changed, and finishes what a dead process has left, now and then.
pub(super) async fn backstop(revisions: Arc<Revisions>, writer: mpsc::WeakSender<Job>) {
    let mut ticks = interval(BACKSTOP);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.tick().await;
    loop {
        ticks.tick().await;
        revisions.raise_all();
        let Some(writer) = writer.upgrade() else { return };
        // A queue that is full finds out by itself.
        let _ = writer.try_send(Job::Repair);
    }
}

/// Keeps the outbox's floor up to date while anyone waits for it: one read for all of them.
pub(super) async fn look(tables: Tables, floor: watch::Sender<u64>) {
    loop {
        sleep(LOOK).await;
        if floor.receiver_count() == 0 {
            continue;
        }
        match tables.floor("outbox_cleared").await {
            Ok(now) => {
                floor.send_if_modified(|floor| std::mem::replace(floor, now.max(*floor)) < now);
            }
            Err(e) => tracing::debug!(error = %e, "the outbox cannot be read"),
        }
    }
}
