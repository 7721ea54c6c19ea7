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
        .gives::<Listing<EventType>>(200),
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
            "livemode": true,
            "data": data,
        }),
    }
}

fn describe(kind: NoticeType) -> (&'static str, Value) {
    let attempt = || {
        json!({
            "actionAttemptId": "att_01jz0000000000000000000000",
            "aktvatorId": "aktv_01jz0000000000000000000000",
            "campaignId": "camp_01jz0000000000000000000000",
        })
    };
    let reward = || {
        json!({
            "rewardId": "rwd_01jz0000000000000000000000",
            "aktvatorId": "aktv_01jz0000000000000000000000",
            "campaignId": "camp_01jz0000000000000000000000",
            "rewardAmount": 2500,
            "currency": "USD",
        })
    };
    match kind {
        NoticeType::CampaignCreated => (
            "A new campaign was created in your organization.",
            json!({"campaignId": "camp_01jz0000000000000000000000", "name": "Spring"}),
        ),
        NoticeType::CampaignApproved => (
            "Platform approved a campaign for the marketplace.",
            json!({"campaignId": "camp_01jz0000000000000000000000"}),
        ),
        NoticeType::ActionAttemptSubmitted => {
            ("An Aktvator submitted a new proof of work.", attempt())
        }
        NoticeType::ActionAttemptVerified => {
            let mut data = attempt();
            data["rewardAmount"] = 2500.into();
            data["currency"] = "USD".into();
            ("A submission passed verification.", data)
        }
        NoticeType::ActionAttemptRejected => {
            let mut data = attempt();
            data["code"] = "conditions_not_met".into();
            ("A submission failed verification.", data)
        }
        NoticeType::RewardPaid => ("A reward was paid out to an Aktvator.", reward()),
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
        NoticeType::RewardCreated => ("A reward came to be, pending or held.", reward()),
        NoticeType::RewardReleased => ("A held reward has been funded.", reward()),
    }
}
