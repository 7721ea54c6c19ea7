//! Reads and moves head rows: conditional updates, and finding out what became of them.

use std::sync::Arc;
use std::time::Duration;

use scylla::client::session::Session;
use scylla::statement::prepared::PreparedStatement;

use super::head_row::{HeadRow, decode_pending, encode_pending};
use super::place::Place;
use crate::cql::Patience;
use crate::cql::session::{
    applied, corrupt, failed, prepare, prepare_conditional, prepare_serial, rows, unknown,
};
use crate::state::Head;
use crate::state::head::Ownership;
use crate::{Certainty, Error, Kind, metrics};

/// How long an owner tries to find out what became of a conditional update before he says that he
/// does not know.
const RESOLVE_FOR: Duration = Duration::from_secs(30);
/// How long a shard is tried to be taken.
const ACQUIRE_FOR: Duration = Duration::from_secs(30);

/// Statements on `heads` and `applied`.
pub(crate) struct Heads {
    session: Arc<Session>,
    read: PreparedStatement,
    create: PreparedStatement,
    raise: PreparedStatement,
    advance: PreparedStatement,
    mark_applied: PreparedStatement,
    read_applied: PreparedStatement,
}

/// What became of a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Advance {
    /// The head is where it was to be.
    Done,
    /// Someone else has moved it.
    Lost,
}

/// The columns of `heads`, after the key.
type Columns = (i64, i64, i64, i64, i64, i64, i64, i64, Vec<u8>);

impl Heads {
    pub(crate) async fn prepare(session: Arc<Session>) -> Result<Self, Error> {
        let read = "SELECT epoch, owner, seq, next_offset, log_identity, fold_time_ms,
            next_outcome, stamp, pending FROM heads WHERE shard_group = ? AND shard = ?";
        let create = "INSERT INTO heads (shard_group, shard, epoch, owner, seq, next_offset,
            log_identity, fold_time_ms, next_outcome, stamp, pending)
            VALUES (?, ?, 1, ?, 0, 0, 0, 0, 0, 0, 0x) IF NOT EXISTS";
        let raise = "UPDATE heads SET epoch = ?, owner = ?
            WHERE shard_group = ? AND shard = ? IF epoch = ?";
        let advance = "UPDATE heads SET seq = ?, next_offset = ?, log_identity = ?,
            fold_time_ms = ?, next_outcome = ?, stamp = ?, pending = ?
            WHERE shard_group = ? AND shard = ? IF epoch = ? AND seq = ?";
        let mark = "INSERT INTO applied (shard_group, shard, next_offset) VALUES (?, ?, ?)
            USING TIMESTAMP ?";
        let marked = "SELECT next_offset FROM applied WHERE shard_group = ? AND shard = ?";
        Ok(Self {
            read: prepare_serial(&session, read).await?,
            create: prepare_conditional(&session, create).await?,
            raise: prepare_conditional(&session, raise).await?,
            advance: prepare_conditional(&session, advance).await?,
            mark_applied: prepare(&session, mark).await?,
            read_applied: prepare(&session, marked).await?,
            session,
        })
    }

    /// The row as the last conditional update left it, also one whose answer was lost.
    pub(crate) async fn read(
        &self,
        op: &'static str,
        place: Place,
    ) -> Result<Option<HeadRow>, Error> {
        let result = self.session.execute_unpaged(&self.read, (place.group, place.number)).await;
        let rows = rows(op, result.map_err(|e| failed(op, e))?)?;
        let columns = rows.maybe_first_row::<Columns>().map_err(|e| corrupt(op, e))?;
        columns
            .map(|columns| head_row(columns).ok_or_else(|| corrupt(op, "a head row")))
            .transpose()
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
        let Place { group, number } = place;
        let sent = match was.map_or(0, |row| row.epoch()) {
            0 => self.session.execute_unpaged(&self.create, (group, number, owner)).await,
            epoch => {
                let values = (stored(epoch + 1), owner, group, number, stored(epoch));
                self.session.execute_unpaged(&self.raise, values).await
            }
        };
        if let Err(e) = &sent {
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
    /// Indeterminate if it could not be found out in time.
    pub(crate) async fn advance(
        &self,
        place: Place,
        from: &HeadRow,
        to: &HeadRow,
    ) -> Result<Advance, Error> {
        let mut patience = Patience::new(RESOLVE_FOR);
        loop {
            let mut e = match self.try_advance(place, from, to).await {
                Ok(true) => return Ok(Advance::Done),
                Ok(false) => None,
                Err(e) => Some(e),
            };
            if let Some(e) = &e {
                metrics::unknown_result("commit");
                tracing::warn!(?place, seq = to.head().seq, error = %e, source = ?e,
                    "not known whether a write set was committed, reading the head");
            }
            loop {
                match self.read("commit", place).await {
                    // Mine; also if the answer was that it was not applied, because an earlier
                    // try, taken for lost, came first.
                    Ok(Some(row)) if row.is_at(to) => return Ok(Advance::Done),
                    Ok(Some(row)) if e.is_some() && row.is_at(from) => break,
                    Ok(_) => return Ok(Advance::Lost),
                    Err(again) => e = Some(again),
                }
                if !patience.pause().await {
                    return Err(undecided(e));
                }
            }
            if !patience.pause().await {
                return Err(undecided(e));
            }
        }
    }

    async fn try_advance(&self, place: Place, from: &HeadRow, to: &HeadRow) -> Result<bool, Error> {
        let Place { group, number } = place;
        let head = to.head();
        let values = (
            stored(head.seq),
            stored(head.next_offset),
            stored(head.log_identity),
            head.fold_time_ms,
            stored(to.next_outcome),
            to.stamp,
            encode_pending(&to.pending),
            group,
            number,
            stored(from.epoch()),
            stored(from.head().seq),
        );
        let sent = self.session.execute_unpaged(&self.advance, values).await;
        applied("commit", sent.map_err(|e| unknown("commit", e))?)
    }

    /// Tells other processes that all below `next_offset` can be read.
    pub(crate) async fn mark_applied(
        &self,
        place: Place,
        next_offset: u64,
        stamp: i64,
    ) -> Result<(), Error> {
        let Place { group, number } = place;
        let values = (group, number, stored(next_offset), stamp);
        let sent = self.session.execute_unpaged(&self.mark_applied, values).await;
        sent.map(drop).map_err(|e| unknown("commit", e))
    }

    /// What [`Heads::mark_applied`] told last; 0 before the first time.
    pub(crate) async fn applied(&self, place: Place) -> Result<u64, Error> {
        let result =
            self.session.execute_unpaged(&self.read_applied, (place.group, place.number)).await;
        let rows = rows("committed", result.map_err(|e| failed("committed", e))?)?;
        let row = rows.maybe_first_row::<(i64,)>().map_err(|e| corrupt("committed", e))?;
        Ok(row.map_or(0, |(next_offset,)| next_offset.cast_unsigned()))
    }
}

fn undecided(e: Option<Error>) -> Error {
    let error = Error::indeterminate("commit", Kind::Unavailable);
    match e {
        Some(e) => error.because(e),
        None => error,
    }
}

/// CQL knows no unsigned numbers: the same bits.
pub(crate) fn stored(number: u64) -> i64 {
    number.cast_signed()
}

fn head_row(columns: Columns) -> Option<HeadRow> {
    let (epoch, owner, seq, next_offset, log_identity, fold_time_ms, next_outcome, stamp, pending) =
        columns;
    let head = Head {
        seq: seq.cast_unsigned(),
        next_offset: next_offset.cast_unsigned(),
        log_identity: log_identity.cast_unsigned(),
        fold_time_ms,
    };
    Some(HeadRow {
        ownership: Ownership { epoch: epoch.cast_unsigned(), head },
        owner,
        next_outcome: next_outcome.cast_unsigned(),
        stamp,
        pending: decode_pending(&pending)?,
    })
}
