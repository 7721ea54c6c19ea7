//! Who sees what: a foreign thing answers exactly like a missing one.

use schemas::partition::Mode;
use serde_json::{Value, json};

use crate::world::World;

/// An answer without what differs from request to request.
fn shape(mut body: Value) -> Value {
    body["requestId"] = Value::Null;
    body
}

#[tokio::test]
async fn foreign_reads_like_missing() {
    let world = World::new();
    let (a, b) = (world.member().await, world.member().await);
    let (campaign, aktvator) = world.active_campaign(&a).await;
    let link = json!({
        "campaignId": campaign, "aktvatorId": aktvator, "targetUrl": "https://example.com/",
    });
    let link = world.post("/attribution/links", &a.token, link).await;
    let (link, code) = (link.text_at("id"), link.text_at("code"));
    let gig = world.get("/gigs", &a.token).await.body["data"][0]["id"].clone();
    let gig = gig.as_str().expect("an id").to_owned();
    let hook = json!({"name": "W", "targetUrl": "https://example.com/", "subscribedEvents": ["*"]});
    let hooks = format!("/organizations/{}/webhook-endpoints", a.id);
    let hook = world.post(&hooks, &a.token, hook).await.text_at("id");
    world.fund(&a, 1_000).await;
    let event = world.purchase(&a, &campaign, &code, "k").await;
    let settled = world.get(&format!("/events/{event}"), &a.token).await;
    let reward = settled.body["decision"]["rewards"][0]["rewardId"].as_str().expect("a reward");

    let same_mode_other = world.key(&b.id, Mode::Live, &["*"]).await;
    let other_mode = world.key(&a.id, Mode::Test, &["*"]).await;
    let gone = world.key(&a.id, Mode::Live, &["*"]).await;
    let keys = format!("/organizations/{}/api-keys", a.id);
    let listed = world.get(&keys, &world.operator).await;
    let newest = listed.body["data"][0]["id"].as_str().expect("an id");
    assert_eq!(world.delete(&format!("{keys}/{newest}"), &world.operator).await.status, 200);

    for stranger in [&same_mode_other, &other_mode] {
        let approve = format!("/rewards/{reward}/approve");
        let approved = world.post(&approve, stranger, json!({})).await;
        assert_eq!(approved.status, 404, "{}", approved.text);
        let reverse = json!({"reason": "refund", "idempotencyKey": "r"});
        let reversed = world.post(&format!("/events/{event}/reverse"), stranger, reverse).await;
        assert_eq!(reversed.text_at("status"), "orphaned", "as one that has not come");
    }
    let zero = "00000000000000000000000000";
    // Path of the own thing, and of one that is not there.
    let cases = [
        (format!("/campaigns/{campaign}"), format!("/campaigns/camp_{zero}")),
        (
            format!("/campaigns/{campaign}/performance"),
            format!("/campaigns/camp_{zero}/performance"),
        ),
        (
            format!("/campaigns/{campaign}/reward-rules/versions/1"),
            format!("/campaigns/camp_{zero}/reward-rules/versions/1"),
        ),
        (format!("/gigs/{gig}"), format!("/gigs/gig_{zero}")),
        (format!("/aktvators/{aktvator}"), format!("/aktvators/aktv_{zero}")),
        (format!("/attribution/links/{link}"), format!("/attribution/links/link_{zero}")),
        (format!("/attribution/codes/{code}"), "/attribution/codes/NOSUCHCODE".to_owned()),
        (format!("/events/{event}"), format!("/events/evt_{zero}")),
        (format!("/rewards/{reward}"), format!("/rewards/rwd_{zero}")),
        (
            format!("{hooks}/{hook}"),
            format!("/organizations/{}/webhook-endpoints/whk_{zero}", b.id),
        ),
    ];
    for (own, missing) in &cases {
        assert_eq!(world.get(own, &a.token).await.status, 200, "{own}");
        let (none, revoked) = (world.get(own, "").await, world.get(own, &gone).await);
        assert_eq!((none.status.as_u16(), none.code()), (401, "unauthorized"), "{own}");
        assert_eq!((revoked.status.as_u16(), revoked.code()), (401, "key_revoked"), "{own}");
        let absent = world.get(missing, &same_mode_other).await;
        assert_eq!(absent.status, 404, "{missing}");
        for stranger in [&same_mode_other, &other_mode] {
            let foreign = world.get(own, stranger).await;
            assert_eq!(foreign.status, 404, "{own}");
            if !own.starts_with("/organizations") {
                assert_eq!(shape(foreign.body), shape(absent.body.clone()), "{own}");
            }
        }
    }
}

#[tokio::test]
async fn foreign_things_cannot_be_changed() {
    let world = World::new();
    let (a, b) = (world.member().await, world.member().await);
    let (campaign, aktvator) = world.active_campaign(&a).await;
    let link = json!({
        "campaignId": campaign, "aktvatorId": aktvator, "targetUrl": "https://example.com/",
    });
    let link = world.post("/attribution/links", &a.token, link).await.text_at("id");
    let hook = json!({"name": "W", "targetUrl": "https://example.com/", "subscribedEvents": ["*"]});
    let hooks = format!("/organizations/{}/webhook-endpoints", a.id);
    let hook = world.post(&hooks, &a.token, hook).await.text_at("id");
    for (path, method, body) in [
        (format!("/campaigns/{campaign}"), "PATCH", json!({"name": "Mine"})),
        (format!("/campaigns/{campaign}/status/ended"), "PATCH", json!({})),
        (format!("/campaigns/{campaign}/reward-rules"), "PUT", crate::world::rules()),
        (format!("/aktvators/{aktvator}"), "PATCH", json!({"status": "banned"})),
        (format!("/attribution/links/{link}"), "DELETE", json!({})),
        (format!("{hooks}/{hook}"), "DELETE", json!({})),
        (format!("/organizations/{}", a.id), "PATCH", json!({"name": "Mine"})),
    ] {
        let answer = world.call_with(method, &path, &b.token, &[], Some(body)).await;
        assert_eq!(answer.status, 404, "{method} {path}");
    }
    assert_eq!(world.get(&format!("/campaigns/{campaign}"), &a.token).await.body["version"], 2);
}

#[tokio::test]
async fn keys_stay_in_their_mode() {
    let world = World::new();
    let member = world.member().await;
    let test = world.key(&member.id, Mode::Test, &["*"]).await;
    let keys = format!("/organizations/{}/api-keys", member.id);
    let listed = world.get(&keys, &test).await;
    let modes: Vec<_> = listed.body["data"].as_array().expect("data").iter().collect();
    assert_eq!((modes.len(), &modes[0]["mode"]), (1, &json!("test")), "{}", listed.text);

    let live = world.get(&keys, &member.token).await.body["data"][0]["id"].clone();
    let live = format!("{keys}/{}", live.as_str().expect("an id"));
    let new = json!({"name": "K", "mode": "live", "scopes": ["events:read"]});
    for (method, path, body) in
        [("POST", &keys, new.clone()), ("PATCH", &live, json!({"name": "N"}))]
    {
        let refused = world.call_with(method, path, &test, &[], Some(body)).await;
        assert_eq!((refused.status.as_u16(), refused.code()), (403, "other_mode"), "{method}");
    }
    let refused = world.delete(&live, &test).await;
    assert_eq!((refused.status.as_u16(), refused.code()), (403, "other_mode"));
    assert_eq!(world.get("/campaigns", &member.token).await.status, 200, "the key still works");

    let both = world.get(&keys, &world.operator).await;
    assert_eq!(both.body["data"].as_array().expect("data").len(), 2, "the operator sees both");
    assert_eq!(world.post(&keys, &member.token, new).await.status, 201);
    assert_eq!(world.delete(&live, &world.operator).await.status, 200);
}

#[tokio::test]
async fn foreign_organizations_read_like_missing() {
    let world = World::new();
    let (a, b) = (world.member().await, world.member().await);
    let missing = "org_00000000000000000000000000";
    for tail in ["", "/wallet", "/wallet/transactions", "/api-keys", "/webhook-endpoints"] {
        let foreign = world.get(&format!("/organizations/{}{tail}", a.id), &b.token).await;
        let absent = world.get(&format!("/organizations/{missing}{tail}"), &b.token).await;
        assert_eq!(foreign.status, 404, "{tail}");
        assert_eq!(shape(foreign.body), shape(absent.body), "{tail}");
        let mode = if tail.starts_with("/w") { "?mode=live" } else { "" };
        let path = format!("/organizations/{missing}{tail}{mode}");
        assert_eq!(world.get(&path, &world.operator).await.status, 404, "operator: {tail}");
        let path = format!("/organizations/{}{tail}{mode}", a.id);
        assert_eq!(world.get(&path, &world.operator).await.status, 200, "operator: {tail}");
    }
}

#[tokio::test]
async fn things_of_others_cannot_be_referred_to() {
    let world = World::new();
    let (a, b) = (world.member().await, world.member().await);
    let (campaign, aktvator) = world.active_campaign(&a).await;
    let (own, _) = world.active_campaign(&b).await;
    let gig = json!({"campaignId": campaign, "title": "G", "actionType": "a"});
    assert_eq!(world.post("/gigs", &b.token, gig).await.status, 404);
    for (campaign, aktvator) in [(&campaign, &aktvator), (&own, &aktvator)] {
        let body = json!({
            "campaignId": campaign, "aktvatorId": aktvator, "targetUrl": "https://example.com/",
        });
        assert_eq!(world.post("/attribution/links", &b.token, body).await.status, 404);
        let body = json!({"campaignId": campaign, "aktvatorId": aktvator});
        assert_eq!(world.post("/attribution/codes", &b.token, body).await.status, 404);
    }
}

#[tokio::test]
async fn the_operator_has_no_organization() {
    let world = World::new();
    let answer = world.get("/campaigns", &world.operator).await;
    assert_eq!((answer.status.as_u16(), answer.code()), (403, "key_required"));
    let member = world.member().await;
    let answer = world.post("/organizations", &member.token, json!({"name": "X"})).await;
    assert_eq!((answer.status.as_u16(), answer.code()), (403, "operator_only"));
}
