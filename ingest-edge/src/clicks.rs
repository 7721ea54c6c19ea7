//! From the redirect to the `clicks` log: a bounded queue, and the task that drains it in groups.

use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;
use schemas::partition::Scope;
use schemas::proto;
use storage::{Certainty, EventLog, Topic};
use tokio::sync::mpsc;
use tokio::time::sleep;

use crate::metrics;

/// Clicks appended at once.
const GROUP_MAX: usize = 1_024;
/// Times a group is tried while the log certainly did not take it.
const TRIES_MAX: u32 = 5;
/// The pause between tries.
const PAUSE: Duration = Duration::from_millis(200);

type Record = (u16, Bytes);

/// The end clicks are put in at; never waits.
pub(crate) struct ClickQueue {
    sender: mpsc::Sender<Record>,
    partitions: u16,
}

/// The end clicks are taken from.
pub struct ClickWriter {
    receiver: mpsc::Receiver<Record>,
    log: EventLog,
}

/// A queue of at most `capacity` clicks in front of `log`.
pub(crate) fn queue(log: EventLog, capacity: usize) -> (ClickQueue, ClickWriter) {
    let (sender, receiver) = mpsc::channel(capacity);
    (ClickQueue { sender, partitions: log.partitions() }, ClickWriter { receiver, log })
}

impl ClickQueue {
    /// Puts a click in; drops and counts it where the queue is full or nobody drains it any more.
    pub(crate) fn push(&self, click: proto::Click, scope: Scope) {
        let record = (scope.partition(self.partitions), Bytes::from(click.encode_to_vec()));
        if self.sender.try_send(record).is_err() {
            ::metrics::counter!(metrics::CLICKS, "result" => "dropped").increment(1);
        }
    }
}

impl ClickWriter {
    /// Writes clicks until the redirector is gone and the queue is empty.
    pub async fn run(mut self) {
        let mut group = Vec::new();
        while self.receiver.recv_many(&mut group, GROUP_MAX).await > 0 {
            self.write(std::mem::take(&mut group)).await;
        }
    }

    /// Writes what is queued now, for those who step through time themselves; returns how many clicks
    /// were taken.
    pub async fn drain(&mut self) -> usize {
        let mut taken = 0;
        let mut group = Vec::new();
        while let Ok(record) = self.receiver.try_recv() {
            group.push(record);
            if group.len() == GROUP_MAX {
                taken += group.len();
                self.write(std::mem::take(&mut group)).await;
            }
        }
        taken += group.len();
        if !group.is_empty() {
            self.write(group).await;
        }
        taken
    }

    /// A group that may have been stored is not tried again, for a click would count twice.
    async fn write(&self, group: Vec<Record>) {
        let clicks = group.len() as u64;
        for attempt in 1..=TRIES_MAX {
            let Err(error) = self.log.append(Topic::Clicks, group.clone()).await else {
                ::metrics::counter!(metrics::CLICKS, "result" => "stored").increment(clicks);
                return;
            };
            if error.certainty == Certainty::Indeterminate || attempt == TRIES_MAX {
                let error = &error as &dyn std::error::Error;
                tracing::error!(error, clicks, attempt, "clicks were given up");
                break;
            }
            sleep(PAUSE).await;
        }
        ::metrics::counter!(metrics::CLICKS, "result" => "failed").increment(clicks);
    }
}
