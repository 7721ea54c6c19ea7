//! From outcomes to deliveries: what is told, to whom, as which bytes, and exactly once.

use dispatcher::transport::Reply;
use prost::Message;
use schemas::entity::Endpoint;
use schemas::id::{CampaignId, EndpointId, TopUpId};
use schemas::partition::Mode;
use schemas::proto::{self, outcome::Body};
use storage::Topic;
use storage::catalog::Expected;
use storage::fault::{Action, Faults, Op, Step};

use crate::world::{PARTITIONS, World, decided, outcome, scope, scripted};

/// Payloads by type, as they went out.
async fn told(world: &World, bodies: Vec<Body>) -> Vec<(String, String)> {
    let scope = scope(5);
    let endpoint = world.endpoint(scope, "https://example.com/hook", &["*"]).await;
    let outcomes = bodies.into_iter().map(|b| outcome(scope, b).encode_to_vec().into()).collect();
    let (transport, script) = scripted(|_| Reply::status(204));
    let running = world.start(transport);
    world.tell(scope.partition(PARTITIONS), outcomes).await;
    tokio::time::sleep(std::time::Duration::from_secs(5)).await;
    running.stop().await;
    let rows = world.deliveries(scope, endpoint).await;
    assert_eq!(rows.len(), script.sent().len(), "each is sent once");
    for request in script.sent() {
        let row = rows.iter().find(|row| row.payload == request.body).expect("stored as sent");
        assert_eq!((row.status.as_str(), row.attempts.len()), ("delivered", 1));
    }
    let body = |request: dispatcher::transport::WebhookRequest| {
        let text = String::from_utf8(request.body.to_vec()).expect("UTF-8");
        let json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(json["id"], request.id, "webhook-id is the body's id");
        (json["type"].as_str().expect("a type").to_owned(), text)
    };
    script.sent().into_iter().map(body).collect()
}

fn data(told: &[(String, String)], kind: &str) -> Vec<serde_json::Value> {
    let json = |text: &String| serde_json::from_str::<serde_json::Value>(text).expect("JSON");
    told.iter().filter(|(k, _)| k == kind).map(|(_, text)| json(text)["data"].clone()).collect()
}

#[tokio::test(start_paused = true)]
async fn the_payload_is_the_product_pages() {
    let told =
        told(&World::new(), vec![Body::EventDecided(decided(9, "rewarded", &[2_500]))]).await;
    let verified = &told.iter().find(|(k, _)| k == "action_attempt.verified").expect("told").1;
    let id = schemas::hash::notice_id(7, scope(5).partition(PARTITIONS), 0, 0);
    let want = format!(
        concat!(
            r#"{{"id":"{}","type":"action_attempt.verified","#,
            r#""organizationId":"org_00000000000000000000000005","#,
            r#""createdAt":"2025-10-14T12:00:00.000Z","#,
            r#""data":{{"actionAttemptId":"att_00000000000000000000000009","#,
            r#""aktvatorId":"aktv_00000000000000000000000001","#,
            r#""campaignId":"camp_00000000000000000000000001","#,
            r#""eventId":"evt_00000000000000000000000009","rewardAmount":2500,"#,
            r#""currency":"USD","rewardIds":["rwd_000000000000000000000000w4"]}},"#,
            r#""livemode":true,"apiVersion":"v1"}}"#
        ),
        id
    );
    assert_eq!(*verified, want);
}

fn moved(status: &str) -> proto::RewardMoved {
    proto::RewardMoved {
        reward_id: schemas::id::RewardId::from_u128(101).to_proto(),
        event_id: schemas::id::ConversionEventId::from_u128(1).to_proto(),
        campaign_id: CampaignId::from_u128(1).to_proto(),
        aktvator_id: schemas::id::AktvatorId::from_u128(1).to_proto(),
        amount: 50,
        status: status.into(),
        reason: "looked at".into(),
        ..Default::default()
    }
}

fn reversed() -> proto::EventReversed {
    let reward = proto::RewardReversed {
        reward_id: schemas::id::RewardId::from_u128(101).to_proto(),
        amount: 20,
        left: 30,
        ..Default::default()
    };
    proto::EventReversed {
        event_id: schemas::id::ConversionEventId::from_u128(1).to_proto(),
        campaign_id: Some(CampaignId::from_u128(1).to_proto()),
        aktvator_id: Some(schemas::id::AktvatorId::from_u128(1).to_proto()),
        revenue: 400,
        reason: "refund".into(),
        rewards: vec![reward],
        ..Default::default()
    }
}

#[tokio::test(start_paused = true)]
async fn every_cause_has_its_notices() {
    let unattributed =
        proto::EventDecided { aktvator_id: None, ..decided(3, "unknown_attribution", &[]) };
    let repeat = proto::EventDecided { repeat: true, ..decided(1, "rewarded", &[100]) };
    let credited = proto::WalletCredited {
        command_id: TopUpId::from_u128(4).to_proto(),
        amount: 10_000,
        currency: "USD".into(),
        available_after: 12_000,
    };
    let released = proto::RewardReleased {
        reward_id: schemas::id::RewardId::from_u128(101).to_proto(),
        campaign_id: CampaignId::from_u128(1).to_proto(),
        aktvator_id: schemas::id::AktvatorId::from_u128(1).to_proto(),
        amount: 50,
        currency: "USD".into(),
        status: "pending".into(),
    };
    let created = proto::CampaignCreated {
        campaign_id: CampaignId::from_u128(1).to_proto(),
        name: "Spring \"26\"".into(),
    };
    let told = told(
        &World::new(),
        vec![
            Body::EventDecided(decided(1, "rewarded", &[100, 50])),
            Body::EventDecided(repeat),
            Body::EventDecided(decided(2, "conditions_not_met", &[])),
            Body::EventDecided(unattributed),
            Body::WalletCredited(credited),
            Body::RewardReleased(released),
            Body::RewardMoved(moved("approved")),
            Body::RewardMoved(moved("held")),
            Body::RewardMoved(moved("rejected")),
            Body::EventReversed(reversed()),
            Body::CampaignCreated(created),
        ],
    )
    .await;
    let kinds: std::collections::BTreeMap<&str, usize> =
        told.iter().fold(Default::default(), |mut kinds, (kind, _)| {
            *kinds.entry(kind.as_str()).or_default() += 1;
            kinds
        });
    let want = [
        ("action_attempt.rejected", 1),
        ("action_attempt.verified", 1),
        ("campaign.created", 1),
        ("event.reversed", 1),
        ("reward.approved", 1),
        ("reward.created", 2),
        ("reward.held", 1),
        ("reward.rejected", 1),
        ("reward.released", 1),
        ("reward.reversed", 1),
        ("wallet.credited", 1),
    ];
    assert_eq!(kinds, want.into());
    assert_eq!(data(&told, "action_attempt.verified")[0]["rewardAmount"], 150);
    assert_eq!(data(&told, "action_attempt.rejected")[0]["code"], "conditions_not_met");
    assert_eq!(data(&told, "reward.held")[0]["reason"], "looked at");
    let (event, reward) = (&data(&told, "event.reversed")[0], &data(&told, "reward.reversed")[0]);
    assert_eq!((&event["amount"], &event["whole"]), (&400.into(), &false.into()));
    assert_eq!((&reward["amount"], &reward["left"]), (&20.into(), &30.into()));
    let credited = &data(&told, "wallet.credited")[0];
    assert_eq!(credited["available"], 12_000);
    assert!(credited["topupId"].as_str().is_some_and(|id| id.starts_with("top_")), "{credited}");
    assert_eq!(data(&told, "campaign.created")[0]["name"], "Spring \"26\"");
    let statuses: Vec<_> =
        data(&told, "reward.created").iter().map(|d| d["status"].clone()).collect();
    assert!(statuses.contains(&"held".into()) && statuses.contains(&"pending".into()));
}

#[tokio::test(start_paused = true)]
async fn only_who_subscribed_in_this_organization_and_mode_hears_of_it() {
    let world = World::new();
    let live = scope(5);
    let test = schemas::partition::Scope { mode: Mode::Test, ..live };
    let wants = world.endpoint(live, "https://a.example.com/", &["campaign.created"]).await;
    let other_type = world.endpoint(live, "https://b.example.com/", &["reward.paid"]).await;
    let other_mode = world.endpoint(test, "https://c.example.com/", &["*"]).await;
    let other_organization = world.endpoint(scope(6), "https://d.example.com/", &["*"]).await;
    let (transport, script) = scripted(|_| Reply::status(200));
    let running = world.start(transport);
    world.campaigns(live, 1).await;
    world.settled(live, wants, 1).await;
    // Registered while it runs, and just before what it is to hear of.
    let late = world.endpoint(live, "https://e.example.com/", &["*"]).await;
    world.campaigns(live, 1).await;
    world.settled(live, late, 1).await;
    world.settled(live, wants, 2).await;
    running.stop().await;
    for (of, endpoint) in [(live, other_type), (test, other_mode), (scope(6), other_organization)] {
        assert!(world.deliveries(of, endpoint).await.is_empty());
    }
    assert_eq!(script.sent().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn an_inactive_endpoint_gets_nothing_and_what_waited_is_canceled() {
    let world = World::new();
    let scope = scope(5);
    let id = world.endpoint(scope, "https://a.example.com/", &["*"]).await;
    let (transport, script) = scripted(|_| Reply::status(500));
    let running = world.start(transport);
    world.campaigns(scope, 1).await;
    tokio::time::sleep(std::time::Duration::from_secs(60)).await;
    let endpoint = world.stored(id).await;
    let disabled = schemas::entity::Endpoint { active: false, version: 2, ..endpoint };
    world.put(&disabled, Expected::Version(1)).await;
    world.campaigns(scope, 1).await;
    let rows = world.settled(scope, id, 1).await;
    running.stop().await;
    assert_eq!((rows[0].status.as_str(), rows[0].attempts.len()), ("canceled", 2));
    assert_eq!(script.sent().len(), 2);
}

/// A crash at every step of the store's commits, while outcomes become deliveries.
#[tokio::test(start_paused = true)]
async fn each_outcome_is_expanded_once_whatever_fails() {
    for (step, action) in [
        (Step::Before, Action::Fail(storage::Kind::Unavailable)),
        (Step::Written, Action::Fail(storage::Kind::Unavailable)),
        (Step::Answer, Action::Fail(storage::Kind::Unavailable)),
        (Step::Before, Action::Crash),
        (Step::Written, Action::Crash),
        (Step::Answer, Action::Crash),
    ] {
        for nth in 1..=4 {
            let world = World::new();
            let scope = scope(5);
            let id = world.endpoint(scope, "https://a.example.com/", &["*"]).await;
            world.campaigns(scope, 3).await;
            let faults = Faults::default();
            faults.at(Op::Commit, step, nth, action);
            let (log, state) = world.memory.open();
            let (log, state) = faults.wrap(log, state);
            let (transport, script) = scripted(|_| Reply::status(200));
            let running = world.start_with(transport.clone(), log, state);
            tokio::time::sleep(std::time::Duration::from_secs(30)).await;
            running.kill().await;
            let running = world.start(transport);
            let rows = world.settled(scope, id, 3).await;
            running.stop().await;
            let case = format!("{step:?} {action:?} at commit {nth}");
            assert!(rows.iter().all(|row| row.attempts.len() == 1), "{case}");
            let notices: std::collections::BTreeSet<_> =
                rows.iter().map(|r| &r.notice_id).collect();
            assert_eq!(notices.len(), 3, "{case}");
            let again = script.sent().len() - 3;
            assert!(again == 0 || action == Action::Crash && again <= 3, "{case}: {again} again");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_newer_build_wrote_halts_and_what_is_damaged_does_not() {
    let world = World::new();
    let scope = scope(5);
    let id = world.endpoint(scope, "https://a.example.com/", &["*"]).await;
    let newer = proto::Outcome { body: None, ..world.campaign(scope) };
    let outcomes = vec![
        bytes::Bytes::from_static(b"\xff\xff\xff"),
        world.campaign(scope).encode_to_vec().into(),
        newer.encode_to_vec().into(),
        world.campaign(scope).encode_to_vec().into(),
    ];
    world.tell(scope.partition(PARTITIONS), outcomes).await;
    let (transport, _) = scripted(|_| Reply::status(200));
    let running = world.start(transport);
    world.settled(scope, id, 1).await;
    tokio::time::sleep(std::time::Duration::from_secs(120)).await;
    running.stop().await;
    assert_eq!(world.deliveries(scope, id).await.len(), 1, "nothing after it is told");
    let (_, state) = world.memory.open();
    let partition = scope.partition(PARTITIONS);
    let shard = storage::Shard { group: storage::state::Group::Webhooks, partition };
    assert_eq!(state.head(shard).await.expect("read").next_offset, 2);
}

#[tokio::test(start_paused = true)]
async fn positions_without_deliveries_are_stored_together() {
    let world = World::new();
    let faults = Faults::default();
    let (log, state) = world.memory.open();
    let (log, state) = faults.wrap(log, state);
    let (transport, _) = scripted(|_| Reply::status(200));
    let running = world.start_with(transport, log, state.clone());
    for _ in 0..50 {
        world.campaigns(scope(5), 1).await;
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    running.stop().await;
    let partition = scope(5).partition(PARTITIONS);
    let shard = storage::Shard { group: storage::state::Group::Webhooks, partition };
    assert_eq!(state.head(shard).await.expect("read").next_offset, 50);
    assert!(faults.reached(Op::Commit, Step::Before) <= 3, "one for a second's outcomes");
}

#[tokio::test(start_paused = true)]
async fn old_deliveries_are_forgotten_and_nothing_of_them_stays() {
    let world = World::new();
    let scope = scope(5);
    let id = world.endpoint(scope, "https://a.example.com/", &["*"]).await;
    let (transport, _) = scripted(|_| Reply::status(200));
    let running = world.start(transport);
    world.campaigns(scope, 700).await;
    world.settled(scope, id, 700).await;
    tokio::time::sleep(std::time::Duration::from_secs(29 * 86_400)).await;
    assert_eq!(world.deliveries(scope, id).await.len(), 700);
    tokio::time::sleep(std::time::Duration::from_secs(2 * 86_400)).await;
    running.stop().await;
    let (log, state) = world.memory.open();
    let partition = scope.partition(PARTITIONS);
    let shard = storage::Shard { group: storage::state::Group::Webhooks, partition };
    let all = storage::state::KeyRange { from: bytes::Bytes::new(), to: vec![0xff; 80].into() };
    assert_eq!(state.scan(shard, all, false, 10).await.expect("read"), Vec::new());
    assert_eq!(log.bounds(Topic::Outcomes, partition).await.expect("read").end, 700);
}

/// Who registers and deletes again and again still hears with the endpoint that is left.
#[tokio::test(start_paused = true)]
async fn deleted_endpoints_take_no_place() {
    let world = World::new();
    let whose = scope(5);
    let first = world.endpoint(whose, "https://a.example.com/", &["*"]).await;
    let deleted = Endpoint { deleted: true, active: false, ..world.stored(first).await };
    for number in 0..1_001 {
        let id = EndpointId::from_u128(1 << 64 | number);
        world.put(&Endpoint { id, ..deleted.clone() }, Expected::Absent).await;
    }
    let last = world
        .endpoint_as(EndpointId::from_u128(1 << 65), whose, "https://b.example.com/", &["*"])
        .await;
    let (transport, script) = scripted(|_| Reply::status(200));
    let running = world.start(transport);
    world.campaigns(whose, 1).await;
    world.settled(whose, last, 1).await;
    running.stop().await;
    assert_eq!(script.sent().len(), 2);
}
