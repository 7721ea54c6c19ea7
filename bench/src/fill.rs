//! Fills an event log with one organization's campaign and its purchases, as the edge and the control
//! API would have written them.

use bytes::Bytes;
use prost::Message;
use schemas::hash;
use schemas::id::{AktvatorId, CampaignId, GigId, OrganizationId, TopUpId};
use schemas::partition::{Mode, Scope};
use schemas::proto::record::Body;
use schemas::proto::{self, Record};
use storage::{Error, EventLog, Topic};

/// When everything is accepted, milliseconds.
const ACCEPTED_AT_MS: i64 = 1_790_000_000_000;
/// Records appended with one fsync.
const APPEND: u64 = 5_000;
/// Aktvators who share the purchases.
const AKTVATORS: u64 = 1_000;
/// Customers who make them.
const CUSTOMERS: u64 = 50_000;

/// A tenth of each purchase, with a cap on campaign, aktvator and customer that never binds.
const RULEBOOK: &str = r#"{"currency":"USD","timezone":"UTC","rules":[{"key":"tenth","priority":1,
    "on":{"eventTypes":["customer.purchase"]},
    "reward":{"type":"percent","bps":1000,"of":"event.amount"},"caps":[
    {"key":"campaign","scope":"campaign","metric":"amount","limit":900000000000000,
     "period":"lifetime","onExceed":"clip"},
    {"key":"aktvator","scope":"aktvator","metric":"amount","limit":900000000000000,
     "period":"month","onExceed":"clip"},
    {"key":"customer","scope":"customer","metric":"count","limit":1000000,
     "period":"month","onExceed":"reject"}]}]}"#;

/// An organization that lives in one partition.
pub(crate) struct Shop {
    scope: Scope,
    partition: u16,
}

impl Shop {
    /// The first organization, counting ids up, that lives in `partition`.
    pub(crate) fn within(partition: u16, partitions: u16) -> Self {
        let mut scopes = (1u128..)
            .map(|n| Scope { organization: OrganizationId::from_u128(n), mode: Mode::Live });
        let scope = scopes.find(|scope| scope.partition(partitions) == partition);
        Self { scope: scope.expect("ids without end"), partition }
    }

    /// Whose it is.
    pub(crate) fn scope(&self) -> Scope {
        self.scope
    }

    /// Appends the campaign, a funded wallet and `purchases` purchases, every key new.
    pub(crate) async fn fill(&self, log: &EventLog, purchases: u64) -> Result<(), Error> {
        self.append(log, self.opening()).await?;
        for from in (0..purchases).step_by(APPEND as usize) {
            let to = purchases.min(from + APPEND);
            self.append(log, (from..to).map(|n| self.purchase(n)).collect()).await?;
        }
        Ok(())
    }

    async fn append(&self, log: &EventLog, bodies: Vec<Body>) -> Result<(), Error> {
        let records = bodies.into_iter().map(|body| (self.partition, self.record(body))).collect();
        log.append(Topic::Events, records).await?;
        Ok(())
    }

    fn record(&self, body: Body) -> Bytes {
        let record = Record {
            organization: self.scope.organization.to_proto(),
            mode: proto::Mode::from(self.scope.mode).into(),
            accepted_at_ms: ACCEPTED_AT_MS,
            body: Some(body),
        };
        record.encode_to_vec().into()
    }

    fn opening(&self) -> Vec<Body> {
        let campaign_id = CampaignId::from_u128(1).to_proto();
        let mut bodies = vec![
            Body::Campaign(proto::CampaignState {
                id: campaign_id.clone(),
                version: 1,
                status: "active".to_owned(),
                name: "Bench".to_owned(),
            }),
            Body::Gig(proto::GigState {
                id: GigId::from_u128(1).to_proto(),
                version: 1,
                campaign_id: campaign_id.clone(),
                action_type: "customer.purchase".to_owned(),
                status: "published".to_owned(),
            }),
            Body::Rulebook(proto::RulebookState {
                campaign_id: campaign_id.clone(),
                version: 1,
                effective_from_ms: 0,
                json: Bytes::from_static(RULEBOOK.as_bytes()),
            }),
            Body::WalletCredit(proto::WalletCredit {
                command_id: TopUpId::from_u128(1).to_proto(),
                amount: 1 << 50,
                currency: "USD".to_owned(),
                ..Default::default()
            }),
        ];
        for n in 0..AKTVATORS {
            let aktvator_id = AktvatorId::from_u128(u128::from(n)).to_proto();
            bodies.push(Body::Aktvator(proto::AktvatorState {
                id: aktvator_id.clone(),
                version: 1,
                status: "approved".to_owned(),
                ..Default::default()
            }));
            bodies.push(Body::Code(proto::CodeState {
                code: format!("CODE{n}"),
                version: 1,
                campaign_id: campaign_id.clone(),
                aktvator_id,
                ..Default::default()
            }));
        }
        bodies
    }

    fn purchase(&self, n: u64) -> Body {
        let key = format!("order_{n:012}");
        Body::Conversion(proto::ConversionEvent {
            event_id: hash::event_id(self.scope, &key).to_proto(),
            fingerprint: Bytes::copy_from_slice(&u128::from(n).to_be_bytes()),
            idempotency_key: key,
            event_type: "customer.purchase".to_owned(),
            campaign_id: Some(CampaignId::from_u128(1).to_proto()),
            attribution_code: Some(format!("CODE{}", n % AKTVATORS)),
            amount: Some(1_000 + (n % 9_000) as i64),
            currency: Some("USD".to_owned()),
            customer: Some(proto::Customer {
                id: Some(format!("cust_{:08}", n * 7_919 % CUSTOMERS)),
                ..Default::default()
            }),
            ..Default::default()
        })
    }
}
