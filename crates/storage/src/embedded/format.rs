//! What a database says about itself, written once when it is created.

use super::disk::Disk;
use crate::{Error, Kind};

/// Version of the stored layout; another one is refused.
const VERSION: u8 = 2;
/// No topic or group has tag 0, so this key meets no other.
const KEY: [u8; 1] = [0];
const LEN: usize = 11;

/// The facts fixed at creation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Format {
    pub(crate) partitions: u16,
    pub(crate) identity: u64,
}

impl Format {
    fn encode(self) -> [u8; LEN] {
        let mut bytes = [VERSION; LEN];
        bytes[1..3].copy_from_slice(&self.partitions.to_be_bytes());
        bytes[3..].copy_from_slice(&self.identity.to_be_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; LEN] = bytes.try_into().ok()?;
        let (version, rest) = bytes.split_first()?;
        let (partitions, identity) = rest.split_at(2);
        Some(Self {
            partitions: u16::from_be_bytes(partitions.try_into().ok()?),
            identity: u64::from_be_bytes(identity.try_into().ok()?),
        })
        .filter(|_| *version == VERSION)
    }

    /// The format of this database: the stored one, or `asked`, which is then stored. It is kept
    /// in the first keyspace. No partitions asked for: as many as are stored.
    ///
    /// # Errors
    /// `Conflict` when the stored number of partitions is not the one asked for, or the layout is
    /// of another version.
    pub(crate) fn of(disk: &Disk, asked: Self) -> Result<Self, Error> {
        let stored = disk.read("open", |open| Ok(open.keyspaces[0].get(KEY)?))?;
        let Some(stored) = stored else {
            disk.prepare("open", Kind::Full, 1)?;
            disk.write("open", |open, batch| {
                batch.insert(&open.keyspaces[0], KEY, asked.encode());
            })?;
            return Ok(asked);
        };
        let path = disk.path().display();
        let refuse = |why: String| Err(Error::determinate("open", Kind::Conflict).because(why));
        let (is, not) = match Self::decode(&stored) {
            None => return refuse(format!("{path} has a layout of another version")),
            Some(found) if [found.partitions, 0].contains(&asked.partitions) => return Ok(found),
            Some(found) => (found.partitions, asked.partitions),
        };
        refuse(format!("{path} was created with {is} partitions, not {not}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_format_survives_and_another_version_is_refused() {
        let format = Format { partitions: 300, identity: u64::MAX - 7 };
        let mut bytes = format.encode();
        assert_eq!(Format::decode(&bytes), Some(format));
        bytes[0] += 1;
        assert_eq!(Format::decode(&bytes), None);
        assert_eq!(Format::decode(&bytes[1..]), None);
    }
}
