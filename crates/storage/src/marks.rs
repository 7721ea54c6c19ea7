//! Numbers that rise and wake who waits for them: ends of partitions, heads of shards.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Notify;

/// One number that others wait for.
#[derive(Debug, Default)]
pub(crate) struct Mark {
    value: AtomicU64,
    moved: Notify,
}

impl Mark {
    /// The number now.
    pub(crate) fn get(&self) -> u64 {
        self.value.load(Ordering::Acquire)
    }

    /// Sets the number and wakes everyone who waits, to look for himself.
    pub(crate) fn set(&self, value: u64) {
        self.value.store(value, Ordering::Release);
        self.moved.notify_waiters();
    }

    /// Sets the number if it is lower, and wakes everyone who waits.
    pub(crate) fn raise(&self, value: u64) {
        self.value.fetch_max(value, Ordering::AcqRel);
        self.moved.notify_waiters();
    }

    /// Returns once the number is at least `least`.
    pub(crate) async fn reaches(&self, least: u64) {
        loop {
            let moved = self.moved.notified();
            tokio::pin!(moved);
            // Registered before looking, so that a move in between is not missed.
            moved.as_mut().enable();
            if self.get() >= least {
                return;
            }
            moved.await;
        }
    }
}

/// Start and end of one partition.
#[derive(Debug, Default)]
pub(crate) struct Extent {
    pub(crate) start: Mark,
    pub(crate) end: Mark,
}
