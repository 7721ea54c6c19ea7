//! One ownership of a partition, from take-over to the end: the ordered loop.
//!
//! Read, decide, fetch what is missing, commit. The next batch is decided while earlier write sets are on their
//! way; if one of them fails, everything decided on top of it is dropped with the term, and the next
//! term goes on from the head.

use std::sync::Arc;

use engine::entry::Body;
use engine::{Key, Row};
use serve::Shutdown;
use storage::error::Error;
use storage::log::{Bounds, ReadLimit, Topic};
use storage::state::{Head, Shard};
use tokio::time::Instant;

use crate::chores::Chores;
use crate::commit::{self, Committer, Draft};
use crate::intake::{self, Batch};
use crate::metrics;
use crate::partition::Context;
use crate::rows::Rows;
use crate::stop::{Halt, Stop};

/// What the owner of a partition holds.
pub(crate) struct Term {
    context: Arc<Context>,
    shard: Shard,
    rows: Rows,
    committer: Committer,
    chores: Chores,
    /// Number of the last write set that was there when this ownership began.
    first_seq: u64,
    /// As of the last write set decided, committed or not.
    head: Head,
    /// When the last record decided was accepted.
    accepted_ms: i64,
    /// When the next write set may begin.
    next_at: Instant,
    committed_any: bool,
}

impl Term {
    /// Takes the partition over: earlier owners are fenced, and what they may have left undone after
    /// their last commit is done again.
    pub(crate) async fn open(context: Arc<Context>, shard: Shard) -> Result<Self, Stop> {
        let (epoch, mut head) = context.state.acquire(shard).await?;
        let bounds = context.log.bounds(Topic::Events, shard.partition).await?;
        check(head, bounds).map_err(Stop::Halted)?;
        head.log_identity = bounds.identity;
        let (settings, fold_time_ms) = (context.settings, head.fold_time_ms);
        let mut rows =
            Rows::new(context.state.clone(), shard, &context.config, settings, fold_time_ms);
        if let Some(Row::Continuations(records)) = rows.get(Key::Continuations).await? {
            commit::append(&context.log, shard, records.iter().cloned()).await?;
        }
        let committer = Committer::start(&context, shard, epoch);
        let chores = Chores::start(context.clone(), shard);
        let accepted_ms = head.fold_time_ms;
        let partition = shard.partition;
        tracing::debug!(partition, seq = head.seq, next_offset = head.next_offset, "taken over");
        metrics::taken_over();
        let (next_at, committed_any) = (Instant::now(), false);
        Ok(Self {
            context,
            shard,
            rows,
            committer,
            chores,
            first_seq: head.seq,
            head,
            accepted_ms,
            next_at,
            committed_any,
        })
    }

    /// Works until something ends the term.
    pub(crate) async fn run(&mut self, shutdown: &Shutdown) -> Stop {
        loop {
            if let Err(stop) = self.step(shutdown).await {
                return stop;
            }
        }
    }

    /// Whether it has committed anything: the stores work.
    pub(crate) fn committed_any(&self) -> bool {
        self.committed_any
    }

    async fn step(&mut self, shutdown: &Shutdown) -> Result<(), Stop> {
        self.rows.claims.absorb();
        while let Some(result) = self.committer.try_next() {
            self.settle(result)?;
        }
        if shutdown.is_requested() {
            self.drain().await?;
            return Err(Stop::Drained);
        }
        if !self.committer.has_room() {
            let result = self.committer.next().await;
            return self.settle(result);
        }
        if Instant::now() < self.next_at {
            return self.linger(shutdown).await;
        }
        let (partition, from) = (self.shard.partition, self.head.next_offset);
        let batch = intake::read(&self.context.log, partition, from, self.limit()).await?;
        if batch.next_offset == from && batch.unknown.is_none() {
            return self.rest(shutdown).await;
        }
        self.take(batch).await
    }

    /// Lets records gather.
    async fn linger(&mut self, shutdown: &Shutdown) -> Result<(), Stop> {
        tokio::select! {
            biased;
            () = shutdown.requested() => {}
            result = self.committer.next() => self.settle(result)?,
            () = self.rows.claims.absorb_next() => {}
            () = tokio::time::sleep_until(self.next_at) => {}
        }
        Ok(())
    }

    /// Nothing to decide: waits for whatever comes first.
    async fn rest(&mut self, shutdown: &Shutdown) -> Result<(), Stop> {
        let (partition, from) = (self.shard.partition, self.head.next_offset);
        tokio::select! {
            biased;
            () = shutdown.requested() => {}
            result = self.committer.next() => self.settle(result)?,
            () = self.rows.claims.absorb_next() => {}
            () = self.context.log.wait(Topic::Events, partition, from) => {}
        }
        Ok(())
    }

    /// Decides a batch and hands its write set to the committer.
    async fn take(&mut self, mut batch: Batch) -> Result<(), Stop> {
        if batch.next_offset > self.head.next_offset {
            let draft = self.decide(&mut batch).await?;
            self.committer.submit(draft);
        }
        if let Some(offset) = batch.unknown {
            self.drain().await?;
            return Err(Stop::Halted(Halt::UnknownRecord { offset }));
        }
        tokio::task::yield_now().await;
        Ok(())
    }

    async fn decide(&mut self, batch: &mut Batch) -> Result<Draft, Stop> {
        let started = Instant::now();
        self.rows.recognise(&mut batch.entries);
        let slice = self.context.config.slice_records_max.max(1);
        let mut rest = &batch.entries[..];
        while !rest.is_empty() {
            let decided = self.rows.decide(&rest[..rest.len().min(slice)]).await?;
            rest = &rest[decided..];
            // Deciding is all computation: others on this thread get their turn.
            tokio::task::yield_now().await;
        }
        let verdict = self.rows.take();
        self.head.seq += 1;
        self.head.next_offset = batch.next_offset;
        self.head.fold_time_ms = verdict.fold_time_ms;
        if let Some(last) = batch.entries.last() {
            self.accepted_ms = last.accepted_at_ms;
        }
        if batch.entries.iter().any(|entry| !matches!(entry.body, Body::Tick)) {
            self.chores.decided();
        }
        if batch.entries.len() < slice {
            self.next_at = started + self.context.config.linger.0;
        }
        metrics::decided(batch, std::mem::take(&mut self.rows.sources), started);
        Ok(Draft::new(self.head, batch, verdict))
    }

    fn settle(&mut self, result: Result<u64, Error>) -> Result<(), Stop> {
        self.rows.committed(result? - self.first_seq);
        self.committed_any = true;
        self.report();
        Ok(())
    }

    async fn drain(&mut self) -> Result<(), Stop> {
        while !self.committer.is_idle() {
            let result = self.committer.next().await;
            self.settle(result)?;
        }
        Ok(())
    }

    /// Puts this partition's figures on the board.
    fn report(&self) {
        let (overlay_rows, cache_rows) = self.rows.len();
        self.context.board.put(
            self.shard.partition,
            crate::board::Figures {
                next_offset: self.head.next_offset,
                accepted_ms: self.accepted_ms,
                overlay_rows,
                cache_rows,
                filter_bytes: self.rows.claims.bytes(),
            },
        );
    }

    fn limit(&self) -> ReadLimit {
        let config = &self.context.config;
        let bytes = usize::try_from(config.batch_bytes_max.0).unwrap_or(usize::MAX);
        ReadLimit { records: config.batch_records_max, bytes }
    }
}

/// The head and the log must fit together: what they do not share is never skipped or reset.
fn check(head: Head, bounds: Bounds) -> Result<(), Halt> {
    let Bounds { identity, start, end } = bounds;
    if head.seq > 0 && head.log_identity != identity {
        return Err(Halt::OtherLog { head: head.log_identity, log: identity });
    }
    let next = head.next_offset;
    if next < start || next > end {
        return Err(Halt::OutOfRange { next, start, end });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_together_halts() {
        let head = |seq, next_offset, log_identity| Head {
            seq,
            next_offset,
            log_identity,
            fold_time_ms: 0,
        };
        let log = |start, end| Bounds { identity: 7, start, end };
        assert!(check(head(0, 0, 0), log(0, 0)).is_ok());
        assert!(check(head(3, 5, 7), log(5, 5)).is_ok());
        assert!(matches!(check(head(3, 5, 8), log(0, 9)), Err(Halt::OtherLog { .. })));
        assert!(matches!(check(head(3, 5, 7), log(6, 9)), Err(Halt::OutOfRange { .. })));
        assert!(matches!(check(head(3, 5, 7), log(0, 4)), Err(Halt::OutOfRange { .. })));
        assert!(matches!(check(head(0, 0, 0), log(1, 4)), Err(Halt::OutOfRange { .. })));
    }
}
