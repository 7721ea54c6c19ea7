//! A decided event as the API shows it: `GET /events/:id`, and `decision` in an ingest answer that
//! waited.
//!
//! Built from the state row alone, so the edge and the control API cannot tell different stories.

use prost::Message as _;
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::explain;
use crate::id::{AktvatorId, CampaignId, ConversionEventId, GigId, LinkId, RewardId};
use crate::proto;
use crate::time::Timestamp;

/// The row does not hold what every event row holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the stored event cannot be read")]
pub struct UnreadableEvent;

/// Where an event is, or what became of a repeat of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum EventStatus {
    /// On the log, not yet decided.
    Queued,
    /// Decided; `decision` says how.
    Evaluated,
    /// A repeat of an event that was decided before; that decision stands.
    Duplicate,
    /// The idempotency key was used before with another body; nothing is rewarded.
    Conflict,
    /// Refused before it reached the log.
    Rejected,
}

impl EventStatus {
    /// As in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Evaluated => "evaluated",
            Self::Duplicate => "duplicate",
            Self::Conflict => "conflict",
            Self::Rejected => "rejected",
        }
    }
}

/// A conversion event, and what became of it.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct EventView {
    /// A hash of organization, mode and idempotency key.
    pub event_id: ConversionEventId,
    /// Where it is.
    pub status: EventStatus,
    /// What the client called it; unique in (organization, mode).
    pub idempotency_key: String,
    /// What happened.
    pub event_type: String,
    /// As sent; the campaign it was decided for stands in `attribution`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub campaign_id: Option<CampaignId>,
    /// As sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gig_id: Option<GigId>,
    /// As sent, upper case.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attribution_code: Option<String>,
    /// As sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attribution_link_id: Option<LinkId>,
    /// The client's own reference.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external_ref: Option<String>,
    /// Minor units of `currency`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub amount: Option<i64>,
    /// ISO 4217.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub currency: Option<String>,
    /// How many.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quantity: Option<i64>,
    /// Who bought.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub customer: Option<CustomerView>,
    /// What was bought.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub items: Vec<ItemView>,
    /// As sent, less the plain `email`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub metadata: Option<Box<RawValue>>,
    /// When it happened: as sent, or `acceptedAt`.
    pub occurred_at: Timestamp,
    /// When it was taken; rulebook versions and windows go by it.
    pub accepted_at: Timestamp,
    /// How it was decided; absent while queued.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decision: Option<DecisionView>,
    /// Whose it is; absent while queued.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attribution: Option<AttributionView>,
    /// What of it was taken back, oldest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub reversals: Vec<ReversalView>,
    /// What happened to it, oldest first.
    pub timeline: Vec<MomentView>,
}

/// What of an event was taken back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReversalView {
    /// When.
    pub at: Timestamp,
    /// Why, like `refund`.
    pub reason: String,
    /// What of the event's amount it took, in minor units.
    pub amount: i64,
    /// What of the event's quantity, where it was named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quantity: Option<i64>,
    /// Is nothing left of the event?
    pub whole: bool,
}

/// The customer of an event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct CustomerView {
    /// The organization's own id of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Lower-case hex of the SHA-256 of the trimmed, lower-cased address; the address is not kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub email_hash: Option<String>,
    /// ISO 3166-1 alpha-2.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub country: Option<String>,
    /// As sent, like `new`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
}

/// One line of an order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ItemView {
    /// Stock keeping unit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sku: Option<String>,
    /// A name rules may ask for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub category: Option<String>,
    /// Minor units of the event's currency.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub amount: Option<i64>,
    /// How many.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quantity: Option<i64>,
}

/// How an event was decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct DecisionView {
    /// Stable: `rewarded`, `campaign_not_active`, ...
    pub code: String,
    /// The cap, field or entity that made it so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// The first rule that rewarded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule_key: Option<String>,
    /// The rulebook in force.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rulebook_version: Option<u64>,
    /// What it earned.
    pub rewards: Vec<RewardView>,
    /// What each rule said.
    pub rules: Vec<RuleView>,
    /// Remarks that changed nothing.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// A reward, as far as the decision knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RewardView {
    /// A hash of the event and the rule.
    pub reward_id: RewardId,
    /// Minor units.
    pub amount: i64,
    /// ISO 4217.
    pub currency: String,
    /// Where the reward is now, where the reader looked it up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
}

/// What one rule said of the event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RuleView {
    /// The rule.
    pub rule_key: String,
    /// Stable: `rewarded`, `conditions_not_met`, ...
    pub code: String,
    /// The cap or field that made it so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Each step, like `percent 2000 bps of 4900 = 980`.
    pub arithmetic: Vec<String>,
    /// The caps that were asked.
    pub caps: Vec<CapView>,
}

/// What one cap allowed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct CapView {
    /// The cap.
    pub key: String,
    /// Whose use it counts: `campaign`, `aktvator`, `customer`, ...
    #[schema(value_type = String)]
    pub scope: &'static str,
    /// `amount`, `count` or `units`.
    #[schema(value_type = String)]
    pub metric: &'static str,
    /// Its limit.
    pub limit: i64,
    /// Used before this event.
    pub used_before: i64,
    /// Taken by this event.
    pub taken: i64,
    /// Which day, week, month, ... of the rulebook's zone it counts: `2026-01`.
    pub bucket: String,
    /// Did it make the reward smaller, or refuse it?
    pub binding: bool,
}

/// Whose an event is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct AttributionView {
    /// The campaign it was decided for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub campaign_id: Option<CampaignId>,
    /// The gig it was decided for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gig_id: Option<GigId>,
    /// Who earns.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aktvator_id: Option<AktvatorId>,
    /// The link.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub link_id: Option<LinkId>,
    /// The code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// How the aktvator was found: `link`, `click`, `code` or `customer`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

/// A moment in an event's life.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct MomentView {
    /// When.
    pub at: Timestamp,
    /// Stable: `clicked`, `accepted`, `evaluated`; the control API adds what became of the rewards.
    pub what: String,
}

impl EventView {
    /// The view of a decided event.
    ///
    /// # Errors
    /// [`UnreadableEvent`] where the row holds no conversion event.
    pub fn of(row: &proto::EventRow) -> Result<Self, UnreadableEvent> {
        let record = proto::Record::decode(row.record.clone()).map_err(|_| UnreadableEvent)?;
        let view = Self::of_record(record, row.decision.as_ref())?;
        Ok(Self { reversals: row.reversals.iter().map(ReversalView::of).collect(), ..view })
    }

    /// The view of an event as it stands on the log, with its decision where there is one.
    ///
    /// # Errors
    /// [`UnreadableEvent`] where the record holds no conversion event.
    pub fn of_record(
        record: proto::Record,
        decision: Option<&proto::Decision>,
    ) -> Result<Self, UnreadableEvent> {
        let Some(proto::record::Body::Conversion(event)) = record.body else {
            return Err(UnreadableEvent);
        };
        let accepted_at = Timestamp::from_ms(record.accepted_at_ms);
        let status = if decision.is_some() { EventStatus::Evaluated } else { EventStatus::Queued };
        Ok(Self {
            event_id: ConversionEventId::from_proto(&event.event_id).ok_or(UnreadableEvent)?,
            status,
            campaign_id: event.campaign_id.as_deref().and_then(CampaignId::from_proto),
            gig_id: event.gig_id.as_deref().and_then(GigId::from_proto),
            attribution_link_id: event.attribution_link_id.as_deref().and_then(LinkId::from_proto),
            timeline: timeline(accepted_at, event.click.as_ref(), decision),
            idempotency_key: event.idempotency_key,
            event_type: event.event_type,
            attribution_code: event.attribution_code,
            external_ref: event.external_ref,
            amount: event.amount,
            currency: event.currency,
            quantity: event.quantity,
            customer: event.customer.map(customer),
            items: event.items.into_iter().map(item).collect(),
            metadata: metadata(&event.metadata)?,
            occurred_at: event.occurred_at_ms.map_or(accepted_at, Timestamp::from_ms),
            accepted_at,
            decision: decision.map(DecisionView::of),
            attribution: decision.map(AttributionView::of),
            reversals: Vec::new(),
        })
    }
}

impl ReversalView {
    /// The view of one reversal.
    pub fn of(reversal: &proto::Reversal) -> Self {
        Self {
            at: Timestamp::from_ms(reversal.at_ms),
            reason: reversal.reason.clone(),
            amount: reversal.revenue,
            quantity: reversal.quantity,
            whole: reversal.whole,
        }
    }
}

impl DecisionView {
    /// The view of a decision.
    pub fn of(decision: &proto::Decision) -> Self {
        let rewarded = |rule: &&proto::RuleDecision| rule.reward_id.is_some();
        let first = decision.rules.iter().find(rewarded);
        Self {
            code: decision.code.clone(),
            detail: present(&decision.detail),
            rule_key: first.map(|rule| rule.rule_key.clone()),
            rulebook_version: decision.rulebook_version,
            rewards: decision.rules.iter().filter_map(reward).collect(),
            rules: decision.rules.iter().map(RuleView::of).collect(),
            notes: decision.notes.clone(),
        }
    }
}

impl AttributionView {
    fn of(decision: &proto::Decision) -> Self {
        Self {
            campaign_id: decision.campaign_id.as_deref().and_then(CampaignId::from_proto),
            gig_id: decision.gig_id.as_deref().and_then(GigId::from_proto),
            aktvator_id: decision.aktvator_id.as_deref().and_then(AktvatorId::from_proto),
            link_id: decision.link_id.as_deref().and_then(LinkId::from_proto),
            code: decision.code_used.clone(),
            by: decision.attributed_by.clone(),
        }
    }
}

fn reward(rule: &proto::RuleDecision) -> Option<RewardView> {
    Some(RewardView {
        reward_id: RewardId::from_proto(rule.reward_id.as_deref()?)?,
        amount: rule.amount,
        currency: rule.currency.clone(),
        status: None,
    })
}

impl RuleView {
    /// The view of what a rule said.
    pub fn of(rule: &proto::RuleDecision) -> Self {
        Self {
            rule_key: rule.rule_key.clone(),
            code: rule.code.clone(),
            detail: present(&rule.detail),
            arithmetic: explain::arithmetic(rule),
            caps: rule.caps.iter().map(cap).collect(),
        }
    }
}

fn cap(cap: &proto::CapUse) -> CapView {
    CapView {
        key: cap.key.clone(),
        scope: explain::cap_scope(cap.scope()),
        metric: explain::cap_metric(cap.metric()),
        limit: cap.limit,
        used_before: cap.used_before,
        taken: cap.taken,
        bucket: explain::cap_bucket(cap),
        binding: cap.binding,
    }
}

fn customer(customer: proto::Customer) -> CustomerView {
    CustomerView {
        id: customer.id,
        email_hash: customer.email_hash.map(|hash| hex(&hash)),
        country: customer.country,
        status: customer.status,
    }
}

fn item(item: proto::Item) -> ItemView {
    ItemView {
        sku: item.sku,
        category: item.category,
        amount: item.amount,
        quantity: item.quantity,
    }
}

fn metadata(bytes: &[u8]) -> Result<Option<Box<RawValue>>, UnreadableEvent> {
    if bytes.is_empty() {
        return Ok(None);
    }
    serde_json::from_slice(bytes).map(Some).map_err(|_| UnreadableEvent)
}

fn timeline(
    accepted_at: Timestamp,
    click: Option<&proto::ClickToken>,
    decision: Option<&proto::Decision>,
) -> Vec<MomentView> {
    let moment = |at, what: &str| MomentView { at, what: what.to_owned() };
    let clicked = click.map(|click| moment(Timestamp::from_ms(click.clicked_at_ms), "clicked"));
    let decided = decision.map(|d| moment(Timestamp::from_ms(d.decided_at_ms), "evaluated"));
    clicked.into_iter().chain([moment(accepted_at, "accepted")]).chain(decided).collect()
}

fn present(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests;
