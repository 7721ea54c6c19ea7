//! The text of keys: a prefix, 32 random characters, and a checksum.

use schemas::partition::Mode;
use sha2::{Digest as _, Sha256};

/// Digits, in the order of their value.
const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// Random characters: 190.5 bits.
const RANDOM_LEN: usize = 32;
/// Characters of the checksum: CRC-32 (IEEE) of all before it.
const CHECKSUM_LEN: usize = 6;

/// Whose a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenKind {
    /// An organization's, in one mode.
    Key(Mode),
    /// The operator's.
    Operator,
}

impl TokenKind {
    const ALL: [Self; 3] = [Self::Key(Mode::Live), Self::Key(Mode::Test), Self::Operator];

    /// What its tokens begin with.
    pub const fn prefix(self) -> &'static str {
        match self {
            Self::Key(Mode::Live) => "ak_live_",
            Self::Key(Mode::Test) => "ak_test_",
            Self::Operator => "ak_operator_",
        }
    }
}

/// The token format `ak_(live|test|operator)_[0-9A-Za-z]{38}`; the last six are the checksum.
///
/// The checksum is no secret: it lets a mistyped key be refused without a look-up, and leaked ones
/// be found by scanners.
#[derive(Clone, Copy, Debug)]
pub struct Token;

impl Token {
    /// A new key's token. `random` must come from the operating system.
    pub fn generate(mode: Mode, random: [u8; 32]) -> String {
        Self::of(TokenKind::Key(mode), random)
    }

    /// A new operator token. `random` must come from the operating system.
    pub fn generate_operator(random: [u8; 32]) -> String {
        Self::of(TokenKind::Operator, random)
    }

    /// The mode of a key's token; `None` if it is none, or its checksum is wrong.
    pub fn parse(token: &str) -> Option<Mode> {
        match Self::kind(token)? {
            TokenKind::Key(mode) => Some(mode),
            TokenKind::Operator => None,
        }
    }

    /// Whose the token is; `None` if it is none, or its checksum is wrong.
    pub fn kind(token: &str) -> Option<TokenKind> {
        let kind = TokenKind::ALL.into_iter().find(|kind| token.starts_with(kind.prefix()))?;
        let random = &token.as_bytes()[kind.prefix().len()..];
        let formed = random.len() == RANDOM_LEN + CHECKSUM_LEN
            && random.iter().all(u8::is_ascii_alphanumeric);
        let (content, given) = formed.then(|| token.split_at(token.len() - CHECKSUM_LEN))?;
        (checksum(content) == given.as_bytes()).then_some(kind)
    }

    /// SHA-256 of the token: what is stored in its stead.
    pub fn sha256(token: &str) -> [u8; 32] {
        Sha256::digest(token.as_bytes()).into()
    }

    /// [`Token::sha256`] as 64 lower-case hexadecimal digits.
    pub fn sha256_hex(token: &str) -> String {
        hex(&Self::sha256(token))
    }

    /// The name by which the catalog finds a key: `key:` and the hexadecimal SHA-256 of its token.
    pub fn unique_name(sha256_hex: &str) -> String {
        format!("key:{sha256_hex}")
    }

    /// The parts of a key's token that may be shown: `ak_live_` and four more, and the last four.
    pub fn shown(token: &str) -> (&str, &str) {
        let prefix = TokenKind::Key(Mode::Live).prefix().len() + 4;
        (token.get(..prefix).unwrap_or_default(), token.get(token.len() - 4..).unwrap_or_default())
    }

    fn of(kind: TokenKind, random: [u8; 32]) -> String {
        let mut token = String::with_capacity(kind.prefix().len() + RANDOM_LEN + CHECKSUM_LEN);
        token.push_str(kind.prefix());
        token.extend(digits(random).map(char::from));
        let checksum = checksum(&token);
        token.extend(checksum.map(char::from));
        token
    }
}

/// 32 base62 digits of a 256-bit number (modulo 62^32, so that each is as likely as the next but for
/// one part in 2^65).
fn digits(mut number: [u8; 32]) -> [u8; RANDOM_LEN] {
    let mut text = [0; RANDOM_LEN];
    for digit in &mut text {
        let mut rest = 0u32;
        for byte in &mut number {
            let dividend = rest << 8 | u32::from(*byte);
            *byte = (dividend / 62) as u8;
            rest = dividend % 62;
        }
        *digit = ALPHABET[rest as usize];
    }
    text
}

fn checksum(content: &str) -> [u8; CHECKSUM_LEN] {
    let mut rest = crc32fast::hash(content.as_bytes());
    let mut text = [0; CHECKSUM_LEN];
    for digit in text.iter_mut().rev() {
        *digit = ALPHABET[(rest % 62) as usize];
        rest /= 62;
    }
    text
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |half: u8| char::from(DIGITS[usize::from(half)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIVE: &str = "ak_live_000000000000000000000000000000004YzvZp";
    const TEST: &str = "ak_test_A1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p619xfIm";

    #[test]
    fn known_tokens() {
        assert_eq!(Token::generate(Mode::Live, [0; 32]), LIVE);
        assert_eq!(Token::parse(LIVE), Some(Mode::Live));
        assert_eq!(Token::parse(TEST), Some(Mode::Test));
        assert_eq!(
            Token::sha256_hex(LIVE),
            "7757570b42c33c23ec7107816a036a8b049ce1ef3d457c9d6e572cba7fcced7d"
        );
        assert_eq!(
            Token::sha256_hex(TEST),
            "6a33527cb047fae1ad85f5e9ab18f58cc62ba9010f68fa65a755c67d9789047d"
        );
        assert_eq!(Token::shown(LIVE), ("ak_live_0000", "zvZp"));
    }

    #[test]
    fn what_is_no_token() {
        let longer = format!("{LIVE}0");
        let operator = Token::generate_operator([7; 32]);
        assert_eq!(Token::kind(&operator), Some(TokenKind::Operator));
        assert_eq!(Token::parse(&operator), None, "not a key");
        for text in [
            "",
            "ak_live_",
            &LIVE[..45],
            &longer,
            &LIVE.replace("live", "test"),
            &LIVE.replace('p', "q"),
            &LIVE.to_lowercase(),
            "ak_live_xxxxxxxxxxxxxxxxxxxx",
            "ak_live_000000000000000000000000000000é4YzvZp",
        ] {
            assert_eq!(Token::kind(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_made_is_read_and_a_wrong_character_is_not(
            random: [u8; 32], live: bool, at in 0usize..46, by in 1usize..62,
        ) {
            let mode = if live { Mode::Live } else { Mode::Test };
            let token = Token::generate(mode, random);
            prop_assert_eq!(Token::parse(&token), Some(mode));
            let mut wrong = token.into_bytes();
            if let Some(value) = ALPHABET.iter().position(|c| *c == wrong[at]) {
                wrong[at] = ALPHABET[(value + by) % 62];
                prop_assert_eq!(Token::kind(std::str::from_utf8(&wrong).unwrap()), None);
            }
        }
    }
}
