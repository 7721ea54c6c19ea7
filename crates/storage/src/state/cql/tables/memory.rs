//! The statements in memory: what a cluster would hold, and how one process reaches it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::task::yield_now;

use super::Change;
use crate::Error;
use crate::cql::session::{failed, unknown};
use crate::fault::{Op, Process};
use crate::state::cql::head_row::{BlobId, HeadRow};
use crate::state::cql::place::Place;
use crate::state::cql::scan::{Page, Way};

/// Everything that is stored. A statement sees and changes it at one moment.
#[derive(Default)]
pub(crate) struct Cells {
    heads: BTreeMap<Place, HeadRow>,
    applied: BTreeMap<Place, Stamped<u64>>,
    /// Chunks by number, of the blobs by their names.
    blobs: BTreeMap<(Place, BlobId), BTreeMap<u32, Bytes>>,
    /// Deleted ones too: a late write must find that it comes too late.
    rows: BTreeMap<(Place, u16), Bucket>,
}

/// The rows of a part of a shard.
type Bucket = BTreeMap<Bytes, Stamped<Option<Bytes>>>;

/// A value and when it was written, in microseconds.
struct Stamped<V> {
    stamp: i64,
    value: V,
}

impl Cells {
    fn take_head(&mut self, place: Place, from: u64, owner: i64) {
        let row = self.heads.get(&place).cloned();
        if row.as_ref().map_or(0, HeadRow::epoch) == from {
            let row = row.unwrap_or_default();
            let ownership = row.ownership.acquired();
            self.heads.insert(place, HeadRow { ownership, owner, ..row });
        }
    }

    fn move_head(&mut self, place: Place, (epoch, seq): (u64, u64), to: HeadRow) -> bool {
        let Some(row) = self.heads.get_mut(&place) else { return false };
        let holds = (row.epoch(), row.head().seq) == (epoch, seq);
        if holds {
            // The owner is not among the columns that it sets.
            *row = HeadRow { owner: row.owner, ..to };
        }
        holds
    }

    fn mark_applied(&mut self, place: Place, value: u64, stamp: i64) {
        let stood = self.applied.get(&place);
        if stood.is_none_or(|stood| (stood.stamp, stood.value) < (stamp, value)) {
            self.applied.insert(place, Stamped { stamp, value });
        }
    }

    /// At the same stamp a deletion stands before a value, and of two values the larger one.
    fn write_rows(&mut self, place: Place, bucket: u16, rows: Vec<Change>, stamp: i64) {
        let stored = self.rows.entry((place, bucket)).or_default();
        for (key, value) in rows {
            let order = |stamp, value: &Option<Bytes>| (stamp, value.is_none(), value.clone());
            let stood = stored.get(&key).map(|stood| order(stood.stamp, &stood.value));
            if stood < Some(order(stamp, &value)) {
                stored.insert(key, Stamped { stamp, value });
            }
        }
    }

    fn rows(&self, place: Place, bucket: u16, keys: &[Bytes]) -> Vec<(Bytes, Bytes)> {
        let stored = self.rows.get(&(place, bucket));
        let row = |key: &Bytes| Some((key.clone(), stored?.get(key)?.value.clone()?));
        keys.iter().filter_map(row).collect()
    }

    fn page(&self, place: Place, way: Way, page: &Page) -> Vec<(Bytes, Bytes)> {
        let Some(stored) = self.rows.get(&(place, page.bucket)) else { return Vec::new() };
        let rows = stored.range(page.range.from.clone()..page.range.to.clone());
        let rows = rows.filter_map(|(key, row)| Some((key.clone(), row.value.clone()?)));
        match way {
            Way::Up => rows.take(page.rows).collect(),
            Way::Down => rows.rev().take(page.rows).collect(),
        }
    }
}

/// One process's way to the cells; its script says what becomes of a statement.
pub(crate) struct MemoryTables {
    cells: Arc<Mutex<Cells>>,
    process: Arc<Process>,
}

impl MemoryTables {
    pub(crate) fn new(cells: Arc<Mutex<Cells>>, process: Arc<Process>) -> Self {
        Self { cells, process }
    }

    async fn send<T: Send + 'static>(
        &self,
        op: Op,
        effect: impl FnOnce(&mut Cells) -> T + Send + 'static,
    ) -> Result<T, Error> {
        let cells = self.cells.clone();
        let call = async move {
            // Others come between request, effect and answer.
            yield_now().await;
            let done = effect(&mut cells.lock().unwrap_or_else(PoisonError::into_inner));
            yield_now().await;
            Ok(done)
        };
        self.process.send(op, || (), call).await
    }

    pub(super) async fn head(
        &self,
        op: &'static str,
        place: Place,
    ) -> Result<Option<HeadRow>, Error> {
        let read = self.send(Op::ReadHead, move |cells| cells.heads.get(&place).cloned()).await;
        read.map_err(|e| failed(op, e))
    }

    pub(super) async fn take_head(&self, place: Place, from: u64, owner: i64) -> Result<(), Error> {
        let sent = self.send(Op::TakeHead, move |cells| cells.take_head(place, from, owner)).await;
        sent.map_err(|e| unknown("acquire", e))
    }

    pub(super) async fn move_head(
        &self,
        place: Place,
        from: &HeadRow,
        to: &HeadRow,
    ) -> Result<bool, Error> {
        let (from, to) = ((from.epoch(), from.head().seq), to.clone());
        let sent = self.send(Op::MoveHead, move |cells| cells.move_head(place, from, to)).await;
        sent.map_err(|e| unknown("commit", e))
    }

    pub(super) async fn mark_applied(
        &self,
        place: Place,
        next_offset: u64,
        stamp: i64,
    ) -> Result<(), Error> {
        let mark = move |cells: &mut Cells| cells.mark_applied(place, next_offset, stamp);
        self.send(Op::MarkApplied, mark).await.map_err(|e| unknown("commit", e))
    }

    pub(super) async fn applied(&self, place: Place) -> Result<u64, Error> {
        let applied = move |cells: &mut Cells| cells.applied.get(&place).map(|mark| mark.value);
        let read = self.send(Op::ReadApplied, applied).await;
        Ok(read.map_err(|e| failed("committed", e))?.unwrap_or_default())
    }

    pub(super) async fn put_chunk(
        &self,
        place: Place,
        id: BlobId,
        chunk: u32,
        bytes: Bytes,
    ) -> Result<(), Error> {
        let put = move |cells: &mut Cells| {
            cells.blobs.entry((place, id)).or_default().insert(chunk, bytes);
        };
        self.send(Op::PutChunk, put).await.map_err(|e| failed("commit", e))
    }

    pub(super) async fn chunk(
        &self,
        place: Place,
        id: BlobId,
        chunk: u32,
    ) -> Result<Option<Bytes>, Error> {
        let get = move |cells: &mut Cells| cells.blobs.get(&(place, id))?.get(&chunk).cloned();
        self.send(Op::ReadChunk, get).await.map_err(|e| failed("acquire", e))
    }

    pub(super) async fn delete_blob(&self, place: Place, id: BlobId) -> Result<(), Error> {
        let delete = move |cells: &mut Cells| drop(cells.blobs.remove(&(place, id)));
        self.send(Op::DeleteBlob, delete).await.map_err(|e| failed("commit", e))
    }

    pub(super) async fn write_rows(
        &self,
        place: Place,
        bucket: u16,
        rows: &[&Change],
        stamp: i64,
    ) -> Result<(), Error> {
        let rows = rows.iter().map(|row| (*row).clone()).collect();
        let write = move |cells: &mut Cells| cells.write_rows(place, bucket, rows, stamp);
        self.send(Op::WriteRows, write).await.map_err(|e| unknown("commit", e))
    }

    pub(super) async fn rows(
        &self,
        place: Place,
        bucket: u16,
        keys: &[&[u8]],
    ) -> Result<Vec<(Bytes, Bytes)>, Error> {
        let keys: Vec<_> = keys.iter().map(|key| Bytes::copy_from_slice(key)).collect();
        let read = move |cells: &mut Cells| cells.rows(place, bucket, &keys);
        self.send(Op::ReadRows, read).await.map_err(|e| failed("get", e))
    }

    pub(super) async fn page(
        &self,
        place: Place,
        way: Way,
        page: &Page,
    ) -> Result<Vec<(Bytes, Bytes)>, Error> {
        let page = page.clone();
        let read = move |cells: &mut Cells| cells.page(place, way, &page);
        self.send(Op::ReadRows, read).await.map_err(|e| failed("scan", e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: Place = Place { group: 1, number: 2 };

    fn bytes(text: &'static str) -> Bytes {
        Bytes::from_static(text.as_bytes())
    }

    /// What stands of a key after writes of (stamp, value), whatever their order.
    fn standing(writes: [(i64, Option<&'static str>); 2]) -> Option<Bytes> {
        let stands = |writes: &mut dyn Iterator<Item = (i64, Option<&'static str>)>| {
            let mut cells = Cells::default();
            for (stamp, value) in writes {
                cells.write_rows(PLACE, 0, vec![(bytes("k"), value.map(bytes))], stamp);
            }
            cells.rows(PLACE, 0, &[bytes("k")]).pop().map(|(_, value)| value)
        };
        let (there, back) =
            (stands(&mut writes.into_iter()), stands(&mut writes.into_iter().rev()));
        assert_eq!(there, back);
        there
    }

    #[test]
    fn the_higher_stamp_stands_and_at_the_same_a_deletion_or_the_larger_value() {
        assert_eq!(standing([(1, Some("new")), (2, Some("old"))]), Some(bytes("old")));
        assert_eq!(standing([(1, Some("a")), (2, None)]), None);
        assert_eq!(standing([(1, None), (2, Some("a"))]), Some(bytes("a")));
        assert_eq!(standing([(1, Some("a")), (1, None)]), None);
        assert_eq!(standing([(1, Some("a")), (1, Some("b"))]), Some(bytes("b")));
    }

    #[test]
    fn a_head_moves_only_from_where_it_is() {
        let mut cells = Cells::default();
        cells.take_head(PLACE, 1, 7);
        assert!(cells.heads.is_empty());
        cells.take_head(PLACE, 0, 7);
        cells.take_head(PLACE, 0, 8);
        cells.take_head(PLACE, 1, 9);
        let row = cells.heads[&PLACE].clone();
        assert_eq!((row.epoch(), row.owner), (2, 9));
        let mut to = HeadRow { owner: 1, stamp: 5, ..row };
        to.ownership.head.seq = 1;
        assert!(!cells.move_head(PLACE, (1, 0), to.clone()));
        assert!(cells.move_head(PLACE, (2, 0), to.clone()));
        assert!(!cells.move_head(PLACE, (2, 0), to.clone()));
        assert_eq!(cells.heads[&PLACE], HeadRow { owner: 9, ..to });
    }
}
