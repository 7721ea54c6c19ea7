//! Payouts, debts and money that a provider takes back, over public HTTP.

use std::time::Duration;

use serde_json::{Value, json};
use ureq::http::Method;

use crate::node::{Node, Organization, eventually};
use crate::receiver::Receiver;

/// Every purchase earns a tenth, approved at once.
fn shop(node: &Node, receiver: &Receiver) -> Organization {
    let shop = node.organization_with(&["--webhook-url", receiver.url()]);
    let rules = format!("/campaigns/{}/reward-rules", shop.name("campaignId"));
    let rulebook = json!({"currency": "USD", "timezone": "UTC", "rules": [
        {"key": "tenth", "hold": {"days": 0}, "reward": {"type": "percent", "bps": 1000}}]});
    let (status, body) = shop.call(Method::PUT, &rules, Some(&rulebook));
    assert_eq!(status, 200, "{body}");
    shop
}

fn figures<const N: usize>(value: &Value, names: [&str; N]) -> [i64; N] {
    names.map(|name| value[name].as_i64().unwrap_or_else(|| panic!("no {name} in {value}")))
}

/// Collects what is owed to the only aktvator.
fn collect(shop: &Organization) -> Value {
    let (status, body) = shop.post("/payouts", &json!({"minimumAmount": 1}));
    assert_eq!(status, 201, "{body}");
    assert_eq!(body["hasMore"], false);
    body["data"].as_array().and_then(|made| made.first()).cloned().unwrap_or(Value::Null)
}

fn pay(shop: &Organization, payout: &Value) {
    let id = payout["id"].as_str().expect("an id");
    for (step, becomes) in
        [("approve", "approved"), ("process", "processing"), ("mark-paid", "paid")]
    {
        let said = json!({"reference": "wire 7"});
        let (status, body) = shop.post(&format!("/payouts/{id}/{step}"), &said);
        assert_eq!((status, &body["status"]), (200, &json!(becomes)), "{body}");
    }
    let (status, body) = shop.post(&format!("/payouts/{id}/cancel"), &json!({}));
    assert_eq!((status, &body["code"]), (409, &json!("invalid_transition")), "{body}");
}

#[test]
fn rewards_are_paid_out_and_what_was_refunded_since_is_settled() {
    let node = Node::start();
    let receiver = Receiver::start(&[], Duration::ZERO);
    let shop = shop(&node, &receiver);
    shop.decide(&shop.purchase("order_1", 1_000));
    shop.decide(&shop.purchase("order_2", 2_000));
    let balance = format!("/aktvators/{}/balance", shop.name("aktvatorId"));
    let names = ["approved", "processing", "paidOut", "debt", "owed"];
    assert_eq!(figures(&shop.get(&balance), names), [300, 0, 0, 0, 300]);

    let first = collect(&shop);
    assert_eq!(figures(&first, ["amount", "debtSettled", "rewards"]), [300, 0, 2]);
    assert_eq!(collect(&shop), Value::Null, "all of it is collected");
    assert_eq!(figures(&shop.get(&balance), names), [0, 300, 0, 0, 0]);
    pay(&shop, &first);
    assert_eq!(figures(&shop.get(&balance), names), [0, 0, 300, 0, 0]);
    eventually("a webhook for each reward", || {
        let paid = |r: &&crate::receiver::Received| r.json()["type"] == "reward.paid";
        (receiver.received().iter().filter(paid).count() == 2).then_some(())
    });
    let told = eventually("a webhook", || receiver.of_type("payout.paid")).json();
    assert_eq!(figures(&told["data"], ["amount", "rewards"]), [300, 2]);
    assert_eq!(told["data"]["reference"], "wire 7");

    let refund =
        json!({"reason": "refund", "idempotencyKey": "r", "eventIdempotencyKey": "order_1"});
    let (status, body) = shop.post("/events/reversals", &refund);
    assert_eq!((status, &body["rewards"][0]["status"]), (200, &json!("clawed_back")), "{body}");
    assert_eq!(figures(&shop.get(&balance), names), [0, 0, 300, 100, -100]);
    eventually("a webhook", || receiver.of_type("reward.clawed_back"));
    assert_eq!(collect(&shop), Value::Null, "the aktvator owes");

    shop.decide(&shop.purchase("order_3", 5_000));
    let second = collect(&shop);
    assert_eq!(figures(&second, ["amount", "debtSettled", "rewardsAmount"]), [400, 100, 500]);
    pay(&shop, &second);
    assert_eq!(figures(&shop.get(&balance), names), [0, 0, 700, 0, 0]);

    let statement = format!("/aktvators/{}/statements", shop.name("aktvatorId"));
    let lines = shop.pages(&statement).expect("pages");
    let page = shop.get(&format!("{statement}?limit=3&startingAfter=7"));
    assert_eq!((&page["data"], &page["hasMore"]), (&json!(lines[2..5]), &json!(true)));
    let page = shop.get(&format!("{statement}?limit=3&endingBefore=5"));
    assert_eq!((&page["data"], &page["hasMore"]), (&json!(lines[0..3]), &json!(false)));
    let kinds: Vec<_> =
        lines.iter().rev().map(|line| line["kind"].as_str().expect("a kind")).collect();
    let want = ["approve", "approve", "payout", "paid", "clawback", "approve", "payout", "paid"];
    assert_eq!(kinds, want);
    let owed = lines.first().map(|line| figures(line, ["number", "balance"]));
    assert_eq!(owed, Some([8, 0]));
}

#[test]
fn what_a_provider_takes_back_is_filled_first() {
    let node = Node::start();
    let receiver = Receiver::start(&[], Duration::ZERO);
    let shop = shop(&node, &receiver);
    let operator = node.operator();
    let wallet = format!("/organizations/{}/wallet", shop.name("organizationId"));
    let [funds] = figures(&shop.get(&wallet), ["available"]);
    shop.decide(&shop.purchase("order_1", 1_000));
    let debit = |amount: i64| {
        let body = json!({"amount": amount, "currency": "USD", "reason": "chargeback"});
        let mode = if shop.name("apiKey").starts_with("ak_live_") { "live" } else { "test" };
        operator.post(&format!("{wallet}/debits?mode={mode}"), &body)
    };
    let (status, body) = debit(funds);
    assert_eq!(status, 200, "{body}");
    let names = ["balance", "available", "payable", "receivable"];
    assert_eq!(figures(&body, names), [100, 0, 100, 100]);
    let (status, body) = debit(1);
    assert_eq!((status, &body["code"]), (409, &json!("exceeds_balance")), "{body}");
    let told = eventually("a webhook", || receiver.of_type("wallet.debited")).json();
    assert_eq!(figures(&told["data"], ["amount", "receivable"]), [funds, 100]);

    shop.decide(&shop.purchase("order_2", 500));
    assert_eq!(figures(&shop.get(&wallet), ["held"]), [50]);
    shop.top_up(120);
    assert_eq!(figures(&shop.get(&wallet), names), [120, 20, 100, 0]);
    shop.top_up(40);
    assert_eq!(figures(&shop.get(&wallet), names), [160, 10, 150, 0]);
}
