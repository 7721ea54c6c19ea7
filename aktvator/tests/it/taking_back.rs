//! Rewards that mature and purchases that are refunded, over public HTTP: money, figures and webhooks.

use std::time::Duration;

use serde_json::json;
use ureq::http::Method;

use crate::node::{Node, eventually};
use crate::receiver::Receiver;

#[test]
fn a_refund_takes_reward_money_and_figures_back() {
    let node = Node::start();
    let receiver = Receiver::start(&[], Duration::ZERO);
    let shop = node.organization_with(&["--webhook-url", receiver.url()]);
    let rules = format!("/campaigns/{}/reward-rules", shop.name("campaignId"));
    let rulebook = json!({
        "currency": "USD", "timezone": "UTC", "combine": "sum",
        "rules": [
            {"key": "tenth", "priority": 1, "hold": {"days": 0}, "reward": {"type": "percent", "bps": 1000}},
            {"key": "second", "priority": 2, "reward": {"type": "tiered", "metric": "aktvator.conversions",
                "retroactive": true, "tiers": [
                    {"from": 1, "reward": {"type": "flat", "amount": 5}},
                    {"from": 2, "reward": {"type": "flat", "amount": 8}}]}},
        ],
    });
    let (status, body) = shop.call(Method::PUT, &rules, Some(&rulebook));
    assert_eq!(status, 200, "{body}");
    let amounts = |answer: &serde_json::Value| {
        let rewards = answer["decision"]["rewards"].as_array().expect("rewards").clone();
        rewards.iter().map(|r| r["amount"].as_i64().expect("cents")).collect::<Vec<_>>()
    };
    let first = shop.decide(&shop.purchase("order_1", 1_000));
    assert_eq!(amounts(&first), [100, 5]);
    let second = shop.decide(&shop.purchase("order_2", 2_000));
    assert_eq!(amounts(&second), [200, 8, 3], "what the first would have earned more");
    let wallet = format!("/organizations/{}/wallet", shop.name("organizationId"));
    let figures = || {
        let wallet = shop.get(&wallet);
        ["reserved", "payable"].map(|name| wallet[name].as_i64().expect("cents"))
    };
    assert_eq!(figures(), [16, 300]);

    let reverse = json!({"reason": "refund", "idempotencyKey": "refund_2",
        "eventIdempotencyKey": "order_2"});
    let (status, body) = shop.post("/events/reversals", &reverse);
    assert_eq!((status, &body["status"]), (200, &json!("applied")), "{body}");
    assert_eq!(figures(), [5, 100]);
    let performance = format!("/campaigns/{}/performance", shop.name("campaignId"));
    eventually("figures without what was refunded", || {
        let totals = shop.get(&performance)["totals"].clone();
        let now =
            ["conversions", "revenue", "rewards", "rewardAmount"].map(|name| totals[name].as_i64());
        (now == [Some(2), Some(1_000), Some(2), Some(105)]).then_some(())
    });
    let told = eventually("a webhook", || receiver.of_type("event.reversed")).json();
    assert_eq!((&told["data"]["amount"], &told["data"]["whole"]), (&json!(2_000), &json!(true)));
    eventually("one for each reward", || {
        let of_kind = |r: &&crate::receiver::Received| r.json()["type"] == "reward.reversed";
        (receiver.received().iter().filter(of_kind).count() == 3).then_some(())
    });
}
