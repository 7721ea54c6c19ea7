//! The bounded queue in front of a writer thread, and how it takes a group from it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crossbeam_channel::{Receiver, Sender, TrySendError};

use crate::{Error, Kind, metrics};

/// Requests that may wait.
const WAITING_MAX: usize = 8_192;
/// Bytes that may wait.
const WAITING_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Requests that share one commit.
const GROUP_MAX: usize = 4_096;
/// Bytes that share one commit; one larger request goes alone. Well below a memtable.
const GROUP_BYTES_MAX: usize = 4 * 1024 * 1024;

/// A request for a writer thread.
pub(crate) trait Job: Send + 'static {
    /// Bytes it will write, about.
    fn weight(&self) -> usize;
}

/// The two ends of a database's queue.
pub(crate) fn channel<J: Job>(database: &'static str) -> (Outbox<J>, Inbox<J>) {
    let (sender, receiver) = crossbeam_channel::bounded(WAITING_MAX);
    let waiting = Arc::new(AtomicUsize::new(0));
    (Outbox { database, sender, waiting: waiting.clone() }, Inbox { receiver, waiting })
}

/// Where requests are put.
pub(crate) struct Outbox<J> {
    database: &'static str,
    sender: Sender<J>,
    waiting: Arc<AtomicUsize>,
}

impl<J: Job> Outbox<J> {
    /// Queues the request without waiting.
    ///
    /// # Errors
    /// Determinate `Full` when the queue is at its bound, `Unavailable` when the thread is gone.
    pub(crate) fn send(&self, op: &'static str, job: J) -> Result<(), Error> {
        let weight = job.weight();
        let before = self.waiting.fetch_add(weight, Ordering::Relaxed);
        // A request larger than the bound still goes through an empty queue.
        if before > 0 && before + weight > WAITING_BYTES_MAX {
            self.waiting.fetch_sub(weight, Ordering::Relaxed);
            return Err(self.full(op, "too many bytes are waiting"));
        }
        self.sender.try_send(job).map_err(|e| {
            self.waiting.fetch_sub(weight, Ordering::Relaxed);
            match e {
                TrySendError::Full(_) => self.full(op, "too many requests are waiting"),
                TrySendError::Disconnected(_) => {
                    Error::determinate(op, Kind::Unavailable).because("the writer thread is gone")
                }
            }
        })
    }

    fn full(&self, op: &'static str, why: &'static str) -> Error {
        metrics::refused_full(self.database, 1);
        Error::determinate(op, Kind::Full).because(why)
    }
}

/// Where the writer thread takes them.
pub(crate) struct Inbox<J> {
    receiver: Receiver<J>,
    waiting: Arc<AtomicUsize>,
}

impl<J: Job> Inbox<J> {
    /// Waits for a request unless `group` has some already, then takes what else is waiting, up to
    /// the bounds. False once the queue is empty for good and the group too.
    pub(crate) fn fill(&self, group: &mut Vec<J>) -> bool {
        if group.is_empty() {
            match self.receiver.recv() {
                Ok(job) => group.push(self.taken(job)),
                Err(_) => return false,
            }
        }
        let mut bytes: usize = group.iter().map(Job::weight).sum();
        while group.len() < GROUP_MAX && bytes < GROUP_BYTES_MAX {
            let Ok(job) = self.receiver.try_recv() else { break };
            bytes += job.weight();
            group.push(self.taken(job));
        }
        true
    }

    fn taken(&self, job: J) -> J {
        self.waiting.fetch_sub(job.weight(), Ordering::Relaxed);
        job
    }
}
