//! Stored blobs of write sets: written before the commit, read by a take-over, then deleted.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::FutureExt;
use futures_util::future::try_join_all;
use scylla::client::session::Session;
use scylla::statement::prepared::PreparedStatement;

use super::head_row::BlobId;
use super::heads::stored;
use super::place::Place;
use super::redo::Redo;
use crate::cql::Patience;
use crate::cql::session::{corrupt, failed, prepare, rows};
use crate::{Error, metrics};

/// Bytes of one chunk: well below the 16 MiB that a server takes as one write.
const CHUNK_BYTES: usize = 512 * 1024;
/// How long a blob is tried to be written.
const WRITE_FOR: Duration = Duration::from_secs(10);

/// Statements on `write_sets`.
pub(crate) struct Blobs {
    session: Arc<Session>,
    write: PreparedStatement,
    read: PreparedStatement,
    delete: PreparedStatement,
}

impl Blobs {
    pub(crate) async fn prepare(session: Arc<Session>) -> Result<Self, Error> {
        let write = "INSERT INTO write_sets (shard_group, shard, epoch, seq, stamp, chunk, bytes)
            VALUES (?, ?, ?, ?, ?, ?, ?)";
        let read = "SELECT bytes FROM write_sets WHERE shard_group = ? AND shard = ?
            AND epoch = ? AND seq = ? AND stamp = ? AND chunk = ?";
        let delete = "DELETE FROM write_sets WHERE shard_group = ? AND shard = ?
            AND epoch = ? AND seq = ? AND stamp = ?";
        Ok(Self {
            write: prepare(&session, write).await?,
            read: prepare(&session, read).await?,
            delete: prepare(&session, delete).await?,
            session,
        })
    }

    /// Durable when it returns `Ok`. An error leaves bytes that nothing refers to.
    pub(crate) async fn write(
        &self,
        place: Place,
        epoch: u64,
        seq: u64,
        redo: &Redo,
    ) -> Result<BlobId, Error> {
        let bytes = redo.encode();
        let chunks = bytes.len().div_ceil(CHUNK_BYTES);
        let id = BlobId { epoch, seq, stamp: redo.stamp, chunks: chunks as u32 };
        let mut patience = Patience::new(WRITE_FOR);
        loop {
            let writes =
                (0..chunks).map(|chunk| self.write_chunk(place, id, chunk, &bytes).boxed());
            let Err(e) = try_join_all(writes).await else { return Ok(id) };
            if !patience.pause().await {
                return Err(e);
            }
        }
    }

    async fn write_chunk(
        &self,
        place: Place,
        id: BlobId,
        chunk: usize,
        bytes: &Bytes,
    ) -> Result<(), Error> {
        let from = chunk * CHUNK_BYTES;
        let part = &bytes[from..bytes.len().min(from + CHUNK_BYTES)];
        let Place { group, number } = place;
        let (epoch, seq) = (stored(id.epoch), stored(id.seq));
        let values = (group, number, epoch, seq, id.stamp, chunk as i32, part);
        let sent = self.session.execute_unpaged(&self.write, values).await;
        sent.map(drop).map_err(|e| failed("commit", e))
    }

    /// What was written under this name.
    ///
    /// # Errors
    /// `Corrupt` if it is not there whole: it must be, as long as a head refers to it.
    pub(crate) async fn read(&self, place: Place, id: BlobId) -> Result<Redo, Error> {
        let chunks = (0..id.chunks).map(|chunk| self.read_chunk(place, id, chunk).boxed());
        let mut bytes = BytesMut::new();
        try_join_all(chunks).await?.iter().for_each(|chunk| bytes.extend_from_slice(chunk));
        let redo = Redo::decode(bytes.freeze()).filter(|redo| redo.stamp == id.stamp);
        redo.ok_or_else(|| corrupt("acquire", format!("write set {id:?} of {place:?}")))
    }

    async fn read_chunk(&self, place: Place, id: BlobId, chunk: u32) -> Result<Vec<u8>, Error> {
        let Place { group, number } = place;
        let (epoch, seq) = (stored(id.epoch), stored(id.seq));
        let values = (group, number, epoch, seq, id.stamp, chunk as i32);
        let result = self.session.execute_unpaged(&self.read, values).await;
        let rows = rows("acquire", result.map_err(|e| failed("acquire", e))?)?;
        let row = rows.maybe_first_row::<(Vec<u8>,)>().map_err(|e| corrupt("acquire", e))?;
        let missing = || corrupt("acquire", format!("chunk {chunk} of {id:?} of {place:?}"));
        row.map(|(bytes,)| bytes).ok_or_else(missing)
    }

    /// Forgets blobs that no head refers to any more. One that stays is only lost room.
    pub(crate) async fn delete(&self, place: Place, ids: &[BlobId]) {
        let Place { group, number } = place;
        for id in ids {
            let values = (group, number, stored(id.epoch), stored(id.seq), id.stamp);
            if let Err(e) = self.session.execute_unpaged(&self.delete, values).await {
                metrics::blob_left();
                tracing::warn!(?place, ?id, error = %e, "a write set was not deleted");
            }
        }
    }
}
