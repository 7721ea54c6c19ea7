//! What happens in a run: events of all kinds, repeats, money, changes of rules and states, clicks, decisions
//! about rewards, reversals, damage, a second owner.

use bytes::Bytes;
use rand::RngExt;
use schemas::entity::{self, AktvatorStatus, CampaignStatus, TopUpStatus};
use schemas::hash;
use schemas::id::{ConversionEventId, PayoutId, TopUpId};
use schemas::money::{Currency, Money};
use schemas::partition::Scope;
use schemas::proto::{self, PayoutAction, RewardAction, record::Body, reverse_event::Event};
use schemas::time::Timestamp;
use serde_json::{Value, json};
use storage::catalog::{Change, Document, Expected, Kind};

use crate::cast::{self, Deed};
use crate::clients::Order;
use crate::rules;
use crate::world::{PARTITIONS, World};

const DAY_MS: i64 = 86_400_000;
/// Events of one batch.
const BATCH_MAX: usize = 12;

/// One thing that happens.
pub(crate) enum Action {
    /// A client sends events.
    Send(Order),
    /// Something is stored in the catalog, with its command.
    Store(Deed),
    /// A visitor follows a link; the click id is used by later events of the tenant.
    Click { tenant: usize, code: String },
    /// Bytes that are no record reach the log.
    Damage { partition: u16, bytes: Vec<u8> },
    /// Someone decides about a reward, or takes an event back.
    Command { label: String, partition: u16, record: Bytes },
    /// A second evaluator takes all partitions over.
    Rival,
    /// Nothing for a while, in milliseconds.
    Rest(u64),
}

impl World {
    /// Draws what happens next.
    pub(crate) fn draw(&mut self) -> Action {
        match self.rng.random_range(0..100) {
            0..40 => self.send(1),
            40..50 => {
                let events = self.rng.random_range(2..=BATCH_MAX);
                self.send(events)
            }
            50..59 => self.send_again(false),
            59..63 => self.send_again(true),
            63..69 => self.top_up(),
            69..74 => self.new_rules(),
            74..77 => self.campaign_status(),
            77..80 => self.aktvator_status(),
            80..84 => self.click(),
            84..86 => self.damage(),
            86..90 => self.move_reward(),
            90..93 => self.reverse(),
            93..95 => self.payout(),
            95..97 => self.move_payout(),
            97..98 if self.rng.random_bool(0.5) => self.debit(),
            97..98 => Action::Rival,
            _ => Action::Rest(self.rest()),
        }
    }

    /// Mostly moments, seldom hours, so that days end.
    fn rest(&mut self) -> u64 {
        if self.rng.random_bool(0.1) {
            self.rng.random_range(3_600_000..40_000_000)
        } else {
            self.rng.random_range(1..3_000)
        }
    }

    fn tenant(&mut self) -> usize {
        self.rng.random_range(0..self.tenants.len())
    }

    fn send(&mut self, events: usize) -> Action {
        let tenant = self.tenant();
        let events = (0..events).map(|_| self.event(tenant)).collect();
        Action::Send(self.order(tenant, events))
    }

    fn order(&mut self, tenant: usize, events: Vec<Value>) -> Order {
        let number = self.next_order;
        self.next_order += 1;
        self.sent.extend(events.iter().map(|event| (tenant, event.clone())));
        let Self { tenants, .. } = self;
        let tenant = &tenants[tenant];
        Order { number, scope: tenant.scope, token: tenant.token.clone(), events }
    }

    /// An event that was sent before, as it was or with another body.
    fn send_again(&mut self, changed: bool) -> Action {
        if self.sent.is_empty() {
            return self.send(1);
        }
        let (tenant, mut event) = self.sent[self.rng.random_range(0..self.sent.len())].clone();
        if changed {
            event["amount"] = json!(self.rng.random_range(0..20_000));
            event["currency"] = json!("USD");
        }
        Action::Send(self.order(tenant, vec![event]))
    }

    fn event(&mut self, tenant: usize) -> Value {
        let of = self.tenants[tenant].clone();
        let campaign = &of.campaigns[self.rng.random_range(0..of.campaigns.len())];
        let event_type = match self.rng.random_range(0..20) {
            0 => "refund",
            1..=4 => "signup",
            _ => "purchase",
        };
        let key = format!("order-{}", self.rng.random::<u32>());
        let mut event = json!({ "eventType": event_type, "idempotencyKey": key });
        if self.rng.random_bool(0.9) {
            event["amount"] = json!(self.rng.random_range(0..20_000));
            event["currency"] = json!("USD");
        }
        if self.rng.random_bool(0.8) {
            event["customer"] =
                json!({ "id": format!("customer-{}", self.rng.random_range(0..8)) });
        }
        let named_by_client = self.rng.random_bool(0.5);
        if !self.attribute(tenant, &mut event) || named_by_client {
            event["campaignId"] = json!(campaign.id.to_string());
        }
        match self.rng.random_range(0..20) {
            0 => event["occurredAt"] = self.ago(40 * DAY_MS),
            1..=4 => event["occurredAt"] = self.ago(2 * DAY_MS),
            _ => {}
        }
        event
    }

    /// Gives an event the keys that say whose it is: mostly one, sometimes several, wrong or none. Says
    /// whether it has any.
    fn attribute(&mut self, tenant: usize, event: &mut Value) -> bool {
        let of = self.tenants[tenant].clone();
        let campaign = &of.campaigns[self.rng.random_range(0..of.campaigns.len())];
        let kind = self.rng.random_range(0..20);
        if kind < 12 {
            let code = &campaign.codes[self.rng.random_range(0..campaign.codes.len())];
            event["attributionCode"] = json!(code);
        }
        if (10..16).contains(&kind) {
            let (link, _) = &campaign.links[self.rng.random_range(0..campaign.links.len())];
            event["attributionLinkId"] = json!(link.to_string());
        }
        if kind == 16 {
            event["attributionCode"] = json!("NOSUCHCODE");
        }
        let clicks = self.click_ids.iter().filter(|(whose, _)| *whose == tenant);
        let clicks: Vec<String> = clicks.map(|(_, click)| click.clone()).collect();
        let clicked = kind >= 17 && !clicks.is_empty();
        if clicked {
            event["clickId"] = json!(clicks[self.rng.random_range(0..clicks.len())]);
        }
        kind <= 16 || clicked
    }

    fn ago(&mut self, at_most_ms: i64) -> Value {
        let at_ms = self.now_ms - self.rng.random_range(0..at_most_ms);
        json!(Timestamp::from_ms(at_ms).to_string())
    }

    /// At the end everyone pays for all that is held: long chains of releases, with nothing after them
    /// that would hide a lost one.
    /// Says whether this was the first time.
    pub(crate) fn pay_up(&mut self) -> bool {
        if std::mem::replace(&mut self.paid_up, true) {
            return false;
        }
        for tenant in 0..self.tenants.len() {
            let deed = self.top_up_of(tenant, 10_000_000);
            self.deeds.push_back(deed);
        }
        true
    }

    fn top_up(&mut self) -> Action {
        let (tenant, amount) = (self.tenant(), self.rng.random_range(100..20_000));
        Action::Store(self.top_up_of(tenant, amount))
    }

    fn top_up_of(&mut self, tenant: usize, amount: i64) -> Deed {
        let scope = self.tenants[tenant].scope;
        let id = TopUpId::new(self.now_ms, self.rng.random());
        let top_up = entity::TopUp {
            id,
            organization_id: scope.organization,
            mode: scope.mode,
            money: Money { amount, currency: Currency::USD },
            status: TopUpStatus::Pending,
            created_at: Timestamp::from_ms(self.now_ms),
            version: 1,
        };
        let body = Body::WalletCredit(proto::WalletCredit {
            command_id: id.to_proto(),
            amount,
            currency: "USD".to_owned(),
            provider: "simulated".to_owned(),
            provider_ref: String::new(),
        });
        let (_, record) = cast::command(scope, self.now_ms, body);
        let document = Document {
            kind: Kind::TopUp,
            organization: Some(scope.organization),
            mode: Some(scope.mode),
            id: id.to_string(),
            parent: None,
            version: 1,
            created_at: Timestamp::from_ms(self.now_ms),
            json: serde_json::to_string(&top_up).unwrap_or_default(),
        };
        let command = Some((scope.partition(PARTITIONS), record));
        let change = Change { document, expected: Expected::Absent, uniques: Vec::new(), command };
        Deed { label: format!("top-up {id} of {amount}"), change }
    }

    fn new_rules(&mut self) -> Action {
        let tenant = self.tenant();
        let of = self.tenants[tenant].clone();
        let campaign = of.campaigns[self.rng.random_range(0..of.campaigns.len())].id;
        let version = self.versions.rulebooks.entry(campaign).or_insert(1);
        *version += 1;
        let version = *version;
        let effective_from = self.now_ms + self.rng.random_range(-1_000..600_000);
        let rulebook = rules::draw(&mut self.rng);
        let now = self.now_ms;
        let deed = cast::rulebook_deed(
            of.scope,
            campaign,
            version,
            effective_from,
            &rulebook,
            now,
            PARTITIONS,
        );
        Action::Store(deed)
    }

    fn campaign_status(&mut self) -> Action {
        let tenant = self.tenant();
        let of = self.tenants[tenant].clone();
        let campaign = of.campaigns[self.rng.random_range(0..of.campaigns.len())].id;
        let version = self.versions.campaigns.entry(campaign).or_insert(2);
        *version += 1;
        // Version 2 was the first active one.
        let status =
            if *version % 2 == 1 { CampaignStatus::Paused } else { CampaignStatus::Active };
        let (version, now) = (*version, self.now_ms);
        Action::Store(cast::campaign_deed(of.scope, campaign, version, status, now, PARTITIONS))
    }

    fn aktvator_status(&mut self) -> Action {
        let tenant = self.tenant();
        let of = self.tenants[tenant].clone();
        let aktvator = of.aktvators[self.rng.random_range(0..of.aktvators.len())];
        let version = self.versions.aktvators.entry(aktvator).or_insert(1);
        *version += 1;
        let status = if version.is_multiple_of(2) {
            AktvatorStatus::Banned
        } else {
            AktvatorStatus::Approved
        };
        let (version, now) = (*version, self.now_ms);
        Action::Store(cast::aktvator_deed(of.scope, aktvator, version, status, now, PARTITIONS))
    }

    fn click(&mut self) -> Action {
        let tenant = self.tenant();
        let of = self.tenants[tenant].clone();
        let campaign = &of.campaigns[self.rng.random_range(0..of.campaigns.len())];
        let (_, code) = campaign.links[self.rng.random_range(0..campaign.links.len())].clone();
        Action::Click { tenant, code }
    }

    /// Of an event that was sent; seldom of one that is only going to be.
    fn some_event(&mut self) -> (Scope, ConversionEventId, String) {
        if self.sent.is_empty() || self.rng.random_bool(0.1) {
            let tenant = self.tenant();
            let event = self.event(tenant);
            self.sent.push((tenant, event));
        }
        let (tenant, event) = &self.sent[self.rng.random_range(0..self.sent.len())];
        let scope = self.tenants[*tenant].scope;
        let key = event["idempotencyKey"].as_str().unwrap_or_default();
        let event_type = event["eventType"].as_str().unwrap_or_default().to_owned();
        (scope, hash::event_id(scope, key), event_type)
    }

    fn move_reward(&mut self) -> Action {
        let (scope, event, event_type) = self.some_event();
        let rule = if self.rng.random_bool(0.3) { "bonus" } else { &event_type };
        let rule = format!("{rule}_rule");
        let action = match self.rng.random_range(0..6) {
            0 | 4 | 5 => RewardAction::Approve,
            1 => RewardAction::Reject,
            2 => RewardAction::Hold,
            _ => RewardAction::Release,
        };
        let reward = hash::reward_id(event, &rule);
        let body = Body::MoveReward(proto::MoveReward {
            command_id: self.command_id(),
            reward_id: reward.to_proto(),
            action: action.into(),
            reason: String::new(),
        });
        self.command(scope, format!("{action:?} {reward}"), body)
    }

    fn reverse(&mut self) -> Action {
        let (scope, event, _) = self.some_event();
        let amount = self.rng.random_bool(0.6).then(|| self.rng.random_range(1..15_000));
        let reason = if self.rng.random_bool(0.2) { "fraud" } else { "refund" };
        let body = Body::ReverseEvent(proto::ReverseEvent {
            command_id: self.command_id(),
            event: Some(Event::EventId(event.to_proto())),
            amount,
            reason: reason.to_owned(),
            ..Default::default()
        });
        self.command(scope, format!("reverse {amount:?} of {event}"), body)
    }

    /// Of someone who may have earned something.
    fn payout(&mut self) -> Action {
        let (scope, ..) = self.some_event();
        let tenants = self.tenants.iter().filter(|tenant| tenant.scope == scope);
        let aktvators: Vec<_> = tenants.flat_map(|tenant| tenant.aktvators.clone()).collect();
        let aktvator = aktvators[self.rng.random_range(0..aktvators.len())];
        let payout = PayoutId::from_u128(self.rng.random());
        self.payouts.push((scope, payout));
        let back_ms = [0, 0, 0, 3_600_000][self.rng.random_range(0..4)];
        let body = Body::CreatePayout(proto::CreatePayout {
            command_id: payout.to_proto(),
            aktvator_id: aktvator.to_proto(),
            cutoff_ms: self.now_ms - back_ms,
            minimum: [0, 0, 0, 200][self.rng.random_range(0..4)],
        });
        self.command(scope, format!("{payout} of {aktvator}"), body)
    }

    fn move_payout(&mut self) -> Action {
        let Some((scope, payout)) = self.payouts.last().copied() else { return self.payout() };
        let action = match self.rng.random_range(0..10) {
            0..4 => PayoutAction::Approve,
            4 => PayoutAction::Process,
            5..7 => PayoutAction::Pay,
            7 => PayoutAction::Fail,
            8 => PayoutAction::Retry,
            _ => PayoutAction::Cancel,
        };
        let body = Body::MovePayout(proto::MovePayout {
            command_id: self.command_id(),
            payout_id: payout.to_proto(),
            action: action.into(),
            ..Default::default()
        });
        self.command(scope, format!("{action:?} {payout}"), body)
    }

    fn debit(&mut self) -> Action {
        let (scope, ..) = self.some_event();
        let amount = self.rng.random_range(1..3_000);
        let body = Body::WalletDebit(proto::WalletDebit {
            command_id: self.command_id(),
            amount,
            currency: "USD".to_owned(),
            reason: String::new(),
        });
        self.command(scope, format!("debit {amount}"), body)
    }

    fn command_id(&mut self) -> Bytes {
        Bytes::copy_from_slice(&self.rng.random::<u128>().to_be_bytes())
    }

    fn command(&self, scope: Scope, label: String, body: Body) -> Action {
        let (_, record) = cast::command(scope, self.now_ms, body);
        Action::Command { label, partition: scope.partition(PARTITIONS), record }
    }

    fn damage(&mut self) -> Action {
        let partition = self.rng.random_range(0..PARTITIONS);
        let bytes = (0..self.rng.random_range(1..40)).map(|_| 0xff).collect();
        Action::Damage { partition, bytes }
    }
}
