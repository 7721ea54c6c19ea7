//! Stored blobs of write sets: written before the commit, read by a take-over, then deleted.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::FutureExt;
use futures_util::future::try_join_all;

use super::head_row::BlobId;
use super::place::Place;
use super::redo::Redo;
use super::tables::Tables;
use crate::cql::Patience;
use crate::cql::session::corrupt;
use crate::{Error, metrics};

/// Bytes of one chunk: well below the 16 MiB that a server takes as one write.
const CHUNK_BYTES: usize = 512 * 1024;
/// How long a blob is tried to be written.
const WRITE_FOR: Duration = Duration::from_secs(10);

/// Stored blobs.
pub(crate) struct Blobs {
    tables: Arc<Tables>,
}

impl Blobs {
    pub(super) fn new(tables: Arc<Tables>) -> Self {
        Self { tables }
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
        let chunks = chunks_of(&bytes).count() as u32;
        let id = BlobId { epoch, seq, stamp: redo.stamp, chunks };
        let mut patience = Patience::new(WRITE_FOR);
        loop {
            let writes = (0..)
                .zip(chunks_of(&bytes))
                .map(|(chunk, bytes)| self.tables.put_chunk(place, id, chunk, bytes).boxed());
            let Err(e) = try_join_all(writes).await else { return Ok(id) };
            if !patience.pause().await {
                return Err(e);
            }
        }
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

    async fn read_chunk(&self, place: Place, id: BlobId, chunk: u32) -> Result<Bytes, Error> {
        let missing = || corrupt("acquire", format!("chunk {chunk} of {id:?} of {place:?}"));
        self.tables.chunk(place, id, chunk).await?.ok_or_else(missing)
    }

    /// Forgets blobs that no head refers to any more. One that stays is only lost room.
    pub(crate) async fn delete(&self, place: Place, ids: &[BlobId]) {
        for id in ids {
            if let Err(e) = self.tables.delete_blob(place, *id).await {
                metrics::blob_left();
                tracing::warn!(?place, ?id, error = %e, "a write set was not deleted");
            }
        }
    }
}

fn chunks_of(bytes: &Bytes) -> impl Iterator<Item = Bytes> {
    let starts = (0..bytes.len()).step_by(CHUNK_BYTES);
    starts.map(|start| bytes.slice(start..bytes.len().min(start + CHUNK_BYTES)))
}
