//! An installation in memory: one organization, its keys, an edge and a redirector.

use std::sync::Arc;

use access::{Gate, Token};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use ingest_edge::{ClickKey, ClickWriter, Config, Edge, EdgeParts, RedirectParts, Redirector};
use prost::Message as _;
use schemas::entity::{ApiKey, Campaign, CampaignStatus, Code, Limits, Link, Organization};
use schemas::id::{AktvatorId, ApiKeyId, CampaignId, LinkId, OrganizationId};
use schemas::money::Currency;
use schemas::partition::{Mode, Scope};
use schemas::proto;
use schemas::time::Timestamp;
use serde::Serialize;
use serde_json::Value as Json;
use serve::{Body, Clock};
use storage::catalog::{Change, Document, Expected, Kind};
use storage::fault::Faults;
use storage::log::ReadLimit;
use storage::memory::Memory;
use storage::{Catalog, EventLog, StateStore, Topic};

/// 2026-01-02T03:04:05.678Z
pub(crate) const NOW: i64 = 1_767_323_045_678;
pub(crate) const CLICK_KEY: [u8; 32] = [7; 32];
pub(crate) const PARTITIONS: u16 = 4;
pub(crate) const ORGANIZATION: OrganizationId = OrganizationId::from_u128(9);
pub(crate) const LIMITS: Limits = Limits {
    ingest_per_second: 10,
    ingest_burst: 2_000,
    requests_per_second: 1,
    requests_burst: 1,
};
/// The least event there is.
pub(crate) const EVENT: &str =
    r#"{"eventType":"purchase","idempotencyKey":"k1","attributionCode":"ABC123"}"#;

pub(crate) struct World {
    pub(crate) edge: Edge,
    pub(crate) redirector: Redirector,
    pub(crate) clicks: ClickWriter,
    pub(crate) catalog: Catalog,
    pub(crate) log: EventLog,
    pub(crate) state: StateStore,
    pub(crate) clock: Clock,
    pub(crate) faults: Faults,
    /// May ingest, live.
    pub(crate) token: String,
    /// May do everything but ingest.
    pub(crate) reader: String,
    pub(crate) operator: String,
}

pub(crate) fn scope() -> Scope {
    Scope { organization: ORGANIZATION, mode: Mode::Live }
}

pub(crate) fn click_key() -> ClickKey {
    ClickKey::new(&CLICK_KEY)
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(Config::default()).await
    }

    pub(crate) async fn with(config: Config) -> Self {
        let faults = Faults::default();
        let (log, state) = Memory::new(PARTITIONS, 1).open();
        let (log, state) = faults.wrap(log, state);
        let catalog = Catalog::memory().expect("a catalog");
        let operator = Token::generate_operator([3; 32]);
        let token = Token::generate(Mode::Live, [1; 32]);
        let reader = Token::generate(Mode::Live, [2; 32]);
        put(&catalog, Kind::Organization, &ORGANIZATION.to_string(), &organization(), vec![]).await;
        for (token, id, scopes) in [(&token, 1, "events:ingest"), (&reader, 2, "events:read")] {
            let key = api_key(token, id, scopes);
            let name = Token::unique_name(&key.sha256);
            put(&catalog, Kind::ApiKey, &key.id.to_string(), &key, vec![name]).await;
        }
        let clock = Clock::manual(NOW);
        let edge = Edge::new(EdgeParts {
            log: log.clone(),
            state: state.clone(),
            gate: Arc::new(Gate::new(catalog.clone(), Token::sha256(&operator))),
            clock: clock.clone(),
            click_key: CLICK_KEY,
            random: 1,
            config: config.clone(),
        });
        let (redirector, clicks) = Redirector::new(RedirectParts {
            catalog: catalog.clone(),
            log: log.clone(),
            clock: clock.clone(),
            click_key: CLICK_KEY,
            random: 2,
            config,
        });
        Self {
            edge,
            redirector,
            clicks,
            catalog,
            log,
            state,
            clock,
            faults,
            token,
            reader,
            operator,
        }
    }

    /// A request with a valid key and JSON.
    pub(crate) fn post(&self, uri: &str) -> http::request::Builder {
        Request::post(uri)
            .header("authorization", format!("Bearer {}", self.token))
            .header("content-type", "application/json")
    }

    pub(crate) async fn send(&self, uri: &str, body: impl Into<Bytes>) -> Answer {
        let request = self.post(uri).body(Full::new(body.into())).expect("a request");
        Answer::of(self.edge.handle(request).await).await
    }

    /// The records of a topic, of all partitions.
    pub(crate) async fn records(&self, topic: Topic) -> Vec<Bytes> {
        let limit = ReadLimit { records: 10_000, bytes: 1 << 24 };
        let mut all = Vec::new();
        for partition in 0..PARTITIONS {
            let records = self.log.read(topic, partition, 0, limit).await.expect("readable");
            all.extend(records.into_iter().map(|record| record.bytes));
        }
        all
    }

    pub(crate) async fn conversions(&self) -> Vec<proto::ConversionEvent> {
        let records = self.records(Topic::Events).await.into_iter();
        let decoded = records.map(|bytes| proto::Record::decode(bytes).expect("a record").body);
        decoded
            .map(|body| match body {
                Some(proto::record::Body::Conversion(event)) => event,
                other => panic!("{other:?}"),
            })
            .collect()
    }

    /// Stores a link with its code and its campaign.
    pub(crate) async fn link(&self, code: &str, target_url: &str, status: CampaignStatus) -> Link {
        let number = u128::from_be_bytes(*b"0000000000000000") + code.len() as u128;
        let link = Link {
            id: LinkId::from_u128(number),
            organization_id: ORGANIZATION,
            mode: Mode::Live,
            campaign_id: CampaignId::from_u128(number),
            aktvator_id: AktvatorId::from_u128(6),
            target_url: target_url.to_owned(),
            code: code.to_owned(),
            archived: false,
            created_at: Timestamp::from_ms(NOW),
            version: 1,
        };
        let campaign = Campaign {
            id: link.campaign_id,
            organization_id: ORGANIZATION,
            mode: Mode::Live,
            name: "Spring".to_owned(),
            description: None,
            status,
            deleted: false,
            created_at: Timestamp::from_ms(NOW),
            version: 1,
        };
        put(&self.catalog, Kind::Campaign, &campaign.id.to_string(), &campaign, vec![]).await;
        put(&self.catalog, Kind::Link, &link.id.to_string(), &link, vec![]).await;
        self.code(code, Some(link.id)).await;
        link
    }

    pub(crate) async fn code(&self, code: &str, link_id: Option<LinkId>) {
        let document = Code {
            code: code.to_owned(),
            organization_id: ORGANIZATION,
            mode: Mode::Live,
            campaign_id: CampaignId::from_u128(5),
            aktvator_id: AktvatorId::from_u128(6),
            link_id,
            archived: false,
            created_at: Timestamp::from_ms(NOW),
            version: 1,
        };
        put(&self.catalog, Kind::Code, code, &document, vec![format!("code:{code}")]).await;
    }

    /// Replaces a document by its second version.
    pub(crate) async fn change<T: Serialize>(&self, kind: Kind, id: &str, document: &T) {
        apply(&self.catalog, kind, id, document, vec![], Expected::Version(1), 2).await;
    }
}

async fn put<T: Serialize>(
    catalog: &Catalog,
    kind: Kind,
    id: &str,
    document: &T,
    uniques: Vec<String>,
) {
    apply(catalog, kind, id, document, uniques, Expected::Absent, 1).await;
}

async fn apply<T: Serialize>(
    catalog: &Catalog,
    kind: Kind,
    id: &str,
    document: &T,
    uniques: Vec<String>,
    expected: Expected,
    version: u64,
) {
    let document = Document {
        kind,
        organization: Some(ORGANIZATION),
        mode: (kind != Kind::Organization).then_some(Mode::Live),
        id: id.to_owned(),
        parent: None,
        version,
        created_at: Timestamp::from_ms(NOW),
        json: serde_json::to_string(document).expect("JSON"),
    };
    let change = Change { document, expected, uniques, command: None };
    catalog.apply(vec![change]).await.expect("stored");
}

fn organization() -> Organization {
    Organization {
        id: ORGANIZATION,
        name: "Shop".to_owned(),
        description: None,
        website: None,
        currency: Currency::USD,
        limits: Some(LIMITS),
        created_at: Timestamp::from_ms(NOW),
        version: 1,
    }
}

fn api_key(token: &str, id: u128, scopes: &str) -> ApiKey {
    ApiKey {
        id: ApiKeyId::from_u128(id),
        organization_id: ORGANIZATION,
        mode: Mode::Live,
        name: "backend".to_owned(),
        scopes: vec![scopes.to_owned()],
        prefix: token[..12].to_owned(),
        last4: token[token.len() - 4..].to_owned(),
        sha256: Token::sha256_hex(token),
        expires_at: None,
        revoked_at: None,
        created_at: Timestamp::from_ms(NOW),
        version: 1,
    }
}

/// A response, read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: http::HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) async fn of(response: Response<Body>) -> Self {
        let (parts, body) = response.into_parts();
        let body = body.collect().await.expect("a body").to_bytes();
        Self { status: parts.status.as_u16(), headers: parts.headers, body }
    }

    pub(crate) fn json(&self) -> Json {
        serde_json::from_slice(&self.body).unwrap_or(Json::Null)
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().expect("text"))
    }

    /// What every answer has, and, of an error, its shape. Returns the code, or nothing.
    pub(crate) fn code(&self) -> String {
        let id = self.header("x-request-id").expect("a request id");
        assert!(id.starts_with("req_"), "{id}");
        assert_eq!(self.header("cache-control"), Some("no-store"));
        let json = self.json();
        if self.status < 400 {
            return String::new();
        }
        assert_eq!(json["statusCode"], self.status, "{json}");
        assert_eq!(json["requestId"], id);
        assert!(json["message"].as_str().is_some_and(|text| !text.is_empty()));
        json["code"].as_str().expect("a code").to_owned()
    }
}
