//! How far each source was taken in, kept in state behind a fence: of two writers of a partition
//! only the later one moves it.
//!
//! A partition's shard of [`Group::Analytics`] has for each source a row that says how far it is and
//! which cut is on its way, and the rows with that cut's bytes. They stay when the cut is in, to be
//! overwritten by the next: nothing reads them, and a store that deletes by marks is spared the
//! marks.

use bytes::{Buf, BufMut, Bytes};
use tokio::sync::{Mutex, MutexGuard};

use crate::analytics::{Applied, Source};
use crate::error::{Certainty, Error, Kind};
use crate::state::{Epoch, Group, Shard, StateStore, WriteSet};

/// What the bytes of positions and cuts look like; never reused for others.
pub(super) const LAYOUT: u8 = 1;
/// Bytes of a cut in one row of state.
const CHUNK: usize = 256 << 10;
const SOURCES: usize = 3;

/// How far a source of a partition was taken in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) applied: Applied,
    /// Facts so far, and so the number of the next.
    pub(super) facts: u64,
    /// What may or may not be in the table; nothing else is under way.
    pub(super) cut: Option<Cut>,
}

/// A cut whose bytes are in state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cut {
    /// The position when it is in.
    pub(super) applied: Applied,
    /// How many facts it has, at least one.
    pub(super) facts: u64,
    /// Of its rows.
    pub(super) len: u64,
    /// CRC-32 of its rows.
    pub(super) crc: u32,
}

impl Position {
    /// When its cut is in.
    pub(super) fn settled(self) -> Self {
        match self.cut {
            Some(cut) => Self { applied: cut.applied, facts: self.facts + cut.facts, cut: None },
            None => self,
        }
    }

    /// What its cut is known by: its source and partition, its first and last fact.
    pub(super) fn token(self, source: Source, partition: u16) -> String {
        let last = self.settled().facts.saturating_sub(1);
        format!("{}/{partition}/{}-{last}", source as u8, self.facts)
    }

    fn encode(&self) -> Bytes {
        let mut bytes = Vec::with_capacity(64);
        bytes.put_u8(LAYOUT);
        let cut = self.cut.map(|cut| (cut.applied, [cut.facts, cut.len, u64::from(cut.crc)]));
        for (applied, numbers) in [(self.applied, &[self.facts][..])]
            .into_iter()
            .chain(cut.as_ref().map(|(applied, numbers)| (*applied, &numbers[..])))
        {
            bytes.put_u64(applied.next);
            bytes.put_i64(applied.as_of_ms);
            numbers.iter().for_each(|&number| bytes.put_u64(number));
        }
        bytes.into()
    }

    fn decode(mut bytes: &[u8]) -> Option<Self> {
        let applied = |bytes: &mut &[u8]| {
            let next = bytes.try_get_u64().ok()?;
            Some(Applied { next, as_of_ms: bytes.try_get_i64().ok()? })
        };
        if bytes.try_get_u8().ok()? != LAYOUT {
            return None;
        }
        let mut position =
            Self { applied: applied(&mut bytes)?, facts: bytes.try_get_u64().ok()?, cut: None };
        if bytes.has_remaining() {
            position.cut = Some(Cut {
                applied: applied(&mut bytes)?,
                facts: bytes.try_get_u64().ok()?,
                len: bytes.try_get_u64().ok()?,
                crc: bytes.try_get_u64().ok()?.try_into().ok()?,
            });
        }
        (!bytes.has_remaining()).then_some(position)
    }
}

/// What a stream was found to be under one ownership.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settled {
    pub(super) epoch: Epoch,
    pub(super) position: Position,
}

/// One partition's shard, as this process writes it.
pub(super) struct Fence {
    state: StateStore,
    shard: Shard,
    /// The latest ownership and the number of its last write set; none when another may have it.
    owner: Mutex<Option<(Epoch, u64)>>,
    /// Whoever takes a source in holds its lock to the end.
    streams: [Mutex<Option<Settled>>; SOURCES],
}

impl Fence {
    pub(super) fn new(state: StateStore, partition: u16) -> Self {
        let shard = Shard { group: Group::Analytics, partition };
        Self { state, shard, owner: Mutex::default(), streams: Default::default() }
    }

    pub(super) fn partition(&self) -> u16 {
        self.shard.partition
    }

    /// Of one source, for as long as it is being taken in.
    pub(super) async fn stream(&self, source: Source) -> MutexGuard<'_, Option<Settled>> {
        self.streams[source as usize].lock().await
    }

    /// The ownership to write under, taken from whoever has it unless it is ours.
    pub(super) async fn epoch(&self) -> Result<Epoch, Error> {
        let mut owner = self.owner.lock().await;
        if let Some((epoch, _)) = *owner {
            return Ok(epoch);
        }
        let (epoch, head) = self.state.acquire(self.shard).await?;
        *owner = Some((epoch, head.seq));
        Ok(epoch)
    }

    /// Moves a source, with the rows of the cut that the position names, if they are new.
    pub(super) async fn commit(
        &self,
        epoch: Epoch,
        source: Source,
        position: &Position,
        cut: &Bytes,
    ) -> Result<(), Error> {
        let mut rows = vec![(position_key(source), Some(position.encode()))];
        let chunks = (0..cut.len()).step_by(CHUNK);
        rows.extend(
            (0..).zip(chunks).map(|(n, at)| {
                (chunk_key(source, n), Some(cut.slice(at..cut.len().min(at + CHUNK))))
            }),
        );
        let mut owner = self.owner.lock().await;
        // Taken out, so that a call that fails or is given up leaves no number that may be wrong.
        let Some((_, seq)) = owner.take_if(|(current, _)| *current == epoch) else {
            let why = "the partition was taken over within this process";
            return Err(Error::determinate("apply", Kind::Fenced).because(why));
        };
        let set = WriteSet { seq: seq + 1, rows, ..WriteSet::default() };
        self.state.commit(self.shard, epoch, set).await?;
        *owner = Some((epoch, seq + 1));
        Ok(())
    }

    /// As last committed.
    pub(super) async fn position(&self, source: Source) -> Result<Position, Error> {
        let rows = self.state.get(self.shard, &[position_key(source)]).await?;
        match rows.into_iter().next().flatten() {
            None => Ok(Position::default()),
            Some(row) => Position::decode(&row).ok_or_else(|| {
                corrupt("a position in state is damaged, or a newer build wrote it")
            }),
        }
    }

    /// The rows of the cut that a source's position names.
    pub(super) async fn rows(&self, source: Source, cut: &Cut) -> Result<Bytes, Error> {
        let chunks = usize::try_from(cut.len).unwrap_or(usize::MAX).div_ceil(CHUNK);
        let keys: Vec<_> = (0..).take(chunks).map(|n| chunk_key(source, n)).collect();
        let found = self.state.get(self.shard, &keys).await?;
        let rows: Vec<u8> = found.into_iter().flatten().flatten().collect();
        if rows.len() as u64 != cut.len || crc32fast::hash(&rows) != cut.crc {
            return Err(corrupt("a cut in state is damaged"));
        }
        Ok(rows.into())
    }
}

/// What happened after a cut was fixed may be seen as done by whoever comes after it.
pub(super) fn may_have_happened(error: Error) -> Error {
    error.with(Certainty::Indeterminate).during("apply")
}

pub(super) fn corrupt(why: &str) -> Error {
    Error::determinate("apply", Kind::Corrupt).because(why)
}

fn position_key(source: Source) -> Bytes {
    vec![source as u8].into()
}

fn chunk_key(source: Source, number: u32) -> Bytes {
    let mut key = vec![source as u8, 0];
    key.put_u32(number);
    key.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_survives_its_encoding() {
        let applied = Applied { next: u64::MAX, as_of_ms: -7 };
        let cut = Cut { applied, facts: 3, len: 1 << 40, crc: u32::MAX };
        for cut in [None, Some(cut)] {
            let position = Position { applied, facts: 9, cut };
            let bytes = position.encode();
            assert_eq!(Position::decode(&bytes), Some(position));
            assert_eq!(Position::decode(&bytes[..bytes.len() - 1]), None);
            assert_eq!(Position::decode(&[&bytes[..], b"x"].concat()), None);
        }
        assert_eq!(Position::decode(&[LAYOUT + 1; 25]), None);
    }
}
