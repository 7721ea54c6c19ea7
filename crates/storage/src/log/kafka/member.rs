//! One member of a consumer group on `events`, for the rebalance protocol alone: partitions are
//! paused as they are assigned, and no offset is committed.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::TopicPartitionList;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, Rebalance};
use rdkafka::error::KafkaError;
use tokio::sync::watch;

use super::Quiet;
use crate::Topic;
use crate::kafka::KafkaOptions;
use crate::log::assignments::{Assignments, Membership};

/// Milliseconds without a heartbeat after which a member's partitions go to others.
const SESSION_MS: &str = "10000";
const HEARTBEAT_MS: &str = "2000";
/// Between looks at whether to stop.
const POLL: Duration = Duration::from_millis(100);
/// Until another try to begin.
const AGAIN: Duration = Duration::from_secs(1);
/// For an owner to stop working on what was taken away.
const RELEASE_MAX: Duration = Duration::from_secs(3);
/// For the group to hear that this member leaves.
const LEAVE_MAX: Duration = Duration::from_secs(2);

/// Joins the group in a thread of its own.
pub(super) fn join(options: &KafkaOptions, group: &'static str) -> Assignments {
    let (sender, owned) = watch::channel(Vec::new());
    let shared = Arc::new(Shared::default());
    let mut config = options.client();
    config
        .set("group.id", format!("{}{group}", options.topic_prefix))
        .set("partition.assignment.strategy", "cooperative-sticky")
        .set("session.timeout.ms", SESSION_MS)
        .set("heartbeat.interval.ms", HEARTBEAT_MS)
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        // Nothing is consumed, so it does not matter from where.
        .set("auto.offset.reset", "latest");
    let member = Member { shared: shared.clone(), owned: sender };
    let topic = options.topic(Topic::Events);
    let started = std::thread::Builder::new()
        .name(format!("group-{group}"))
        .spawn(move || run(&config, member, &topic));
    if let Err(e) = started {
        tracing::error!(error = %e, group, "no thread to join the group");
        shared.heard().has_left = true;
    }
    Assignments::of_group(owned, Box::new(Seat { shared }))
}

fn run(config: &ClientConfig, member: Member, topic: &str) {
    let shared = member.shared.clone();
    if let Some(consumer) = begin(config, member, topic) {
        while !shared.is_leaving() {
            // Only the protocol is of interest: rebalances happen inside, and what fails is retried.
            if let Some(Err(e)) = consumer.poll(POLL) {
                tracing::debug!(error = %e, "group member");
            }
        }
        consumer.unsubscribe();
    }
    shared.heard().has_left = true;
    shared.told.notify_all();
}

fn begin(config: &ClientConfig, member: Member, topic: &str) -> Option<BaseConsumer<Member>> {
    let shared = member.shared.clone();
    let consumer: Result<BaseConsumer<Member>, _> = config.create_with_context(member);
    let consumer = match consumer {
        Ok(consumer) => consumer,
        Err(e) => {
            tracing::error!(error = %e, "cannot join the group");
            return None;
        }
    };
    while let Err(e) = consumer.subscribe(&[topic]) {
        tracing::warn!(error = %e, "cannot join the group yet");
        if shared.is_leaving() {
            return None;
        }
        std::thread::sleep(AGAIN);
    }
    Some(consumer)
}

/// What the owner and the thread tell each other.
#[derive(Default)]
struct Shared {
    is_leaving: AtomicBool,
    heard: Mutex<Heard>,
    told: Condvar,
}

#[derive(Default)]
struct Heard {
    released: BTreeSet<u16>,
    has_left: bool,
}

impl Shared {
    fn is_leaving(&self) -> bool {
        self.is_leaving.load(Ordering::Acquire)
    }

    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until `is_so`, but not longer than `max`.
    fn until(&self, max: Duration, mut is_so: impl FnMut(&Heard) -> bool) {
        let waited = self.told.wait_timeout_while(self.heard(), max, |heard| !is_so(heard));
        drop(waited);
    }
}

/// The owner's end.
struct Seat {
    shared: Arc<Shared>,
}

impl Membership for Seat {
    fn release(&self, partition: u16) {
        self.shared.heard().released.insert(partition);
        self.shared.told.notify_all();
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        {
            // Under the lock, so that the thread is either before its look or asleep.
            let _heard = self.shared.heard();
            self.shared.is_leaving.store(true, Ordering::Release);
        }
        self.shared.told.notify_all();
        // Others should not have to find out by its silence.
        self.shared.until(LEAVE_MAX, |heard| heard.has_left);
    }
}

/// The thread's end, which the client calls.
struct Member {
    shared: Arc<Shared>,
    owned: watch::Sender<Vec<u16>>,
}

impl Member {
    fn assigned(&self, consumer: &BaseConsumer<Self>, list: &TopicPartitionList) {
        if let Err(e) = consumer.pause(list) {
            tracing::debug!(error = %e, "partitions not paused");
        }
        let added = numbers(list);
        let mut heard = self.shared.heard();
        heard.released.retain(|partition| !added.contains(partition));
        drop(heard);
        self.owned.send_if_modified(|owned| {
            owned.extend(&added);
            owned.sort_unstable();
            owned.dedup();
            !added.is_empty()
        });
    }

    fn revoked(&self, consumer: &BaseConsumer<Self>, list: &TopicPartitionList) {
        let removed = numbers(list);
        self.owned.send_if_modified(|owned| {
            owned.retain(|partition| !removed.contains(partition));
            !removed.is_empty()
        });
        if consumer.assignment_lost() {
            // Others have them already.
            return;
        }
        self.shared.until(RELEASE_MAX, |heard| {
            self.shared.is_leaving() || heard.released.is_superset(&removed)
        });
    }
}

fn numbers(list: &TopicPartitionList) -> BTreeSet<u16> {
    list.elements().iter().filter_map(|element| u16::try_from(element.partition()).ok()).collect()
}

impl ClientContext for Member {
    fn log(&self, level: RDKafkaLogLevel, fac: &str, message: &str) {
        Quiet.log(level, fac, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        Quiet.error(error, reason);
    }
}

impl ConsumerContext for Member {
    fn pre_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        if let Rebalance::Revoke(list) = rebalance {
            self.revoked(consumer, list);
        }
    }

    fn post_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        if let Rebalance::Assign(list) = rebalance {
            self.assigned(consumer, list);
        }
    }
}
