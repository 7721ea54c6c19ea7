//! Where ids, tokens and secrets get their bits.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use sha2::{Digest, Sha256};

/// A source of random bits, shared by its clones.
#[derive(Clone, Debug)]
pub enum Random {
    /// The operating system's generator.
    System,
    /// The same bits for the same seed and order of asking; for tests and simulations only.
    Seeded(Arc<SeededBits>),
}

/// SHA-256 of a seed and a counter.
#[derive(Debug)]
pub struct SeededBits {
    seed: u64,
    asked: AtomicU64,
}

impl Random {
    /// Bits that follow from `seed`.
    pub fn seeded(seed: u64) -> Self {
        Self::Seeded(Arc::new(SeededBits { seed, asked: AtomicU64::new(0) }))
    }

    /// 32 bytes.
    pub(crate) fn bytes(&self) -> [u8; 32] {
        match self {
            Self::System => {
                let mut bytes = [0; 32];
                getrandom::fill(&mut bytes).expect("the operating system gives randomness");
                bytes
            }
            Self::Seeded(bits) => {
                let turn = bits.asked.fetch_add(1, Ordering::Relaxed);
                let mut hasher = Sha256::new();
                hasher.update(bits.seed.to_be_bytes());
                hasher.update(turn.to_be_bytes());
                hasher.finalize().into()
            }
        }
    }

    /// 128 bits, for an id.
    pub(crate) fn bits(&self) -> u128 {
        let bytes = self.bytes();
        bytes[..16].iter().fold(0, |bits, byte| (bits << 8) | u128::from(*byte))
    }
}
