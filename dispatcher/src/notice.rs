//! Says what an outcome tells the outside: from one outcome to the notices it causes, each with the
//! exact bytes that endpoints get. Pure.

use bytes::Bytes;
use schemas::hash;
use schemas::id::{
    ActionAttemptId, AktvatorId, CampaignId, ConversionEventId, GigId, NoticeId, OrganizationId,
    PayoutId, RewardId, TopUpId,
};
use schemas::notice::NoticeType;
use schemas::partition::{Mode, Scope};
use schemas::proto;
use schemas::proto::outcome::Body;
use schemas::time::Timestamp;
use serde::Serialize;

/// The version of the API whose shapes the payloads have.
const API_VERSION: &str = "v1";

/// An outcome that cannot be turned into notices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// A body this build does not know: a newer one wrote it.
    #[error("the outcome is of a kind that this build does not know")]
    Unknown,
    /// A field does not hold what it must.
    #[error("the outcome has a field that is not what it must be")]
    Malformed,
}

/// Where an outcome stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The log's.
    pub identity: u64,
    /// Of that log.
    pub partition: u16,
    /// In that partition.
    pub offset: u64,
}

/// Something that happened, on its way to whoever subscribed to its type.
#[derive(Clone, Debug, PartialEq)]
pub struct Notice {
    /// The same in every delivery and attempt, and whenever the outcome is read again.
    pub id: NoticeId,
    /// What it is about.
    pub kind: NoticeType,
    /// Whose.
    pub scope: Scope,
    /// When what it tells was accepted.
    pub created_at: Timestamp,
    data: Data,
}

/// The `data` of a payload, by type.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
enum Data {
    #[serde(rename_all = "camelCase")]
    Verified {
        action_attempt_id: ActionAttemptId,
        aktvator_id: AktvatorId,
        campaign_id: CampaignId,
        #[serde(skip_serializing_if = "Option::is_none")]
        gig_id: Option<GigId>,
        event_id: ConversionEventId,
        /// Of all rewards together, in minor units.
        reward_amount: i64,
        currency: String,
        reward_ids: Vec<RewardId>,
    },
    #[serde(rename_all = "camelCase")]
    Submitted {
        action_attempt_id: ActionAttemptId,
        aktvator_id: AktvatorId,
        campaign_id: CampaignId,
        gig_id: GigId,
    },
    #[serde(rename_all = "camelCase")]
    Rejected {
        action_attempt_id: ActionAttemptId,
        aktvator_id: AktvatorId,
        campaign_id: CampaignId,
        #[serde(skip_serializing_if = "Option::is_none")]
        gig_id: Option<GigId>,
        event_id: ConversionEventId,
        code: String,
    },
    #[serde(rename_all = "camelCase")]
    Reward {
        reward_id: RewardId,
        #[serde(skip_serializing_if = "Option::is_none")]
        event_id: Option<ConversionEventId>,
        aktvator_id: AktvatorId,
        campaign_id: CampaignId,
        #[serde(skip_serializing_if = "Option::is_none")]
        rule_key: Option<String>,
        amount: i64,
        currency: String,
        status: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    #[serde(rename_all = "camelCase")]
    Reversed {
        event_id: ConversionEventId,
        aktvator_id: AktvatorId,
        campaign_id: CampaignId,
        /// What of the event's amount is taken back, in minor units.
        amount: i64,
        currency: String,
        reason: String,
        /// Nothing is left of it.
        #[serde(rename = "whole")]
        is_whole: bool,
    },
    #[serde(rename_all = "camelCase")]
    RewardReversed {
        reward_id: RewardId,
        event_id: ConversionEventId,
        aktvator_id: AktvatorId,
        campaign_id: CampaignId,
        /// What is taken back, in minor units.
        amount: i64,
        left: i64,
        currency: String,
        status: String,
        reason: String,
    },
    #[serde(rename_all = "camelCase")]
    Wallet { topup_id: TopUpId, amount: i64, currency: String, available: i64 },
    #[serde(rename_all = "camelCase")]
    Debit { amount: i64, currency: String, available: i64, receivable: i64, reason: String },
    #[serde(rename_all = "camelCase")]
    Payout {
        payout_id: PayoutId,
        aktvator_id: AktvatorId,
        /// What goes out, in minor units.
        amount: i64,
        debt_settled: i64,
        currency: String,
        /// How many.
        rewards: u32,
        status: String,
        #[serde(skip_serializing_if = "String::is_empty")]
        reference: String,
        #[serde(skip_serializing_if = "String::is_empty")]
        reason: String,
    },
    #[serde(rename_all = "camelCase")]
    Campaign { campaign_id: CampaignId, name: String },
}

/// The body as the product page shows it, and the mode and version after it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Payload<'a> {
    id: NoticeId,
    #[serde(rename = "type")]
    kind: &'static str,
    organization_id: OrganizationId,
    created_at: Timestamp,
    data: &'a Data,
    livemode: bool,
    api_version: &'static str,
}

impl Notice {
    /// The bytes that are stored, signed and sent.
    pub fn payload(&self) -> Bytes {
        let payload = Payload {
            id: self.id,
            kind: self.kind.as_str(),
            organization_id: self.scope.organization,
            created_at: self.created_at,
            data: &self.data,
            livemode: self.scope.mode == Mode::Live,
            api_version: API_VERSION,
        };
        serde_json::to_vec(&payload).expect("strings, numbers and ids are always JSON").into()
    }
}

/// Whose an outcome is.
///
/// # Errors
/// [`Unreadable::Malformed`] where it does not say.
pub fn scope(outcome: &proto::Outcome) -> Result<Scope, Unreadable> {
    let organization = id(OrganizationId::from_proto(&outcome.organization))?;
    let mode = match outcome.mode() {
        proto::Mode::Live => Mode::Live,
        proto::Mode::Test => Mode::Test,
        proto::Mode::Unspecified => return Err(Unreadable::Malformed),
    };
    Ok(Scope { organization, mode })
}

/// The notices that the outcome at `place` causes, in a fixed order.
///
/// A repeat of a decided event causes none, nor does an event that no aktvator was found for.
///
/// # Errors
/// Where the outcome cannot be read; then it causes none.
pub fn notices(place: Place, outcome: &proto::Outcome) -> Result<Vec<Notice>, Unreadable> {
    let scope = scope(outcome)?;
    let told = match outcome.body.as_ref().ok_or(Unreadable::Unknown)? {
        Body::EventDecided(event) if event.repeat => Vec::new(),
        Body::EventDecided(event) => of_event(event)?,
        Body::WalletCredited(credit) => vec![of_credit(credit)?],
        Body::RewardReleased(reward) => vec![of_release(reward)?],
        Body::CampaignCreated(campaign) => vec![of_campaign(campaign)?],
        Body::RewardMoved(reward) => vec![of_move(reward)?],
        Body::EventReversed(event) => of_reversal(event)?,
        Body::PayoutMoved(payout) => vec![of_payout(payout)?],
        Body::WalletDebited(debit) => vec![of_debit(debit)],
        Body::AttemptMoved(attempt) => vec![of_attempt(attempt)?],
    };
    let created_at = Timestamp::from_ms(outcome.accepted_at_ms);
    let with_id = |(index, (kind, data))| {
        let id = hash::notice_id(place.identity, place.partition, place.offset, index);
        Notice { id, kind, scope, created_at, data }
    };
    Ok((0u16..).zip(told).map(with_id).collect())
}

/// One for the action attempt, then one for each reward.
fn of_event(event: &proto::EventDecided) -> Result<Vec<(NoticeType, Data)>, Unreadable> {
    let (Some(campaign), Some(aktvator)) = (&event.campaign_id, &event.aktvator_id) else {
        return Ok(Vec::new());
    };
    let campaign_id = id(CampaignId::from_proto(campaign))?;
    let aktvator_id = id(AktvatorId::from_proto(aktvator))?;
    let event_id = id(ConversionEventId::from_proto(&event.event_id))?;
    let gig_id = event.gig_id.as_ref().map(|gig| id(GigId::from_proto(gig))).transpose()?;
    // The same 128 bits: the event and the action attempt are one thing seen from two sides.
    let action_attempt_id = ActionAttemptId::from_u128(event_id.to_u128());
    let Some(first) = event.rewards.first() else {
        let code = event.code.clone();
        let data =
            Data::Rejected { action_attempt_id, aktvator_id, campaign_id, gig_id, event_id, code };
        return Ok(vec![(NoticeType::ActionAttemptRejected, data)]);
    };
    let mut reward_ids = Vec::with_capacity(event.rewards.len());
    let mut created = Vec::with_capacity(event.rewards.len());
    for reward in &event.rewards {
        let reward_id = id(RewardId::from_proto(&reward.reward_id))?;
        reward_ids.push(reward_id);
        let data = Data::Reward {
            reward_id,
            event_id: Some(event_id),
            aktvator_id,
            campaign_id,
            rule_key: Some(reward.rule_key.clone()),
            amount: reward.amount,
            currency: reward.currency.clone(),
            status: status(&reward.status, reward.held),
            reason: None,
        };
        created.push((NoticeType::RewardCreated, data));
    }
    let verified = Data::Verified {
        action_attempt_id,
        aktvator_id,
        campaign_id,
        gig_id,
        event_id,
        reward_amount: event.rewards.iter().fold(0, |sum, r| sum.saturating_add(r.amount)),
        currency: first.currency.clone(),
        reward_ids,
    };
    created.insert(0, (NoticeType::ActionAttemptVerified, verified));
    Ok(created)
}

fn of_credit(credit: &proto::WalletCredited) -> Result<(NoticeType, Data), Unreadable> {
    let data = Data::Wallet {
        topup_id: id(TopUpId::from_proto(&credit.command_id))?,
        amount: credit.amount,
        currency: credit.currency.clone(),
        available: credit.available_after,
    };
    Ok((NoticeType::WalletCredited, data))
}

fn of_release(reward: &proto::RewardReleased) -> Result<(NoticeType, Data), Unreadable> {
    let data = Data::Reward {
        reward_id: id(RewardId::from_proto(&reward.reward_id))?,
        event_id: None,
        aktvator_id: id(AktvatorId::from_proto(&reward.aktvator_id))?,
        campaign_id: id(CampaignId::from_proto(&reward.campaign_id))?,
        rule_key: None,
        amount: reward.amount,
        currency: reward.currency.clone(),
        status: status(&reward.status, false),
        reason: None,
    };
    Ok((NoticeType::RewardReleased, data))
}

/// Outcomes of before rewards could be approved do not say.
fn status(said: &str, held: bool) -> String {
    match said {
        "" if held => "held".to_owned(),
        "" => "pending".to_owned(),
        said => said.to_owned(),
    }
}

fn of_move(reward: &proto::RewardMoved) -> Result<(NoticeType, Data), Unreadable> {
    let kind = match reward.status.as_str() {
        "approved" => NoticeType::RewardApproved,
        "held" => NoticeType::RewardHeld,
        "rejected" => NoticeType::RewardRejected,
        "processing" => NoticeType::RewardProcessing,
        "paid" => NoticeType::RewardPaid,
        "clawed_back" => NoticeType::RewardClawedBack,
        _ => NoticeType::RewardReleased,
    };
    let data = Data::Reward {
        reward_id: id(RewardId::from_proto(&reward.reward_id))?,
        event_id: Some(id(ConversionEventId::from_proto(&reward.event_id))?),
        aktvator_id: id(AktvatorId::from_proto(&reward.aktvator_id))?,
        campaign_id: id(CampaignId::from_proto(&reward.campaign_id))?,
        rule_key: None,
        amount: reward.amount,
        currency: reward.currency.clone(),
        status: reward.status.clone(),
        reason: (!reward.reason.is_empty()).then(|| reward.reason.clone()),
    };
    Ok((kind, data))
}

/// One for the event, then one for each reward.
fn of_reversal(event: &proto::EventReversed) -> Result<Vec<(NoticeType, Data)>, Unreadable> {
    let (Some(campaign), Some(aktvator)) = (&event.campaign_id, &event.aktvator_id) else {
        return Ok(Vec::new());
    };
    let campaign_id = id(CampaignId::from_proto(campaign))?;
    let aktvator_id = id(AktvatorId::from_proto(aktvator))?;
    let event_id = id(ConversionEventId::from_proto(&event.event_id))?;
    let reversed = Data::Reversed {
        event_id,
        aktvator_id,
        campaign_id,
        amount: event.revenue,
        currency: event.currency.clone(),
        reason: event.reason.clone(),
        is_whole: event.whole,
    };
    let mut told = vec![(NoticeType::EventReversed, reversed)];
    for reward in &event.rewards {
        let data = Data::RewardReversed {
            reward_id: id(RewardId::from_proto(&reward.reward_id))?,
            event_id,
            aktvator_id,
            campaign_id,
            amount: reward.amount,
            left: reward.left,
            currency: reward.currency.clone(),
            status: reward.status.clone(),
            reason: event.reason.clone(),
        };
        let kind = match reward.clawed_back {
            true => NoticeType::RewardClawedBack,
            false => NoticeType::RewardReversed,
        };
        told.push((kind, data));
    }
    Ok(told)
}

fn of_attempt(attempt: &proto::AttemptMoved) -> Result<(NoticeType, Data), Unreadable> {
    let action_attempt_id = id(ActionAttemptId::from_proto(&attempt.attempt_id))?;
    let aktvator_id = id(AktvatorId::from_proto(&attempt.aktvator_id))?;
    let campaign_id = id(CampaignId::from_proto(&attempt.campaign_id))?;
    let gig_id = id(GigId::from_proto(&attempt.gig_id))?;
    if attempt.status == "submitted" {
        let data = Data::Submitted { action_attempt_id, aktvator_id, campaign_id, gig_id };
        return Ok((NoticeType::ActionAttemptSubmitted, data));
    }
    let event_id = ConversionEventId::from_u128(action_attempt_id.to_u128());
    let (gig_id, code) = (Some(gig_id), attempt.code.clone());
    let data =
        Data::Rejected { action_attempt_id, aktvator_id, campaign_id, gig_id, event_id, code };
    Ok((NoticeType::ActionAttemptRejected, data))
}

fn of_payout(payout: &proto::PayoutMoved) -> Result<(NoticeType, Data), Unreadable> {
    let kind = match payout.status.as_str() {
        "draft" => NoticeType::PayoutCreated,
        "approved" => NoticeType::PayoutApproved,
        "processing" => NoticeType::PayoutProcessing,
        "paid" => NoticeType::PayoutPaid,
        "failed" => NoticeType::PayoutFailed,
        "canceled" => NoticeType::PayoutCanceled,
        _ => return Err(Unreadable::Unknown),
    };
    let data = Data::Payout {
        payout_id: id(PayoutId::from_proto(&payout.payout_id))?,
        aktvator_id: id(AktvatorId::from_proto(&payout.aktvator_id))?,
        amount: payout.amount,
        debt_settled: payout.netted,
        currency: payout.currency.clone(),
        rewards: payout.rewards,
        status: payout.status.clone(),
        reference: payout.reference.clone(),
        reason: payout.reason.clone(),
    };
    Ok((kind, data))
}

fn of_debit(debit: &proto::WalletDebited) -> (NoticeType, Data) {
    let data = Data::Debit {
        amount: debit.amount,
        currency: debit.currency.clone(),
        available: debit.available_after,
        receivable: debit.receivable_after,
        reason: debit.reason.clone(),
    };
    (NoticeType::WalletDebited, data)
}

fn of_campaign(campaign: &proto::CampaignCreated) -> Result<(NoticeType, Data), Unreadable> {
    let campaign_id = id(CampaignId::from_proto(&campaign.campaign_id))?;
    Ok((NoticeType::CampaignCreated, Data::Campaign { campaign_id, name: campaign.name.clone() }))
}

fn id<T>(parsed: Option<T>) -> Result<T, Unreadable> {
    parsed.ok_or(Unreadable::Malformed)
}
