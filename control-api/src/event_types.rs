//! `/webhook-event-types`: what an endpoint can subscribe to, with a sample of each.

use http::Method;
use schemas::notice::NoticeType;
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use crate::call::{Call, Reply};
use crate::page::Listing;
use crate::route::{Access, Answer, Route};

/// The operations.
pub(crate) fn routes() -> Vec<Route> {
    vec![
        Route::new(
            Method::GET,
            "/webhook-event-types",
            "listWebhookEventTypes",
            Access::Open,
            list,
        )
        .summary("List the types of webhooks, with a sample payload of each.")
        .gives_page::<EventType>(),
    ]
}

/// A type of webhook.
#[derive(Debug, Serialize, ToSchema)]
struct EventType {
    /// As in `type` and `subscribedEvents`.
    #[serde(rename = "type")]
    name: &'static str,
    /// When it is sent.
    description: &'static str,
    /// A payload.
    #[schema(value_type = Object)]
    sample: Value,
}

async fn list(mut call: Call) -> Answer {
    call.query.finish()?;
    let data = NoticeType::ALL.iter().map(|kind| event_type(*kind)).collect();
    Reply::json(200, &Listing::<EventType> { data, has_more: false, next_cursor: None })
}

fn event_type(kind: NoticeType) -> EventType {
    let (description, data) = describe(kind);
    EventType {
        name: kind.as_str(),
        description,
        sample: json!({
            "id": "evt_01jz0000000000000000000000",
            "type": kind.as_str(),
            "organizationId": "org_01jz0000000000000000000000",
            "createdAt": "2025-10-14T12:00:00.000Z",
            "data": data,
            "livemode": true,
            "apiVersion": "v1",
        }),
    }
}

fn describe(kind: NoticeType) -> (&'static str, Value) {
    match kind {
        NoticeType::CampaignCreated => (
            "A new campaign was created in your organization.",
            json!({"campaignId": "camp_01jz0000000000000000000000", "name": "Spring"}),
        ),
        NoticeType::CampaignApproved => (
            "Platform approved a campaign for the marketplace.",
            json!({"campaignId": "camp_01jz0000000000000000000000", "name": "Spring"}),
        ),
        NoticeType::ActionAttemptSubmitted => {
            let mut data = attempt(json!({}));
            data.as_object_mut().map(|data| data.remove("eventId"));
            ("An Aktvator submitted a new proof of work.", data)
        }
        NoticeType::ActionAttemptVerified => (
            "A submission passed verification.",
            attempt(json!({
                "rewardAmount": 2500,
                "currency": "USD",
                "rewardIds": ["rwd_01jz0000000000000000000000"],
            })),
        ),
        NoticeType::ActionAttemptRejected => {
            ("A submission failed verification.", attempt(json!({"code": "conditions_not_met"})))
        }
        NoticeType::RewardPaid => ("A reward was paid out to an Aktvator.", reward("paid")),
        NoticeType::MemberInvited => (
            "A user was invited to join your organization.",
            json!({"email": "new@example.com", "role": "developer"}),
        ),
        NoticeType::WalletCredited => (
            "Your organization wallet was topped up.",
            json!({
                "topupId": "top_01jz0000000000000000000000",
                "amount": 1_000_000,
                "currency": "USD",
                "available": 1_000_000,
            }),
        ),
        NoticeType::RewardCreated => {
            ("A reward came to be: pending, approved or held.", reward("pending"))
        }
        NoticeType::RewardReleased => {
            ("A held reward has been funded, or looked at.", reward("pending"))
        }
        NoticeType::RewardApproved => ("A reward may be paid out.", reward("approved")),
        NoticeType::RewardHeld => ("Someone wants to look at a reward first.", reward("held")),
        NoticeType::RewardRejected => ("A reward was refused.", reward("rejected")),
        NoticeType::RewardReversed => {
            let mut data = reward("reversed");
            data["left"] = json!(0);
            data["reason"] = json!("refund");
            ("A reward, or a part of it, was taken back.", data)
        }
        NoticeType::EventReversed => ("An event, or a part of it, was taken back.", reversal()),
        NoticeType::RewardProcessing
        | NoticeType::RewardClawedBack
        | NoticeType::PayoutCreated
        | NoticeType::PayoutApproved
        | NoticeType::PayoutProcessing
        | NoticeType::PayoutPaid
        | NoticeType::PayoutFailed
        | NoticeType::PayoutCanceled
        | NoticeType::WalletDebited => describe_payment(kind),
    }
}

/// Of what goes out, and of what comes back.
fn describe_payment(kind: NoticeType) -> (&'static str, Value) {
    match kind {
        NoticeType::RewardProcessing => ("A reward went into a payout.", reward("processing")),
        NoticeType::RewardClawedBack => {
            let mut data = reward("clawed_back");
            data["left"] = json!(0);
            data["reason"] = json!("chargeback");
            ("A reward that went into a payout, or a part of it, was taken back.", data)
        }
        NoticeType::PayoutCreated => ("Rewards were collected into a payout.", payout("draft")),
        NoticeType::PayoutApproved => ("A payout may go out.", payout("approved")),
        NoticeType::PayoutProcessing => {
            ("A payout was handed to whoever pays.", payout("processing"))
        }
        NoticeType::PayoutPaid => ("A payout went out.", payout("paid")),
        NoticeType::PayoutFailed => ("A payout did not arrive.", payout("failed")),
        NoticeType::PayoutCanceled => ("A payout was given up.", payout("canceled")),
        _ => (
            "A payment provider took money back.",
            json!({
                "amount": 500_000,
                "currency": "USD",
                "available": 0,
                "receivable": 120_000,
                "reason": "chargeback",
            }),
        ),
    }
}

/// What every action attempt tells, and `more`.
fn attempt(more: Value) -> Value {
    let mut data = json!({
        "actionAttemptId": "att_01jz0000000000000000000000",
        "aktvatorId": "aktv_01jz0000000000000000000000",
        "campaignId": "camp_01jz0000000000000000000000",
        "gigId": "gig_01jz0000000000000000000000",
        "eventId": "evt_01jz0000000000000000000000",
    });
    if let (Some(data), Value::Object(more)) = (data.as_object_mut(), more) {
        data.extend(more);
    }
    data
}

fn reversal() -> Value {
    json!({
        "eventId": "evt_01jz0000000000000000000000",
        "aktvatorId": "aktv_01jz0000000000000000000000",
        "campaignId": "camp_01jz0000000000000000000000",
        "amount": 4900,
        "currency": "USD",
        "reason": "refund",
        "whole": true,
    })
}

fn payout(status: &str) -> Value {
    json!({
        "payoutId": "pay_01jz0000000000000000000000",
        "aktvatorId": "aktv_01jz0000000000000000000000",
        "amount": 23_000,
        "debtSettled": 2_000,
        "currency": "USD",
        "rewards": 10,
        "status": status,
    })
}

fn reward(status: &str) -> Value {
    json!({
        "rewardId": "rwd_01jz0000000000000000000000",
        "eventId": "evt_01jz0000000000000000000000",
        "aktvatorId": "aktv_01jz0000000000000000000000",
        "campaignId": "camp_01jz0000000000000000000000",
        "ruleKey": "pro_signup",
        "amount": 2500,
        "currency": "USD",
        "status": status,
    })
}
