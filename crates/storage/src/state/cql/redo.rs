//! A write set as the bytes from which anyone can repeat its effects.
//!
//! Big-endian: version, stamp, first outcome, next offset, then rows and outcomes, each a count and
//! lengths before bytes, and a CRC-32 of all that.

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// First byte; another would be another encoding.
const VERSION: u8 = 1;
/// Length of a row that is deleted.
const DELETED: u32 = u32::MAX;
const CRC_LEN: usize = 4;

/// What happens after a write set is committed, and can happen again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Redo {
    /// Write time of its rows, in microseconds since 1970; rises with every write set of a shard.
    pub(crate) stamp: i64,
    /// Number of its first outcome.
    pub(crate) first_outcome: u64,
    /// The head's after it.
    pub(crate) next_offset: u64,
    /// Each key once.
    pub(crate) rows: Vec<(Bytes, Option<Bytes>)>,
    pub(crate) outcomes: Vec<Bytes>,
}

impl Redo {
    pub(crate) fn encode(&self) -> Bytes {
        let mut to = BytesMut::with_capacity(self.weight());
        to.put_u8(VERSION);
        to.put_i64(self.stamp);
        to.put_u64(self.first_outcome);
        to.put_u64(self.next_offset);
        to.put_u32(self.rows.len() as u32);
        for (key, row) in &self.rows {
            put(&mut to, key);
            match row {
                Some(row) => put(&mut to, row),
                None => to.put_u32(DELETED),
            }
        }
        to.put_u32(self.outcomes.len() as u32);
        self.outcomes.iter().for_each(|outcome| put(&mut to, outcome));
        let crc = crc32fast::hash(&to);
        to.put_u32(crc);
        to.freeze()
    }

    /// `None` for anything else than what [`Redo::encode`] made.
    pub(crate) fn decode(mut from: Bytes) -> Option<Self> {
        let mut crc = from.split_off(from.len().checked_sub(CRC_LEN)?);
        if crc.get_u32() != crc32fast::hash(&from) || from.try_get_u8().ok()? != VERSION {
            return None;
        }
        let (stamp, first_outcome) = (from.try_get_i64().ok()?, from.try_get_u64().ok()?);
        let next_offset = from.try_get_u64().ok()?;
        let mut rows = Vec::new();
        for _ in 0..from.try_get_u32().ok()? {
            let key = take(&mut from)??;
            rows.push((key, take(&mut from)?));
        }
        let mut outcomes = Vec::new();
        for _ in 0..from.try_get_u32().ok()? {
            outcomes.push(take(&mut from)??);
        }
        from.is_empty().then_some(Self { stamp, first_outcome, next_offset, rows, outcomes })
    }

    /// About how many bytes it is encoded.
    fn weight(&self) -> usize {
        let rows =
            self.rows.iter().map(|(k, row)| 8 + k.len() + row.as_ref().map_or(0, Bytes::len));
        let outcomes = self.outcomes.iter().map(|outcome| 4 + outcome.len());
        64 + rows.sum::<usize>() + outcomes.sum::<usize>()
    }
}

fn put(to: &mut BytesMut, bytes: &Bytes) {
    to.put_u32(bytes.len() as u32);
    to.put_slice(bytes);
}

/// The outer `None`: there is less than it says. The inner: a deleted row.
fn take(from: &mut Bytes) -> Option<Option<Bytes>> {
    let len = from.try_get_u32().ok()?;
    if len == DELETED {
        return Some(None);
    }
    let len = usize::try_from(len).ok()?;
    (len <= from.len()).then(|| Some(from.split_to(len)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redo() -> Redo {
        let text = Bytes::from_static;
        Redo {
            stamp: -5,
            first_outcome: u64::MAX,
            next_offset: 7,
            rows: vec![(text(b"a"), Some(text(b""))), (text(b""), None), (text(b"b"), None)],
            outcomes: vec![text(b"x"), text(b"")],
        }
    }

    #[test]
    fn a_write_set_survives_its_encoding() {
        let empty = Redo { rows: vec![], outcomes: vec![], ..redo() };
        for redo in [redo(), empty] {
            assert_eq!(Redo::decode(redo.encode()), Some(redo));
        }
    }

    #[test]
    fn damage_is_seen() {
        let good = redo().encode();
        for at in 0..good.len() {
            let mut bad = good.to_vec();
            bad[at] ^= 1;
            assert_eq!(Redo::decode(bad.into()), None, "byte {at}");
            assert_eq!(Redo::decode(good.slice(..at)), None, "cut at {at}");
        }
    }
}
