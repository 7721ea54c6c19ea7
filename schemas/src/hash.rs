//! The hashes that name things: SHA-256 over tagged, length-prefixed parts.

use sha2::{Digest, Sha256};

use crate::id::{ConversionEventId, NoticeId, RewardId};
use crate::partition::Scope;

/// The first 16 bytes of SHA-256 over `tag` and `parts`, each preceded by its length, as a number.
///
/// The lengths keep `("ab", "c")` and `("a", "bc")` apart.
pub fn hash128(tag: &str, parts: &[&[u8]]) -> u128 {
    let mut hasher = Sha256::new();
    for part in std::iter::once(tag.as_bytes()).chain(parts.iter().copied()) {
        hasher.update((part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    let digest = hasher.finalize();
    let mut head = [0; 16];
    head.copy_from_slice(&digest[..16]);
    u128::from_be_bytes(head)
}

/// `evt_ + hash128(organization, mode, idempotencyKey)`: every retry anywhere gets the same id.
pub fn event_id(scope: Scope, idempotency_key: &str) -> ConversionEventId {
    ConversionEventId::from_u128(hash128("evt", &[&scope.to_bytes(), idempotency_key.as_bytes()]))
}

/// `rwd_ + hash(eventId, ruleKey)`: a rule rewards an event once.
pub fn reward_id(event: ConversionEventId, rule_key: &str) -> RewardId {
    RewardId::from_u128(hash128("rwd", &[&event.to_bytes(), rule_key.as_bytes()]))
}

/// The id of the `index`-th notice caused by outcome `sequence` of `partition` in the log `identity`:
/// consuming an outcome twice names the same notices, and what moved to another log names others.
pub fn notice_id(identity: u64, partition: u16, sequence: u64, index: u16) -> NoticeId {
    NoticeId::from_u128(hash128(
        "notice",
        &[
            &identity.to_be_bytes(),
            &partition.to_be_bytes(),
            &sequence.to_be_bytes(),
            &index.to_be_bytes(),
        ],
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_keep_parts_apart() {
        assert_ne!(hash128("t", &[b"ab", b"c"]), hash128("t", &[b"a", b"bc"]));
        assert_ne!(hash128("t", &[b"a"]), hash128("ta", &[]));
    }
}
