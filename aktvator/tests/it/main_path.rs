//! A posted purchase becomes a reward, a metric and a webhook.

use std::time::Duration;

use dispatcher::sign::Secret;
use serde_json::{Value, json};
use ureq::http::Method;

use crate::node::{Node, Organization, eventually};
use crate::receiver::Receiver;

fn performance(organization: &Organization) -> Value {
    let campaign = organization.name("campaignId");
    organization.get(&format!("/campaigns/{campaign}/performance"))
}

#[test]
fn a_purchase_goes_the_whole_way() {
    let node = Node::start();
    let receiver = Receiver::start(&[], Duration::ZERO);
    let shop = node.organization_with(&["--webhook-url", receiver.url()]);

    let answer = shop.decide(&shop.purchase("order_1", 4900));
    assert_eq!(answer["received"], true);
    assert_eq!(answer["decision"]["code"], "rewarded");
    let event_id = answer["eventId"].as_str().expect("an id");

    let event = shop.get(&format!("/events/{event_id}"));
    assert_eq!(event["status"], "evaluated");
    assert_eq!(event["decision"]["rulebookVersion"], 1);
    assert_eq!(event["decision"]["rules"][0]["ruleKey"], "purchase");
    assert_eq!(event["decision"]["rules"][0]["caps"][0]["key"], "per_aktvator_month");
    let arithmetic = event["decision"]["rules"][0]["arithmetic"].to_string();
    assert!(arithmetic.contains("2000") && arithmetic.contains("980"), "{arithmetic}");
    assert!(event["timeline"].as_array().is_some_and(|t| t.len() >= 2), "{event}");

    let rewards = shop.get("/rewards");
    assert_eq!(rewards["data"][0]["amount"], 980);
    assert_eq!(rewards["data"][0]["status"], "pending");
    let reward_id = rewards["data"][0]["id"].as_str().expect("an id");
    assert_eq!(shop.get(&format!("/rewards/{reward_id}"))["eventId"], event_id);

    let wallet = shop.get(&format!("/organizations/{}/wallet", shop.name("organizationId")));
    assert_eq!((&wallet["reserved"], &wallet["available"]), (&json!(980), &json!(999_020)));

    let totals = eventually("a counted conversion", || {
        let totals = performance(&shop)["totals"].clone();
        (totals["conversions"] == 1).then_some(totals)
    });
    assert_eq!((&totals["revenue"], &totals["rewardAmount"]), (&json!(4900), &json!(980)));

    let hook = eventually("a webhook", || receiver.of_type("action_attempt.verified"));
    let body = hook.json();
    assert_eq!(body["data"]["rewardAmount"], 980);
    assert_eq!(body["organizationId"], shop.name("organizationId"));
    assert_eq!(body["id"], hook.header("webhook-id"));
    let sent_s = hook.header("webhook-timestamp").parse().expect("seconds");
    let secret = Secret::parse(shop.name("webhookSecret")).expect("a secret");
    let signature = secret.sign(hook.header("webhook-id"), sent_s, &hook.body);
    assert_eq!(hook.header("webhook-signature"), signature);
}

#[test]
fn a_click_counts_and_its_id_attributes() {
    let node = Node::start();
    let shop = node.organization();
    let short = shop.name("shortUrl").to_owned();

    let (head, _) = shop.call(Method::HEAD, &short, None);
    assert_eq!(head, 302);
    let agent: ureq::Agent =
        ureq::Agent::config_builder().http_status_as_error(false).max_redirects(0).build().into();
    let answer = agent.get(&short.to_lowercase()).call().expect("answers");
    assert_eq!(answer.status(), 302);
    let target = answer.headers()["location"].to_str().expect("a URL").to_owned();
    let (page, click_id) = target.split_once("akt_id=").expect("a click id");
    assert!(page.starts_with("https://example.com/signup?"), "{target}");

    let mut event = shop.purchase("order_1", 1000);
    event["attributionCode"] = Value::Null;
    event["clickId"] = json!(click_id);
    let answer = shop.decide(&event);
    assert_eq!(answer["decision"]["code"], "rewarded");
    let event = shop.get(&format!("/events/{}", answer["eventId"].as_str().expect("an id")));
    assert_eq!(event["attribution"]["by"], "click");

    let mut forged = shop.purchase("order_2", 1000);
    let mut wrong = click_id.to_owned();
    let last = if wrong.pop() == Some('A') { 'B' } else { 'A' };
    wrong.push(last);
    forged["clickId"] = json!(wrong);
    let (status, body) = shop.post("/events/ingest", &forged);
    assert_eq!((status, &body["errors"][0]["path"]), (400, &json!("/clickId")), "{body}");

    // HEAD does not count.
    eventually("one counted click", || (performance(&shop)["totals"]["clicks"] == 1).then_some(()));
    assert_eq!(shop.call(Method::GET, &short.replace(shop.name("code"), "NOSUCH7"), None).0, 404);
}

#[test]
fn a_repeat_is_a_duplicate_and_another_body_a_conflict() {
    let node = Node::start();
    let shop = node.organization();
    let first = shop.decide(&shop.purchase("order_1", 1000));
    let second = shop.decide(&shop.purchase("order_1", 1000));
    assert_eq!(second["eventId"], first["eventId"]);
    assert_eq!(second["status"], "duplicate");
    assert_eq!(second["decision"], first["decision"]);
    let (status, third) = shop.post("/events/ingest?wait=5000", &shop.purchase("order_1", 2000));
    assert_eq!((status, &third["status"]), (202, &json!("conflict")), "{third}");
    let wallet = shop.get(&format!("/organizations/{}/wallet", shop.name("organizationId")));
    assert_eq!(wallet["reserved"], 200);
}

#[test]
fn rules_change_between_two_events() {
    let node = Node::start();
    let shop = node.organization();
    let rules = format!("/campaigns/{}/reward-rules", shop.name("campaignId"));
    assert_eq!(shop.decide(&shop.purchase("a", 1000))["decision"]["rulebookVersion"], 1);

    let rulebook = json!({
        "currency": "USD", "timezone": "UTC",
        "rules": [{
            "key": "big", "priority": 1, "on": {"eventTypes": ["customer.purchase"]},
            "when": {"all": [{"field": "event.metadata.plan", "op": "eq", "value": "pro"}]},
            "reward": {"type": "flat", "amount": 700},
            "caps": [{"key": "two", "scope": "campaign", "metric": "count", "limit": 2,
                      "period": "lifetime", "onExceed": "reject"}],
        }],
    });
    let (status, body) = shop.call(Method::PUT, &rules, Some(&rulebook));
    assert_eq!((status, &body["version"]), (200, &json!(2)), "{body}");

    let codes: Vec<_> = [("b", "pro"), ("c", "free"), ("d", "pro"), ("e", "pro")]
        .map(|(key, plan)| {
            let mut event = shop.purchase(key, 1000);
            event["metadata"] = json!({"plan": plan});
            shop.decide(&event)["decision"]["code"].clone()
        })
        .to_vec();
    assert_eq!(codes, ["rewarded", "conditions_not_met", "rewarded", "cap_exceeded"]);

    let (status, body) = shop.call(
        Method::PUT,
        &rules,
        Some(&json!({
            "currency": "USD", "timezone": "Mars/Olympus", "sparkle": 1,
            "rules": [{"key": "t", "priority": 1, "on": {"eventTypes": ["x"]},
                       "reward": {"type": "tiered", "mode": "volume"}}],
        })),
    );
    assert_eq!(status, 400, "{body}");
    let paths: Vec<_> = body["errors"]
        .as_array()
        .expect("faults")
        .iter()
        .map(|e| (e["path"].as_str().unwrap_or(""), e["code"].as_str().unwrap_or("")))
        .collect();
    assert!(
        paths.contains(&("/timezone", "invalid_format"))
            || paths.iter().any(|p| p.0 == "/timezone"),
        "{body}"
    );
    assert!(paths.contains(&("/sparkle", "unknown_field")), "{body}");
    assert!(paths.contains(&("/rules/0/reward/tiers", "required")), "{body}");
}

#[test]
fn a_reward_without_funds_waits_for_a_top_up_and_is_released_first_in_first_out() {
    let node = Node::start();
    let shop = node.organization();
    // The quickstart's 10,000.00 hold 980,000 and then no further 30,000.
    let wallet = format!("/organizations/{}/wallet", shop.name("organizationId"));
    let campaign = shop.name("campaignId");
    let flat = json!({
        "currency": "USD", "timezone": "UTC",
        "rules": [{"key": "flat", "priority": 1, "on": {"eventTypes": ["customer.purchase"]},
                   "reward": {"type": "flat", "amount": 980_000}}],
    });
    let rules = format!("/campaigns/{campaign}/reward-rules");
    assert_eq!(shop.call(Method::PUT, &rules, Some(&flat)).0, 200);
    for key in ["a", "b", "c"] {
        shop.decide(&shop.purchase(key, 1));
    }
    let statuses = |shop: &Organization| {
        let mut seen: Vec<_> = shop.get("/rewards")["data"]
            .as_array()
            .expect("rewards")
            .iter()
            .map(|r| r["status"].as_str().expect("a status").to_owned())
            .collect();
        seen.reverse();
        seen
    };
    assert_eq!(statuses(&shop), ["pending", "held", "held"]);
    shop.top_up(970_000);
    eventually("a released reward", || {
        (statuses(&shop) == ["pending", "pending", "held"]).then_some(())
    });
    let now = shop.get(&wallet);
    assert_eq!((&now["available"], &now["reserved"]), (&json!(10_000), &json!(1_960_000)));
    shop.top_up(970_000);
    eventually("the last reward", || (statuses(&shop) == ["pending"; 3]).then_some(()));
    let now = shop.get(&wallet);
    assert_eq!((&now["available"], &now["reserved"]), (&json!(0), &json!(2_940_000)));
}

#[test]
fn webhooks_are_retried_and_every_attempt_is_readable() {
    let node = Node::start();
    let receiver = Receiver::start(&[500, 500], Duration::ZERO);
    let shop = node.organization_with(&["--webhook-url", receiver.url()]);
    shop.decide(&shop.purchase("order_1", 4900));
    eventually("a first attempt", || (!receiver.received().is_empty()).then_some(()));
    let deliveries = format!(
        "/organizations/{}/webhook-endpoints/{}/deliveries",
        shop.name("organizationId"),
        shop.name("webhookEndpointId")
    );
    let failed = eventually("a recorded attempt", || {
        let list = shop.get(&deliveries)["data"].as_array().expect("deliveries").clone();
        list.into_iter().find(|d| d["attemptCount"] == 1 && d["status"] == "pending")
    });
    let one = shop.get(&format!("{deliveries}/{}", failed["id"].as_str().expect("an id")));
    let attempt = &one["attempts"][0];
    assert_eq!(attempt["number"], 1, "{one}");
    assert!(attempt["statusCode"].as_u64().is_some_and(|s| s >= 500), "{one}");
    assert!(attempt["nextAttemptAt"].is_string(), "{one}");
    eventually("a delivery after all", || {
        let one = shop.get(&format!("{deliveries}/{}", failed["id"].as_str().expect("an id")));
        (one["status"] == "delivered").then_some(())
    });
}

#[test]
fn a_slow_receiver_delays_nobody_else() {
    let node = Node::start();
    let slow = Receiver::start(&[], Duration::from_secs(14));
    let quick = Receiver::start(&[], Duration::ZERO);
    let shop = node.organization_with(&["--webhook-url", slow.url()]);
    let endpoints = format!("/organizations/{}/webhook-endpoints", shop.name("organizationId"));
    let (status, body) = shop.post(
        &endpoints,
        &json!({"name": "quick", "targetUrl": quick.url(), "subscribedEvents": ["action_attempt.verified"]}),
    );
    assert_eq!(status, 201, "{body}");
    let events: Vec<_> = (0..200).map(|i| shop.purchase(&format!("order_{i}"), 100)).collect();
    let (status, body) = shop.post("/events/ingest/batch", &json!(events));
    assert_eq!(status, 202, "{body}");
    eventually("all to the quick one", || (quick.received().len() == 200).then_some(()));
    assert!(slow.received().len() < 200);
}
