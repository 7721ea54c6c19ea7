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
async fn a_keyed_retry_of_a_stored_change_makes_no_second_one() {
    let mut world = World::at_rest(Config::default());
    let member = world.member().await;
    let key = [("idempotency-key", "k")];
    let body = json!({"name": "C"});
    let post = |body| world.call_with("POST", "/campaigns", &member.token, &key, Some(body));
    let first = post(body.clone()).await;
    assert_eq!((first.status.as_u16(), first.code()), (503, "unavailable"), "{}", first.text);
    let again = post(body.clone()).await;
    assert_eq!((again.status.as_u16(), again.header("idempotent-replayed")), (201, "true"));
    let listed = world.get("/campaigns", &member.token).await;
    assert_eq!(listed.body["data"], json!([again.body]));
    world.start_relay();
    let path = format!("/campaigns/{}", again.body["id"].as_str().expect("an id"));
    let renamed = world.patch(&path, &member.token, json!({"name": "D"})).await;
    assert_eq!(renamed.status, 200, "{}", renamed.text);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_hangs_up_finds_its_answer() {
    let world = World::at_rest(Config::default());
    let member = world.member().await;
    let key = [("idempotency-key", "k")];
    let post =
        || world.call_with("POST", "/campaigns", &member.token, &key, Some(json!({"name": "C"})));
    let hung_up = tokio::time::timeout(Duration::from_secs(1), post()).await;
    assert!(hung_up.is_err(), "the log is out of reach, so there is no answer yet");
    let early = post().await;
    assert_eq!((early.status.as_u16(), early.code()), (409, "idempotency_in_flight"));
    tokio::time::sleep(Duration::from_secs(10)).await;
    let later = post().await;
    assert_eq!((later.status.as_u16(), later.header("idempotent-replayed")), (201, "true"));
    let listed = world.get("/campaigns", &member.token).await;
    assert_eq!(listed.body["data"], json!([later.body]));
}

#[tokio::test(start_paused = true)]
async fn a_credit_that_the_catalog_has_not_heard_of_counts() {
    let mut world = World::at_rest(Config::default());
    let member = world.member().await;
    let path = format!("/organizations/{}/wallet", member.id);
    let body = json!({"amount": 700, "currency": "USD"});
    let url = world.post(&format!("{path}/topup"), &member.token, body).await;
    let url = url.text_at("paymentUrl");
    let pay = url.strip_prefix("http://127.0.0.1:8080").expect("our address");
    assert_eq!(world.call_with("POST", pay, "", &[], None).await.status, 202);
    world.start_fold();
    tokio::time::sleep(Duration::from_millis(1)).await;
    let wallet = world.get(&path, &member.token).await;
    let figures = (&wallet.body["balance"], &wallet.body["pendingTopups"]);
    assert_eq!(figures, (&json!(700), &json!(0)));
    world.clock.advance(25 * 3_600_000);
    let page = world.get(pay, "").await;
    assert!(page.text.contains("Paid") && !page.text.contains("<form"), "{}", page.text);
    let paid = world.call_with("POST", pay, "", &[], None).await;
    assert_eq!(paid.status, 200, "paid before it expired: {}", paid.text);
    let wallet = world.get(&path, &member.token).await;
    assert_eq!(wallet.body["balance"], 700);
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
    let by_key = world.get("/events?idempotencyKey=k", &member.token).await;
    assert_eq!((by_key.status.as_u16(), by_key.code()), (503, "unavailable"));
    world.start_fold();
    let by_key = world.get("/events?idempotencyKey=k", &member.token).await;
    assert_eq!(by_key.body["data"][0]["eventId"], json!(id), "{}", by_key.text);
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
