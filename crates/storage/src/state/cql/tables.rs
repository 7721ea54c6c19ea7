//! The tables under the commit, statement by statement: a CQL cluster's, or tables in memory that
//! behave as a cluster's do.
//!
//! Contract: the head row is written by conditional updates only, each of which happens at one
//! moment or never, and a read of it sees all that have happened. Everything else is a plain write
//! that can be repeated: of two to the same row the one with the higher stamp stands, whichever comes
//! last. A write whose answer was an error may have happened, and may still happen.

mod memory;
mod session;

use bytes::Bytes;

pub(crate) use self::memory::{Cells, MemoryTables};
pub(crate) use self::session::SessionTables;
use super::head_row::{BlobId, HeadRow};
use super::place::Place;
use super::scan::{Page, Way};
use crate::Error;

/// A row to put (`Some`) or delete.
pub(super) type Change = (Bytes, Option<Bytes>);

/// Where the statements go.
pub(crate) enum Tables {
    /// A CQL cluster.
    Session(Box<SessionTables>),
    /// In memory, shared by several processes of a test.
    Memory(MemoryTables),
}

impl Tables {
    /// The row as the last conditional update left it, also one whose answer was lost.
    pub(super) async fn head(
        &self,
        op: &'static str,
        place: Place,
    ) -> Result<Option<HeadRow>, Error> {
        match self {
            Self::Session(tables) => tables.head(op, place).await,
            Self::Memory(tables) => tables.head(op, place).await,
        }
    }

    /// Conditional: raises the epoch by one for this owner, if it is still `from`; 0: there is no row.
    /// Whether it was applied only a read can tell.
    pub(super) async fn take_head(&self, place: Place, from: u64, owner: i64) -> Result<(), Error> {
        match self {
            Self::Session(tables) => tables.take_head(place, from, owner).await,
            Self::Memory(tables) => tables.take_head(place, from, owner).await,
        }
    }

    /// Conditional: moves the head to `to`, if both epoch and number are still those of `from`. Whether
    /// it was applied.
    pub(super) async fn move_head(
        &self,
        place: Place,
        from: &HeadRow,
        to: &HeadRow,
    ) -> Result<bool, Error> {
        match self {
            Self::Session(tables) => tables.move_head(place, from, to).await,
            Self::Memory(tables) => tables.move_head(place, from, to).await,
        }
    }

    /// Says that all below `next_offset` can be read.
    pub(super) async fn mark_applied(
        &self,
        place: Place,
        next_offset: u64,
        stamp: i64,
    ) -> Result<(), Error> {
        match self {
            Self::Session(tables) => tables.mark_applied(place, next_offset, stamp).await,
            Self::Memory(tables) => tables.mark_applied(place, next_offset, stamp).await,
        }
    }

    /// What [`Tables::mark_applied`] has said; 0 before the first time.
    pub(super) async fn applied(&self, place: Place) -> Result<u64, Error> {
        match self {
            Self::Session(tables) => tables.applied(place).await,
            Self::Memory(tables) => tables.applied(place).await,
        }
    }

    /// Writes one chunk of a blob.
    pub(super) async fn put_chunk(
        &self,
        place: Place,
        id: BlobId,
        chunk: u32,
        bytes: Bytes,
    ) -> Result<(), Error> {
        match self {
            Self::Session(tables) => tables.put_chunk(place, id, chunk, &bytes).await,
            Self::Memory(tables) => tables.put_chunk(place, id, chunk, bytes).await,
        }
    }

    /// One chunk of a blob.
    pub(super) async fn chunk(
        &self,
        place: Place,
        id: BlobId,
        chunk: u32,
    ) -> Result<Option<Bytes>, Error> {
        match self {
            Self::Session(tables) => tables.chunk(place, id, chunk).await,
            Self::Memory(tables) => tables.chunk(place, id, chunk).await,
        }
    }

    /// Deletes a blob with all its chunks.
    pub(super) async fn delete_blob(&self, place: Place, id: BlobId) -> Result<(), Error> {
        match self {
            Self::Session(tables) => tables.delete_blob(place, id).await,
            Self::Memory(tables) => tables.delete_blob(place, id).await,
        }
    }

    /// Puts and deletes rows of one bucket at this stamp: all of them are seen or none.
    pub(super) async fn write_rows(
        &self,
        place: Place,
        bucket: u16,
        rows: &[&Change],
        stamp: i64,
    ) -> Result<(), Error> {
        match self {
            Self::Session(tables) => tables.write_rows(place, bucket, rows, stamp).await,
            Self::Memory(tables) => tables.write_rows(place, bucket, rows, stamp).await,
        }
    }

    /// Those of the keys' rows that are there, in no order.
    pub(super) async fn rows(
        &self,
        place: Place,
        bucket: u16,
        keys: &[&[u8]],
    ) -> Result<Vec<(Bytes, Bytes)>, Error> {
        match self {
            Self::Session(tables) => tables.rows(place, bucket, keys).await,
            Self::Memory(tables) => tables.rows(place, bucket, keys).await,
        }
    }

    /// The first rows of a page's range, from whichever end.
    pub(super) async fn page(
        &self,
        place: Place,
        way: Way,
        page: &Page,
    ) -> Result<Vec<(Bytes, Bytes)>, Error> {
        match self {
            Self::Session(tables) => tables.page(place, way, page).await,
            Self::Memory(tables) => tables.page(place, way, page).await,
        }
    }
}
