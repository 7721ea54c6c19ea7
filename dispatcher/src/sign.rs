//! Signs what is sent: HMAC-SHA256 as Standard Webhooks 1.0 has it (`v1`).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// The bytes of an endpoint's secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

/// The secret is not `whsec_` and standard base64 of 24 to 64 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the endpoint's secret is not whsec_ and base64 of 24 to 64 bytes")]
pub struct BadSecret;

impl Secret {
    /// Reads `whsec_...`.
    ///
    /// # Errors
    /// Where the text is anything else.
    pub fn parse(text: &str) -> Result<Self, BadSecret> {
        let encoded = text.strip_prefix("whsec_").ok_or(BadSecret)?;
        let bytes = STANDARD.decode(encoded).map_err(|_| BadSecret)?;
        if (24..=64).contains(&bytes.len()) { Ok(Self(bytes)) } else { Err(BadSecret) }
    }

    /// The value of `webhook-signature` over `id.timestamp.body`; `timestamp_s` is the attempt's
    /// time in seconds since the epoch.
    pub fn sign(&self, id: &str, timestamp_s: i64, body: &[u8]) -> String {
        let mut mac =
            Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes keys of any length");
        for part in [id.as_bytes(), b".", timestamp_s.to_string().as_bytes(), b".", body] {
            mac.update(part);
        }
        format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_vectors() {
        let ours = concat!(
            r#"{"id":"evt_01jz0000000000000000000000","type":"action_attempt.verified","#,
            r#""organizationId":"org_01jz0000000000000000000000","#,
            r#""createdAt":"2025-10-14T12:00:00.000Z","data":{"actionAttemptId":"att_xxxxxxxx","#,
            r#""aktvatorId":"aktv_xxxxxxxx","campaignId":"camp_xxxxxxxx","rewardAmount":2500}}"#
        );
        let cases = [
            (
                "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD",
                "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk",
                1_649_367_553,
                r#"{"email":"test@example.com","username":"test_user"}"#,
                "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=",
            ),
            (
                "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
                "evt_01jz0000000000000000000000",
                1_760_443_200,
                ours,
                "v1,VaRAjnsVfesHW5sEJohFqcg+JjRcv/uOkHF52SHiDhg=",
            ),
        ];
        for (secret, id, at, body, want) in cases {
            let secret = Secret::parse(secret).expect("a secret");
            assert_eq!(secret.sign(id, at, body.as_bytes()), want, "{id}");
        }
    }

    #[test]
    fn any_change_changes_the_signature() {
        let secret = Secret::parse("whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD").expect("a secret");
        let other =
            Secret::parse("whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=").expect("a secret");
        let signed = secret.sign("evt_1", 10, b"{}");
        assert_ne!(signed, secret.sign("evt_2", 10, b"{}"));
        assert_ne!(signed, secret.sign("evt_1", 11, b"{}"));
        assert_ne!(signed, secret.sign("evt_1", 10, b"{ }"));
        assert_ne!(signed, other.sign("evt_1", 10, b"{}"));
    }

    #[test]
    fn refused_secrets() {
        for text in ["", "whsec_", "whsec_AAECAwQ=", "C2FVsBQIhrscChlQIMV+b5sSYspob7oD", "whsec_!"]
        {
            assert_eq!(Secret::parse(text), Err(BadSecret), "{text}");
        }
    }
}
