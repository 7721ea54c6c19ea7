//! The unit of consistency: one organization in one mode, and the partition it lives in.

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::id::OrganizationId;
use crate::proto;

/// Live or test. It comes from the API key alone; the two never meet.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Real money: `ak_live_` keys.
    Live,
    /// Its own counters, wallet and endpoints: `ak_test_` keys.
    Test,
}

impl Mode {
    /// `live` or `test`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Test => "test",
        }
    }

    /// The byte that stands for the mode in keys and hashes.
    pub const fn byte(self) -> u8 {
        match self {
            Self::Live => 1,
            Self::Test => 2,
        }
    }

    /// The reverse of [`Mode::byte`].
    pub const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::Live),
            2 => Some(Self::Test),
            _ => None,
        }
    }
}

impl From<Mode> for proto::Mode {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::Live => Self::Live,
            Mode::Test => Self::Test,
        }
    }
}

/// One organization in one mode: the unit of consistency, and the partition key of `events`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Scope {
    /// Who.
    pub organization: OrganizationId,
    /// Live or test.
    pub mode: Mode,
}

impl Scope {
    /// The 17 bytes of a scope in keys: organization, then mode.
    pub fn to_bytes(self) -> [u8; 17] {
        let mut bytes = [0; 17];
        bytes[..16].copy_from_slice(&self.organization.to_bytes());
        bytes[16] = self.mode.byte();
        bytes
    }

    /// The reverse of [`Scope::to_bytes`]; `None` where they are no scope.
    pub fn from_bytes(bytes: &[u8; 17]) -> Option<Self> {
        let (organization, mode) = bytes.split_at(16);
        Some(Self {
            organization: OrganizationId::from_proto(organization)?,
            mode: Mode::from_byte(mode[0])?,
        })
    }

    /// The partition this scope lives in, of `partitions` many.
    ///
    /// Stable for ever: an organization's log must not move. The low bits of a ULID-like id are
    /// random, and mixing keeps live and test apart where it can.
    pub fn partition(self, partitions: u16) -> u16 {
        let id = self.organization.to_u128();
        let folded = (id as u64) ^ ((id >> 64) as u64) ^ u64::from(self.mode.byte());
        // SplitMix64's finalizer (Steele, Lea, Flood 2014).
        let mut z = folded.wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % u64::from(partitions.max(1))) as u16
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.organization, self.mode.as_str())
    }
}
