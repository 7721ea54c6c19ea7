//! Whether the topics are still those this process began with.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

use super::{Shared, metadata};
use crate::kafka::KafkaOptions;
use crate::marks::Mark;
use crate::{Error, Kind, Topic};

/// How old an answer about identity may be.
const FRESH: Duration = Duration::from_secs(1);
/// Between two rounds of the watch, which serves the clients.
const ROUND: Duration = Duration::from_secs(1);
/// Rounds between two questions to the brokers.
const ROUNDS_A_QUESTION: u32 = 5;
/// Rounds without use after which a position is given up.
const ROUNDS_A_REST: u32 = 60;

/// The topics by [`index`].
pub(super) struct Topics {
    brokers: String,
    names: Vec<String>,
    /// Identities at the start.
    begun: Vec<u64>,
    latest: Mutex<Latest>,
    recreated: Vec<AtomicBool>,
    changes: Mark,
}

struct Latest {
    asked: Instant,
    identities: Vec<u64>,
}

/// Place of a topic in lists of all.
pub(super) fn index(topic: Topic) -> usize {
    Topic::ALL.iter().position(|other| *other == topic).unwrap_or_default()
}

impl Topics {
    pub(super) async fn connect(options: &KafkaOptions) -> Result<Self, Error> {
        let names = Topic::ALL.map(|topic| options.topic(topic)).to_vec();
        let facts =
            metadata::ask(&options.brokers, &names).await.map_err(|e| e.during("connect"))?;
        let mut begun = Vec::new();
        let mut faults = Vec::new();
        for (name, facts) in names.iter().zip(facts) {
            match facts {
                Some(facts) if facts.partitions == usize::from(options.partitions) => {
                    begun.push(facts.identity);
                }
                Some(facts) => {
                    faults.push(format!("topic {name} has {} partitions", facts.partitions))
                }
                None => faults.push(format!("there is no topic {name}")),
            }
        }
        if !faults.is_empty() {
            let why = format!("{}: run `aktvator migrate`", faults.join("; "));
            return Err(Error::determinate("connect", Kind::Conflict).because(why));
        }
        let latest = Mutex::new(Latest { asked: Instant::now(), identities: begun.clone() });
        Ok(Self {
            brokers: options.brokers.clone(),
            recreated: names.iter().map(|_| AtomicBool::new(false)).collect(),
            names,
            begun,
            latest,
            changes: Mark::default(),
        })
    }

    /// The identity, at most a second old.
    pub(super) async fn identity(&self, topic: Topic) -> Result<u64, Error> {
        self.refresh(FRESH).await.map(|identities| identities[index(topic)])
    }

    /// Asks the brokers unless the last answer is young enough; callers share one question.
    async fn refresh(&self, age: Duration) -> Result<Vec<u64>, Error> {
        let mut latest = self.latest.lock().await;
        if latest.asked.elapsed() <= age {
            return Ok(latest.identities.clone());
        }
        let facts = metadata::ask(&self.brokers, &self.names).await?;
        let found = facts.into_iter().zip(&self.names).map(|(facts, name)| {
            let missing =
                || Error::determinate("metadata", Kind::Unavailable).because(name.clone());
            facts.map(|facts| facts.identity).ok_or_else(missing)
        });
        let identities: Vec<u64> = found.collect::<Result<_, _>>()?;
        for (at, (now, begun)) in identities.iter().zip(&self.begun).enumerate() {
            if now != begun && !self.recreated[at].swap(true, Ordering::AcqRel) {
                tracing::error!(topic = self.names[at], "the topic was created again: halted");
                self.changes.raise(self.changes.get() + 1);
            }
        }
        *latest = Latest { asked: Instant::now(), identities: identities.clone() };
        Ok(identities)
    }

    pub(super) fn is_recreated(&self, topic: Topic) -> bool {
        self.recreated[index(topic)].load(Ordering::Acquire)
    }

    /// Fails with `kind` once the topic is another one: what is known of offsets means nothing there.
    pub(super) fn check(&self, op: &'static str, topic: Topic, kind: Kind) -> Result<(), Error> {
        if !self.is_recreated(topic) {
            return Ok(());
        }
        let why = format!("topic {} was created again", self.names[index(topic)]);
        Err(Error::determinate(op, kind).because(why))
    }

    /// Returns when a topic turns out to be another one.
    pub(super) async fn changed(&self) {
        self.changes.reaches(self.changes.get() + 1).await;
    }
}

/// Serves the clients and asks the brokers about the topics until the log is dropped.
pub(super) fn watch(shared: &Arc<Shared>) {
    let shared = Arc::downgrade(shared);
    tokio::spawn(async move {
        let mut rounds = 0;
        while round(&shared, &mut rounds).await {
            tokio::time::sleep(ROUND).await;
        }
    });
}

async fn round(shared: &Weak<Shared>, rounds: &mut u32) -> bool {
    let Some(shared) = shared.upgrade() else { return false };
    shared.serve();
    *rounds += 1;
    if rounds.is_multiple_of(ROUNDS_A_QUESTION)
        && let Err(e) = shared.topics.refresh(FRESH).await
    {
        tracing::debug!(error = %e, "topics not looked at");
    }
    if rounds.is_multiple_of(ROUNDS_A_REST) {
        let places = shared.places.clone();
        let rest = super::blocking("rest", move || {
            places.rest();
            Ok(())
        });
        rest.await.unwrap_or_else(|e| tracing::debug!(error = %e, "positions not given up"));
    }
    true
}
