//! What is answered while the log or the fold is behind: never a loss, never a guess.

use std::time::Duration;

use control_api::Config;
use serde_json::json;

use crate::world::World;

#[tokio::test(start_paused = true)]
async fn a_change_that_the_log_has_not_taken_is_stored_and_applied_later() {
    let mut world = World::at_rest(Config::default());
    let member = world.member().await;
    let token = member.token.clone();
    let answer = world.post("/campaigns", &token, json!({"name": "C"})).await;
    assert_eq!((answer.status.as_u16(), answer.code()), (503, "unavailable"));
    assert!(!answer.header("retry-after").is_empty());
    let listed = world.get("/campaigns", &token).await;
    assert_eq!(listed.body["data"].as_array().expect("data").len(), 1);
    assert_eq!(world.catalog.outbox(10).await.expect("read").len(), 1);

    world.start_relay();
    let id = listed.body["data"][0]["id"].as_str().expect("an id");
    let renamed = world.patch(&format!("/campaigns/{id}"), &token, json!({"name": "D"})).await;
    assert_eq!((renamed.status.as_u16(), &renamed.body["version"]), (200, &json!(2)));
    assert!(world.catalog.outbox(10).await.expect("read").is_empty());
    let partition = member.scope().partition(world.log.partitions());
    let bounds = world.log.bounds(storage::Topic::Events, partition).await.expect("bounds");
    assert_eq!(bounds.end, 2, "both commands are in the log");
}

#[tokio::test(start_paused = true)]
async fn an_event_that_is_not_decided_yet_is_neither_there_nor_missing() {
    let mut world = World::at_rest(Config::default());
    let member = world.member().await;
    let campaign = format!("camp_{}", "0".repeat(26));
    let id = world.purchase(&member, &campaign, "CODE", "k").await;
    let path = format!("/events/{id}");
    let early = world.get(&path, &member.token).await;
    assert_eq!((early.status.as_u16(), early.code()), (503, "unavailable"));
    assert!(!early.header("retry-after").is_empty());
    world.start_fold();
    let decided = world.get(&path, &member.token).await;
    assert_eq!(decided.body["decision"]["code"], "campaign_not_active", "{}", decided.text);
}

#[tokio::test(start_paused = true)]
async fn a_payment_that_is_not_decided_yet_is_credited_once() {
    let mut world = World::at_rest(Config::default());
    let member = world.member().await;
    let path = format!("/organizations/{}/wallet/topup", member.id);
    let body = json!({"amount": 700, "currency": "USD"});
    let url = world.post(&path, &member.token, body).await.text_at("paymentUrl");
    let pay = url.strip_prefix("http://127.0.0.1:8080").expect("our address");
    for _ in 0..2 {
        assert_eq!(world.call_with("POST", pay, "", &[], None).await.status, 202);
    }
    world.start_fold();
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(world.call_with("POST", pay, "", &[], None).await.status, 200);
    let wallet = world.get(&format!("/organizations/{}/wallet", member.id), &member.token).await;
    assert_eq!(wallet.body["balance"], 700);
}
