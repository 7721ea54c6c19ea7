//! From request headers to a caller: one hash and one cache look-up, as a rule.

use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::sync::Arc;

use ::metrics::Counter;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};
use moka::sync::Cache;
use schemas::entity::{ApiKey, Limits, Organization};
use schemas::fault::ApiError;
use schemas::id::ApiKeyId;
use schemas::partition::{Mode, Scope};
use schemas::time::Timestamp;
use storage::Catalog;
use storage::catalog::Kind;
use tokio::sync::Mutex;

use crate::admission::{Admission, Buckets, Class, Quotas};
use crate::caller::{Caller, Principal};
use crate::metrics;
use crate::token::{Token, TokenKind, hex};

/// How long a key may be served without being read again, in milliseconds: what bounds the time in
/// which another process's revocation is not seen.
const KNOWN_TTL_MS: i64 = 30_000;
/// How long a token that is no key's is remembered, in milliseconds.
const UNKNOWN_TTL_MS: i64 = 5_000;
/// Keys in memory, about 1 KiB each.
const KNOWN_MAX: u64 = 100_000;
/// Tokens in memory that are no key's. A cache of their own, so that guesses push out no key.
const UNKNOWN_MAX: u64 = 10_000;
/// Keys whose buckets are in memory; of the others the buckets count as full.
const BUCKETS_MAX: u64 = 200_000;
/// Look-ups of different keys that can be under way at once; of one key, only one ever is.
const FLIGHTS: usize = 64;
/// The operator's own limits, which are there to stop a script gone wild.
const OPERATOR_LIMITS: Limits = Limits {
    ingest_per_second: 1_000,
    ingest_burst: 2_000,
    requests_per_second: 1_000,
    requests_burst: 2_000,
};

/// Authenticates and admits requests. Share it in an [`Arc`]: its caches and buckets are its own.
pub struct Gate {
    catalog: Catalog,
    operator_sha256: [u8; 32],
    operator: Arc<Caller>,
    operator_quotas: Quotas,
    operator_buckets: Buckets,
    known: Cache<Digest, Arc<Known>, BuildHasherDefault<DigestHasher>>,
    unknown: Cache<Digest, Unknown, BuildHasherDefault<DigestHasher>>,
    buckets: Cache<ApiKeyId, Arc<Buckets>>,
    flights: [Mutex<()>; FLIGHTS],
    counters: Counters,
}

/// A key as it was read from the catalog.
struct Known {
    caller: Arc<Caller>,
    expires_at: Option<Timestamp>,
    revoked_at: Option<Timestamp>,
    read: Read,
}

/// That there was no such key.
#[derive(Clone, Copy)]
struct Unknown {
    read: Read,
}

/// When the catalog was read, and what its revisions were just before.
#[derive(Clone, Copy)]
struct Read {
    at: Timestamp,
    keys: u64,
    organizations: u64,
}

struct Counters {
    hit: Counter,
    loaded: Counter,
    operator: Counter,
    refused: Counter,
    failed: Counter,
}

impl Gate {
    /// A gate before the keys of `catalog`; `operator_sha256` is [`Token::sha256`] of the operator's
    /// token. Install the metrics recorder first.
    pub fn new(catalog: Catalog, operator_sha256: [u8; 32]) -> Self {
        let digests = BuildHasherDefault::default;
        Self {
            catalog,
            operator_sha256,
            operator: Arc::new(Caller::Operator),
            operator_quotas: Quotas::new(&OPERATOR_LIMITS),
            operator_buckets: Buckets::default(),
            known: Cache::builder().max_capacity(KNOWN_MAX).build_with_hasher(digests()),
            unknown: Cache::builder().max_capacity(UNKNOWN_MAX).build_with_hasher(digests()),
            buckets: Cache::new(BUCKETS_MAX),
            flights: std::array::from_fn(|_| Mutex::new(())),
            counters: Counters::new(),
        }
    }

    /// Who sent a request with these headers at `now`.
    ///
    /// # Errors
    /// 401 `unauthorized`, `key_expired`, `key_revoked`; 400 for two `Authorization` headers; 503
    /// where the catalog cannot be asked; 500 where what it holds is damaged.
    pub async fn authenticate(
        &self,
        headers: &HeaderMap,
        now: Timestamp,
    ) -> Result<Arc<Caller>, ApiError> {
        let result = match bearer(headers) {
            Err(error) => Err(error),
            Ok(token) => match Token::kind(token) {
                None => Err(not_a_key()),
                Some(TokenKind::Operator) => self.operator(token),
                Some(TokenKind::Key(mode)) => self.key(token, mode, now).await,
            },
        };
        match &result {
            Err(error) if error.status >= 500 => self.counters.failed.increment(1),
            Err(_) => self.counters.refused.increment(1),
            Ok(_) => {}
        }
        result
    }

    /// Takes `cost` (events, or 1 for a request) out of the caller's bucket at `now_ms`, in
    /// milliseconds since the epoch.
    pub fn admit(&self, caller: &Caller, class: Class, cost: u32, now_ms: i64) -> Admission {
        let admission = match caller {
            Caller::Key(principal) => {
                principal.buckets.admit(&principal.quotas, class, cost, now_ms)
            }
            Caller::Operator => {
                self.operator_buckets.admit(&self.operator_quotas, class, cost, now_ms)
            }
        };
        if !admission.allowed {
            ::metrics::counter!(metrics::REFUSALS, "class" => class.as_str()).increment(1);
        }
        admission
    }

    fn operator(&self, token: &str) -> Result<Arc<Caller>, ApiError> {
        // No early end: the time taken tells nothing about how much of it was right.
        let differing = Token::sha256(token)
            .iter()
            .zip(&self.operator_sha256)
            .fold(0, |bits, (a, b)| bits | (a ^ b));
        if std::hint::black_box(differing) != 0 {
            return Err(not_a_key());
        }
        self.counters.operator.increment(1);
        Ok(Arc::clone(&self.operator))
    }

    async fn key(&self, token: &str, mode: Mode, now: Timestamp) -> Result<Arc<Caller>, ApiError> {
        let digest = Digest(Token::sha256(token));
        let known = match self.cached(&digest, now) {
            Some(found) => {
                self.counters.hit.increment(1);
                found
            }
            None => Box::pin(self.look_up(digest, mode, now)).await?,
        };
        known.ok_or_else(not_a_key)?.caller_at(now)
    }

    /// What is known of the token: `None` nothing recent, `Some(None)` that it is no key's.
    fn cached(&self, digest: &Digest, now: Timestamp) -> Option<Option<Arc<Known>>> {
        let current = self.read_at(now);
        if let Some(known) = self.known.get(digest)
            && known.read.holds(&current, KNOWN_TTL_MS)
        {
            return Some(Some(known));
        }
        let unknown = self.unknown.get(digest)?;
        unknown.read.holds(&current, UNKNOWN_TTL_MS).then_some(None)
    }

    fn read_at(&self, now: Timestamp) -> Read {
        Read {
            at: now,
            keys: self.catalog.revision(Kind::ApiKey),
            organizations: self.catalog.revision(Kind::Organization),
        }
    }

    async fn look_up(
        &self,
        digest: Digest,
        mode: Mode,
        now: Timestamp,
    ) -> Result<Option<Arc<Known>>, ApiError> {
        // Whoever else asks for the same key waits here, and then finds it in the cache.
        let _flight = self.flights[usize::from(digest.0[31]) % FLIGHTS].lock().await;
        if let Some(found) = self.cached(&digest, now) {
            return Ok(found);
        }
        let read = self.read_at(now);
        let found = self.load(&digest, mode, read).await.map_err(|error| {
            tracing::error!(error = &error as &dyn std::error::Error, "cannot look up an api key");
            error.shown()
        })?;
        self.counters.loaded.increment(1);
        if let Some(known) = &found {
            self.known.insert(digest, Arc::clone(known));
        } else {
            self.known.invalidate(&digest);
            self.unknown.insert(digest, Unknown { read });
        }
        Ok(found)
    }

    async fn load(
        &self,
        digest: &Digest,
        mode: Mode,
        read: Read,
    ) -> Result<Option<Arc<Known>>, LoadError> {
        let name = Token::unique_name(&hex(&digest.0));
        let Some(document) = self.catalog.named(&name).await? else { return Ok(None) };
        let key: ApiKey = serde_json::from_str(&document.json).map_err(LoadError::Damaged)?;
        if key.mode != mode {
            return Ok(None);
        }
        let id = key.organization_id.to_string();
        let Some(document) = self.catalog.get(Kind::Organization, &id).await? else {
            return Ok(None);
        };
        let organization: Organization =
            serde_json::from_str(&document.json).map_err(LoadError::Damaged)?;
        let limits = organization.limits.unwrap_or_default();
        let principal = Principal {
            scope: Scope { organization: key.organization_id, mode },
            key: key.id,
            scopes: key.scopes,
            limits,
            tag: digest.tag(),
            quotas: Arc::new(Quotas::new(&limits)),
            buckets: self.buckets.get_with(key.id, Arc::default),
        };
        Ok(Some(Arc::new(Known {
            caller: Arc::new(Caller::Key(principal)),
            expires_at: key.expires_at,
            revoked_at: key.revoked_at,
            read,
        })))
    }
}

impl Known {
    fn caller_at(&self, now: Timestamp) -> Result<Arc<Caller>, ApiError> {
        if self.revoked_at.is_some() {
            return Err(ApiError::unauthorized("key_revoked", "This API key was revoked."));
        }
        if let Some(expired) = self.expires_at.filter(|at| *at <= now) {
            let message = format!("This API key expired at {expired}.");
            return Err(ApiError::unauthorized("key_expired", message));
        }
        Ok(Arc::clone(&self.caller))
    }
}

impl Read {
    /// Whether what was read then is still good at `current`.
    fn holds(&self, current: &Self, ttl_ms: i64) -> bool {
        let age_ms = current.at.as_ms().saturating_sub(self.at.as_ms());
        self.keys == current.keys
            && self.organizations == current.organizations
            && (-ttl_ms..ttl_ms).contains(&age_ms)
    }
}

impl Counters {
    fn new() -> Self {
        let counter = |result| ::metrics::counter!(metrics::AUTHENTICATIONS, "result" => result);
        Self {
            hit: counter("hit"),
            loaded: counter("loaded"),
            operator: counter("operator"),
            refused: counter("refused"),
            failed: counter("failed"),
        }
    }
}

/// The token of the one `Authorization: Bearer` header.
fn bearer(headers: &HeaderMap) -> Result<&str, ApiError> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let Some(value) = values.next() else {
        return Err(ApiError::unauthorized(
            "unauthorized",
            "Send your API key in the header `Authorization: Bearer ak_live_...`.",
        ));
    };
    if values.next().is_some() {
        let message = "There must be one Authorization header, not several.";
        return Err(ApiError::invalid("Authorization", "duplicate_header", message));
    }
    credentials(value).ok_or_else(|| {
        ApiError::unauthorized(
            "unauthorized",
            "The Authorization header must be `Bearer` and a key.",
        )
    })
}

fn credentials(value: &HeaderValue) -> Option<&str> {
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim_matches(' '))
}

fn not_a_key() -> ApiError {
    ApiError::unauthorized("unauthorized", "This API key is not valid.")
}

/// Why the catalog gave no answer.
#[derive(Debug, thiserror::Error)]
enum LoadError {
    #[error("the catalog failed")]
    Storage(#[from] storage::Error),
    #[error("a document of the catalog is damaged")]
    Damaged(#[source] serde_json::Error),
}

impl LoadError {
    fn shown(&self) -> ApiError {
        match self {
            Self::Storage(_) => ApiError::unavailable("Keys cannot be checked right now."),
            Self::Damaged(_) => ApiError::internal(),
        }
    }
}

/// SHA-256 of a token.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Digest([u8; 32]);

impl Digest {
    fn tag(&self) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        u64::from_be_bytes([a, b, c, d, e, f, g, h])
    }
}

impl Hash for Digest {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.tag());
    }
}

/// Takes a digest's own bits: nobody can choose them, so there is nothing to mix.
#[derive(Clone, Copy, Default)]
struct DigestHasher(u64);

impl Hasher for DigestHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, bits: u64) {
        self.0 = bits;
    }
}
