//! The head row as it is stored: who owns a shard, how far it has come, what may not be applied yet.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::Error;
use crate::state::head::Ownership;
use crate::state::{Epoch, Head, WriteSet};

/// Names the stored blob of one write set. The stamp is part of it: a set that was given up and one
/// that took its number must not share bytes, because the conditional update of the first may
/// still be on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct BlobId {
    /// The writer's: his epoch or, where several write at one, a number he has drawn.
    pub(crate) epoch: u64,
    pub(crate) seq: u64,
    pub(crate) stamp: i64,
    /// Chunks it is cut into.
    pub(crate) chunks: u32,
}

/// One row of `heads`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct HeadRow {
    /// Epoch and head, as every backend keeps them.
    pub(crate) ownership: Ownership,
    /// Drawn by who took the shard, to know his own doing again.
    pub(crate) owner: i64,
    /// Number the next outcome gets.
    pub(crate) next_outcome: u64,
    /// Of the last write set.
    pub(crate) stamp: i64,
    /// Write sets that may not be applied and published yet, oldest first.
    pub(crate) pending: Vec<BlobId>,
}

impl HeadRow {
    /// After this write set of so many outcomes, whose blob is `blob`; `done` is the last set that
    /// is applied and published.
    ///
    /// # Errors
    /// As [`Ownership::committed`].
    pub(crate) fn committed(
        &self,
        epoch: Epoch,
        set: &WriteSet,
        outcomes: usize,
        blob: BlobId,
        done: u64,
    ) -> Result<Self, Error> {
        let ownership = self.ownership.committed(epoch, set)?;
        let waiting = self.pending.iter().filter(|blob| blob.seq > done).copied();
        Ok(Self {
            ownership,
            owner: self.owner,
            next_outcome: self.next_outcome + outcomes as u64,
            stamp: blob.stamp,
            pending: waiting.chain([blob]).collect(),
        })
    }

    pub(crate) fn head(&self) -> Head {
        self.ownership.head
    }

    pub(crate) fn epoch(&self) -> u64 {
        self.ownership.epoch
    }

    /// Was the write set that leads to `to` committed, and may it be unfinished?
    pub(crate) fn has_committed(&self, to: &Self) -> bool {
        to.pending.last().is_some_and(|blob| self.pending.contains(blob))
    }

    /// Is it certain of a row that has not [committed](Self::has_committed) it that none before had?
    /// Its number is not reached yet, or is another's.
    pub(crate) fn rules_out(&self, to: &Self) -> bool {
        let seq = to.head().seq;
        self.head().seq < seq || self.pending.iter().any(|blob| blob.seq == seq)
    }

    /// Is the shard at this very write set of this very owner?
    pub(crate) fn is_at(&self, other: &Self) -> bool {
        let place = |row: &Self| (row.epoch(), row.owner, row.head().seq, row.stamp);
        // The last blob tells two writers of one epoch apart, as the catalog has.
        place(self) == place(other) && self.pending.last() == other.pending.last()
    }
}

/// Big-endian words for each blob.
pub(crate) fn encode_pending(pending: &[BlobId]) -> Bytes {
    let mut to = BytesMut::new();
    for blob in pending {
        to.put_u64(blob.epoch);
        to.put_u64(blob.seq);
        to.put_i64(blob.stamp);
        to.put_u32(blob.chunks);
    }
    to.freeze()
}

pub(crate) fn decode_pending(mut from: &[u8]) -> Option<Vec<BlobId>> {
    let mut pending = Vec::new();
    while !from.is_empty() {
        pending.push(BlobId {
            epoch: from.try_get_u64().ok()?,
            seq: from.try_get_u64().ok()?,
            stamp: from.try_get_i64().ok()?,
            chunks: from.try_get_u32().ok()?,
        });
    }
    Some(pending)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blob(seq: u64) -> BlobId {
        BlobId { epoch: 3, seq, stamp: seq as i64 * 100, chunks: 2 }
    }

    #[test]
    fn the_pending_list_survives_its_encoding() {
        let pending = vec![blob(1), blob(2)];
        let bytes = encode_pending(&pending);
        assert_eq!(decode_pending(&bytes), Some(pending));
        assert_eq!(decode_pending(&bytes[1..]), None);
        assert_eq!(decode_pending(&[]), Some(vec![]));
    }

    #[test]
    fn what_is_done_leaves_the_pending_list_with_the_next_commit() {
        let mut row = HeadRow::default();
        row.ownership = row.ownership.acquired();
        let epoch = Epoch(row.epoch());
        for (seq, done) in [(1, 0), (2, 0), (3, 1)] {
            let set = WriteSet { seq, ..WriteSet::default() };
            row = row.committed(epoch, &set, 1, blob(seq), done).unwrap();
        }
        assert_eq!(row.pending, [blob(2), blob(3)]);
        assert_eq!((row.next_outcome, row.stamp, row.head().seq), (3, 300, 3));
        assert!(row.is_at(&row.clone()));
        assert!(!row.is_at(&HeadRow { stamp: 301, ..row.clone() }));
        assert!(!row.is_at(&HeadRow { owner: 1, ..row.clone() }));
    }

    #[test]
    fn a_row_tells_of_a_write_set_what_it_can() {
        let at = |seq: u64, pending: &[BlobId]| {
            let mut row = HeadRow { pending: pending.to_vec(), ..HeadRow::default() };
            row.ownership.head.seq = seq;
            row
        };
        let to = at(4, &[blob(3), blob(4)]);
        let others = BlobId { epoch: 4, ..blob(4) };
        let cases = [
            (at(3, &[blob(3)]), false, true),
            (at(4, &[blob(4)]), true, true),
            (at(5, &[blob(4), blob(5)]), true, true),
            (at(4, &[others]), false, true),
            (at(5, &[blob(5)]), false, false),
        ];
        for (row, committed, known) in cases {
            assert_eq!(row.has_committed(&to), committed, "{row:?}");
            assert_eq!(committed || row.rules_out(&to), known, "{row:?}");
        }
    }
}
