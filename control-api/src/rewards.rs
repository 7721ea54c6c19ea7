//! `/rewards`: money owed because of a decision, and why.

use engine::decision::CommandCode;
use engine::key::{IndexKind, Key};
use http::Method;
use schemas::fault::ApiError;
use schemas::id::{AktvatorId, CampaignId, ConversionEventId, GigId, LinkId, PayoutId, RewardId};
use schemas::input::Fields;
use schemas::partition::Scope;
use schemas::proto::{self, RewardAction, record::Body};
use schemas::time::Timestamp;
use schemas::view::RuleView;
use serde::Serialize;
use utoipa::ToSchema;

use crate::Config;
use crate::call::{Call, Input, Reply};
use crate::events::passes;
use crate::history::{self, ById};
use crate::page::{Listing, PAGE};
use crate::query::Filter;
use crate::route::{Access, Answer, Route, parameter};

/// The operations.
pub(crate) fn routes() -> Vec<Route> {
    let read = Access::Key("rewards:read");
    vec![
        Route::new(Method::GET, "/rewards", "listRewards", read, list)
            .summary("List rewards, newest first.")
            .query(PAGE)
            .query(&[
                parameter("campaignId", "Only those of this campaign."),
                parameter("aktvatorId", "Only those of this aktvator."),
                parameter(
                    "status",
                    "pending, approved, processing, paid, held, rejected, reversed, clawed_back.",
                ),
                parameter("eventId", "Only those of this event."),
            ])
            .gives_page::<Reward>(),
        Route::new(Method::GET, "/rewards/{id}", "getReward", read, get)
            .summary(
                "Fetch a single reward, with the rule, version, arithmetic and caps behind it.",
            )
            .gives::<Reward>(200),
        act("/rewards/{id}/approve", "approveReward", RewardAction::Approve).summary(
            "Approve a reward that waits for it. It can be paid out when its days are over.",
        ),
        act("/rewards/{id}/reject", "rejectReward", RewardAction::Reject)
            .summary("Refuse a pending or held reward. Its money, caps and slots are free again."),
        act("/rewards/{id}/hold", "holdReward", RewardAction::Hold)
            .summary("Hold a pending or approved reward, to look at it."),
        act("/rewards/{id}/release", "releaseReward", RewardAction::Release)
            .summary("Release a reward that someone holds."),
    ]
}

/// One thing to do with a reward.
fn act(path: &'static str, name: &'static str, action: RewardAction) -> Route {
    let write = Access::Key("rewards:write");
    Route::new(Method::POST, path, name, write, move |call| move_reward(call, action))
        .takes::<Reason>()
        .gives::<Reward>(200)
        .also_answers(202, "Taken; what comes of it is seen in a moment.")
        .also_answers(409, "The reward's status does not allow it.")
}

/// Why.
#[derive(Debug, ToSchema)]
struct Reason {
    /// In your words, for the reward's timeline and its webhooks; at most 500 bytes.
    reason: Option<String>,
}

impl Input for Reason {
    fn read(fields: &mut Fields<'_, '_>, _: &Config) -> Option<Self> {
        Some(Self { reason: fields.optional_text("reason", 1..=500).map(str::to_owned) })
    }
}

/// Money owed because of a decision.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Reward {
    /// A hash of the event and the rule.
    id: RewardId,
    /// The event that earned it.
    event_id: ConversionEventId,
    /// `conversion`: for the event itself; `tier_adjustment`: what earlier ones earn more since it.
    #[schema(value_type = String)]
    kind: &'static str,
    /// Its campaign.
    campaign_id: CampaignId,
    /// Who earns.
    aktvator_id: AktvatorId,
    /// The gig.
    #[serde(skip_serializing_if = "Option::is_none")]
    gig_id: Option<GigId>,
    /// The link it came through.
    #[serde(skip_serializing_if = "Option::is_none")]
    link_id: Option<LinkId>,
    /// The rule that made it.
    rule_key: String,
    /// The version of the reward rules.
    rulebook_version: u64,
    /// Minor units.
    amount: i64,
    /// ISO 4217.
    currency: String,
    /// `pending`, `approved`, `processing`, `paid`, `held`, `rejected`, `reversed` or `clawed_back`.
    status: String,
    /// Why it is held: `insufficient_funds` or `review`.
    #[serde(skip_serializing_if = "Option::is_none")]
    held_reason: Option<String>,
    /// What of the amount was taken back, minor units.
    reversed_amount: i64,
    /// What of it is owed back since it went into a payout.
    clawed_back_amount: i64,
    /// The payout it goes or went out with.
    #[serde(skip_serializing_if = "Option::is_none")]
    payout_id: Option<PayoutId>,
    /// When its holding period is over.
    available_at: Timestamp,
    /// Does it wait for someone's approval?
    needs_approval: bool,
    /// Did a cap make it smaller?
    capped: bool,
    /// What it would have been without caps.
    #[serde(skip_serializing_if = "Option::is_none")]
    uncapped_amount: Option<i64>,
    /// When the event happened.
    occurred_at: Timestamp,
    /// When it came to be.
    created_at: Timestamp,
    /// What happened to it, oldest first.
    timeline: Vec<Step>,
    /// How it came about; in the answer for a single reward.
    #[serde(skip_serializing_if = "Option::is_none")]
    explain: Option<RuleView>,
}

/// A change of status.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Step {
    /// What it became.
    status: String,
    /// When.
    at: Timestamp,
    /// Why.
    #[serde(skip_serializing_if = "String::is_empty")]
    reason: String,
}

impl Reward {
    fn of(row: proto::RewardRow) -> Option<Self> {
        Some(Self {
            id: RewardId::from_proto(&row.id)?,
            event_id: ConversionEventId::from_proto(&row.event_id)?,
            kind: match row.kind() {
                proto::RewardKind::Conversion => "conversion",
                proto::RewardKind::TierAdjustment => "tier_adjustment",
            },
            campaign_id: CampaignId::from_proto(&row.campaign_id)?,
            aktvator_id: AktvatorId::from_proto(&row.aktvator_id)?,
            gig_id: row.gig_id.as_deref().and_then(GigId::from_proto),
            link_id: row.link_id.as_deref().and_then(LinkId::from_proto),
            rule_key: row.rule_key,
            rulebook_version: row.rulebook_version,
            amount: row.amount,
            currency: row.currency,
            status: row.status,
            held_reason: row.held_reason,
            reversed_amount: row.reversed_amount,
            clawed_back_amount: row.clawed_back_amount,
            payout_id: row.payout_id.as_deref().and_then(PayoutId::from_proto),
            available_at: Timestamp::from_ms(row.available_at_ms),
            needs_approval: row.needs_approval,
            capped: row.uncapped_amount.is_some(),
            uncapped_amount: row.uncapped_amount,
            occurred_at: Timestamp::from_ms(row.occurred_at_ms),
            created_at: Timestamp::from_ms(row.created_at_ms),
            timeline: row.moves.into_iter().map(Step::of).collect(),
            explain: None,
        })
    }
}

impl Step {
    pub(crate) fn of(step: proto::RewardMove) -> Self {
        Self { status: step.status, at: Timestamp::from_ms(step.at_ms), reason: step.reason }
    }
}

impl ById for proto::RewardRow {
    const INDEX: IndexKind = IndexKind::Rewards;

    fn key(scope: Scope, id: &[u8]) -> Option<Key> {
        RewardId::from_proto(id).map(|id| Key::Reward(scope, id))
    }

    fn named(scope: Scope, id: &str) -> Option<Key> {
        id.parse().ok().map(|id| Key::Reward(scope, id))
    }

    fn position(&self) -> u64 {
        self.position
    }
}

/// What a list of rewards was asked for.
struct Wanted {
    campaign: Option<Filter<CampaignId>>,
    aktvator: Option<Filter<AktvatorId>>,
    status: Option<Filter<String>>,
    event: Option<Filter<ConversionEventId>>,
}

impl Wanted {
    fn admits(&self, row: &proto::RewardRow) -> bool {
        passes(self.campaign.as_ref(), CampaignId::from_proto(&row.campaign_id).as_ref())
            && passes(self.aktvator.as_ref(), AktvatorId::from_proto(&row.aktvator_id).as_ref())
            && passes(self.status.as_ref(), Some(&row.status))
            && passes(self.event.as_ref(), ConversionEventId::from_proto(&row.event_id).as_ref())
    }
}

async fn list(mut call: Call) -> Answer {
    let scope = call.scope()?;
    let wanted = Wanted {
        campaign: call.query.filter("campaignId"),
        aktvator: call.query.filter("aktvatorId"),
        status: call.query.filter("status"),
        event: call.query.filter("eventId"),
    };
    let asked = call.query.page_of::<String>()?;
    let admits = |row: &proto::RewardRow| wanted.admits(row);
    let page = match &wanted.event {
        Some(Filter { values, exclude: false }) => by_events(&call, scope, values, &wanted).await?,
        _ => history::page(&call.parts, scope, &asked, admits).await?,
    };
    Reply::json(200, &page.try_map(Reward::of)?)
}

/// The rewards of a few events: they are named in the events' decisions, so nothing is scanned.
async fn by_events(
    call: &Call,
    scope: Scope,
    events: &[ConversionEventId],
    wanted: &Wanted,
) -> Result<Listing<proto::RewardRow>, ApiError> {
    let keys: Vec<Key> = events.iter().map(|id| Key::Event(scope, *id)).collect();
    let rows: Vec<Option<proto::EventRow>> = call.parts.rows(scope, &keys).await?;
    let decisions = rows.into_iter().flatten().filter_map(|row| row.decision);
    let rewards: Vec<Key> = decisions
        .flat_map(|decision| decision.rules)
        .filter_map(|rule| RewardId::from_proto(rule.reward_id.as_deref()?))
        .map(|id| Key::Reward(scope, id))
        .collect();
    let rows: Vec<Option<proto::RewardRow>> = call.parts.rows(scope, &rewards).await?;
    let data = rows.into_iter().flatten().filter(|row| wanted.admits(row)).collect();
    Ok(Listing { data, has_more: false, next_cursor: None })
}

async fn get(mut call: Call) -> Answer {
    call.query.finish()?;
    let scope = call.scope()?;
    let missing = || ApiError::not_found("reward");
    let id: RewardId = call.id("id", "reward")?;
    let row: Option<proto::RewardRow> = call.parts.row(&Key::Reward(scope, id)).await?;
    let mut reward = Reward::of(row.ok_or_else(missing)?).ok_or_else(ApiError::internal)?;
    reward.explain = explain(&call, scope, &reward).await?;
    Reply::json(200, &reward)
}

/// What becomes of it, or where that takes too long, as it is.
async fn move_reward(mut call: Call, action: RewardAction) -> Answer {
    let scope = call.scope()?;
    let id: RewardId = call.id("id", "reward")?;
    let Reason { reason } = call.input()?;
    let command = |command_id| {
        Body::MoveReward(proto::MoveReward {
            command_id,
            reward_id: id.to_proto(),
            action: action.into(),
            reason: reason.unwrap_or_default(),
        })
    };
    let missing = || ApiError::not_found("reward");
    let code = call.parts.decide_new(scope, call.now, command).await?;
    if code.as_deref() == Some(CommandCode::UnknownReward.as_str()) {
        return Err(missing());
    }
    let row: Option<proto::RewardRow> = call.parts.row(&Key::Reward(scope, id)).await?;
    let reward = Reward::of(row.ok_or_else(missing)?).ok_or_else(ApiError::internal)?;
    Reply::decided(code.as_deref(), &reward, || match reward.held_reason.as_deref() {
        Some("insufficient_funds") => "The reward waits for funds.".to_owned(),
        _ => format!("The reward is {}.", reward.status),
    })
}

/// What the rule said of the event.
async fn explain(call: &Call, scope: Scope, reward: &Reward) -> Result<Option<RuleView>, ApiError> {
    let row: Option<proto::EventRow> = call.parts.row(&Key::Event(scope, reward.event_id)).await?;
    let decision = row.and_then(|row| row.decision);
    let id = reward.id.to_proto();
    let is_its = |rule: &&proto::RuleDecision| rule.reward_id.as_ref() == Some(&id);
    Ok(decision.iter().flat_map(|decision| &decision.rules).find(is_its).map(RuleView::of))
}
