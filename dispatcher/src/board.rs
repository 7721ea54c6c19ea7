//! What every consumer last saw, so that one reporter can say how far behind the worst of them is.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use metrics::gauge;
use serve::{Clock, Shutdown};
use storage::analytics::Source;
use storage::{EventLog, Topic};

use crate::metrics as names;

/// How often the gauges are set.
const REPORT_EVERY: Duration = Duration::from_secs(5);

/// Who follows a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Consumer {
    /// Outcomes, into deliveries.
    Webhooks,
    /// Outcomes, into analytics.
    Outcomes,
    /// Clicks, into analytics.
    Clicks,
}

impl Consumer {
    /// Each of them.
    pub(crate) const ALL: [Self; 3] = [Self::Webhooks, Self::Outcomes, Self::Clicks];

    /// As in metrics and logs.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Webhooks => "webhooks",
            Self::Outcomes => "outcomes",
            Self::Clicks => "clicks",
        }
    }

    /// What it brings into analytics; `None` of the one that makes deliveries.
    pub(crate) const fn source(self) -> Option<Source> {
        match self {
            Self::Webhooks => None,
            Self::Outcomes => Some(Source::Outcomes),
            Self::Clicks => Some(Source::Clicks),
        }
    }

    /// What it follows.
    pub(crate) const fn topic(self) -> Topic {
        match self {
            Self::Webhooks | Self::Outcomes => Topic::Outcomes,
            Self::Clicks => Topic::Clicks,
        }
    }
}

/// One partition as one consumer last saw it.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    next: AtomicU64,
    as_of_ms: AtomicI64,
    halted: AtomicBool,
}

impl Progress {
    /// It is about to follow `next`; the record before was of `as_of_ms`.
    pub(crate) fn moved(&self, next: u64, as_of_ms: i64) {
        self.next.store(next, Relaxed);
        self.as_of_ms.store(as_of_ms, Relaxed);
        self.halted.store(false, Relaxed);
    }

    /// Going on would skip records.
    pub(crate) fn halted(&self) {
        self.halted.store(true, Relaxed);
    }
}

/// The sender's side of one partition.
#[derive(Debug, Default)]
pub(crate) struct Sending {
    waiting: AtomicUsize,
    /// 0: nothing is due.
    oldest_due_ms: AtomicI64,
}

impl Sending {
    /// Deliveries in memory, and when the first of them is or was due.
    pub(crate) fn saw(&self, waiting: usize, oldest_due_ms: Option<i64>) {
        self.waiting.store(waiting, Relaxed);
        self.oldest_due_ms.store(oldest_due_ms.unwrap_or(0), Relaxed);
    }
}

/// Every partition.
#[derive(Debug)]
pub(crate) struct Board {
    progress: [Vec<Progress>; 3],
    sending: Vec<Sending>,
    /// The partitions of this process: of the others it has nothing to tell.
    owned: Mutex<Vec<u16>>,
}

impl Board {
    /// Nothing seen yet.
    pub(crate) fn new(partitions: u16) -> Self {
        let each = || (0..partitions).map(|_| Progress::default()).collect();
        let sending = (0..partitions).map(|_| Sending::default()).collect();
        Self { progress: [each(), each(), each()], sending, owned: Mutex::default() }
    }

    /// From now on these partitions are this process's.
    pub(crate) fn own(&self, partitions: &[u16]) {
        *self.owned.lock().unwrap_or_else(PoisonError::into_inner) = partitions.to_vec();
    }

    /// The partitions that are this process's.
    pub(crate) fn owned(&self) -> Vec<u16> {
        self.owned.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Where `consumer` is in `partition`.
    pub(crate) fn progress(&self, consumer: Consumer, partition: u16) -> &Progress {
        &self.progress[consumer as usize][usize::from(partition)]
    }

    /// How sending goes in `partition`.
    pub(crate) fn sending(&self, partition: u16) -> &Sending {
        &self.sending[usize::from(partition)]
    }

    /// Sets the gauges again and again until `shutdown`.
    pub(crate) async fn report(&self, log: &EventLog, clock: &Clock, shutdown: &Shutdown) {
        while !shutdown.is_requested() {
            self.report_once(log, clock.now_ms()).await;
            tokio::select! {
                biased;
                () = shutdown.requested() => {}
                () = tokio::time::sleep(REPORT_EVERY) => {}
            }
        }
    }

    async fn report_once(&self, log: &EventLog, now_ms: i64) {
        let owned = self.owned();
        for consumer in Consumer::ALL {
            let (mut behind, mut lag_ms, mut halted) = (0, 0, 0_u32);
            for partition in owned.iter().copied() {
                let progress = self.progress(consumer, partition);
                let end = log.bounds(consumer.topic(), partition).await.map_or(0, |b| b.end);
                let left = end.saturating_sub(progress.next.load(Relaxed));
                behind += left;
                if left > 0 {
                    lag_ms = lag_ms.max(now_ms - progress.as_of_ms.load(Relaxed));
                }
                halted += u32::from(progress.halted.load(Relaxed));
            }
            gauge!(names::BEHIND, "consumer" => consumer.as_str()).set(behind as f64);
            gauge!(names::LAG, "consumer" => consumer.as_str()).set(lag_ms as f64 / 1e3);
            gauge!(names::HALTED, "consumer" => consumer.as_str()).set(halted);
        }
        let sending = || owned.iter().map(|partition| self.sending(*partition));
        let waiting: usize = sending().map(|s| s.waiting.load(Relaxed)).sum();
        gauge!(names::WAITING).set(waiting as f64);
        let oldest = sending().map(|s| s.oldest_due_ms.load(Relaxed));
        let age_ms = oldest.filter(|at| *at > 0).map(|at| (now_ms - at).max(0)).max();
        gauge!(names::OLDEST_DUE_AGE).set(age_ms.unwrap_or(0) as f64 / 1e3);
    }
}
