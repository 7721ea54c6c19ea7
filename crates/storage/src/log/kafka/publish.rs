//! Outcomes on their way out: numbered, in order, and none after one that is missing.
//!
//! The producer of outcomes tries for ever and delivers nothing behind a record that failed, so the
//! first record of each number stands behind the first record of the number before. What is tried
//! again or comes late is a repeat, which readers drop.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;

use super::Shared;
use super::place::Place;
use super::producer::{Answer, Outgoing, Patience, Producer};
use crate::marks::Mark;
use crate::{Error, Kind};

/// Longest wait for the brokers; what was handed over stays on its way.
const CONFIRMED_MAX: Duration = Duration::from_secs(10);

/// What one partition has on its way.
#[derive(Default)]
pub(super) struct Lineup {
    handed: Mutex<Handed>,
    /// Number behind the last outcome the brokers have confirmed.
    confirmed: Mark,
    /// Rises when some could not be delivered.
    failures: Mark,
}

#[derive(Default)]
struct Handed {
    /// Number of the next outcome to hand over; unknown before the first one and after a failure.
    next: Option<u64>,
    /// Failures that `next` takes account of.
    failures: u64,
}

impl Lineup {
    /// What was handed over and has not failed since.
    fn handed(&self) -> MutexGuard<'_, Handed> {
        let mut handed = self.handed.lock().unwrap_or_else(PoisonError::into_inner);
        let failures = self.failures.get();
        if std::mem::replace(&mut handed.failures, failures) != failures {
            handed.next = None;
        }
        handed
    }
}

impl Shared {
    /// See [`crate::EventLog::publish`].
    pub(super) async fn publish(
        self: &Arc<Self>,
        place: &Arc<Place>,
        first_seq: u64,
        outcomes: &[Bytes],
    ) -> Result<(), Error> {
        let Some(lineup) = self.lineups.get(usize::from(place.number)) else { return Ok(()) };
        let end = first_seq + outcomes.len() as u64;
        let failures = lineup.failures.get();
        if !self.hand_over(lineup, place, first_seq, outcomes, None)? {
            // Another process may have published since, or before this one began.
            let there =
                self.end_of_outcomes(place, first_seq).await.map_err(|e| e.during("publish"))?;
            if !self.hand_over(lineup, place, first_seq, outcomes, Some(there))? {
                let why = format!("outcome {first_seq} would leave a gap after {there}");
                return Err(Error::determinate("publish", Kind::Conflict).because(why));
            }
        }
        let unknown = |why| Err(Error::indeterminate("publish", Kind::Unavailable).because(why));
        tokio::select! {
            biased;
            () = lineup.confirmed.reaches(end) => Ok(()),
            () = lineup.failures.reaches(failures + 1) => unknown("outcomes before it failed"),
            () = tokio::time::sleep(CONFIRMED_MAX) => unknown("the brokers have not confirmed it"),
        }
    }

    /// Hands over what is not on its way yet. False when that would leave a gap behind what was
    /// handed over, or behind `there`, the number the log's next outcome gets.
    fn hand_over(
        self: &Arc<Self>,
        lineup: &Arc<Lineup>,
        place: &Arc<Place>,
        first_seq: u64,
        outcomes: &[Bytes],
        there: Option<u64>,
    ) -> Result<bool, Error> {
        // Held until all are with the client, which keeps the order.
        let mut handed = lineup.handed();
        let Some(next) = handed.next.max(there).filter(|next| first_seq <= *next) else {
            return Ok(false);
        };
        let repeats = usize::try_from(next - first_seq).unwrap_or(usize::MAX).min(outcomes.len());
        if there.is_some_and(|there| there == next) {
            lineup.confirmed.raise(next);
        }
        let end = first_seq + outcomes.len() as u64;
        if repeats == outcomes.len() {
            handed.next = Some(next);
            return Ok(true);
        }
        let records = outcomes[repeats..].iter().enumerate().map(|(index, bytes)| Outgoing {
            partition: place.number,
            bytes,
            seq: Some(next + index as u64),
        });
        let producer = self.outcomes_producer()?;
        let failed = Arc::downgrade(&producer.client());
        let (lineup_done, place_done) = (lineup.clone(), place.clone());
        let again = Arc::downgrade(&producer);
        let done = move |fate: &Answer| match fate {
            Ok(_) => {
                place_done.extent.end.raise(end);
                lineup_done.confirmed.raise(end);
            }
            Err(e) => {
                tracing::warn!(error = %e, partition = place_done.number, "outcomes not delivered");
                lineup_done.failures.raise(lineup_done.failures.get() + 1);
                // Not on this thread, which the client waits for when it ends.
                std::thread::spawn(move || {
                    if let (Some(producer), Some(failed)) = (again.upgrade(), failed.upgrade()) {
                        producer.renew(&failed);
                    }
                });
            }
        };
        producer.send("publish", &place.name, records, done)?;
        handed.next = Some(end);
        Ok(true)
    }

    /// Made when the first outcome is published: most processes publish none.
    fn outcomes_producer(&self) -> Result<Arc<Producer>, Error> {
        let mut producer = self.outcomes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(producer) = &*producer {
            return Ok(producer.clone());
        }
        let new = Arc::new(Producer::new(&self.options, Patience::InOrder)?);
        *producer = Some(new.clone());
        Ok(new)
    }
}
