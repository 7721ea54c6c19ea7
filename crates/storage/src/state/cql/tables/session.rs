//! The statements in CQL, on a cluster; the columns are those of `cql::schema`.

use std::sync::Arc;

use bytes::Bytes;
use scylla::client::session::Session;
use scylla::response::query_result::QueryRowsResult;
use scylla::serialize::SerializationError;
use scylla::serialize::row::{RowSerializationContext, SerializeRow};
use scylla::serialize::writers::RowWriter;
use scylla::statement::batch::{Batch, BatchType};
use scylla::statement::prepared::PreparedStatement;

use super::Change;
use crate::Error;
use crate::cql::session::{
    applied, corrupt, failed, prepare, prepare_conditional, prepare_serial, rows, unknown,
};
use crate::state::Head;
use crate::state::KeyRange;
use crate::state::cql::head_row::{BlobId, HeadRow, decode_pending, encode_pending};
use crate::state::cql::place::Place;
use crate::state::cql::scan::{Page, Way};
use crate::state::head::Ownership;

/// Prepared statements on `heads`, `applied`, `write_sets` and `rows`.
pub(crate) struct SessionTables {
    session: Arc<Session>,
    head: PreparedStatement,
    create_head: PreparedStatement,
    raise_epoch: PreparedStatement,
    move_head: PreparedStatement,
    mark_applied: PreparedStatement,
    applied: PreparedStatement,
    put_chunk: PreparedStatement,
    chunk: PreparedStatement,
    delete_blob: PreparedStatement,
    put_row: PreparedStatement,
    delete_row: PreparedStatement,
    rows: PreparedStatement,
    upwards: PreparedStatement,
    downwards: PreparedStatement,
}

/// The columns of `heads`, after the key.
type HeadColumns = (i64, i64, i64, i64, i64, i64, i64, i64, Vec<u8>);

/// One row of a batch.
enum Write<'a> {
    Put((i16, i32, i32, &'a [u8], &'a [u8])),
    Delete((i16, i32, i32, &'a [u8])),
}

const HEAD: &str =
    "SELECT epoch, owner, seq, next_offset, log_identity, fold_time_ms, next_outcome,
    stamp, pending FROM heads WHERE shard_group = ? AND shard = ?";
const CREATE_HEAD: &str = "INSERT INTO heads (shard_group, shard, epoch, owner, seq, next_offset,
    log_identity, fold_time_ms, next_outcome, stamp, pending)
    VALUES (?, ?, 1, ?, 0, 0, 0, 0, 0, 0, 0x) IF NOT EXISTS";
const RAISE_EPOCH: &str = "UPDATE heads SET epoch = ?, owner = ?
    WHERE shard_group = ? AND shard = ? IF epoch = ?";
const MOVE_HEAD: &str = "UPDATE heads SET seq = ?, next_offset = ?, log_identity = ?,
    fold_time_ms = ?, next_outcome = ?, stamp = ?, pending = ?
    WHERE shard_group = ? AND shard = ? IF epoch = ? AND seq = ?";
const MARK_APPLIED: &str = "INSERT INTO applied (shard_group, shard, next_offset) VALUES (?, ?, ?)
    USING TIMESTAMP ?";
const APPLIED: &str = "SELECT next_offset FROM applied WHERE shard_group = ? AND shard = ?";
const PUT_CHUNK: &str = "INSERT INTO write_sets (shard_group, shard, epoch, seq, stamp, chunk,
    bytes) VALUES (?, ?, ?, ?, ?, ?, ?)";
const CHUNK: &str = "SELECT bytes FROM write_sets WHERE shard_group = ? AND shard = ?
    AND epoch = ? AND seq = ? AND stamp = ? AND chunk = ?";
const DELETE_BLOB: &str = "DELETE FROM write_sets WHERE shard_group = ? AND shard = ?
    AND epoch = ? AND seq = ? AND stamp = ?";
const PUT_ROW: &str =
    "INSERT INTO rows (shard_group, shard, bucket, key, value) VALUES (?, ?, ?, ?, ?)";
const DELETE_ROW: &str =
    "DELETE FROM rows WHERE shard_group = ? AND shard = ? AND bucket = ? AND key = ?";
const ROWS: &str = "SELECT key, value FROM rows
    WHERE shard_group = ? AND shard = ? AND bucket = ? AND key IN ?";
const UPWARDS: &str = "SELECT key, value FROM rows WHERE shard_group = ? AND shard = ?
    AND bucket = ? AND key >= ? AND key < ? ORDER BY key ASC LIMIT ?";
const DOWNWARDS: &str = "SELECT key, value FROM rows WHERE shard_group = ? AND shard = ?
    AND bucket = ? AND key >= ? AND key < ? ORDER BY key DESC LIMIT ?";

impl SessionTables {
    pub(crate) async fn prepare(session: Arc<Session>) -> Result<Self, Error> {
        Ok(Self {
            head: prepare_serial(&session, HEAD).await?,
            create_head: prepare_conditional(&session, CREATE_HEAD).await?,
            raise_epoch: prepare_conditional(&session, RAISE_EPOCH).await?,
            move_head: prepare_conditional(&session, MOVE_HEAD).await?,
            mark_applied: prepare(&session, MARK_APPLIED).await?,
            applied: prepare(&session, APPLIED).await?,
            put_chunk: prepare(&session, PUT_CHUNK).await?,
            chunk: prepare(&session, CHUNK).await?,
            delete_blob: prepare(&session, DELETE_BLOB).await?,
            put_row: prepare(&session, PUT_ROW).await?,
            delete_row: prepare(&session, DELETE_ROW).await?,
            rows: prepare(&session, ROWS).await?,
            upwards: prepare(&session, UPWARDS).await?,
            downwards: prepare(&session, DOWNWARDS).await?,
            session,
        })
    }

    pub(super) async fn head(
        &self,
        op: &'static str,
        place: Place,
    ) -> Result<Option<HeadRow>, Error> {
        let result = self.session.execute_unpaged(&self.head, (place.group, place.number)).await;
        let rows = rows(op, result.map_err(|e| failed(op, e))?)?;
        let columns = rows.maybe_first_row::<HeadColumns>().map_err(|e| corrupt(op, e))?;
        columns
            .map(|columns| head_row(columns).ok_or_else(|| corrupt(op, "a head row")))
            .transpose()
    }

    pub(super) async fn take_head(&self, place: Place, from: u64, owner: i64) -> Result<(), Error> {
        let Place { group, number } = place;
        let sent = if from == 0 {
            self.session.execute_unpaged(&self.create_head, (group, number, owner)).await
        } else {
            let values = (stored(from + 1), owner, group, number, stored(from));
            self.session.execute_unpaged(&self.raise_epoch, values).await
        };
        sent.map(drop).map_err(|e| unknown("acquire", e))
    }

    pub(super) async fn move_head(
        &self,
        place: Place,
        from: &HeadRow,
        to: &HeadRow,
    ) -> Result<bool, Error> {
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
        let sent = self.session.execute_unpaged(&self.move_head, values).await;
        applied("commit", sent.map_err(|e| unknown("commit", e))?)
    }

    pub(super) async fn mark_applied(
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

    pub(super) async fn applied(&self, place: Place) -> Result<u64, Error> {
        let result = self.session.execute_unpaged(&self.applied, (place.group, place.number)).await;
        let rows = rows("committed", result.map_err(|e| failed("committed", e))?)?;
        let row = rows.maybe_first_row::<(i64,)>().map_err(|e| corrupt("committed", e))?;
        Ok(row.map_or(0, |(next_offset,)| next_offset.cast_unsigned()))
    }

    pub(super) async fn put_chunk(
        &self,
        place: Place,
        id: BlobId,
        chunk: u32,
        bytes: &[u8],
    ) -> Result<(), Error> {
        let Place { group, number } = place;
        let (epoch, seq) = (stored(id.epoch), stored(id.seq));
        let values = (group, number, epoch, seq, id.stamp, chunk as i32, bytes);
        let sent = self.session.execute_unpaged(&self.put_chunk, values).await;
        sent.map(drop).map_err(|e| failed("commit", e))
    }

    pub(super) async fn chunk(
        &self,
        place: Place,
        id: BlobId,
        chunk: u32,
    ) -> Result<Option<Bytes>, Error> {
        let Place { group, number } = place;
        let (epoch, seq) = (stored(id.epoch), stored(id.seq));
        let values = (group, number, epoch, seq, id.stamp, chunk as i32);
        let result = self.session.execute_unpaged(&self.chunk, values).await;
        let rows = rows("acquire", result.map_err(|e| failed("acquire", e))?)?;
        let row = rows.maybe_first_row::<(Vec<u8>,)>().map_err(|e| corrupt("acquire", e))?;
        Ok(row.map(|(bytes,)| bytes.into()))
    }

    pub(super) async fn delete_blob(&self, place: Place, id: BlobId) -> Result<(), Error> {
        let Place { group, number } = place;
        let values = (group, number, stored(id.epoch), stored(id.seq), id.stamp);
        let sent = self.session.execute_unpaged(&self.delete_blob, values).await;
        sent.map(drop).map_err(|e| failed("commit", e))
    }

    pub(super) async fn write_rows(
        &self,
        place: Place,
        bucket: u16,
        rows: &[&Change],
        stamp: i64,
    ) -> Result<(), Error> {
        let (Place { group, number }, bucket) = (place, i32::from(bucket));
        let mut batch = Batch::new(BatchType::Unlogged);
        batch.set_is_idempotent(true);
        batch.set_timestamp(Some(stamp));
        let mut writes = Vec::with_capacity(rows.len());
        for (key, row) in rows {
            match row {
                Some(row) => {
                    batch.append_statement(self.put_row.clone());
                    writes.push(Write::Put((group, number, bucket, key, row)));
                }
                None => {
                    batch.append_statement(self.delete_row.clone());
                    writes.push(Write::Delete((group, number, bucket, key)));
                }
            }
        }
        let sent = self.session.batch(&batch, writes).await;
        sent.map(drop).map_err(|e| unknown("commit", e))
    }

    pub(super) async fn rows(
        &self,
        place: Place,
        bucket: u16,
        keys: &[&[u8]],
    ) -> Result<Vec<(Bytes, Bytes)>, Error> {
        let Place { group, number } = place;
        let values = (group, number, i32::from(bucket), keys);
        let result = self.session.execute_unpaged(&self.rows, values).await;
        pairs("get", &rows("get", result.map_err(|e| failed("get", e))?)?)
    }

    pub(super) async fn page(
        &self,
        place: Place,
        way: Way,
        page: &Page,
    ) -> Result<Vec<(Bytes, Bytes)>, Error> {
        let statement = match way {
            Way::Up => &self.upwards,
            Way::Down => &self.downwards,
        };
        let (Place { group, number }, bucket) = (place, i32::from(page.bucket));
        let KeyRange { from, to } = &page.range;
        let values = (group, number, bucket, &from[..], &to[..], page.rows as i32);
        let result = self.session.execute_unpaged(statement, values).await;
        pairs("scan", &rows("scan", result.map_err(|e| failed("scan", e))?)?)
    }
}

/// Copied: a row that is kept must not keep the whole answer it came with.
fn pairs(op: &'static str, rows: &QueryRowsResult) -> Result<Vec<(Bytes, Bytes)>, Error> {
    let pairs = rows.rows::<(&[u8], &[u8])>().map_err(|e| corrupt(op, e))?;
    let copied = pairs.map(|pair| {
        let (key, value) = pair.map_err(|e| corrupt(op, e))?;
        Ok((Bytes::copy_from_slice(key), Bytes::copy_from_slice(value)))
    });
    copied.collect()
}

impl SerializeRow for Write<'_> {
    fn serialize(
        &self,
        context: &RowSerializationContext<'_>,
        writer: &mut RowWriter,
    ) -> Result<(), SerializationError> {
        match self {
            Self::Put(values) => values.serialize(context, writer),
            Self::Delete(values) => values.serialize(context, writer),
        }
    }

    fn is_empty(&self) -> bool {
        false
    }
}

/// CQL knows no unsigned numbers: the same bits.
fn stored(number: u64) -> i64 {
    number.cast_signed()
}

fn head_row(columns: HeadColumns) -> Option<HeadRow> {
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
