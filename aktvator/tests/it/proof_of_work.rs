//! Work that aktvators show, over public HTTP.

use std::time::Duration;

use serde_json::json;
use ureq::http::Method;

use crate::node::{Node, eventually};
use crate::receiver::Receiver;

#[test]
fn work_is_submitted_verified_and_rewarded_or_refused() {
    let node = Node::start();
    let receiver = Receiver::start(&[], Duration::ZERO);
    let shop = node.organization_with(&["--webhook-url", receiver.url()]);
    let rules = format!("/campaigns/{}/reward-rules", shop.name("campaignId"));
    let rulebook = json!({"currency": "USD", "timezone": "UTC", "rules": [
        {"key": "post", "reward": {"type": "flat", "amount": 250}}]});
    let (status, body) = shop.call(Method::PUT, &rules, Some(&rulebook));
    assert_eq!(status, 200, "{body}");
    let submit = || {
        let work = json!({"gigId": shop.name("gigId"), "aktvatorId": shop.name("aktvatorId"),
            "proof": {"urls": ["https://example.com/post/1"], "text": "As agreed."}});
        let (status, body) = shop.post("/action-attempts", &work);
        assert_eq!((status, &body["status"]), (201, &json!("submitted")), "{body}");
        body["id"].as_str().expect("an id").to_owned()
    };
    let (good, bad) = (submit(), submit());
    let told = eventually("a webhook", || receiver.of_type("action_attempt.submitted")).json();
    assert_eq!(told["data"]["aktvatorId"], shop.name("aktvatorId"));

    let verify = format!("/action-attempts/{good}/verify");
    for _ in 0..2 {
        let (status, body) = shop.post(&verify, &json!({}));
        assert_eq!((status, &body["status"]), (200, &json!("verified")), "{body}");
    }
    let (status, body) = shop.post(&verify, &json!({"amount": 1, "currency": "USD"}));
    assert_eq!((status, &body["code"]), (409, &json!("idempotency_conflict")), "{body}");
    let told = eventually("a webhook", || receiver.of_type("action_attempt.verified")).json();
    assert_eq!(told["data"]["actionAttemptId"], good.as_str());
    assert_eq!(told["data"]["rewardAmount"], 250);

    let refusal = json!({"reason": "off_brief", "note": "Another product."});
    let (status, body) = shop.post(&format!("/action-attempts/{bad}/reject"), &refusal);
    assert_eq!((status, &body["status"]), (200, &json!("rejected")), "{body}");
    let told = eventually("a webhook", || receiver.of_type("action_attempt.rejected")).json();
    assert_eq!(
        (&told["data"]["actionAttemptId"], &told["data"]["code"]),
        (&json!(bad), &json!("off_brief"))
    );
    let (status, body) = shop.post(&format!("/action-attempts/{bad}/verify"), &json!({}));
    assert_eq!((status, &body["code"]), (409, &json!("invalid_transition")), "{body}");

    let rewards = shop.get("/rewards");
    assert_eq!(rewards["data"].as_array().map(Vec::len), Some(1));
    let event =
        shop.get(&format!("/events/{}", rewards["data"][0]["eventId"].as_str().expect("an id")));
    assert_eq!(event["attribution"]["by"], "attempt", "{event}");
    let listed = shop.get("/action-attempts?status=rejected");
    assert_eq!(listed["data"][0]["id"], bad.as_str());
    let (status, body) =
        shop.post("/action-attempts", &json!({"gigId": "x", "proof": {"urls": ["ftp://a"]}}));
    assert_eq!((status, body["errors"].as_array().map(Vec::len)), (400, Some(3)), "{body}");
}
