//! The signed click id: `akt_id` in a link's target, `clickId` in an event.
//!
//! base64url without padding over 39 bytes: version (1), link id (16), time of the click in
//! milliseconds since the epoch (6, big-endian), and the first 16 bytes of HMAC-SHA256 (RFC 2104) over
//! a tag and what precedes. It needs no look-up to check, and nobody without the key can make one.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use schemas::id::LinkId;
use schemas::time::Timestamp;
use sha2::Sha256;

/// Characters of a click id.
pub const CLICK_ID_LEN: usize = 52;

const VERSION: u8 = 1;
const HEAD: usize = 1 + 16 + 6;
const MAC: usize = 16;
const TIME_MAX: i64 = (1 << 48) - 1;
/// Keeps these signatures apart from any other use of the key.
const TAG: &[u8] = b"aktvator click id";

/// A click as its signed id tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Click {
    /// The link that was followed.
    pub link: LinkId,
    /// When.
    pub at: Timestamp,
}

/// The installation's key for click ids, ready to sign and verify.
#[derive(Clone)]
pub struct ClickKey(Hmac<Sha256>);

impl ClickKey {
    /// A key from 32 random bytes, the same on every edge and redirector of an installation.
    pub fn new(key: &[u8; 32]) -> Self {
        // A key shorter than SHA-256's block is padded with zeros (RFC 2104, 2).
        let mut block = [0; 64];
        block[..key.len()].copy_from_slice(key);
        let mut mac = Hmac::<Sha256>::new(&block.into());
        mac.update(TAG);
        Self(mac)
    }

    /// The click id of `click`; times outside 1970 to 10889 are clamped.
    pub fn sign(&self, click: Click) -> String {
        let mut bytes = [0; HEAD + MAC];
        bytes[0] = VERSION;
        bytes[1..17].copy_from_slice(&click.link.to_bytes());
        let at = click.at.as_ms().clamp(0, TIME_MAX);
        bytes[17..HEAD].copy_from_slice(&at.to_be_bytes()[2..]);
        let mac = self.0.clone().chain_update(&bytes[..HEAD]).finalize().into_bytes();
        bytes[HEAD..].copy_from_slice(&mac[..MAC]);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// What a click id says; `None` unless this key signed it. Compares in constant time.
    pub fn verify(&self, click_id: &str) -> Option<Click> {
        if click_id.len() != CLICK_ID_LEN {
            return None;
        }
        let mut bytes = [0; HEAD + MAC];
        let read = URL_SAFE_NO_PAD.decode_slice(click_id, &mut bytes).ok()?;
        if read != bytes.len() || bytes[0] != VERSION {
            return None;
        }
        let (head, mac) = bytes.split_at(HEAD);
        self.0.clone().chain_update(head).verify_truncated_left(mac).ok()?;
        let mut at = [0; 8];
        at[2..].copy_from_slice(&head[17..]);
        let at = Timestamp::from_ms(i64::from_be_bytes(at));
        Some(Click { link: LinkId::from_proto(&head[1..17])?, at })
    }
}

impl std::fmt::Debug for ClickKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ClickKey(..)")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(byte: u8) -> ClickKey {
        ClickKey::new(&[byte; 32])
    }

    fn click() -> Click {
        Click { link: LinkId::from_u128(7), at: Timestamp::from_ms(1_767_323_045_678) }
    }

    #[test]
    fn length_and_alphabet() {
        let id = key(1).sign(click());
        assert_eq!(id.len(), CLICK_ID_LEN);
        assert!(id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_'), "{id}");
        assert!(!format!("{:?}", key(1)).contains('1'));
    }

    #[test]
    fn only_the_key_that_signed_reads() {
        let id = key(1).sign(click());
        assert_eq!(key(1).verify(&id), Some(click()));
        assert_eq!(key(2).verify(&id), None);
        for wrong in
            ["", "x", &id[1..], &format!("{id}A"), &id.to_ascii_lowercase(), &"é".repeat(26)]
        {
            assert_eq!(key(1).verify(wrong), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn round_trip(link: u128, at in 0..=TIME_MAX) {
            let click = Click { link: LinkId::from_u128(link), at: Timestamp::from_ms(at) };
            prop_assert_eq!(key(3).verify(&key(3).sign(click)), Some(click));
        }

        #[test]
        fn any_changed_character_is_refused(at in 0..CLICK_ID_LEN, to in "[A-Za-z0-9_-]") {
            let id = key(1).sign(click());
            let mut changed = id.clone();
            changed.replace_range(at..=at, &to);
            prop_assert_eq!(key(1).verify(&changed).is_some(), changed == id);
        }
    }
}
