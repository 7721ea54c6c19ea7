//! State rows on CQL: put and deleted bucket by bucket, read by key, scanned by merging the buckets.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{FutureExt, StreamExt, TryStreamExt, stream};
use scylla::client::session::Session;
use scylla::response::query_result::QueryRowsResult;
use scylla::serialize::SerializationError;
use scylla::serialize::row::{RowSerializationContext, SerializeRow};
use scylla::serialize::writers::RowWriter;
use scylla::statement::batch::{Batch, BatchType};
use scylla::statement::prepared::PreparedStatement;

use super::place::Place;
use super::redo::Redo;
use super::scan::{Buckets, Page, Way};
use crate::Error;
use crate::cql::session::{corrupt, failed, prepare, rows, unknown};
use crate::state::KeyRange;

/// Rows of one batch; of more the cost of a row falls no further.
const BATCH_ROWS: usize = 200;
/// Bytes of one batch, if it has more than one row.
const BATCH_BYTES: usize = 128 * 1024;
/// Batches of one write set that are on their way together.
const WRITES_IN_FLIGHT: usize = 32;
/// Keys of one read: ScyllaDB refuses more than 100 in an `IN`.
const KEYS_PER_READ: usize = 100;
/// Reads of one call that are on their way together.
const READS_IN_FLIGHT: usize = 64;

/// Statements on `rows`.
pub(crate) struct Rows {
    session: Arc<Session>,
    buckets: u16,
    put: PreparedStatement,
    delete: PreparedStatement,
    get: PreparedStatement,
    upwards: PreparedStatement,
    downwards: PreparedStatement,
}

/// One row of a batch.
enum Write<'a> {
    Put((i16, i32, i32, &'a [u8], &'a [u8])),
    Delete((i16, i32, i32, &'a [u8])),
}

impl Rows {
    pub(crate) async fn prepare(session: Arc<Session>, buckets: u16) -> Result<Self, Error> {
        let part = "shard_group = ? AND shard = ? AND bucket = ?";
        let put =
            "INSERT INTO rows (shard_group, shard, bucket, key, value) VALUES (?, ?, ?, ?, ?)";
        let delete = format!("DELETE FROM rows WHERE {part} AND key = ?");
        let get = format!("SELECT key, value FROM rows WHERE {part} AND key IN ?");
        let range = format!("SELECT key, value FROM rows WHERE {part} AND key >= ? AND key < ?");
        Ok(Self {
            put: prepare(&session, put).await?,
            delete: prepare(&session, &delete).await?,
            get: prepare(&session, &get).await?,
            upwards: prepare(&session, &format!("{range} ORDER BY key ASC LIMIT ?")).await?,
            downwards: prepare(&session, &format!("{range} ORDER BY key DESC LIMIT ?")).await?,
            session,
            buckets,
        })
    }

    /// Which part of the shard a key is in, for ever.
    fn bucket(&self, key: &[u8]) -> u16 {
        (crc32fast::hash(key) % u32::from(self.buckets)) as u16
    }

    /// Puts and deletes the rows of a write set at its stamp. Repeating it, however late, changes
    /// nothing.
    pub(crate) async fn apply(&self, place: Place, redo: &Redo) -> Result<(), Error> {
        let mut parts: BTreeMap<u16, Vec<&(Bytes, Option<Bytes>)>> = BTreeMap::new();
        for row in &redo.rows {
            parts.entry(self.bucket(&row.0)).or_default().push(row);
        }
        let mut writes = Vec::new();
        for (bucket, rows) in &parts {
            for rows in batches(rows) {
                writes.push(self.write(place, *bucket, rows, redo.stamp).boxed());
            }
        }
        stream::iter(writes).buffer_unordered(WRITES_IN_FLIGHT).try_collect().await
    }

    async fn write(
        &self,
        place: Place,
        bucket: u16,
        rows: &[&(Bytes, Option<Bytes>)],
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
                    batch.append_statement(self.put.clone());
                    writes.push(Write::Put((group, number, bucket, key, row)));
                }
                None => {
                    batch.append_statement(self.delete.clone());
                    writes.push(Write::Delete((group, number, bucket, key)));
                }
            }
        }
        let sent = self.session.batch(&batch, writes).await;
        sent.map(drop).map_err(|e| unknown("commit", e))
    }

    /// The rows of these keys, in their order.
    pub(crate) async fn get(
        &self,
        place: Place,
        keys: &[Bytes],
    ) -> Result<Vec<Option<Bytes>>, Error> {
        let mut parts: BTreeMap<u16, Vec<&[u8]>> = BTreeMap::new();
        for key in keys {
            parts.entry(self.bucket(key)).or_default().push(key);
        }
        let mut reads = Vec::new();
        for (bucket, keys) in &parts {
            for keys in keys.chunks(KEYS_PER_READ) {
                reads.push(self.get_some(place, *bucket, keys).boxed());
            }
        }
        let found: Vec<_> =
            stream::iter(reads).buffer_unordered(READS_IN_FLIGHT).try_collect().await?;
        let found: HashMap<Bytes, Bytes> = found.into_iter().flatten().collect();
        Ok(keys.iter().map(|key| found.get(key).cloned()).collect())
    }

    async fn get_some(
        &self,
        place: Place,
        bucket: u16,
        keys: &[&[u8]],
    ) -> Result<Vec<(Bytes, Bytes)>, Error> {
        let Place { group, number } = place;
        let values = (group, number, i32::from(bucket), keys);
        let result = self.session.execute_unpaged(&self.get, values).await;
        pairs("get", &rows("get", result.map_err(|e| failed("get", e))?)?)
    }

    /// Up to `limit` rows of the range in key order, or backwards.
    pub(crate) async fn scan(
        &self,
        place: Place,
        range: &KeyRange,
        way: Way,
        limit: usize,
    ) -> Result<Vec<(Bytes, Bytes)>, Error> {
        let mut buckets = Buckets::new(self.buckets, range, way, limit);
        while let Some(wanted) = buckets.wanted() {
            let reads: Vec<_> =
                wanted.into_iter().map(|page| self.page(place, way, page).boxed()).collect();
            let pages: Vec<_> =
                stream::iter(reads).buffer_unordered(READS_IN_FLIGHT).try_collect().await?;
            pages.into_iter().for_each(|(page, found)| buckets.take(&page, found));
        }
        Ok(buckets.merged())
    }

    async fn page(
        &self,
        place: Place,
        way: Way,
        page: Page,
    ) -> Result<(Page, Vec<(Bytes, Bytes)>), Error> {
        let statement = match way {
            Way::Up => &self.upwards,
            Way::Down => &self.downwards,
        };
        let (Place { group, number }, bucket) = (place, i32::from(page.bucket));
        let KeyRange { from, to } = &page.range;
        let values = (group, number, bucket, &from[..], &to[..], page.rows as i32);
        let result = self.session.execute_unpaged(statement, values).await;
        let found = pairs("scan", &rows("scan", result.map_err(|e| failed("scan", e))?)?)?;
        Ok((page, found))
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

/// Cuts the rows of one bucket.
fn batches<'a, 'b>(
    mut rows: &'b [&'a (Bytes, Option<Bytes>)],
) -> impl Iterator<Item = &'b [&'a (Bytes, Option<Bytes>)]> {
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let fits = rows.iter().take(BATCH_ROWS).take_while(|(key, row)| {
            bytes += key.len() + row.as_ref().map_or(0, Bytes::len);
            bytes <= BATCH_BYTES
        });
        let (now, later) = rows.split_at(fits.count().max(1).min(rows.len()));
        rows = later;
        (!now.is_empty()).then_some(now)
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_are_bounded_and_leave_nothing_out() {
        let row = |len: usize| (Bytes::from_static(b"key"), Some(Bytes::from(vec![0; len])));
        let lengths = [vec![10; 450], vec![BATCH_BYTES * 2, 1, BATCH_BYTES, 1], vec![]].concat();
        let rows: Vec<_> = lengths.iter().map(|len| row(*len)).collect();
        let rows: Vec<_> = rows.iter().collect();
        let sizes: Vec<_> = batches(&rows).map(<[_]>::len).collect();
        assert_eq!(sizes, [200, 200, 50, 1, 1, 1, 1]);
        assert_eq!(batches(&[]).count(), 0);
    }
}
