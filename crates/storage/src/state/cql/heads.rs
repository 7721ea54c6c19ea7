//! Reads and moves head rows: conditional updates, and finding out what became of them.

use std::sync::Arc;
use std::time::Duration;

use super::head_row::HeadRow;
use super::place::Place;
use super::tables::Tables;
use crate::cql::Patience;
use crate::{Certainty, Error, Kind, metrics};

/// How long an owner tries to find out what became of a conditional update before he says that he
/// does not know.
const RESOLVE_FOR: Duration = Duration::from_secs(30);
/// How long a shard is tried to be taken.
const ACQUIRE_FOR: Duration = Duration::from_secs(30);

/// Head rows, and how far they are applied.
pub(crate) struct Heads {
    tables: Arc<Tables>,
}

/// What became of a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Advance {
    /// The head was where it was to be, whoever has it now.
    Done,
    /// It was not and never will be: another owner came before.
    Lost,
}

impl Heads {
    pub(super) fn new(tables: Arc<Tables>) -> Self {
        Self { tables }
    }

    /// The row as the last conditional update left it, also one whose answer was lost.
    pub(crate) async fn read(
        &self,
        op: &'static str,
        place: Place,
    ) -> Result<Option<HeadRow>, Error> {
        self.tables.head(op, place).await
    }

    /// Raises the epoch over whatever it is, for an owner of this name, and returns the row to go
    /// on from.
    pub(crate) async fn acquire(&self, place: Place, owner: i64) -> Result<HeadRow, Error> {
        let mut patience = Patience::new(ACQUIRE_FOR);
        let mut certainty = Certainty::Determinate;
        loop {
            let e = match self.try_acquire(place, owner).await {
                Ok(Some(row)) => return Ok(row),
                Ok(None) => {
                    Error::determinate("acquire", Kind::Unavailable).because("too many owners")
                }
                Err(e) if e.kind == Kind::Corrupt => return Err(e),
                Err(e) => e,
            };
            if e.certainty == Certainty::Indeterminate {
                certainty = Certainty::Indeterminate;
            }
            if !patience.pause().await {
                return Err(e.with(certainty));
            }
        }
    }

    /// `None` if another was quicker.
    async fn try_acquire(&self, place: Place, owner: i64) -> Result<Option<HeadRow>, Error> {
        let was = self.read("acquire", place).await?;
        if let Some(row) = was.as_ref().filter(|row| row.owner == owner) {
            // An earlier try whose answer was lost.
            return Ok(Some(row.clone()));
        }
        let epoch = was.map_or(0, |row| row.epoch());
        if let Err(e) = self.tables.take_head(place, epoch, owner).await {
            metrics::unknown_result("acquire");
            tracing::warn!(?place, error = %e, "not known whether a shard was taken, reading it");
        }
        let now = self.read("acquire", place).await;
        let now = now.map_err(|e| e.with(Certainty::Indeterminate))?;
        Ok(now.filter(|row| row.owner == owner))
    }

    /// Moves the head from `from` to `to`, where it is only if both its epoch and its number are
    /// still those of `from`.
    ///
    /// # Errors
    /// Indeterminate if it could not be found out: not in time, or because others have gone on and
    /// what is stored no longer tells whose the number was.
    pub(crate) async fn advance(
        &self,
        place: Place,
        from: &HeadRow,
        to: &HeadRow,
    ) -> Result<Advance, Error> {
        let mut patience = Patience::new(RESOLVE_FOR);
        let mut unknown = None;
        loop {
            match self.tables.move_head(place, from, to).await {
                Ok(true) => return Ok(Advance::Done),
                Ok(false) => {}
                Err(e) => {
                    metrics::unknown_result("commit");
                    tracing::warn!(?place, seq = to.head().seq, error = %e, source = ?e,
                        "not known whether a write set was committed, reading the head");
                    unknown = Some(e);
                }
            }
            let row = self.read_at_last(place, &mut patience).await?;
            // Also if the answer was that it was not moved: an earlier try, taken for lost, may have
            // come first.
            if row.has_committed(to) {
                return Ok(Advance::Done);
            }
            let Some(e) = unknown else { return Ok(Advance::Lost) };
            if row.rules_out(to) && !row.is_at(from) {
                return Ok(Advance::Lost);
            }
            if !row.is_at(from) || !patience.pause().await {
                return Err(undecided(e));
            }
            unknown = Some(e);
        }
    }

    async fn read_at_last(&self, place: Place, patience: &mut Patience) -> Result<HeadRow, Error> {
        loop {
            match self.read("commit", place).await {
                Ok(row) => return Ok(row.unwrap_or_default()),
                Err(e) if e.kind == Kind::Corrupt => return Err(undecided(e)),
                Err(e) => {
                    if !patience.pause().await {
                        return Err(undecided(e));
                    }
                }
            }
        }
    }

    /// Tells other processes that all below `next_offset` can be read.
    pub(crate) async fn mark_applied(
        &self,
        place: Place,
        next_offset: u64,
        stamp: i64,
    ) -> Result<(), Error> {
        self.tables.mark_applied(place, next_offset, stamp).await
    }

    /// What [`Heads::mark_applied`] told last; 0 before the first time.
    pub(crate) async fn applied(&self, place: Place) -> Result<u64, Error> {
        self.tables.applied(place).await
    }
}

fn undecided(e: Error) -> Error {
    Error::indeterminate("commit", Kind::Unavailable).because(e)
}
