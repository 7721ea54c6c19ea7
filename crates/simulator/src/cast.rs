//! Who takes part: organizations in both modes, their campaigns, aktvators, links and codes, and the
//! documents and commands that make the product know them.

use access::Token;
use bytes::Bytes;
use prost::Message;
use rand::RngExt;
use rand::rngs::StdRng;
use schemas::entity;
use schemas::entity::{AktvatorStatus, CampaignStatus, GigStatus};
use schemas::id::{AktvatorId, ApiKeyId, CampaignId, EndpointId, GigId, LinkId, OrganizationId};
use schemas::money::Currency;
use schemas::partition::{Mode, Scope};
use schemas::proto::{self, record::Body};
use schemas::time::Timestamp;
use serde_json::Value;
use storage::catalog::{Change, Document, Expected, Kind};

use crate::rules;

/// When every simulation begins: 2026-01-29T21:00:00Z, so that days and months end within it.
pub(crate) const START_MS: i64 = 1_769_720_400_000;

/// One organization in one mode, and everything it has.
#[derive(Clone, Debug)]
pub(crate) struct Tenant {
    pub(crate) scope: Scope,
    pub(crate) token: String,
    pub(crate) campaigns: Vec<CampaignCast>,
    pub(crate) aktvators: Vec<AktvatorId>,
}

/// A campaign, and the ways to be attributed in it.
#[derive(Clone, Debug)]
pub(crate) struct CampaignCast {
    pub(crate) id: CampaignId,
    pub(crate) codes: Vec<String>,
    pub(crate) links: Vec<(LinkId, String)>,
}

/// Something to store in the catalog, with the command that goes with it.
pub(crate) struct Deed {
    pub(crate) label: String,
    pub(crate) change: Change,
}

/// Draws everyone, with what must be stored for it.
pub(crate) fn draw(rng: &mut StdRng, partitions: u16) -> (Vec<Tenant>, Vec<Deed>) {
    let mut deeds = Vec::new();
    let mut tenants = Vec::new();
    for index in 0..rng.random_range(2..=3) {
        let organization = OrganizationId::new(START_MS, rng.random());
        let mut casting = Casting { rng, partitions, deeds: &mut deeds };
        casting.organization(organization);
        tenants.push(casting.tenant(Scope { organization, mode: Mode::Live }));
        if index == 0 {
            tenants.push(casting.tenant(Scope { organization, mode: Mode::Test }));
        }
    }
    (tenants, deeds)
}

struct Casting<'a> {
    rng: &'a mut StdRng,
    partitions: u16,
    deeds: &'a mut Vec<Deed>,
}

impl Casting<'_> {
    fn organization(&mut self, id: OrganizationId) {
        let limits = entity::Limits {
            ingest_per_second: 100_000,
            ingest_burst: 100_000,
            requests_per_second: 100_000,
            requests_burst: 100_000,
        };
        let organization = entity::Organization {
            id,
            name: "Simulated".to_owned(),
            description: None,
            website: None,
            currency: Currency::USD,
            limits: Some(limits),
            created_at: Timestamp::from_ms(START_MS),
            version: 1,
        };
        let scope = Scope { organization: id, mode: Mode::Live };
        let mut change =
            change(Kind::Organization, scope, id.to_string(), 1, json(&organization), None, 1);
        (change.document.organization, change.document.mode) = (None, None);
        self.deeds.push(Deed { label: format!("organization {id}"), change });
    }

    fn tenant(&mut self, scope: Scope) -> Tenant {
        let token = self.api_key(scope);
        for _ in 0..self.rng.random_range(1..=2) {
            self.endpoint(scope);
        }
        let aktvators: Vec<AktvatorId> = (0..3).map(|_| self.aktvator(scope)).collect();
        let campaigns =
            (0..self.rng.random_range(1..=2)).map(|_| self.campaign(scope, &aktvators)).collect();
        Tenant { scope, token, campaigns, aktvators }
    }

    fn api_key(&mut self, scope: Scope) -> String {
        let token = Token::generate(scope.mode, self.rng.random());
        let sha256 = Token::sha256_hex(&token);
        let id = ApiKeyId::new(START_MS, self.rng.random());
        let key = entity::ApiKey {
            id,
            organization_id: scope.organization,
            mode: scope.mode,
            name: "simulated".to_owned(),
            scopes: vec!["*".to_owned()],
            prefix: token[..12].to_owned(),
            last4: token[token.len() - 4..].to_owned(),
            sha256: sha256.clone(),
            expires_at: None,
            revoked_at: None,
            created_at: Timestamp::from_ms(START_MS),
            version: 1,
        };
        let mut change = change(Kind::ApiKey, scope, id.to_string(), 1, json(&key), None, 1);
        change.uniques.push(format!("key:{sha256}"));
        self.deeds.push(Deed { label: format!("key of {scope}"), change });
        token
    }

    fn endpoint(&mut self, scope: Scope) {
        let id = EndpointId::new(START_MS, self.rng.random());
        let all = self.rng.random_bool(0.7);
        let types = if all { vec!["*"] } else { vec!["reward.created", "wallet.credited"] };
        let endpoint = entity::Endpoint {
            id,
            organization_id: scope.organization,
            mode: scope.mode,
            name: "simulated".to_owned(),
            target_url: format!("https://receiver.example/{id}"),
            subscribed_events: types.into_iter().map(str::to_owned).collect(),
            active: true,
            deleted: false,
            secret: "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=".to_owned(),
            created_at: Timestamp::from_ms(START_MS),
            version: 1,
        };
        let change = change(Kind::Endpoint, scope, id.to_string(), 1, json(&endpoint), None, 1);
        self.deeds.push(Deed { label: format!("endpoint {id}"), change });
    }

    fn aktvator(&mut self, scope: Scope) -> AktvatorId {
        let id = AktvatorId::new(START_MS, self.rng.random());
        self.deeds.push(aktvator_deed(
            scope,
            id,
            1,
            AktvatorStatus::Approved,
            START_MS,
            self.partitions,
        ));
        id
    }

    fn campaign(&mut self, scope: Scope, aktvators: &[AktvatorId]) -> CampaignCast {
        let id = CampaignId::new(START_MS, self.rng.random());
        let partitions = self.partitions;
        self.deeds.push(campaign_deed(scope, id, 1, CampaignStatus::Draft, START_MS, partitions));
        for action in ["purchase", "signup"] {
            self.gig(scope, id, action);
        }
        let rulebook = rules::draw(self.rng);
        self.deeds.push(rulebook_deed(scope, id, 1, START_MS, &rulebook, START_MS, partitions));
        self.deeds.push(campaign_deed(scope, id, 2, CampaignStatus::Active, START_MS, partitions));
        let mut campaign = CampaignCast { id, codes: Vec::new(), links: Vec::new() };
        for aktvator in aktvators {
            campaign.codes.push(self.code(scope, id, *aktvator));
            campaign.links.push(self.link(scope, id, *aktvator));
        }
        campaign
    }

    fn gig(&mut self, scope: Scope, campaign_id: CampaignId, action: &str) {
        let id = GigId::new(START_MS, self.rng.random());
        let gig = entity::Gig {
            id,
            organization_id: scope.organization,
            mode: scope.mode,
            campaign_id,
            title: action.to_owned(),
            action_type: action.to_owned(),
            status: GigStatus::Published,
            deleted: false,
            created_at: Timestamp::from_ms(START_MS),
            version: 1,
        };
        let body = Body::Gig(proto::GigState {
            id: id.to_proto(),
            version: 1,
            campaign_id: campaign_id.to_proto(),
            action_type: action.to_owned(),
            status: gig.status.as_str().to_owned(),
        });
        let command = Some(command(scope, START_MS, body));
        let partition = self.partitions;
        let change = change(Kind::Gig, scope, id.to_string(), 1, json(&gig), command, partition);
        self.deeds.push(Deed { label: format!("gig {id}"), change });
    }

    fn code(&mut self, scope: Scope, campaign: CampaignId, aktvator: AktvatorId) -> String {
        let code = format!("C{:08X}", self.rng.random::<u32>());
        let document = entity::Code {
            code: code.clone(),
            organization_id: scope.organization,
            mode: scope.mode,
            campaign_id: campaign,
            aktvator_id: aktvator,
            link_id: None,
            archived: false,
            created_at: Timestamp::from_ms(START_MS),
            version: 1,
        };
        let body = Body::Code(proto::CodeState {
            code: code.clone(),
            version: 1,
            campaign_id: campaign.to_proto(),
            aktvator_id: aktvator.to_proto(),
            link_id: None,
            archived: false,
        });
        let command = Some(command(scope, START_MS, body));
        let json = json(&document);
        let mut change = change(Kind::Code, scope, code.clone(), 1, json, command, self.partitions);
        change.uniques.push(format!("code:{code}"));
        self.deeds.push(Deed { label: format!("code {code}"), change });
        code
    }

    fn link(
        &mut self,
        scope: Scope,
        campaign: CampaignId,
        aktvator: AktvatorId,
    ) -> (LinkId, String) {
        let id = LinkId::new(START_MS, self.rng.random());
        let code = format!("L{:08X}", self.rng.random::<u32>());
        let link = entity::Link {
            id,
            organization_id: scope.organization,
            mode: scope.mode,
            campaign_id: campaign,
            aktvator_id: aktvator,
            target_url: "https://shop.example/landing".to_owned(),
            code: code.clone(),
            archived: false,
            created_at: Timestamp::from_ms(START_MS),
            version: 1,
        };
        let body = Body::Link(proto::LinkState {
            id: id.to_proto(),
            version: 1,
            campaign_id: campaign.to_proto(),
            aktvator_id: aktvator.to_proto(),
            code: code.clone(),
            archived: false,
        });
        let command = Some(command(scope, START_MS, body));
        let json = json(&link);
        let mut change =
            change(Kind::Link, scope, id.to_string(), 1, json, command, self.partitions);
        change.uniques.push(format!("code:{code}"));
        self.deeds.push(Deed { label: format!("link {id}"), change });
        (id, code)
    }
}

/// A campaign in a version and status.
pub(crate) fn campaign_deed(
    scope: Scope,
    id: CampaignId,
    version: u64,
    status: CampaignStatus,
    now_ms: i64,
    partitions: u16,
) -> Deed {
    let campaign = entity::Campaign {
        id,
        organization_id: scope.organization,
        mode: scope.mode,
        name: "Simulated".to_owned(),
        description: None,
        status,
        deleted: false,
        created_at: Timestamp::from_ms(START_MS),
        version,
    };
    let body = Body::Campaign(proto::CampaignState {
        id: id.to_proto(),
        version,
        status: status.as_str().to_owned(),
        name: campaign.name.clone(),
    });
    let command = Some(command(scope, now_ms, body));
    let json = json(&campaign);
    let change = change(Kind::Campaign, scope, id.to_string(), version, json, command, partitions);
    Deed { label: format!("campaign {id} v{version} {}", status.as_str()), change }
}

/// An aktvator in a version and status.
pub(crate) fn aktvator_deed(
    scope: Scope,
    id: AktvatorId,
    version: u64,
    status: AktvatorStatus,
    now_ms: i64,
    partitions: u16,
) -> Deed {
    let aktvator = entity::Aktvator {
        id,
        organization_id: scope.organization,
        mode: scope.mode,
        name: "Simulated".to_owned(),
        external_id: None,
        country: None,
        group: None,
        tags: Vec::new(),
        status,
        created_at: Timestamp::from_ms(START_MS),
        version,
    };
    let body = Body::Aktvator(proto::AktvatorState {
        id: id.to_proto(),
        version,
        status: status.as_str().to_owned(),
        country: None,
        group: None,
        tags: Vec::new(),
        joined_at_ms: START_MS,
    });
    let command = Some(command(scope, now_ms, body));
    let json = json(&aktvator);
    let change = change(Kind::Aktvator, scope, id.to_string(), version, json, command, partitions);
    Deed { label: format!("aktvator {id} v{version} {}", status.as_str()), change }
}

/// A version of a campaign's rulebook.
pub(crate) fn rulebook_deed(
    scope: Scope,
    campaign_id: CampaignId,
    version: u64,
    effective_from_ms: i64,
    rulebook: &Value,
    now_ms: i64,
    partitions: u16,
) -> Deed {
    let document = entity::RulebookVersion {
        campaign_id,
        version,
        effective_from: Timestamp::from_ms(effective_from_ms),
        change_note: None,
        rulebook: rulebook.clone(),
        created_at: Timestamp::from_ms(now_ms),
    };
    let body = Body::Rulebook(proto::RulebookState {
        campaign_id: campaign_id.to_proto(),
        version,
        effective_from_ms,
        json: Bytes::from(rulebook.to_string()),
    });
    let command = Some(command(scope, now_ms, body));
    let id = format!("{campaign_id}/{version}");
    let mut change = change(Kind::Rulebook, scope, id, 1, json(&document), command, partitions);
    change.document.version = version;
    Deed { label: format!("rulebook of {campaign_id} v{version}: {rulebook}"), change }
}

/// A record of the events log.
pub(crate) fn command(scope: Scope, accepted_at_ms: i64, body: Body) -> (Scope, Bytes) {
    let record = proto::Record {
        organization: scope.organization.to_proto(),
        mode: proto::Mode::from(scope.mode).into(),
        accepted_at_ms,
        body: Some(body),
    };
    (scope, record.encode_to_vec().into())
}

fn json<T: serde::Serialize>(document: &T) -> String {
    serde_json::to_string(document).unwrap_or_default()
}

fn change(
    kind: Kind,
    scope: Scope,
    id: String,
    version: u64,
    json: String,
    command: Option<(Scope, Bytes)>,
    partitions: u16,
) -> Change {
    let document = Document {
        kind,
        organization: Some(scope.organization),
        mode: Some(scope.mode),
        id,
        parent: None,
        version,
        created_at: Timestamp::from_ms(START_MS),
        json,
    };
    let expected = if version == 1 { Expected::Absent } else { Expected::Version(version - 1) };
    let command = command.map(|(scope, record)| (scope.partition(partitions), record));
    Change { document, expected, uniques: Vec::new(), command }
}
