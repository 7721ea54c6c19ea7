//! `Idempotency-Key`: for 24 hours the same request from the same caller gets the same answer.
//!
//! The first request claims a document, does its work, and records its answer there. A crash in
//! between frees the claim after a minute; the work may then be done again. An answer is given for as
//! long as it is kept: [`crate::sweep`] lets go of it a day after the key was first used, and with
//! that frees the key.

use access::Caller;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use schemas::fault::ApiError;
use schemas::hash::hash128;
use schemas::time::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use storage::catalog::{CatalogError, Change, Document, Expected, Kind};

use crate::ControlParts;
use crate::call::Reply;
use crate::error;

/// How long an answer is given again, at least.
pub(crate) const KEPT_MS: i64 = 24 * 3_600_000;
/// How long a claim without an answer stands.
const CLAIM_MS: i64 = 60_000;
const HEADER: &str = "idempotency-key";
/// Bytes of a key.
const KEY_LEN_MAX: usize = 255;

/// What the key of a request leads to.
pub(crate) enum Begun {
    /// It has been answered: here is the answer.
    Answered(Reply),
    /// It is the first; hand its answer to [`ControlParts::keep_answer`].
    First(Claim),
}

/// The right to answer for a key.
pub(crate) struct Claim {
    document: Document,
    kept: Kept,
}

/// What stands in the catalog.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Kept {
    /// Of query and body, hex.
    fingerprint: String,
    claimed_at: Timestamp,
    answer: Option<KeptAnswer>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct KeptAnswer {
    status: u16,
    body: String,
    etag: Option<String>,
}

/// The request a key belongs to.
pub(crate) struct Asked<'a> {
    pub(crate) caller: &'a Caller,
    pub(crate) path: &'a str,
    pub(crate) query: &'a str,
    pub(crate) body: &'a [u8],
    pub(crate) now: Timestamp,
}

/// The `Idempotency-Key` of a request.
///
/// # Errors
/// 400 where it is not 1 to 255 visible ASCII characters, or stands twice.
pub(crate) fn key(headers: &HeaderMap) -> Result<Option<String>, ApiError> {
    let mut values = headers.get_all(HEADER).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let fits = |bytes: &[u8]| {
        (1..=KEY_LEN_MAX).contains(&bytes.len()) && bytes.iter().all(u8::is_ascii_graphic)
    };
    match value.to_str() {
        Ok(text) if fits(text.as_bytes()) && values.next().is_none() => Ok(Some(text.to_owned())),
        _ => Err(ApiError::invalid(
            "Idempotency-Key",
            "invalid_format",
            "must be one header of 1 to 255 visible ASCII characters",
        )),
    }
}

impl ControlParts {
    /// Claims `key` for this request, or finds what was answered before.
    ///
    /// # Errors
    /// 422 where the key was used for another body, 409 while the first request is under way.
    pub(crate) async fn begin(&self, key: &str, asked: &Asked<'_>) -> Result<Begun, ApiError> {
        let id = document_id(key, asked);
        let found = self.catalog.get(Kind::Idempotency, &id).await;
        let stored = found.map_err(|e| error::storage(&e))?;
        let fingerprint = fingerprint(asked);
        if let Some(answer) =
            stored.as_ref().map(|d| judge(d, &fingerprint, asked.now)).transpose()?
            && let Some(answer) = answer
        {
            return Ok(Begun::Answered(answer.into_reply()));
        }
        let kept = Kept { fingerprint, claimed_at: asked.now, answer: None };
        let claim = claim(id, stored, kept, asked);
        self.store(&claim).await.map_err(|e| match e {
            CatalogError::Storage(e) => error::storage(&e),
            _ => in_flight(),
        })?;
        Ok(Begun::First(claim))
    }

    /// Records the answer to the request that claimed, if it would be the same another time.
    pub(crate) async fn keep_answer(&self, claim: Claim, reply: &Reply) {
        let Claim { mut document, mut kept } = claim;
        let status = reply.status.as_u16();
        let lasting = matches!(status, 200..=299 | 400 | 404 | 409 | 412 | 422);
        match std::str::from_utf8(&reply.body) {
            Ok(body) if lasting => {
                let etag = reply.headers.iter().find(|(name, _)| *name == header::ETAG);
                let etag = etag.and_then(|(_, value)| value.to_str().ok()).map(str::to_owned);
                kept.answer = Some(KeptAnswer { status, body: body.to_owned(), etag });
            }
            // Frees the key: the next try is a first one.
            _ => kept.claimed_at = Timestamp::default(),
        }
        document.version += 1;
        if let Err(error) = self.store(&Claim { document, kept }).await {
            tracing::warn!(%error, "answer for an idempotency key was not kept");
        }
    }

    async fn store(&self, claim: &Claim) -> Result<(), CatalogError> {
        let mut document = claim.document.clone();
        document.json = serde_json::to_string(&claim.kept).unwrap_or_default();
        let expected = match document.version {
            1 => Expected::Absent,
            version => Expected::Version(version - 1),
        };
        let change = Change { document, expected, uniques: Vec::new(), command: None };
        self.catalog.apply(vec![change]).await.map(drop)
    }
}

/// What a stored key says of a request: the answer, or that the key is free.
fn judge(
    document: &Document,
    fingerprint: &str,
    now: Timestamp,
) -> Result<Option<KeptAnswer>, ApiError> {
    let kept: Kept = serde_json::from_str(&document.json)
        .map_err(|e| error::unreadable("idempotency key", &e))?;
    let age = now.as_ms().saturating_sub(kept.claimed_at.as_ms());
    if kept.answer.is_none() && age >= CLAIM_MS {
        return Ok(None);
    }
    if kept.fingerprint != fingerprint {
        return Err(ApiError::new(
            422,
            "idempotency_mismatch",
            "This Idempotency-Key was used for another request.",
        ));
    }
    kept.answer.map(Some).ok_or_else(in_flight)
}

fn claim(id: String, stored: Option<Document>, kept: Kept, asked: &Asked<'_>) -> Claim {
    let scope = match asked.caller {
        Caller::Key(principal) => Some(principal.scope),
        Caller::Operator => None,
    };
    let document = match stored {
        Some(document) => Document { version: document.version + 1, ..document },
        None => Document {
            kind: Kind::Idempotency,
            organization: scope.map(|scope| scope.organization),
            mode: scope.map(|scope| scope.mode),
            id,
            parent: None,
            version: 1,
            created_at: asked.now,
            json: String::new(),
        },
    };
    Claim { document, kept }
}

fn in_flight() -> ApiError {
    ApiError {
        retry_after_s: Some(1),
        ..ApiError::conflict(
            "idempotency_in_flight",
            "The first request with this Idempotency-Key is under way.",
        )
    }
}

/// Callers, methods (there is only POST) and paths keep their keys apart.
fn document_id(key: &str, asked: &Asked<'_>) -> String {
    let caller = match asked.caller {
        Caller::Key(principal) => principal.scope.to_bytes().to_vec(),
        Caller::Operator => b"operator".to_vec(),
    };
    format!("{:032x}", hash128("idempotency", &[&caller, asked.path.as_bytes(), key.as_bytes()]))
}

fn fingerprint(asked: &Asked<'_>) -> String {
    let mut hasher = Sha256::new();
    hasher.update((asked.query.len() as u64).to_be_bytes());
    hasher.update(asked.query);
    hasher.update(asked.body);
    hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

impl KeptAnswer {
    fn into_reply(self) -> Reply {
        let mut reply = Reply::bytes(self.status, "application/json", self.body.into());
        reply.status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::OK);
        reply.headers.push((
            header::HeaderName::from_static("idempotent-replayed"),
            HeaderValue::from_static("true"),
        ));
        if let Some(etag) = self.etag.and_then(|etag| HeaderValue::from_str(&etag).ok()) {
            reply.headers.push((header::ETAG, etag));
        }
        reply
    }
}
