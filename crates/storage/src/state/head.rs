//! The head row: who owns a shard and how far it has come.

use super::{Epoch, Head, WriteSet};
use crate::{Error, Kind};

/// Bytes of an encoded row: five big-endian words.
const LEN: usize = 40;

/// What a backend keeps for each shard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ownership {
    /// Latest epoch given out; 0 if none was.
    pub(crate) epoch: u64,
    pub(crate) head: Head,
}

impl Ownership {
    /// After a new owner took the shard.
    pub(crate) fn acquired(self) -> Self {
        Self { epoch: self.epoch + 1, ..self }
    }

    /// After this write set.
    ///
    /// # Errors
    /// Determinate `Fenced` when the epoch is old or the number is not the next.
    pub(crate) fn committed(self, epoch: Epoch, set: &WriteSet) -> Result<Self, Error> {
        let fenced = |why: String| Err(Error::determinate("commit", Kind::Fenced).because(why));
        if epoch.0 != self.epoch {
            return fenced(format!("epoch {} is not the latest, {}", epoch.0, self.epoch));
        }
        if set.seq != self.head.seq + 1 {
            return fenced(format!("write set {} does not follow {}", set.seq, self.head.seq));
        }
        let WriteSet { seq, next_offset, log_identity, fold_time_ms, .. } = *set;
        Ok(Self { head: Head { seq, next_offset, log_identity, fold_time_ms }, ..self })
    }

    pub(crate) fn encode(&self) -> [u8; LEN] {
        let Head { seq, next_offset, log_identity, fold_time_ms } = self.head;
        let words = [self.epoch, seq, next_offset, log_identity, fold_time_ms.cast_unsigned()];
        let mut bytes = [0; LEN];
        for (to, word) in bytes.chunks_exact_mut(8).zip(words) {
            to.copy_from_slice(&word.to_be_bytes());
        }
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let (words, []) = bytes.as_chunks::<8>() else { return None };
        let [epoch, seq, next_offset, log_identity, fold_time] = *words else { return None };
        let word = u64::from_be_bytes;
        let head = Head {
            seq: word(seq),
            next_offset: word(next_offset),
            log_identity: word(log_identity),
            fold_time_ms: word(fold_time).cast_signed(),
        };
        Some(Self { epoch: word(epoch), head })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_row_survives_its_encoding() {
        let head =
            Head { seq: 1, next_offset: u64::MAX, log_identity: 0x0102_0304, fold_time_ms: -5 };
        let row = Ownership { epoch: 7, head };
        assert_eq!(Ownership::decode(&row.encode()), Some(row));
        assert_eq!(Ownership::decode(&row.encode()[..39]), None);
    }
}
