//! Which head row, and the blobs and rows under it.

use crate::state::Shard;

/// The key that heads, blobs and rows share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    /// A group's tag, or a number that no group has.
    pub(crate) group: i16,
    /// A partition's number.
    pub(crate) number: i32,
}

impl From<Shard> for Place {
    fn from(shard: Shard) -> Self {
        Self { group: shard.group.tag().into(), number: shard.partition.into() }
    }
}
