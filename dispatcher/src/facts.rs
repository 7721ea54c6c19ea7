//! What is counted: from outcomes and clicks to the facts of analytics. Pure.
//!
//! A **conversion** is the first decision on an event whose campaign was running, whose aktvator was
//! found, and whose type and time the campaign takes: it was judged by the rules, whatever they
//! said. A repeat counts nothing. Its **revenue** is the amount of the event where that is in the
//! rulebook's currency, as the outcome says: whatever was decided, and by its code where the outcome
//! does not name the rulebook's currency. **Rewards** are counted when they are created, held ones too; releasing one
//! counts nothing. One that is refused, and what is reversed of events and rewards, is taken off again, at the time
//! when the event happened; the conversion stays.
//!
//! | Decision code ([`Code`]) | Conversion | Revenue | Rewards |
//! | --- | --- | --- | --- |
//! | `rewarded`, `clipped` | yes | yes, in the rulebook's currency | those created |
//! | `not_eligible`, `conditions_not_met`, `already_rewarded`, `cap_exceeded`, `zero_amount`, `amount_missing`, `amount_overflow`, `insufficient_funds`, and what is added later | yes | yes, in the rulebook's currency | none |
//! | `currency_mismatch`, `fx_unavailable` | yes | no: it is in another currency | none |
//! | those of [`NOT_CONVERSIONS`] | no | no | none |

use bytes::Bytes;
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
        Body::EventReversed(event) => of_reversal(scope, event),
        Body::RewardMoved(reward) => of_move(scope, reward),
        Body::WalletCredited(_)
        | Body::WalletDebited(_)
        | Body::RewardReleased(_)
        | Body::PayoutMoved(_)
        | Body::AttemptMoved(_)
        | Body::CampaignCreated(_) => Ok(None),
    }
}

fn of_reversal(scope: Scope, event: &proto::EventReversed) -> Result<Option<Fact>, Unreadable> {
    let (Some(campaign), Some(aktvator)) = (&event.campaign_id, &event.aktvator_id) else {
        return Ok(None);
    };
    if is_among(&event.code, NOT_CONVERSIONS) {
        return Ok(None);
    }
    let gone = event.rewards.iter().filter(|reward| reward.left == 0).count();
    let revenue = if is_among(&event.code, OTHER_CURRENCY) { 0 } else { event.revenue };
    Ok(Some(Fact {
        scope,
        campaign: CampaignId::from_proto(campaign).ok_or(Unreadable::Malformed)?,
        gig: gig(event.gig_id.as_ref())?,
        aktvator: Some(AktvatorId::from_proto(aktvator).ok_or(Unreadable::Malformed)?),
        link: link(event.link_id.as_ref())?,
        code: event.code_used.clone(),
        event_type: Some(event.event_type.clone()),
        at: Timestamp::from_ms(event.occurred_at_ms),
        clicks: 0,
        conversions: 0,
        revenue: -revenue,
        rewards: -i64::try_from(gone).unwrap_or(i64::MAX),
        reward_amount: -event.rewards.iter().fold(0i64, |sum, r| sum.saturating_add(r.amount)),
    }))
}

/// Only a refusal counts.
fn of_move(scope: Scope, reward: &proto::RewardMoved) -> Result<Option<Fact>, Unreadable> {
    if reward.status != "rejected" {
        return Ok(None);
    }
    Ok(Some(Fact {
        scope,
        campaign: CampaignId::from_proto(&reward.campaign_id).ok_or(Unreadable::Malformed)?,
        gig: gig(reward.gig_id.as_ref())?,
        aktvator: Some(AktvatorId::from_proto(&reward.aktvator_id).ok_or(Unreadable::Malformed)?),
        link: link(reward.link_id.as_ref())?,
        code: reward.code_used.clone(),
        event_type: Some(reward.event_type.clone()),
        at: Timestamp::from_ms(reward.occurred_at_ms),
        clicks: 0,
        conversions: 0,
        revenue: 0,
        rewards: -1,
        reward_amount: -reward.amount,
    }))
}

fn gig(id: Option<&Bytes>) -> Result<Option<GigId>, Unreadable> {
    id.map(|id| GigId::from_proto(id).ok_or(Unreadable::Malformed)).transpose()
}

fn link(id: Option<&Bytes>) -> Result<Option<LinkId>, Unreadable> {
    id.map(|id| LinkId::from_proto(id).ok_or(Unreadable::Malformed)).transpose()
}

fn of_event(scope: Scope, event: &proto::EventDecided) -> Result<Option<Fact>, Unreadable> {
    let (Some(campaign), Some(aktvator)) = (&event.campaign_id, &event.aktvator_id) else {
        return Ok(None);
    };
    if event.repeat || is_among(&event.code, NOT_CONVERSIONS) {
        return Ok(None);
    }
    Ok(Some(Fact {
        scope,
        campaign: CampaignId::from_proto(campaign).ok_or(Unreadable::Malformed)?,
        gig: gig(event.gig_id.as_ref())?,
        aktvator: Some(AktvatorId::from_proto(aktvator).ok_or(Unreadable::Malformed)?),
        link: link(event.link_id.as_ref())?,
        code: event.code_used.clone(),
        event_type: Some(event.event_type.clone()),
        at: Timestamp::from_ms(event.occurred_at_ms),
        clicks: 0,
        conversions: 1,
        revenue: if is_in_other_currency(event) { 0 } else { event.revenue },
        rewards: i64::try_from(event.rewards.len()).unwrap_or(i64::MAX),
        reward_amount: event.rewards.iter().fold(0, |sum, r| sum.saturating_add(r.amount)),
    }))
}

/// Amounts of two currencies have no sum. Whatever the fold refuses after it knows the campaign, it
/// refuses after it has looked at the currency.
fn is_in_other_currency(event: &proto::EventDecided) -> bool {
    is_among(&event.code, OTHER_CURRENCY)
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

#[cfg(test)]
mod tests {
    use super::*;

    fn event(code: &str) -> proto::EventDecided {
        proto::EventDecided {
            code: code.into(),
            campaign_id: Some(CampaignId::from_u128(1).to_proto()),
            aktvator_id: Some(AktvatorId::from_u128(2).to_proto()),
            revenue: 4_900,
            ..proto::EventDecided::default()
        }
    }

    fn counted(event: proto::EventDecided) -> Option<(i64, i64, i64, i64)> {
        counted_of(Body::EventDecided(event))
    }

    /// Conversions, revenue, rewards and their amount.
    fn counted_of(body: Body) -> Option<(i64, i64, i64, i64)> {
        let outcome = proto::Outcome {
            organization: OrganizationId::from_u128(3).to_proto(),
            mode: proto::Mode::Test.into(),
            accepted_at_ms: 0,
            body: Some(body),
        };
        let fact = of_outcome(&outcome).expect("readable");
        fact.map(|f| (f.conversions, f.revenue, f.rewards, f.reward_amount))
    }

    #[test]
    fn the_table_of_codes() {
        for code in ["rewarded", "clipped", "conditions_not_met", "cap_exceeded", "of_the_future"] {
            assert_eq!(counted(event(code)), Some((1, 4_900, 0, 0)), "{code}");
        }
        for code in ["currency_mismatch", "fx_unavailable"] {
            assert_eq!(counted(event(code)), Some((1, 0, 0, 0)), "{code}");
        }
        for code in NOT_CONVERSIONS {
            assert_eq!(counted(event(code.as_str())), None, "{code:?}");
        }
        assert_eq!(counted(proto::EventDecided { repeat: true, ..event("rewarded") }), None);
        assert_eq!(counted(proto::EventDecided { aktvator_id: None, ..event("rewarded") }), None);
        assert_eq!(counted(proto::EventDecided { campaign_id: None, ..event("rewarded") }), None);
        let reward = |held| proto::RewardCreated { amount: 7, held, ..Default::default() };
        let rewards = vec![reward(false), reward(true)];
        let rewarded = proto::EventDecided { rewards, ..event("rewarded") };
        assert_eq!(counted(rewarded), Some((1, 4_900, 2, 14)));
    }

    #[test]
    fn what_is_taken_back_is_taken_off() {
        let reward = |amount, left| proto::RewardReversed { amount, left, ..Default::default() };
        let reversed = |code: &str| proto::EventReversed {
            code: code.into(),
            campaign_id: Some(CampaignId::from_u128(1).to_proto()),
            aktvator_id: Some(AktvatorId::from_u128(2).to_proto()),
            revenue: 4_900,
            rewards: vec![reward(7, 0), reward(5, 2)],
            ..Default::default()
        };
        let cases = [
            ("rewarded", Some((0, -4_900, -1, -12))),
            ("currency_mismatch", Some((0, 0, -1, -12))),
            ("gig_closed", None),
        ];
        for (code, want) in cases {
            assert_eq!(counted_of(Body::EventReversed(reversed(code))), want, "{code}");
        }
        let moved = |status: &str| proto::RewardMoved {
            campaign_id: CampaignId::from_u128(1).to_proto(),
            aktvator_id: AktvatorId::from_u128(2).to_proto(),
            amount: 7,
            status: status.into(),
            ..Default::default()
        };
        assert_eq!(counted_of(Body::RewardMoved(moved("rejected"))), Some((0, 0, -1, -7)));
        assert_eq!(counted_of(Body::RewardMoved(moved("approved"))), None);
    }

    #[test]
    fn what_cannot_be_read_is_said() {
        let mut outcome = proto::Outcome {
            organization: OrganizationId::from_u128(3).to_proto(),
            mode: proto::Mode::Live.into(),
            ..proto::Outcome::default()
        };
        assert_eq!(of_outcome(&outcome), Err(Unreadable::Unknown));
        outcome.organization = bytes::Bytes::from_static(b"short");
        assert_eq!(of_outcome(&outcome), Err(Unreadable::Malformed));
        assert_eq!(of_click(&proto::Click::default()), Err(Unreadable::Malformed));
    }
}
