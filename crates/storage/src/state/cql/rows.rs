//! State rows on CQL: put and deleted bucket by bucket, read by key, scanned by merging the buckets.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{FutureExt, StreamExt, TryStreamExt, stream};

use super::place::Place;
use super::redo::Redo;
use super::scan::{Buckets, Page, Way};
use super::tables::{Change, Tables};
use crate::Error;
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

/// State rows, in buckets.
pub(crate) struct Rows {
    tables: Arc<Tables>,
    buckets: u16,
}

impl Rows {
    pub(super) fn new(tables: Arc<Tables>, buckets: u16) -> Self {
        Self { tables, buckets }
    }

    /// Which part of the shard a key is in, for ever.
    fn bucket(&self, key: &[u8]) -> u16 {
        (crc32fast::hash(key) % u32::from(self.buckets)) as u16
    }

    /// Puts and deletes the rows of a write set at its stamp. Repeating it, however late, changes
    /// nothing.
    pub(crate) async fn apply(&self, place: Place, redo: &Redo) -> Result<(), Error> {
        let mut parts: BTreeMap<u16, Vec<&Change>> = BTreeMap::new();
        for row in &redo.rows {
            parts.entry(self.bucket(&row.0)).or_default().push(row);
        }
        let mut writes = Vec::new();
        for (bucket, rows) in &parts {
            for rows in batches(rows) {
                writes.push(self.tables.write_rows(place, *bucket, rows, redo.stamp).boxed());
            }
        }
        stream::iter(writes).buffer_unordered(WRITES_IN_FLIGHT).try_collect().await
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
                reads.push(self.tables.rows(place, *bucket, keys).boxed());
            }
        }
        let found: Vec<_> =
            stream::iter(reads).buffer_unordered(READS_IN_FLIGHT).try_collect().await?;
        let found: HashMap<Bytes, Bytes> = found.into_iter().flatten().collect();
        Ok(keys.iter().map(|key| found.get(key).cloned()).collect())
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
        let found = self.tables.page(place, way, &page).await?;
        Ok((page, found))
    }
}

/// Cuts the rows of one bucket.
fn batches<'a, 'b>(mut rows: &'b [&'a Change]) -> impl Iterator<Item = &'b [&'a Change]> {
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
