//! Rules before they are in force, and how far they are used.

use serde_json::{Value, json};

use crate::world::{Member, World};

/// A campaign with three purchases of 1,000 each, which earned a fifth each; its id and a code.
async fn with_purchases(world: &World, member: &Member) -> (String, String, String) {
    let (campaign, aktvator) = world.active_campaign(member).await;
    let code = json!({"campaignId": campaign, "aktvatorId": aktvator});
    let code = world.post("/attribution/codes", &member.token, code).await.text_at("code");
    world.fund(member, 10_000).await;
    for n in 0..3 {
        world.purchase(member, &campaign, &code, &format!("order_{n}")).await;
    }
    (campaign, code, aktvator)
}

fn tenth_with(caps: &Value) -> Value {
    json!({"currency": "USD", "timezone": "UTC", "caps": caps,
        "rules": [{"key": "tenth", "reward": {"type": "percent", "bps": 1_000}}]})
}

#[tokio::test]
async fn rules_are_tried_on_what_came_and_on_samples() {
    let world = World::new();
    let member = world.member().await;
    let (campaign, code, _) = with_purchases(&world, &member).await;
    let path = format!("/campaigns/{campaign}/reward-rules/simulate");
    let cap = json!([{"key": "c", "scope": "aktvator", "metric": "amount", "limit": 250}]);
    let asked = json!({"rulebook": tenth_with(&cap), "lastDays": 1});
    let tried = world.post(&path, &member.token, asked).await;
    assert_eq!(tried.status, 200, "{}", tried.text);
    let body = &tried.body;
    assert_eq!((&body["events"], &body["truncated"]), (&json!(3), &json!(false)));
    assert_eq!(body["startsFromEmptyCounters"], true);
    let candidate = json!({"rewards": 3, "amount": 250, "currency": "USD",
        "byCode": {"rewarded": 2, "clipped": 1}});
    assert_eq!(body["candidate"], candidate);
    assert_eq!((&body["active"]["rewards"], &body["active"]["amount"]), (&json!(3), &json!(600)));
    let of = |key: &str| {
        let rules = body["rules"].as_array().expect("rules");
        rules.iter().find(|rule| rule["ruleKey"] == key).cloned().expect("the rule")
    };
    assert_eq!(of("tenth")["difference"], 250);
    assert_eq!(body["rules"].as_array().map(Vec::len), Some(2));

    let samples = json!([
        {"eventType": "customer.purchase", "attributionCode": code, "amount": 500, "currency": "USD"},
        {"eventType": "customer.purchase", "attributionCode": "NOSUCH", "amount": 500, "currency": "USD"},
        {"eventType": "customer.purchase", "attributionCode": code, "amount": 500, "currency": "EUR"},
    ]);
    let asked = json!({"rulebook": tenth_with(&json!([])), "events": samples});
    let tried = world.post(&path, &member.token, asked).await;
    let codes = json!({"rewarded": 1, "unknown_attribution": 1, "currency_mismatch": 1});
    assert_eq!(tried.body["candidate"]["byCode"], codes, "{}", tried.text);
    assert_eq!(tried.body["candidate"]["amount"], 50);

    let rewards = world.get("/rewards", &member.token).await;
    assert_eq!(rewards.body["data"].as_array().map(Vec::len), Some(3), "nothing was written");
}

#[tokio::test]
async fn what_cannot_be_tried_is_refused_with_all_faults() {
    let world = World::new();
    let member = world.member().await;
    let (campaign, _) = world.active_campaign(&member).await;
    let path = format!("/campaigns/{campaign}/reward-rules/simulate");
    let asked = json!({
        "rulebook": {"currency": "EUR", "timezone": "Nowhere", "rules": []},
        "events": [{"eventType": "", "amount": -1, "more": 1}],
        "lastDays": 400,
    });
    let refused = world.post(&path, &member.token, asked).await;
    assert_eq!(refused.status, 400, "{}", refused.text);
    let errors = refused.body["errors"].as_array().expect("faults");
    let paths: Vec<_> =
        errors.iter().map(|fault| fault["path"].as_str().expect("a path")).collect();
    for path in [
        "/lastDays",
        "/events/0/eventType",
        "/events/0/attributionCode",
        "/events/0/amount",
        "/events/0/more",
        "/rulebook/currency",
        "/rulebook/timezone",
    ] {
        assert!(paths.contains(&path), "{path} in {paths:?}");
    }
    let neither =
        world.post(&path, &member.token, json!({"rulebook": tenth_with(&json!([]))})).await;
    assert_eq!(neither.body["errors"][0]["path"], "/events", "{}", neither.text);
}

#[tokio::test]
async fn caps_say_how_far_they_are_used() {
    let world = World::new();
    let member = world.member().await;
    let (campaign, _, aktvator) = {
        let (campaign, aktvator) = world.active_campaign(&member).await;
        let caps = json!([
            {"key": "month", "scope": "aktvator", "metric": "amount", "limit": 250, "period": "month"},
            {"key": "all", "scope": "campaign", "metric": "count", "limit": 9},
            {"key": "pace", "scope": "campaign", "metric": "amount", "limit": 1_000, "period": "rolling:3d"},
        ]);
        let rules = format!("/campaigns/{campaign}/reward-rules");
        let put = world.put(&rules, &member.token, tenth_with(&caps)).await;
        assert_eq!(put.status, 200, "{}", put.text);
        let code = json!({"campaignId": campaign, "aktvatorId": aktvator});
        let code = world.post("/attribution/codes", &member.token, code).await.text_at("code");
        world.fund(&member, 10_000).await;
        for n in 0..2 {
            world.purchase(&member, &campaign, &code, &format!("order_{n}")).await;
        }
        (campaign, code, aktvator)
    };
    let path = format!("/campaigns/{campaign}/reward-rules/usage");
    let usage = world.get(&path, &member.token).await;
    let of = |usage: &Value, key: &str| {
        let caps = usage["data"].as_array().expect("caps");
        caps.iter().find(|cap| cap["key"] == key).cloned().expect("the cap")
    };
    assert_eq!(of(&usage.body, "month")["needs"], json!(["aktvatorId"]), "{}", usage.text);
    assert_eq!(of(&usage.body, "month")["used"], Value::Null);
    let all = of(&usage.body, "all");
    assert_eq!((&all["used"], &all["remaining"]), (&json!(2), &json!(7)));
    assert_eq!(
        (&all["resetsAt"], of(&usage.body, "pace")["used"].clone()),
        (&Value::Null, json!(200))
    );
    let usage = world.get(&format!("{path}?aktvatorId={aktvator}"), &member.token).await;
    let month = of(&usage.body, "month");
    assert_eq!((&month["used"], &month["remaining"]), (&json!(200), &json!(50)), "{}", usage.text);
    assert!(
        month["resetsAt"].as_str().is_some_and(|at| at.ends_with("-01T00:00:00.000Z")),
        "{month}"
    );
}

#[tokio::test]
async fn rules_that_are_hardly_meant_are_warned_of() {
    let world = World::new();
    let member = world.member().await;
    let (campaign, _) = world.active_campaign(&member).await;
    let rules = format!("/campaigns/{campaign}/reward-rules");
    let cap = json!([{"key": "old", "scope": "aktvator", "metric": "amount", "limit": 250}]);
    let put = world.put(&rules, &member.token, tenth_with(&cap)).await;
    assert_eq!(put.status, 200, "{}", put.text);
    let cap = json!([{"key": "new", "scope": "aktvator", "metric": "amount", "limit": 10}]);
    let mut asked = tenth_with(&cap);
    let all = json!({"key": "all", "priority": 1, "reward": {"type": "flat", "amount": 20}});
    asked["rules"][0]["priority"] = json!(2);
    asked["rules"].as_array_mut().expect("rules").push(all);
    let valid = world.post(&format!("{rules}/validate"), &member.token, asked).await;
    assert_eq!((valid.status.as_u16(), &valid.body["valid"]), (200, &json!(true)));
    let warnings = valid.body["warnings"].as_array().expect("warnings");
    let found: Vec<_> = warnings.iter().map(|w| (&w["path"], &w["code"])).collect();
    let want = [
        (json!("/rules/0"), json!("unreachable_rule")),
        (json!("/rules/1"), json!("cap_below_reward")),
        (json!("/caps"), json!("cap_removed")),
    ];
    assert_eq!(found, want.iter().map(|(path, code)| (path, code)).collect::<Vec<_>>());
}
