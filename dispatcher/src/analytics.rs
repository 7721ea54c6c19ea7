//! Follows outcomes and clicks into analytics, a partition and source at a time. What is counted is
//! said in [`crate::facts`].
//!
//! Facts and position move together, so a batch counts once whatever crashes where. A batch is what
//! the store calls worth an apply, or less where that does not come in time. Nothing stops it for
//! good: after a failure it waits, reads its position again, and goes on from there.

use std::sync::Arc;

use metrics::counter;
use prost::Message;
use schemas::proto::{Click, Outcome};
use serve::Shutdown;
use storage::analytics::{Applied, FACTS_MAX, Fact, Source};
use storage::log::{LogRecord, ReadLimit};
use storage::{Analytics, Error};
use tokio::time::Instant;

use crate::backoff::Backoff;
use crate::board::Consumer;
use crate::chain::chain;
use crate::facts;
use crate::metrics as names;
use crate::notice::Unreadable;
use crate::partition::Shared;

/// One source of one partition on its way into analytics.
pub(crate) struct Follower {
    pub(crate) shared: Arc<Shared>,
    pub(crate) analytics: Analytics,
    pub(crate) consumer: Consumer,
    pub(crate) source: Source,
    pub(crate) partition: u16,
}

/// Why a step did not happen.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("log or analytics failed")]
    Storage(#[from] Error),
    #[error("a newer build wrote the record at offset {0}")]
    Unknown(u64),
}

/// What a batch of records comes to.
struct Counted {
    facts: Vec<Fact>,
    next: u64,
    as_of_ms: i64,
}

impl Follower {
    /// Follows until `shutdown`; a batch that was begun is finished.
    pub(crate) async fn run(self, shutdown: Shutdown) {
        let mut backoff = Backoff::new();
        let mut position = None;
        while !shutdown.is_requested() {
            let failure = tokio::select! {
                biased;
                () = shutdown.requested() => return,
                failure = self.wait(&mut position) => failure.err(),
            };
            let applied = match (failure, position) {
                (None, Some(at)) => self.step(at, &shutdown).await,
                (Some(e), _) => Err(e.into()),
                (None, None) => continue,
            };
            match applied {
                Ok(at) => {
                    backoff.reset();
                    self.progress().moved(at.next, at.as_of_ms);
                    position = Some(at);
                }
                Err(e) => {
                    self.failed(&e);
                    position = None;
                    tokio::select! {
                        biased;
                        () = shutdown.requested() => return,
                        () = backoff.wait() => {}
                    }
                }
            }
        }
    }

    /// Takes in all there is by now.
    pub(crate) async fn catch_up(&self) -> Result<(), Failure> {
        // Nothing is worth waiting for.
        let at_once = Shutdown::new();
        at_once.request();
        let mut at = self.analytics.position(self.source, self.partition).await?;
        while at.next < self.shared.log.bounds(self.topic(), self.partition).await?.end {
            at = self.step(at, &at_once).await?;
        }
        Ok(())
    }

    /// Until there is something to take in.
    async fn wait(&self, position: &mut Option<Applied>) -> Result<(), Error> {
        let at = match position {
            Some(at) => *at,
            None => {
                let at = self.analytics.position(self.source, self.partition).await?;
                self.progress().moved(at.next, at.as_of_ms);
                *position.insert(at)
            }
        };
        let bounds = self.shared.log.bounds(self.topic(), self.partition).await?;
        // A position beyond the end is left to the read, which refuses it.
        if bounds.end >= at.next {
            self.shared.log.wait(self.topic(), self.partition, at.next).await;
        }
        Ok(())
    }

    /// Takes in one batch; gives the new position.
    async fn step(&self, at: Applied, shutdown: &Shutdown) -> Result<Applied, Failure> {
        let Counted { facts, next, as_of_ms } = self.gather(at, shutdown).await?;
        if next > at.next {
            self.analytics
                .apply(self.source, self.partition, at.next, next, as_of_ms, &facts)
                .await?;
        }
        Ok(Applied { next, as_of_ms })
    }

    /// Reads and counts until that is worth an apply, or what came first has waited long enough.
    async fn gather(&self, at: Applied, shutdown: &Shutdown) -> Result<Counted, Failure> {
        let config = &self.shared.config;
        let pace = self.analytics.pace();
        // A record brings one fact at most, so that the last read cannot go beyond the bound.
        let limit = config.read_limit();
        let limit = ReadLimit { records: limit.records.min(FACTS_MAX / 2), ..limit };
        let enough = pace.facts.clamp(limit.records, FACTS_MAX / 2);
        let due = Instant::now() + pace.linger.max(config.analytics_linger.0);
        let mut counted = Counted { facts: Vec::new(), next: at.next, as_of_ms: at.as_of_ms };
        loop {
            let from = counted.next;
            let records = self.shared.log.read(self.topic(), self.partition, from, limit).await?;
            let goes_on = self.count(&records, at, &mut counted)?;
            let is_due = Instant::now() >= due || shutdown.is_requested();
            if !goes_on || is_due || counted.facts.len() >= enough {
                return Ok(counted);
            }
            if records.is_empty() {
                tokio::select! {
                    biased;
                    () = shutdown.requested() => {}
                    () = tokio::time::sleep_until(due) => {}
                }
            }
        }
    }

    /// Adds what the records come to, up to the first that a newer build wrote; whether there was
    /// none.
    fn count(
        &self,
        records: &[LogRecord],
        at: Applied,
        counted: &mut Counted,
    ) -> Result<bool, Failure> {
        for record in records {
            match self.read_record(record) {
                Ok((fact, at_ms)) => {
                    counted.facts.extend(fact);
                    counted.as_of_ms = counted.as_of_ms.max(at_ms);
                }
                Err(Unreadable::Malformed) => {
                    tracing::error!(
                        consumer = self.consumer.as_str(),
                        partition = self.partition,
                        offset = record.offset,
                        "record cannot be read and is not counted"
                    );
                    counter!(names::UNREADABLE, "consumer" => self.consumer.as_str()).increment(1);
                }
                Err(Unreadable::Unknown) if counted.next > at.next => return Ok(false),
                Err(Unreadable::Unknown) => return Err(Failure::Unknown(record.offset)),
            }
            counted.next = record.offset + 1;
        }
        Ok(true)
    }

    fn read_record(&self, record: &LogRecord) -> Result<(Option<Fact>, i64), Unreadable> {
        let bytes = record.bytes.clone();
        match self.consumer {
            Consumer::Clicks => {
                let click = Click::decode(bytes).map_err(|_| Unreadable::Malformed)?;
                Ok((Some(facts::of_click(&click)?), click.clicked_at_ms))
            }
            Consumer::Outcomes | Consumer::Webhooks => {
                let outcome = Outcome::decode(bytes).map_err(|_| Unreadable::Malformed)?;
                Ok((facts::of_outcome(&outcome)?, outcome.accepted_at_ms))
            }
        }
    }

    fn failed(&self, failure: &Failure) {
        tracing::warn!(
            consumer = self.consumer.as_str(),
            partition = self.partition,
            error = chain(failure),
            "analytics could not go on, trying again"
        );
        counter!(names::RETRIES, "consumer" => self.consumer.as_str()).increment(1);
        let halts = match failure {
            Failure::Unknown(_) => true,
            Failure::Storage(e) => {
                matches!(e.kind, storage::Kind::OutOfRange | storage::Kind::Corrupt)
            }
        };
        if halts {
            self.progress().halted();
        }
    }

    fn progress(&self) -> &crate::board::Progress {
        self.shared.board.progress(self.consumer, self.partition)
    }

    const fn topic(&self) -> storage::Topic {
        self.consumer.topic()
    }
}
