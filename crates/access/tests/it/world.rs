//! An organization, its keys, and a gate before them.

use std::sync::Arc;

use access::{Caller, Gate, Token};
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};
use schemas::entity::{ApiKey, Limits, Organization};
use schemas::fault::ApiError;
use schemas::id::{ApiKeyId, OrganizationId};
use schemas::money::Currency;
use schemas::partition::Mode;
use schemas::time::Timestamp;
use storage::Catalog;
use storage::catalog::{Change, Document, Expected, Kind};

pub(crate) const NOW: Timestamp = Timestamp::from_ms(1_800_000_000_000);
pub(crate) const ORGANIZATION: OrganizationId = OrganizationId::from_u128(7);

pub(crate) struct World {
    pub(crate) catalog: Catalog,
    pub(crate) gate: Arc<Gate>,
    pub(crate) operator_token: String,
}

impl World {
    /// One organization with these limits, no key.
    pub(crate) async fn new(limits: Option<Limits>) -> Self {
        Self::before(Catalog::memory().unwrap(), limits).await
    }

    /// The same, in this empty catalog.
    pub(crate) async fn before(catalog: Catalog, limits: Option<Limits>) -> Self {
        let operator_token = Token::generate_operator([9; 32]);
        let gate = Arc::new(Gate::new(catalog.clone(), Token::sha256(&operator_token)));
        let world = Self { catalog, gate, operator_token };
        world.put_organization(limits, 1).await;
        world
    }

    pub(crate) async fn put_organization(&self, limits: Option<Limits>, version: u64) {
        let organization = Organization {
            id: ORGANIZATION,
            name: "Acme".into(),
            description: None,
            website: None,
            currency: "EUR".parse::<Currency>().unwrap(),
            limits,
            created_at: NOW,
            version,
        };
        let json = serde_json::to_string(&organization).unwrap();
        self.put(Kind::Organization, ORGANIZATION.to_string(), version, json, None).await;
    }

    pub(crate) async fn put_key(&self, token: &str, key: &ApiKey) {
        let json = serde_json::to_string(key).unwrap();
        let name = Token::unique_name(&Token::sha256_hex(token));
        self.put(Kind::ApiKey, key.id.to_string(), key.version, json, Some(name)).await;
    }

    /// A live key that may do everything, and its token.
    pub(crate) async fn add_key(&self, number: u8) -> (String, ApiKey) {
        let token = Token::generate(Mode::Live, [number; 32]);
        let key = key(&token, number);
        self.put_key(&token, &key).await;
        (token, key)
    }

    pub(crate) async fn put(
        &self,
        kind: Kind,
        id: String,
        version: u64,
        json: String,
        name: Option<String>,
    ) {
        let document = Document {
            kind,
            organization: Some(ORGANIZATION),
            mode: None,
            id,
            parent: None,
            version,
            created_at: NOW,
            json,
        };
        let expected = if version == 1 { Expected::Absent } else { Expected::Version(version - 1) };
        let uniques = name.into_iter().collect();
        let change = Change { document, expected, uniques, command: None };
        self.catalog.apply(vec![change]).await.unwrap();
    }

    pub(crate) async fn ask(&self, token: &str, after_ms: i64) -> Result<Arc<Caller>, ApiError> {
        self.gate.authenticate(&bearer(token), at(after_ms)).await
    }

    /// What a request with `token` is refused with; `ok` where it is not.
    pub(crate) async fn code(&self, token: &str, after_ms: i64) -> &'static str {
        self.ask(token, after_ms).await.map_or_else(|error| error.code, |_| "ok")
    }
}

pub(crate) fn key(token: &str, number: u8) -> ApiKey {
    let (prefix, last4) = Token::shown(token);
    ApiKey {
        id: ApiKeyId::from_u128(number.into()),
        organization_id: ORGANIZATION,
        mode: Token::parse(token).unwrap(),
        name: "backend".into(),
        scopes: vec!["*".into()],
        prefix: prefix.into(),
        last4: last4.into(),
        sha256: Token::sha256_hex(token),
        expires_at: None,
        revoked_at: None,
        created_at: NOW,
        version: 1,
    }
}

pub(crate) fn at(after_ms: i64) -> Timestamp {
    Timestamp::from_ms(NOW.as_ms() + after_ms)
}

pub(crate) fn bearer(token: &str) -> HeaderMap {
    let value = HeaderValue::from_str(&format!("Bearer {token}")).unwrap();
    HeaderMap::from_iter([(AUTHORIZATION, value)])
}
