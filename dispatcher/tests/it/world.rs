//! A dispatcher's surroundings: logs and state in memory, a catalog with endpoints, and outcomes.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use dispatcher::transport::{Reply, Scripted, WebhookRequest};
use dispatcher::{Config, DispatcherParts, Transport};
use prost::Message;
use schemas::delivery_key;
use schemas::entity::Endpoint;
use schemas::id::{
    AktvatorId, CampaignId, ConversionEventId, EndpointId, OrganizationId, RewardId,
};
use schemas::partition::{Mode, Scope};
use schemas::proto::{self, DeliveryRow, outcome};
use schemas::time::Timestamp;
use serve::{Clock, Shutdown};
use storage::catalog::{Change, Document, Expected, Kind};
use storage::memory::Memory;
use storage::state::{Group, KeyRange, WriteSet};
use storage::{Analytics, Catalog, EventLog, Shard, StateStore};
use tokio::task::JoinHandle;

/// 2025-10-14T12:00:00Z.
pub(crate) const START_MS: i64 = 1_760_443_200_000;
pub(crate) const SECRET: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
pub(crate) const PARTITIONS: u16 = 2;

pub(crate) struct World {
    pub(crate) memory: Memory,
    pub(crate) catalog: Catalog,
    pub(crate) analytics: Analytics,
    pub(crate) clock: Clock,
    pub(crate) config: Config,
    made: AtomicU64,
}

/// A dispatcher that runs.
pub(crate) struct Running {
    shutdown: Shutdown,
    task: JoinHandle<()>,
}

impl Running {
    /// Asks it to stop, and waits for it.
    pub(crate) async fn stop(self) {
        self.shutdown.request();
        self.task.await.expect("the dispatcher ends in order");
    }

    /// Ends it as a crash does, between two of its steps.
    pub(crate) async fn kill(self) {
        self.task.abort();
        self.task.await.ok();
    }
}

impl World {
    pub(crate) fn new() -> Self {
        Self {
            memory: Memory::new(PARTITIONS, 7),
            catalog: Catalog::memory().expect("a catalog"),
            analytics: Analytics::memory().expect("an analytics store"),
            clock: Clock::tokio(START_MS),
            config: Config { allow_loopback_targets: true, ..Config::default() },
            made: AtomicU64::new(0),
        }
    }

    pub(crate) fn start(&self, transport: Transport) -> Running {
        let (log, state) = self.memory.open();
        self.start_with(transport, log, state)
    }

    pub(crate) fn start_with(
        &self,
        transport: Transport,
        log: EventLog,
        state: StateStore,
    ) -> Running {
        let shutdown = Shutdown::new();
        let parts = DispatcherParts {
            log,
            state,
            catalog: self.catalog.clone(),
            analytics: self.analytics.clone(),
            clock: self.clock.clone(),
            seed: 1,
            transport,
            config: self.config.clone(),
        };
        let task = tokio::spawn(dispatcher::run(parts, shutdown.clone()));
        Running { shutdown, task }
    }

    fn next(&self) -> u64 {
        self.made.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub(crate) async fn endpoint(
        &self,
        scope: Scope,
        url: &str,
        subscribed: &[&str],
    ) -> EndpointId {
        let id = EndpointId::from_u128(self.next().into());
        self.endpoint_as(id, scope, url, subscribed).await
    }

    pub(crate) async fn endpoint_as(
        &self,
        id: EndpointId,
        scope: Scope,
        url: &str,
        subscribed: &[&str],
    ) -> EndpointId {
        let endpoint = Endpoint {
            id,
            organization_id: scope.organization,
            mode: scope.mode,
            name: "receiver".into(),
            target_url: url.into(),
            subscribed_events: subscribed.iter().map(|name| (*name).to_owned()).collect(),
            active: true,
            deleted: false,
            secret: SECRET.into(),
            created_at: Timestamp::from_ms(START_MS),
            version: 1,
        };
        self.put(&endpoint, Expected::Absent).await;
        endpoint.id
    }

    pub(crate) async fn put(&self, endpoint: &Endpoint, expected: Expected) {
        let document = Document {
            kind: Kind::Endpoint,
            organization: Some(endpoint.organization_id),
            mode: Some(endpoint.mode),
            id: endpoint.id.to_string(),
            parent: None,
            version: endpoint.version,
            created_at: endpoint.created_at,
            json: serde_json::to_string(endpoint).expect("JSON"),
        };
        let change = Change { document, expected, uniques: Vec::new(), command: None };
        self.catalog.apply(vec![change]).await.expect("stored");
    }

    pub(crate) async fn stored(&self, id: EndpointId) -> Endpoint {
        let found = self.catalog.get(Kind::Endpoint, &id.to_string()).await.expect("read");
        serde_json::from_str(&found.expect("an endpoint").json).expect("an endpoint")
    }

    /// Appends outcomes as the evaluator does.
    pub(crate) async fn tell(&self, partition: u16, outcomes: Vec<Bytes>) {
        let (_, state) = self.memory.open();
        let shard = Shard { group: Group::Evaluator, partition };
        let (epoch, head) = state.acquire(shard).await.expect("taken");
        let set = WriteSet { seq: head.seq + 1, outcomes, ..WriteSet::default() };
        state.commit(shard, epoch, set).await.expect("committed");
    }

    /// `count` campaigns are created, which is one notice each.
    pub(crate) async fn campaigns(&self, scope: Scope, count: u64) {
        let outcomes = (0..count).map(|_| self.campaign(scope).encode_to_vec().into()).collect();
        self.tell(scope.partition(PARTITIONS), outcomes).await;
    }

    pub(crate) fn campaign(&self, scope: Scope) -> proto::Outcome {
        let id = CampaignId::from_u128(self.next().into());
        outcome(
            scope,
            outcome::Body::CampaignCreated(proto::CampaignCreated {
                campaign_id: id.to_proto(),
                name: "Spring".into(),
            }),
        )
    }

    pub(crate) async fn deliveries(&self, scope: Scope, endpoint: EndpointId) -> Vec<DeliveryRow> {
        let (_, state) = self.memory.open();
        let shard = Shard { group: Group::Webhooks, partition: scope.partition(PARTITIONS) };
        let (from, to) = delivery_key::of_endpoint(scope, endpoint);
        let rows = state.scan(shard, KeyRange { from, to }, false, 10_000).await.expect("read");
        rows.into_iter().map(|(_, row)| DeliveryRow::decode(row).expect("a delivery")).collect()
    }

    /// Waits until every delivery of the endpoint is done with, and there are `count`.
    pub(crate) async fn settled(
        &self,
        scope: Scope,
        endpoint: EndpointId,
        count: usize,
    ) -> Vec<DeliveryRow> {
        for _ in 0..200_000 {
            let rows = self.deliveries(scope, endpoint).await;
            if rows.len() == count && rows.iter().all(|row| row.status != "pending") {
                return rows;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("deliveries are still pending: {:?}", self.deliveries(scope, endpoint).await);
    }
}

pub(crate) fn scope(organization: u128) -> Scope {
    Scope { organization: OrganizationId::from_u128(organization), mode: Mode::Live }
}

pub(crate) fn outcome(scope: Scope, body: outcome::Body) -> proto::Outcome {
    proto::Outcome {
        organization: scope.organization.to_proto(),
        mode: proto::Mode::from(scope.mode).into(),
        accepted_at_ms: START_MS,
        body: Some(body),
    }
}

/// A decided event of campaign 1 and aktvator 1, with these rewards.
pub(crate) fn decided(event: u128, code: &str, rewards: &[i64]) -> proto::EventDecided {
    let reward = |(i, amount): (usize, &i64)| proto::RewardCreated {
        reward_id: RewardId::from_u128(event * 100 + i as u128).to_proto(),
        rule_key: format!("rule_{i}"),
        amount: *amount,
        currency: "USD".into(),
        held: i > 0,
        status: if i > 0 { "held" } else { "pending" }.into(),
    };
    proto::EventDecided {
        event_id: ConversionEventId::from_u128(event).to_proto(),
        event_type: "customer.signup".into(),
        code: code.into(),
        campaign_id: Some(CampaignId::from_u128(1).to_proto()),
        gig_id: None,
        aktvator_id: Some(AktvatorId::from_u128(1).to_proto()),
        link_id: None,
        occurred_at_ms: START_MS,
        revenue: 4_900,
        currency: "USD".into(),
        rewards: rewards.iter().enumerate().map(reward).collect(),
        code_used: Some("ABC123".into()),
        repeat: false,
    }
}

/// Receivers that do as `respond` says, and what they got.
pub(crate) fn scripted(
    respond: impl Fn(&WebhookRequest) -> Reply + Send + Sync + 'static,
) -> (Transport, Scripted) {
    let script = Scripted::new(Duration::from_secs(15), respond);
    (Transport::Scripted(script.clone()), script)
}
