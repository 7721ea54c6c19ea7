//! Wallets, top-ups, events and rewards as the fold decides them.

use control_api::Config;
use serde_json::json;

use crate::world::{Member, World};

#[tokio::test]
async fn a_purchase_becomes_a_reward() {
    let world = World::new();
    let member = world.member().await;
    let (campaign, aktvator) = world.active_campaign(&member).await;
    let code = json!({"campaignId": campaign, "aktvatorId": aktvator});
    let code = world.post("/attribution/codes", &member.token, code).await.text_at("code");
    world.fund(&member, 10_000).await;
    let id = world.purchase(&member, &campaign, &code, "order_1").await;

    let event = world.get(&format!("/events/{id}"), &member.token).await;
    assert_eq!(event.body["status"], "evaluated", "{}", event.text);
    assert_eq!(event.body["decision"]["code"], "rewarded", "{}", event.text);
    assert_eq!(event.body["decision"]["rewards"][0]["status"], "pending");
    assert_eq!(event.body["attribution"]["aktvatorId"], aktvator);

    let rewards = world.get("/rewards", &member.token).await;
    let reward = &rewards.body["data"][0];
    assert_eq!((&reward["amount"], &reward["eventId"]), (&json!(200), &json!(id)));
    let path = format!("/rewards/{}", reward["id"].as_str().expect("an id"));
    let whole = world.get(&path, &member.token).await;
    assert_eq!(whole.body["explain"]["code"], "rewarded", "{}", whole.text);
    assert_eq!(whole.body["rulebookVersion"], 1);

    let wallet = world.get(&format!("/organizations/{}/wallet", member.id), &member.token).await;
    let figures = ["balance", "available", "reserved", "held", "payable", "pendingTopups"];
    let figures = figures.map(|name| wallet.body[name].as_i64().expect("a number"));
    assert_eq!(figures, [10_000, 9_800, 200, 0, 0, 0]);
    let path = format!("/organizations/{}/wallet/transactions", member.id);
    let listed = world.get(&path, &member.token).await;
    let transactions = listed.body["data"].as_array().expect("data");
    let kinds: Vec<_> = transactions.iter().map(|t| t["kind"].as_str().expect("text")).collect();
    assert_eq!(kinds, ["reserve", "topup"]);
    for transaction in transactions {
        let entries = transaction["entries"].as_array().expect("entries");
        let sum: i64 = entries.iter().map(|e| e["amount"].as_i64().expect("a number")).sum();
        assert_eq!(sum, 0);
    }
    let only = world.get(&format!("{path}?kind=topup"), &member.token).await;
    assert_eq!(only.body["data"].as_array().expect("data").len(), 1);
}

#[tokio::test]
async fn a_topup_credits_once() {
    let world = World::new();
    let member = world.member().await;
    let topup = format!("/organizations/{}/wallet/topup", member.id);
    let wallet = format!("/organizations/{}/wallet", member.id);
    let body = json!({"amount": 5_000, "currency": "USD"});
    let made = world.post(&topup, &member.token, body).await;
    assert_eq!((made.status.as_u16(), &made.body["status"]), (201, &json!("pending")));
    let before = world.get(&wallet, &member.token).await;
    assert_eq!(
        (&before.body["balance"], &before.body["pendingTopups"]),
        (&json!(0), &json!(5_000))
    );

    let url = made.text_at("paymentUrl");
    let path = url.strip_prefix("http://127.0.0.1:8080").expect("our address");
    let page = world.get(path, "").await;
    assert_eq!(page.header("content-type"), "text/html; charset=utf-8");
    assert!(page.text.contains("<form method=\"post\"") && page.text.contains("50.00 USD"));
    let wrong = path.replace("token=", "token=0");
    assert_eq!(world.get(&wrong, "").await.status, 404);
    assert_eq!(world.call_with("POST", &wrong, "", &[], None).await.status, 404);
    for _ in 0..3 {
        let form = [("content-type", "application/x-www-form-urlencoded")];
        let paid = world.call_with("POST", path, "", &form, None).await;
        assert_eq!(paid.status, 200, "{}", paid.text);
    }
    let after = world.get(&wallet, &member.token).await;
    assert_eq!((&after.body["balance"], &after.body["pendingTopups"]), (&json!(5_000), &json!(0)));
    assert!(!world.get(path, "").await.text.contains("<form"));

    let late = world.post(&topup, &member.token, json!({"amount": 1, "currency": "USD"})).await;
    let late = late.text_at("paymentUrl");
    world.clock.advance(25 * 3_600_000);
    let path = late.strip_prefix("http://127.0.0.1:8080").expect("our address");
    let refused = world.call_with("POST", path, "", &[], None).await;
    assert_eq!(refused.code(), "topup_expired");
    let wallet = world.get(&wallet, &member.token).await;
    assert_eq!(wallet.body["pendingTopups"], 0);
}

#[tokio::test]
async fn topups_need_a_provider_and_the_right_currency() {
    let world = World::with(Config { sandbox_payments: false, ..Config::default() });
    let member = world.member().await;
    let path = format!("/organizations/{}/wallet/topup", member.id);
    let refused = world.post(&path, &member.token, json!({"amount": 1, "currency": "USD"})).await;
    assert_eq!((refused.status.as_u16(), refused.code()), (409, "payments_not_configured"));
    let refused = world.post(&path, &member.token, json!({"amount": 1, "currency": "EUR"})).await;
    assert_eq!(refused.faults(), [("/currency".to_owned(), "invalid_choice".to_owned())]);
    let page = format!("/sandbox/payments/top_{}?token=x", "0".repeat(26));
    assert_eq!(world.get(&page, "").await.status, 404);
}

#[tokio::test]
async fn without_money_rewards_are_held_until_a_topup() {
    let world = World::new();
    let member = world.member().await;
    let (campaign, aktvator) = world.active_campaign(&member).await;
    let code = json!({"campaignId": campaign, "aktvatorId": aktvator});
    let code = world.post("/attribution/codes", &member.token, code).await.text_at("code");
    let id = world.purchase(&member, &campaign, &code, "order_1").await;
    let event = world.get(&format!("/events/{id}"), &member.token).await;
    assert_eq!(event.body["decision"]["rewards"][0]["status"], "held", "{}", event.text);
    let held = world.get("/rewards?status=held", &member.token).await;
    assert_eq!(held.body["data"][0]["heldReason"], "insufficient_funds");
    world.fund(&member, 1_000).await;
    let held = world.get("/rewards?status=held", &member.token).await;
    assert_eq!(held.body["data"], json!([]));
    let wallet = world.get(&format!("/organizations/{}/wallet", member.id), &member.token).await;
    assert_eq!((&wallet.body["available"], &wallet.body["held"]), (&json!(800), &json!(0)));
}

/// The first reward of an event.
async fn reward_of(world: &World, token: &str, event: &str) -> String {
    let event = world.get(&format!("/events/{event}"), token).await;
    let reward = &event.body["decision"]["rewards"][0]["rewardId"];
    reward.as_str().unwrap_or_else(|| panic!("{}", event.text)).to_owned()
}

/// A world with an organization, and events of its active campaign.
async fn with_events(keys: &[&str]) -> (World, Member, Vec<String>) {
    let world = World::new();
    let member = world.member().await;
    let (campaign, aktvator) = world.active_campaign(&member).await;
    let code = json!({"campaignId": campaign, "aktvatorId": aktvator});
    let code = world.post("/attribution/codes", &member.token, code).await.text_at("code");
    world.fund(&member, 10_000).await;
    let mut events = Vec::new();
    for key in keys {
        events.push(world.purchase(&member, &campaign, &code, key).await);
    }
    (world, member, events)
}

#[tokio::test]
async fn a_reward_is_approved_looked_at_and_refused() {
    let (world, member, events) = with_events(&["order_1", "order_2"]).await;
    let token = &member.token;
    let first = format!("/rewards/{}", reward_of(&world, token, &events[0]).await);
    let second = format!("/rewards/{}", reward_of(&world, token, &events[1]).await);
    let wallet = format!("/organizations/{}/wallet", member.id);
    let none = json!({});
    let steps = [
        (&first, "approve", 200, "approved", [9_600, 200, 200]),
        (&first, "approve", 409, "invalid_transition", [9_600, 200, 200]),
        (&first, "hold", 200, "held", [9_600, 400, 0]),
        (&first, "release", 200, "approved", [9_600, 200, 200]),
        (&second, "reject", 200, "rejected", [9_800, 0, 200]),
        (&second, "release", 409, "invalid_transition", [9_800, 0, 200]),
    ];
    for (path, action, status, what, figures) in steps {
        let answer = world.post(&format!("{path}/{action}"), token, none.clone()).await;
        assert_eq!(answer.status, status, "{action}: {}", answer.text);
        let said = if status == 200 { answer.text_at("status") } else { answer.code().to_owned() };
        assert_eq!(said, what, "{action}");
        let wallet = world.get(&wallet, token).await.body;
        let now = ["available", "reserved", "payable"].map(|name| wallet[name].as_i64().unwrap());
        assert_eq!(now, figures, "{action}");
        assert_eq!(wallet["balance"], 10_000);
    }
    let reason = json!({"reason": "checked by hand"});
    let held = world.post(&format!("{first}/hold"), token, reason).await;
    let last = held.body["timeline"].as_array().and_then(|steps| steps.last()).cloned();
    assert_eq!(last.expect("a step")["reason"], "checked by hand");
    let kinds = world.get(&format!("{wallet}/transactions?limit=100"), token).await;
    let kinds: Vec<_> = kinds.body["data"].as_array().expect("data").iter().rev().collect();
    let kinds: Vec<_> = kinds.iter().map(|t| t["kind"].as_str().expect("text")).collect();
    let want = ["topup", "reserve", "reserve", "approve", "hold", "approve", "reject", "hold"];
    assert_eq!(kinds, want);
    let unknown = world.post(&format!("{first}/hold"), token, json!({"why": 1})).await;
    assert_eq!(unknown.faults(), [("/why".to_owned(), "unknown_field".to_owned())]);
    let missing = "/rewards/rwd_00000000000000000000000000/approve";
    assert_eq!(world.post(missing, token, none).await.status, 404);
}

#[tokio::test]
async fn an_event_is_taken_back_in_parts_and_by_any_of_its_names() {
    let (world, member, events) = with_events(&["order_1", "order_2"]).await;
    let token = &member.token;
    let path = format!("/events/{}/reverse", events[0]);
    let part = json!({"reason": "partial_refund", "amount": 300, "idempotencyKey": "r1"});
    for _ in 0..2 {
        let answer = world.post(&path, token, part.clone()).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        let reward = &answer.body["rewards"][0];
        let left = (&reward["amount"], &reward["reversedAmount"], &reward["status"]);
        assert_eq!(left, (&json!(200), &json!(60), &json!("pending")));
    }
    let other = json!({"reason": "partial_refund", "amount": 400, "idempotencyKey": "r1"});
    let conflict = world.post(&path, token, other).await;
    assert_eq!((conflict.status.as_u16(), conflict.code()), (409, "idempotency_conflict"));
    let much = json!({"reason": "refund", "amount": 701, "idempotencyKey": "r2"});
    assert_eq!(world.post(&path, token, much).await.code(), "exceeds_event");
    let rest =
        json!({"reason": "refund", "idempotencyKey": "r3", "eventIdempotencyKey": "order_1"});
    let answer = world.post("/events/reversals", token, rest).await;
    assert_eq!((answer.status.as_u16(), answer.text_at("eventId")), (200, events[0].clone()));
    assert_eq!(answer.body["rewards"][0]["status"], "reversed");
    let event = world.get(&format!("/events/{}", events[0]), token).await;
    let reversals = event.body["reversals"].as_array().expect("reversals");
    let amounts: Vec<_> = reversals.iter().map(|r| (&r["amount"], &r["whole"])).collect();
    assert_eq!(amounts, [(&json!(300), &json!(false)), (&json!(700), &json!(true))]);
    let wallet = world.get(&format!("/organizations/{}/wallet", member.id), token).await;
    assert_eq!((&wallet.body["available"], &wallet.body["reserved"]), (&json!(9_800), &json!(200)));

    let early = json!({"reason": "chargeback", "idempotencyKey": "r1", "externalRef": "inv_9"});
    let answer = world.post("/events/reversals", token, early).await;
    assert_eq!((answer.status.as_u16(), answer.text_at("status")), (202, "orphaned".to_owned()));
    let wrong = json!({"reason": "whim", "amount": 0, "quantity": 1, "eventId": events[1],
        "externalRef": "x"});
    let faults: Vec<_> = world
        .post("/events/reversals", token, wrong)
        .await
        .faults()
        .into_iter()
        .map(|f| f.0)
        .collect();
    assert_eq!(faults, ["/amount", "/eventId", "/idempotencyKey", "/reason"]);
}
