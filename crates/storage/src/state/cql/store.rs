//! What happens to a write set after its commit: applied, published, marked.

use std::sync::Arc;
use std::time::Duration;

use super::blobs::Blobs;
use super::head_row::{BlobId, HeadRow};
use super::heads::Heads;
use super::place::Place;
use super::redo::Redo;
use super::rows::Rows;
use super::sources::Sources;
use super::tables::Tables;
use crate::cql::Patience;
use crate::cql::session::corrupt;
use crate::{Error, EventLog, Kind, metrics};

/// How long the effects of a committed write set are tried to be brought about before its owner is
/// told that they may not be; whoever takes the shard goes on with it.
const FINISH_FOR: Duration = Duration::from_secs(30);

/// The tables, the log that outcomes go to, and where times and tokens come from.
pub(crate) struct Store {
    pub(crate) heads: Heads,
    pub(crate) blobs: Blobs,
    pub(crate) rows: Rows,
    pub(crate) sources: Sources,
    log: EventLog,
}

impl Store {
    /// Over tables whose shards have so many buckets.
    pub(crate) fn new(tables: Tables, buckets: u16, log: EventLog, sources: Sources) -> Self {
        let tables = Arc::new(tables);
        let (heads, blobs) = (Heads::new(tables.clone()), Blobs::new(tables.clone()));
        Self { heads, blobs, rows: Rows::new(tables, buckets), sources, log }
    }

    pub(crate) fn partitions(&self) -> u16 {
        self.log.partitions()
    }

    /// Applies and publishes; all of it can be repeated at any time by anyone.
    ///
    /// # Errors
    /// Indeterminate when it did not succeed in time.
    pub(crate) async fn finish(&self, place: Place, redo: &Redo) -> Result<(), Error> {
        let mut patience = Patience::new(FINISH_FOR);
        loop {
            let Err(e) = self.try_finish(place, redo).await else { return Ok(()) };
            let hopeless = matches!(e.kind, Kind::Corrupt | Kind::Conflict | Kind::OutOfRange);
            if hopeless || !patience.pause().await {
                return Err(e.with(crate::Certainty::Indeterminate));
            }
        }
    }

    async fn try_finish(&self, place: Place, redo: &Redo) -> Result<(), Error> {
        self.rows.apply(place, redo).await?;
        if !redo.outcomes.is_empty() {
            let outcomes = redo.outcomes.clone();
            let partition = u16::try_from(place.number).map_err(|e| corrupt("commit", e))?;
            self.log.publish(partition, redo.first_outcome, outcomes).await?;
        }
        self.heads.mark_applied(place, redo.next_offset, redo.stamp).await
    }

    /// Finishes, in order, whatever the row says may not be finished yet.
    ///
    /// # Errors
    /// Determinate `Fenced` when a write set is gone because another owner has finished it.
    pub(crate) async fn redo(&self, place: Place, row: &HeadRow) -> Result<(), Error> {
        for id in &row.pending {
            let redo = match self.blobs.read(place, *id).await {
                Err(e) if e.kind == Kind::Corrupt => return Err(self.gone(place, row, e).await),
                read => read?,
            };
            self.finish(place, &redo).await?;
            metrics::redone();
        }
        Ok(())
    }

    /// Why a write set cannot be read: only one that the head refers to must be there.
    async fn gone(&self, place: Place, row: &HeadRow, missing: Error) -> Error {
        match self.heads.read("acquire", place).await {
            Ok(now) if now.as_ref() == Some(row) => missing,
            Ok(_) => {
                let why = "another owner has gone on from there";
                Error::determinate("acquire", Kind::Fenced).because(why)
            }
            Err(e) => e,
        }
    }

    /// The oldest of what is pending in `was` and no longer in `is`.
    pub(crate) fn released(was: &HeadRow, is: &HeadRow) -> Vec<BlobId> {
        was.pending.iter().filter(|id| !is.pending.contains(id)).copied().collect()
    }
}
