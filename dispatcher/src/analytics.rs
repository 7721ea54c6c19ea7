//! Follows outcomes and clicks into analytics, a partition and source at a time. What is counted is
//! said in [`crate::facts`].
//!
//! Facts and position are one transaction, so a batch counts once whatever crashes where. Nothing
//! stops it for good: after a failure it waits, reads its position again, and goes on from there.

use std::sync::Arc;

use metrics::counter;
use prost::Message;
use schemas::proto::{Click, Outcome};
use serve::Shutdown;
use storage::analytics::{Applied, Fact, Source};
use storage::log::LogRecord;
use storage::{Analytics, Error};

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
    pub(crate) source: Source,
    pub(crate) partition: u16,
}

/// Why a step did not happen.
#[derive(Debug, thiserror::Error)]
enum Failure {
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
                (None, Some(at)) => self.step(at).await,
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

    /// Until there is something to take in, and a little longer, so that it is more at once.
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
        // What lags behind a whole batch has nothing to wait for. A position beyond the end is left
        // to the read, which refuses it.
        if bounds.end.saturating_sub(at.next) < self.shared.config.batch_records as u64
            && bounds.end >= at.next
        {
            self.shared.log.wait(self.topic(), self.partition, at.next).await;
            tokio::time::sleep(self.shared.config.analytics_linger.0).await;
        }
        Ok(())
    }

    /// Takes in one batch; gives the new position.
    async fn step(&self, at: Applied) -> Result<Applied, Failure> {
        let limit = self.shared.config.read_limit();
        let records = self.shared.log.read(self.topic(), self.partition, at.next, limit).await?;
        let counted = self.count(&records, at)?;
        let Counted { facts, next, as_of_ms } = counted;
        if next > at.next {
            self.analytics
                .apply(self.source, self.partition, at.next, next, as_of_ms, &facts)
                .await?;
        }
        Ok(Applied { next, as_of_ms })
    }

    /// What the records come to, up to the first that a newer build wrote.
    fn count(&self, records: &[LogRecord], at: Applied) -> Result<Counted, Failure> {
        let mut counted = Counted { facts: Vec::new(), next: at.next, as_of_ms: at.as_of_ms };
        for record in records {
            match self.read_record(record) {
                Ok((fact, at_ms)) => {
                    counted.facts.extend(fact);
                    counted.as_of_ms = counted.as_of_ms.max(at_ms);
                }
                Err(Unreadable::Malformed) => {
                    tracing::error!(
                        consumer = self.consumer().as_str(),
                        partition = self.partition,
                        offset = record.offset,
                        "record cannot be read and is not counted"
                    );
                    counter!(names::UNREADABLE, "consumer" => self.consumer().as_str())
                        .increment(1);
                }
                Err(Unreadable::Unknown) if counted.next > at.next => break,
                Err(Unreadable::Unknown) => return Err(Failure::Unknown(record.offset)),
            }
            counted.next = record.offset + 1;
        }
        Ok(counted)
    }

    fn read_record(&self, record: &LogRecord) -> Result<(Option<Fact>, i64), Unreadable> {
        let bytes = record.bytes.clone();
        match self.source {
            Source::Outcomes => {
                let outcome = Outcome::decode(bytes).map_err(|_| Unreadable::Malformed)?;
                Ok((facts::of_outcome(&outcome)?, outcome.accepted_at_ms))
            }
            Source::Clicks => {
                let click = Click::decode(bytes).map_err(|_| Unreadable::Malformed)?;
                Ok((Some(facts::of_click(&click)?), click.clicked_at_ms))
            }
        }
    }

    fn failed(&self, failure: &Failure) {
        tracing::warn!(
            consumer = self.consumer().as_str(),
            partition = self.partition,
            error = chain(failure),
            "analytics could not go on, trying again"
        );
        counter!(names::RETRIES, "consumer" => self.consumer().as_str()).increment(1);
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
        self.shared.board.progress(self.consumer(), self.partition)
    }

    const fn consumer(&self) -> Consumer {
        match self.source {
            Source::Outcomes => Consumer::Outcomes,
            Source::Clicks => Consumer::Clicks,
        }
    }

    const fn topic(&self) -> storage::Topic {
        self.consumer().topic()
    }
}
