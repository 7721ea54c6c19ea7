//! Record batches: the stored form of the records that one group commit put into one partition.
//!
//! Layout, little endian: CRC-32 of all that follows (4 bytes), number of records (4), length of
//! each (4 each), the records. The key names the first record's offset; the others count on.

use bytes::Bytes;

const CRC_LEN: usize = 4;
const WORD_LEN: usize = 4;

/// The stored value for these records, in order.
pub(crate) fn encode(records: &[Bytes]) -> Bytes {
    let bytes: usize = records.iter().map(Bytes::len).sum();
    let mut value = Vec::with_capacity(CRC_LEN + WORD_LEN * (1 + records.len()) + bytes);
    value.extend_from_slice(&[0; CRC_LEN]);
    value.extend_from_slice(&word(records.len()));
    for record in records {
        value.extend_from_slice(&word(record.len()));
    }
    for record in records {
        value.extend_from_slice(record);
    }
    let crc = crc32fast::hash(&value[CRC_LEN..]);
    value[..CRC_LEN].copy_from_slice(&crc.to_le_bytes());
    value.into()
}

/// Lengths and counts fit: a batch is bounded far below 4 GiB by the queues in front of it.
fn word(n: usize) -> [u8; WORD_LEN] {
    u32::try_from(n).unwrap_or(u32::MAX).to_le_bytes()
}

/// A stored value whose checksum and lengths hold.
pub(crate) struct Batch {
    value: Bytes,
    count: usize,
}

impl Batch {
    /// `None` if the value is not what [`encode`] wrote.
    pub(crate) fn decode(value: Bytes) -> Option<Self> {
        let crc = read_word(&value, 0)?;
        if crc32fast::hash(&value[CRC_LEN..]) as usize != crc {
            return None;
        }
        let count = read_word(&value, CRC_LEN)?;
        let batch = Self { value, count };
        let mut end = batch.records_start()?;
        for index in 0..count {
            end = end.checked_add(batch.len_at(index)?)?;
        }
        (end == batch.value.len()).then_some(batch)
    }

    /// Number of records.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// The records from the `index`th on; they share the value's memory.
    pub(crate) fn records_from(&self, index: usize) -> impl Iterator<Item = Bytes> + '_ {
        let skipped: usize = (0..index).filter_map(|i| self.len_at(i)).sum();
        let mut start = self.records_start().unwrap_or(self.value.len()) + skipped;
        (index..self.count).filter_map(move |i| {
            let end = start + self.len_at(i)?;
            let record = self.value.slice(start..end);
            start = end;
            Some(record)
        })
    }

    fn records_start(&self) -> Option<usize> {
        let lengths = self.count.checked_mul(WORD_LEN)?;
        (CRC_LEN + WORD_LEN).checked_add(lengths).filter(|start| *start <= self.value.len())
    }

    fn len_at(&self, index: usize) -> Option<usize> {
        read_word(&self.value, CRC_LEN + WORD_LEN * (1 + index))
    }
}

fn read_word(value: &[u8], at: usize) -> Option<usize> {
    let bytes = value.get(at..at.checked_add(WORD_LEN)?)?;
    Some(u32::from_le_bytes(bytes.try_into().ok()?) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records() -> Vec<Bytes> {
        ["", "a", "some bytes", ""].map(Bytes::from).to_vec()
    }

    #[test]
    fn what_was_encoded_comes_back_from_any_index() {
        let batch = Batch::decode(encode(&records())).unwrap();
        assert_eq!(batch.count(), 4);
        for index in 0..=4 {
            assert_eq!(batch.records_from(index).collect::<Vec<_>>(), records()[index..]);
        }
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed() {
        let good = encode(&records());
        for at in 0..good.len() {
            for bit in 0..8 {
                let mut bad = good.to_vec();
                bad[at] ^= 1 << bit;
                assert!(Batch::decode(bad.into()).is_none(), "byte {at} bit {bit}");
            }
            assert!(Batch::decode(good.slice(..at)).is_none(), "cut at {at}");
        }
    }
}
