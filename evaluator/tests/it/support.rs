//! A log with one organization's campaign in it, and an evaluator over it.

use std::time::Duration;

use bytes::Bytes;
use evaluator::{Config, EvaluatorParts};
use prost::Message;
use schemas::hash;
use schemas::id::{AktvatorId, CampaignId, GigId, OrganizationId};
use schemas::partition::{Mode, Scope};
use schemas::proto::{self, Record, outcome, record::Body};
use serve::config::Span;
use serve::{Clock, Health, Shutdown};
use storage::log::{ReadLimit, Topic};
use storage::state::{Group, Shard};
use storage::{EventLog, StateStore};
use tokio::task::JoinHandle;

/// When everything here is accepted, in milliseconds.
pub(crate) const NOW_MS: i64 = 1_790_000_000_000;
/// The code that attributes.
pub(crate) const CODE: &str = "ABC";

/// A campaign of one organization, with a rulebook.
#[derive(Clone, Copy)]
pub(crate) struct Shop {
    pub(crate) scope: Scope,
    pub(crate) campaign: CampaignId,
    pub(crate) aktvator: AktvatorId,
}

impl Shop {
    pub(crate) fn new(number: u128) -> Self {
        let scope = Scope { organization: OrganizationId::from_u128(number), mode: Mode::Live };
        Self {
            scope,
            campaign: CampaignId::from_u128(number + 1),
            aktvator: AktvatorId::from_u128(number + 2),
        }
    }

    /// An organization that lives in `partition`.
    pub(crate) fn within(partition: u16, partitions: u16) -> Self {
        let mut shops = (1..).map(|n| Self::new(n * 16));
        shops.find(|shop| shop.scope.partition(partitions) == partition).unwrap()
    }

    pub(crate) fn record(&self, body: Body) -> Bytes {
        self.record_at(NOW_MS, body)
    }

    pub(crate) fn record_at(&self, accepted_at_ms: i64, body: Body) -> Bytes {
        let record = Record {
            organization: self.scope.organization.to_proto(),
            mode: proto::Mode::from(self.scope.mode).into(),
            accepted_at_ms,
            body: Some(body),
        };
        record.encode_to_vec().into()
    }

    /// Campaign, gig, aktvator, code, rulebook: what an event needs to be rewarded.
    pub(crate) fn opening(&self, rulebook: &str) -> Vec<Bytes> {
        let campaign_id = self.campaign.to_proto();
        let campaign = proto::CampaignState {
            id: campaign_id.clone(),
            version: 1,
            status: "active".to_owned(),
            name: "Shop".to_owned(),
        };
        let gig = proto::GigState {
            id: GigId::from_u128(1).to_proto(),
            version: 1,
            campaign_id: campaign_id.clone(),
            action_type: "purchase".to_owned(),
            status: "published".to_owned(),
        };
        let aktvator = proto::AktvatorState {
            id: self.aktvator.to_proto(),
            version: 1,
            status: "approved".to_owned(),
            ..Default::default()
        };
        let code = proto::CodeState {
            code: CODE.to_owned(),
            version: 1,
            campaign_id: campaign_id.clone(),
            aktvator_id: self.aktvator.to_proto(),
            ..Default::default()
        };
        let rulebook = proto::RulebookState {
            campaign_id,
            version: 1,
            effective_from_ms: 0,
            json: Bytes::copy_from_slice(rulebook.as_bytes()),
        };
        [
            Body::Campaign(campaign),
            Body::Gig(gig),
            Body::Aktvator(aktvator),
            Body::Code(code),
            Body::Rulebook(rulebook),
        ]
        .map(|body| self.record(body))
        .to_vec()
    }

    pub(crate) fn purchase(&self, key: &str, amount: i64, customer: &str) -> Bytes {
        self.record(self.purchase_body(key, amount, customer))
    }

    pub(crate) fn purchase_body(&self, key: &str, amount: i64, customer: &str) -> Body {
        Body::Conversion(proto::ConversionEvent {
            event_id: hash::event_id(self.scope, key).to_proto(),
            idempotency_key: key.to_owned(),
            fingerprint: Bytes::copy_from_slice(&amount.to_be_bytes()),
            event_type: "purchase".to_owned(),
            attribution_code: Some(CODE.to_owned()),
            amount: Some(amount),
            currency: Some("USD".to_owned()),
            customer: Some(proto::Customer { id: Some(customer.to_owned()), ..Default::default() }),
            ..Default::default()
        })
    }

    pub(crate) fn credit(&self, command: u128, amount: i64) -> Bytes {
        self.record(Body::WalletCredit(proto::WalletCredit {
            command_id: Bytes::copy_from_slice(&command.to_be_bytes()),
            amount,
            currency: "USD".to_owned(),
            ..Default::default()
        }))
    }
}

/// 10 % of the amount, with a cap on campaign, aktvator and customer that never binds.
pub(crate) const PERCENT: &str = r#"{"currency":"USD","timezone":"UTC","rules":[{"key":"ten",
    "reward":{"type":"percent","bps":1000,"of":"event.amount"},"caps":[
    {"key":"c","scope":"campaign","metric":"amount","limit":900000000000000},
    {"key":"a","scope":"aktvator","metric":"amount","limit":900000000000000,"period":"month"},
    {"key":"u","scope":"customer","metric":"count","limit":1000000,"period":"month"}]}]}"#;

/// A running evaluator.
pub(crate) struct Running {
    pub(crate) health: Health,
    shutdown: Shutdown,
    task: JoinHandle<()>,
}

impl Running {
    pub(crate) fn start(log: &EventLog, state: &StateStore, config: Config) -> Self {
        let (health, shutdown) = (Health::new(), Shutdown::new());
        let parts = EvaluatorParts {
            log: log.clone(),
            state: state.clone(),
            clock: Clock::tokio(NOW_MS),
            health: health.clone(),
            config,
        };
        let task = serve::spawn("evaluator", evaluator::run(parts, shutdown.clone()));
        Self { health, shutdown, task }
    }

    /// Drains and stops.
    pub(crate) async fn stop(self) {
        self.shutdown.request();
        self.task.await.unwrap();
    }

    /// Ends at once, as a process does that dies.
    pub(crate) fn kill(self) {
        self.task.abort();
    }
}

/// No ticks, so that the log holds what the test put there.
pub(crate) fn quiet() -> Config {
    Config { tick_every: Span::from_secs(1_000_000), ..Config::default() }
}

pub(crate) const fn shard(partition: u16) -> Shard {
    Shard { group: Group::Evaluator, partition }
}

pub(crate) async fn append(log: &EventLog, partition: u16, records: Vec<Bytes>) {
    let records = records.into_iter().map(|record| (partition, record)).collect();
    log.append(Topic::Events, records).await.unwrap();
}

/// Waits until everything that is in the log now is decided.
pub(crate) async fn decided(log: &EventLog, state: &StateStore, partition: u16) {
    let end = log.bounds(Topic::Events, partition).await.unwrap().end;
    let committed = state.committed(shard(partition), end);
    tokio::time::timeout(Duration::from_secs(600), committed).await.unwrap().unwrap();
}

/// Every outcome of a partition.
pub(crate) async fn outcomes(log: &EventLog, partition: u16) -> Vec<proto::Outcome> {
    let limit = ReadLimit { records: usize::MAX, bytes: usize::MAX };
    let records = log.read(Topic::Outcomes, partition, 0, limit).await.unwrap();
    records.into_iter().map(|record| proto::Outcome::decode(record.bytes).unwrap()).collect()
}

/// The codes of the events decided in a partition.
pub(crate) async fn codes(log: &EventLog, partition: u16) -> Vec<String> {
    let outcomes = outcomes(log, partition).await;
    let code = |outcome: proto::Outcome| match outcome.body {
        Some(outcome::Body::EventDecided(decided)) => Some(decided.code),
        _ => None,
    };
    outcomes.into_iter().filter_map(code).collect()
}
