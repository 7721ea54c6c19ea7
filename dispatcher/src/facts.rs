//! What is counted: from outcomes and clicks to the facts of analytics. Pure.
//!
//! A **conversion** is the first decision on an event whose campaign was running, whose aktvator was
//! found, and whose type and time the campaign takes: it was judged by the rules, whatever they
//! said. A repeat counts nothing. Its **revenue** is the amount of the event where that is in the
//! rulebook's currency. **Rewards** are counted when they are created, held ones too; releasing one
//! counts nothing.
//!
//! | Decision code ([`Code`]) | Conversion | Revenue | Rewards |
//! | --- | --- | --- | --- |
//! | `rewarded`, `clipped` | yes | yes | those created |
//! | `not_eligible`, `conditions_not_met`, `already_rewarded`, `cap_exceeded`, `zero_amount`, `amount_missing`, `amount_overflow`, `insufficient_funds`, and what is added later | yes | yes | none |
//! | `currency_mismatch`, `fx_unavailable` | yes | no: it is in another currency | none |
//! | those of [`NOT_CONVERSIONS`] | no | no | none |

use engine::decision::Code;
use schemas::id::{AktvatorId, CampaignId, GigId, LinkId, OrganizationId};
use schemas::partition::{Mode, Scope};
use schemas::proto;
use schemas::proto::outcome::Body;
use schemas::time::Timestamp;
use storage::analytics::Fact;

use crate::notice::{self, Unreadable};

/// Codes of events that the rules were never asked about, or that no customer made.
pub const NOT_CONVERSIONS: &[Code] = &[
    Code::Duplicate,
    Code::IdempotencyConflict,
    Code::CampaignNotActive,
    Code::GigClosed,
    Code::EventTypeMismatch,
    Code::UnknownAttribution,
    Code::AttributionConflict,
    Code::AttributionExpired,
    Code::TooFast,
    Code::TooSlow,
    Code::LateEvent,
    Code::EventInFuture,
    Code::SelfReferral,
    Code::Bot,
    Code::FraudRule,
    Code::TestEvent,
];

/// Codes of events whose amount is in another currency than the rulebook's.
const OTHER_CURRENCY: &[Code] = &[Code::CurrencyMismatch, Code::FxUnavailable];

/// What an outcome counts, if anything.
///
/// # Errors
/// Where it cannot be read.
pub fn of_outcome(outcome: &proto::Outcome) -> Result<Option<Fact>, Unreadable> {
    let scope = notice::scope(outcome)?;
    match outcome.body.as_ref().ok_or(Unreadable::Unknown)? {
        Body::EventDecided(event) => of_event(scope, event),
        Body::WalletCredited(_) | Body::RewardReleased(_) | Body::CampaignCreated(_) => Ok(None),
    }
}

fn of_event(scope: Scope, event: &proto::EventDecided) -> Result<Option<Fact>, Unreadable> {
    let (Some(campaign), Some(aktvator)) = (&event.campaign_id, &event.aktvator_id) else {
        return Ok(None);
    };
    if event.repeat || is_among(&event.code, NOT_CONVERSIONS) {
        return Ok(None);
    }
    let gig = event.gig_id.as_ref().map(|id| GigId::from_proto(id).ok_or(Unreadable::Malformed));
    let link = event.link_id.as_ref().map(|id| LinkId::from_proto(id).ok_or(Unreadable::Malformed));
    Ok(Some(Fact {
        scope,
        campaign: CampaignId::from_proto(campaign).ok_or(Unreadable::Malformed)?,
        gig: gig.transpose()?,
        aktvator: Some(AktvatorId::from_proto(aktvator).ok_or(Unreadable::Malformed)?),
        link: link.transpose()?,
        code: event.code_used.clone(),
        event_type: Some(event.event_type.clone()),
        at: Timestamp::from_ms(event.occurred_at_ms),
        clicks: 0,
        conversions: 1,
        revenue: if is_among(&event.code, OTHER_CURRENCY) { 0 } else { event.revenue },
        rewards: i64::try_from(event.rewards.len()).unwrap_or(i64::MAX),
        reward_amount: event.rewards.iter().fold(0, |sum, r| sum.saturating_add(r.amount)),
    }))
}

fn is_among(code: &str, codes: &[Code]) -> bool {
    codes.iter().any(|known| known.as_str() == code)
}

/// What a click counts.
///
/// # Errors
/// Where it cannot be read.
pub fn of_click(click: &proto::Click) -> Result<Fact, Unreadable> {
    let organization =
        OrganizationId::from_proto(&click.organization).ok_or(Unreadable::Malformed)?;
    let mode = match click.mode() {
        proto::Mode::Live => Mode::Live,
        proto::Mode::Test => Mode::Test,
        proto::Mode::Unspecified => return Err(Unreadable::Malformed),
    };
    Ok(Fact {
        scope: Scope { organization, mode },
        campaign: CampaignId::from_proto(&click.campaign_id).ok_or(Unreadable::Malformed)?,
        gig: None,
        aktvator: Some(AktvatorId::from_proto(&click.aktvator_id).ok_or(Unreadable::Malformed)?),
        link: Some(LinkId::from_proto(&click.link_id).ok_or(Unreadable::Malformed)?),
        code: Some(click.code.clone()),
        event_type: None,
        at: Timestamp::from_ms(click.clicked_at_ms),
        clicks: 1,
        conversions: 0,
        revenue: 0,
        rewards: 0,
        reward_amount: 0,
    })
}
