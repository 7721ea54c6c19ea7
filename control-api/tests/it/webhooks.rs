//! Endpoints, and the deliveries that the dispatcher keeps.

use bytes::Bytes;
use prost::Message as _;
use schemas::delivery_key::{self, DeliveryKey};
use schemas::id::{DeliveryAttemptId, DeliveryId, EndpointId, NoticeId};
use schemas::proto;
use serde_json::{Value, json};
use storage::state::{Group, Shard, WriteSet};

use crate::world::{Member, World};

fn hook(target: &str) -> Value {
    json!({"name": "W", "targetUrl": target, "subscribedEvents": ["reward.paid", "reward.paid"]})
}

#[tokio::test]
async fn endpoints() {
    let world = World::new();
    let member = world.member().await;
    let list = format!("/organizations/{}/webhook-endpoints", member.id);
    let made = world.post(&list, &member.token, hook("https://example.com/h")).await;
    assert_eq!(made.status, 201);
    let secret = made.text_at("secret");
    assert!(secret.starts_with("whsec_") && secret.len() == 6 + 44, "{secret}");
    assert_eq!(made.body["subscribedEvents"], json!(["reward.paid"]));

    let one = format!("{list}/{}", made.text_at("id"));
    let body = json!({"active": false, "subscribedEvents": ["*"]});
    let changed = world.patch(&one, &member.token, body).await;
    assert_eq!(
        (&changed.body["active"], &changed.body["subscribedEvents"]),
        (&json!(false), &json!(["*"]))
    );
    for answer in [&changed, &world.get(&one, &member.token).await] {
        assert!(!answer.text.contains("whsec_"));
    }
    assert_eq!(world.delete(&one, &member.token).await.status, 204);
    assert_eq!(world.get(&one, &member.token).await.status, 404);
    assert_eq!(world.delete(&one, &member.token).await.status, 404);
    assert_eq!(world.get(&list, &member.token).await.body["data"], json!([]));
}

#[tokio::test]
async fn no_more_than_twenty_five() {
    let world = World::new();
    let member = world.member().await;
    let list = format!("/organizations/{}/webhook-endpoints", member.id);
    for i in 0..25 {
        let body = hook(&format!("https://example.com/{i}"));
        assert_eq!(world.post(&list, &member.token, body).await.status, 201);
    }
    let refused = world.post(&list, &member.token, hook("https://example.com/x")).await;
    assert_eq!((refused.status.as_u16(), refused.code()), (409, "too_many_endpoints"));
}

#[tokio::test]
async fn loopback_receivers_only_where_allowed() {
    for allowed in [true, false] {
        let config = control_api::Config {
            allow_loopback_targets: allowed,
            ..control_api::Config::default()
        };
        let world = World::with(config);
        let member = world.member().await;
        let list = format!("/organizations/{}/webhook-endpoints", member.id);
        let answer = world.post(&list, &member.token, hook("http://127.0.0.1:9700/hooks")).await;
        assert_eq!(answer.status.as_u16(), if allowed { 201 } else { 400 }, "{}", answer.text);
    }
}

#[tokio::test]
async fn every_type_has_a_sample() {
    let world = World::new();
    let types = world.get("/webhook-event-types", "").await;
    let types = types.body["data"].as_array().expect("data").clone();
    assert_eq!(types.len(), schemas::notice::NoticeType::ALL.len());
    for kind in types {
        assert_eq!(kind["sample"]["type"], kind["type"]);
        assert!(kind["sample"]["data"].is_object() && kind["description"].is_string());
    }
}

/// Stores deliveries as the dispatcher does; their ids, oldest first.
async fn deliver(world: &World, member: &Member, endpoint: EndpointId, many: u128) -> Vec<String> {
    let scope = member.scope();
    let mut rows = Vec::new();
    let mut ids = Vec::new();
    for i in 0..many {
        let delivery = DeliveryId::from_u128(i * 7919 % 1009 + 1);
        let key = DeliveryKey { scope, endpoint, created_at_ms: 1_000 + i as i64, delivery };
        let attempt = proto::DeliveryAttempt {
            id: DeliveryAttemptId::from_u128(i).to_proto(),
            number: 1,
            started_at_ms: 2_000,
            duration_ms: 5,
            result: "http_status".to_owned(),
            status_code: Some(500),
            response_head: "oops".to_owned(),
            next_attempt_at_ms: 7_000,
        };
        let row = proto::DeliveryRow {
            id: delivery.to_proto(),
            endpoint_id: endpoint.to_proto(),
            organization: scope.organization.to_proto(),
            mode: proto::Mode::from(scope.mode).into(),
            notice_id: NoticeId::from_u128(i).to_proto(),
            notice_type: "reward.paid".to_owned(),
            payload: Bytes::from_static(b"{\"id\":\"evt_x\"}"),
            status: if i % 2 == 0 { "pending" } else { "delivered" }.to_owned(),
            created_at_ms: key.created_at_ms,
            due_at_ms: 7_000,
            attempts: vec![attempt],
        };
        rows.push((key.encode(), Some(Bytes::from(row.encode_to_vec()))));
        rows.push((delivery_key::by_id(scope, delivery), Some(key.encode())));
        ids.push(delivery.to_string());
    }
    let partition = scope.partition(world.log.partitions());
    let shard = Shard { group: Group::Webhooks, partition };
    let (epoch, head) = world.state.acquire(shard).await.expect("acquired");
    let set = WriteSet { seq: head.seq + 1, rows, ..WriteSet::default() };
    world.state.commit(shard, epoch, set).await.expect("committed");
    ids
}

#[tokio::test]
async fn deliveries_of_an_endpoint() {
    let world = World::new();
    let (member, other) = (world.member().await, world.member().await);
    let list = format!("/organizations/{}/webhook-endpoints", member.id);
    let made = world.post(&list, &member.token, hook("https://example.com/a")).await.text_at("id");
    let second =
        world.post(&list, &member.token, hook("https://example.com/b")).await.text_at("id");
    let mut ids = deliver(&world, &member, made.parse().expect("an id"), 7).await;
    ids.reverse();

    let path = format!("{list}/{made}/deliveries");
    let mut seen: Vec<String> = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = world.get(&format!("{path}?limit=3{cursor}"), &member.token).await;
        let data = page.body["data"].as_array().unwrap_or_else(|| panic!("{}", page.text));
        seen.extend(data.iter().map(|d| d["id"].as_str().expect("an id").to_owned()));
        let Some(next) = page.body["nextCursor"].as_str() else { break };
        cursor = format!("&startingAfter={next}");
    }
    assert_eq!(seen, ids);
    let newer = format!("{path}?endingBefore={}&limit=2", ids[3]);
    let newer = world.get(&newer, &member.token).await;
    let newer: Vec<_> =
        newer.body["data"].as_array().expect("data").iter().map(|d| d["id"].clone()).collect();
    assert_eq!(newer, ids[1..3]);
    let pending = world.get(&format!("{path}?status=pending"), &member.token).await;
    assert_eq!(pending.body["data"].as_array().expect("data").len(), 4);

    let one = world.get(&format!("{path}/{}", ids[0]), &member.token).await;
    assert_eq!(one.body["attempts"][0]["statusCode"], 500, "{}", one.text);
    assert_eq!(one.body["payload"], "{\"id\":\"evt_x\"}");
    let elsewhere = format!("{list}/{second}/deliveries/{}", ids[0]);
    assert_eq!(world.get(&elsewhere, &member.token).await.status, 404, "of another endpoint");
    assert_eq!(world.get(&path, &other.token).await.status, 404);
    let empty = world.get(&format!("{list}/{second}/deliveries"), &member.token).await;
    assert_eq!(empty.body["data"], json!([]));
}
