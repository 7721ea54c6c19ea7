//! Typed identifiers: a prefix and 26 characters of Crockford base32 over 128 bits.
//!
//! Format: TypeID 0.3 (lower case, most significant character first, the first one `0` to `7`).
//! Created ids are ULID-like (48 bits of milliseconds, 80 random bits), so they sort by age; `evt_`
//! and `rwd_` ids of ingest are hashes and do not.

use std::fmt;
use std::str::FromStr;

const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// The text is not an id of the wanted kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be an id like {prefix}_01jz0000000000000000000000")]
pub struct ParseIdError {
    /// The prefix that was wanted, without the underscore.
    pub prefix: &'static str,
}

/// 26 characters of Crockford base32, lower case.
fn encode(value: u128) -> [u8; 26] {
    let mut text = [0; 26];
    for (i, c) in text.iter_mut().enumerate() {
        *c = ALPHABET[((value >> (125 - 5 * i)) & 31) as usize];
    }
    text
}

/// The reverse of [`encode`]; `None` where the text is not exactly what it writes.
fn decode(text: &str) -> Option<u128> {
    let text = text.as_bytes();
    if text.len() != 26 || text[0] > b'7' {
        return None;
    }
    text.iter().try_fold(0u128, |value, c| {
        let digit = ALPHABET.iter().position(|a| a == c)?;
        Some((value << 5) | digit as u128)
    })
}

/// 48 bits of `now_ms` and 80 bits of `random`: ids made later sort later.
pub fn ulid(now_ms: i64, random: u128) -> u128 {
    ((now_ms.max(0) as u128) << 80) | (random & ((1 << 80) - 1))
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident = $prefix:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(u128);

        impl $name {
            /// The prefix, without the underscore.
            pub const PREFIX: &'static str = $prefix;

            /// From the 128 bits of the id.
            pub const fn from_u128(value: u128) -> Self { Self(value) }

            /// A new id that sorts by `now_ms` (milliseconds since the epoch).
            pub fn new(now_ms: i64, random: u128) -> Self { Self(ulid(now_ms, random)) }

            /// The 128 bits of the id.
            pub const fn to_u128(self) -> u128 { self.0 }

            /// Big-endian, so that bytes sort as ids do.
            pub const fn to_bytes(self) -> [u8; 16] { self.0.to_be_bytes() }

            /// The same as bytes for a log record.
            pub fn to_proto(self) -> bytes::Bytes {
                bytes::Bytes::copy_from_slice(&self.to_bytes())
            }

            /// From the bytes of a log record; `None` unless they are 16.
            pub fn from_proto(bytes: &[u8]) -> Option<Self> {
                Some(Self(u128::from_be_bytes(bytes.try_into().ok()?)))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let text = encode(self.0);
                write!(f, concat!($prefix, "_{}"), std::str::from_utf8(&text).unwrap_or_default())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { fmt::Display::fmt(self, f) }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                text.strip_prefix(concat!($prefix, "_"))
                    .and_then(decode)
                    .map(Self)
                    .ok_or(ParseIdError { prefix: $prefix })
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(d)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }

        impl utoipa::PartialSchema for $name {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
                utoipa::openapi::ObjectBuilder::new()
                    .schema_type(utoipa::openapi::schema::Type::String)
                    .pattern(Some(concat!("^", $prefix, "_[0-7][0-9a-hjkmnp-tv-z]{25}$")))
                    .into()
            }
        }

        impl utoipa::ToSchema for $name {}
    )*};
}

// The registry of ids: alphabetical, append-only; prefixes are never used again.
ids! {
    /// A conversion event attributed to an aktvator and a gig, as the outside sees it.
    ActionAttemptId = "att";
    /// The person who earns.
    AktvatorId = "aktv";
    /// An API key; not its token.
    ApiKeyId = "key";
    /// A campaign.
    CampaignId = "camp";
    /// An accepted conversion event.
    ConversionEventId = "evt";
    /// One HTTP try of a delivery.
    DeliveryAttemptId = "atm";
    /// One notice on its way to one endpoint.
    DeliveryId = "dlv";
    /// A registered webhook endpoint.
    EndpointId = "whk";
    /// One rewarded action inside a campaign.
    GigId = "gig";
    /// A balanced set of ledger entries.
    LedgerTransactionId = "txn";
    /// A link that redirects.
    LinkId = "link";
    /// What goes out to webhooks; shares its prefix with [`ConversionEventId`], never a look-up.
    NoticeId = "evt";
    /// The customer; owner of keys, campaigns and wallet.
    OrganizationId = "org";
    /// Rewards of one aktvator that go out together; also the id of the command that collects them.
    PayoutId = "pay";
    /// One HTTP request to us.
    RequestId = "req";
    /// Money owed because of a decision.
    RewardId = "rwd";
    /// A wallet top-up; also the id of the command that credits it.
    TopUpId = "top";
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_text() {
        // TypeID's valid.yml: "ten", "thirty-two", "max-valid".
        assert_eq!(CampaignId(10).to_string(), "camp_0000000000000000000000000a");
        assert_eq!(CampaignId(32).to_string(), "camp_00000000000000000000000010");
        assert_eq!(CampaignId(u128::MAX).to_string(), "camp_7zzzzzzzzzzzzzzzzzzzzzzzzz");
    }

    #[test]
    fn refused_text() {
        for text in [
            "camp_",
            "camp_8zzzzzzzzzzzzzzzzzzzzzzzzz",
            "gig_0000000000000000000000000a",
            "camp_0000000000000000000000000A",
            "camp_0000000000000000000000000u",
            "camp_0000000000000000000000000",
            "camp_é000000000000000000000000",
            "",
        ] {
            assert!(text.parse::<CampaignId>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn text_and_bytes_round_trip(value: u128, at in 0i64..1 << 47) {
            let id = CampaignId(value);
            prop_assert_eq!(id.to_string().parse::<CampaignId>(), Ok(id));
            prop_assert_eq!(CampaignId::from_proto(&id.to_proto()), Some(id));
            prop_assert!(CampaignId::new(at, value) < CampaignId::new(at + 1, value));
        }
    }
}
