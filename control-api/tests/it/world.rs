//! An installation in memory, and calls to its API.

use std::sync::Arc;

use access::{Gate, Token};
use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Method, Request, StatusCode};
use control_api::{Config, ControlParts, Random, relay, router};
use http_body_util::BodyExt as _;
use prost::Message as _;
use schemas::hash::event_id;
use schemas::id::OrganizationId;
use schemas::partition::{Mode, Scope};
use schemas::proto::{self, record::Body as RecordBody};
use serde_json::{Value, json};
use serve::{Clock, Shutdown};
use storage::memory::Memory;
use storage::{Analytics, Catalog, EventLog, StateStore, Topic};
use tokio::task::JoinHandle;
use tower::ServiceExt as _;

/// 2026-01-02T03:04:05Z.
const START_MS: i64 = 1_767_323_045_000;

/// An installation.
pub(crate) struct World {
    pub(crate) router: Router,
    pub(crate) clock: Clock,
    pub(crate) catalog: Catalog,
    pub(crate) log: EventLog,
    pub(crate) state: StateStore,
    pub(crate) analytics: Analytics,
    pub(crate) operator: String,
    tasks: Vec<JoinHandle<()>>,
}

impl Drop for World {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// What a call came to.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    /// `null` where the body is not JSON.
    pub(crate) body: Value,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn code(&self) -> &str {
        self.body["code"].as_str().unwrap_or_default()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map(|v| v.to_str().expect("text")).unwrap_or_default()
    }

    /// A string of the body, of an answer that must be a success.
    pub(crate) fn text_at(&self, name: &str) -> String {
        assert!(self.status.is_success(), "{}: {}", self.status, self.text);
        self.body[name].as_str().unwrap_or_else(|| panic!("no {name}: {}", self.text)).to_owned()
    }

    /// Path and code of each fault, sorted.
    pub(crate) fn faults(&self) -> Vec<(String, String)> {
        let faults = self.body["errors"].as_array().cloned().unwrap_or_default();
        let text = |fault: &Value, name: &str| fault[name].as_str().unwrap_or_default().to_owned();
        let mut faults: Vec<_> =
            faults.iter().map(|f| (text(f, "path"), text(f, "code"))).collect();
        faults.sort_unstable();
        faults
    }
}

/// An organization with a key that may do everything.
pub(crate) struct Member {
    pub(crate) id: String,
    pub(crate) token: String,
}

impl Member {
    pub(crate) fn scope(&self) -> Scope {
        let organization: OrganizationId = self.id.parse().expect("an id");
        Scope { organization, mode: Token::parse(&self.token).expect("a token") }
    }
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(Config::default())
    }

    pub(crate) fn with(config: Config) -> Self {
        let mut world = Self::at_rest(config);
        world.start_relay();
        world.start_fold();
        world
    }

    /// An installation in which commands reach neither the log nor the fold yet.
    pub(crate) fn at_rest(config: Config) -> Self {
        let (log, state) = Memory::new(2, 7).open();
        let catalog = Catalog::memory().expect("a catalog");
        let operator = Token::generate_operator([9; 32]);
        let clock = Clock::manual(START_MS);
        let analytics = Analytics::memory().expect("analytics");
        let parts = ControlParts {
            catalog: catalog.clone(),
            log: log.clone(),
            state: state.clone(),
            analytics: analytics.clone(),
            gate: Arc::new(Gate::new(catalog.clone(), Token::sha256(&operator))),
            clock: clock.clone(),
            config,
            random: Random::seeded(1),
        };
        let (router, tasks) = (router(parts), Vec::new());
        Self { router, clock, catalog, log, state, analytics, operator, tasks }
    }

    pub(crate) fn start_relay(&mut self) {
        let relay =
            relay(self.catalog.clone(), self.log.clone(), self.clock.clone(), Shutdown::new());
        self.tasks.push(tokio::spawn(relay));
    }

    pub(crate) fn start_fold(&mut self) {
        for partition in 0..self.log.partitions() {
            let fold = crate::fold::run(self.log.clone(), self.state.clone(), partition);
            self.tasks.push(tokio::spawn(fold));
        }
    }

    /// Sends a request as it is. The clock goes on a little, so that limits do not bind.
    pub(crate) async fn send(&self, request: Request<Body>) -> Answer {
        self.clock.advance(50);
        let response = self.router.clone().oneshot(request).await.expect("infallible");
        let (head, body) = response.into_parts();
        let bytes = body.collect().await.expect("a body").to_bytes();
        Answer {
            status: head.status,
            headers: head.headers,
            body: serde_json::from_slice(&bytes).unwrap_or(Value::Null),
            text: String::from_utf8_lossy(&bytes).into_owned(),
        }
    }

    /// Calls with headers.
    pub(crate) async fn call_with(
        &self,
        method: &str,
        path: &str,
        token: &str,
        headers: &[(&str, &str)],
        body: Option<Value>,
    ) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        if !token.is_empty() {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let body = match body {
            None => Body::empty(),
            Some(body) => {
                request = request.header("content-type", "application/json");
                Body::from(body.to_string())
            }
        };
        self.send(request.body(body).expect("a request")).await
    }

    pub(crate) async fn get(&self, path: &str, token: &str) -> Answer {
        self.call_with("GET", path, token, &[], None).await
    }

    pub(crate) async fn post(&self, path: &str, token: &str, body: Value) -> Answer {
        self.call_with("POST", path, token, &[], Some(body)).await
    }

    pub(crate) async fn patch(&self, path: &str, token: &str, body: Value) -> Answer {
        self.call_with("PATCH", path, token, &[], Some(body)).await
    }

    pub(crate) async fn put(&self, path: &str, token: &str, body: Value) -> Answer {
        self.call_with("PUT", path, token, &[], Some(body)).await
    }

    pub(crate) async fn delete(&self, path: &str, token: &str) -> Answer {
        self.call_with(Method::DELETE.as_str(), path, token, &[], None).await
    }

    /// A new organization with a live key that may do everything.
    pub(crate) async fn member(&self) -> Member {
        let made = self.post("/organizations", &self.operator, json!({"name": "Org"})).await;
        let id = made.text_at("id");
        let token = self.key(&id, Mode::Live, &["*"]).await;
        Member { id, token }
    }

    /// A new key of an organization.
    pub(crate) async fn key(&self, id: &str, mode: Mode, scopes: &[&str]) -> String {
        let body = json!({"name": "Key", "mode": mode.as_str(), "scopes": scopes});
        let path = format!("/organizations/{id}/api-keys");
        self.post(&path, &self.operator, body).await.text_at("token")
    }

    /// An active campaign that pays 20 percent, and an aktvator: their ids.
    pub(crate) async fn active_campaign(&self, member: &Member) -> (String, String) {
        let token = &member.token;
        let campaign = self.post("/campaigns", token, json!({"name": "C"})).await.text_at("id");
        let gig = json!({"campaignId": campaign, "title": "G", "actionType": "customer.purchase"});
        let gig = self.post("/gigs", token, gig).await.text_at("id");
        self.patch(&format!("/gigs/{gig}/status/published"), token, json!({})).await.text_at("id");
        let rules = self.put(&format!("/campaigns/{campaign}/reward-rules"), token, rules()).await;
        assert_eq!(rules.status, 200, "{}", rules.text);
        let path = format!("/campaigns/{campaign}/status/active");
        self.patch(&path, token, json!({})).await.text_at("id");
        let aktvator = self.post("/aktvators", token, json!({"name": "A"})).await.text_at("id");
        (campaign, aktvator)
    }

    /// Puts money into the wallet through the sandbox page.
    pub(crate) async fn fund(&self, member: &Member, amount: i64) {
        let path = format!("/organizations/{}/wallet/topup", member.id);
        let body = json!({"amount": amount, "currency": "USD"});
        let url = self.post(&path, &member.token, body).await.text_at("paymentUrl");
        let path = url.split_once("8080").expect("the default port").1;
        let paid = self.call_with("POST", path, "", &[], None).await;
        assert_eq!(paid.status, 200, "{}", paid.text);
    }

    /// Puts a purchase on the log as the edge would; its event id.
    pub(crate) async fn purchase(
        &self,
        member: &Member,
        campaign: &str,
        code: &str,
        key: &str,
    ) -> String {
        let scope = member.scope();
        let campaign: schemas::id::CampaignId = campaign.parse().expect("an id");
        let event = proto::ConversionEvent {
            event_id: event_id(scope, key).to_proto(),
            idempotency_key: key.to_owned(),
            fingerprint: vec![1; 32].into(),
            event_type: "customer.purchase".to_owned(),
            campaign_id: Some(campaign.to_proto()),
            attribution_code: Some(code.to_owned()),
            amount: Some(1_000),
            currency: Some("USD".to_owned()),
            ..proto::ConversionEvent::default()
        };
        let record = proto::Record {
            organization: scope.organization.to_proto(),
            mode: proto::Mode::from(scope.mode).into(),
            accepted_at_ms: self.clock.now_ms(),
            body: Some(RecordBody::Conversion(event)),
        };
        let partition = scope.partition(self.log.partitions());
        let record = (partition, record.encode_to_vec().into());
        self.log.append(Topic::Events, vec![record]).await.expect("appended");
        event_id(scope, key).to_string()
    }
}

/// A fifth of each purchase.
pub(crate) fn rules() -> Value {
    json!({
        "currency": "USD",
        "timezone": "UTC",
        "rules": [{
            "key": "purchase",
            "name": "A fifth",
            "priority": 10,
            "on": {"eventTypes": ["customer.purchase"]},
            "reward": {"type": "percent", "bps": 2000, "of": "event.amount"},
        }],
    })
}
