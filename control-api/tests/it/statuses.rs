//! The moves of campaigns and gigs, and who wins when two change the same thing.

use serde_json::json;

use crate::world::{Member, World, rules};

/// A campaign brought to `status`.
async fn campaign_at(world: &World, member: &Member, status: &str) -> String {
    let token = &member.token;
    if status == "draft" {
        return world.post("/campaigns", token, json!({"name": "C"})).await.text_at("id");
    }
    let (id, _) = world.active_campaign(member).await;
    if status != "active" {
        let path = format!("/campaigns/{id}/status/{status}");
        world.patch(&path, token, json!({})).await.text_at("id");
    }
    id
}

#[tokio::test]
async fn campaign_moves() {
    let world = World::new();
    let member = world.member().await;
    let statuses = ["draft", "active", "paused", "ended"];
    // Rows: from; columns: to. 200 where it moves or stays, 409 where it may not.
    let table = [
        [200, 409, 409, 409], // A bare draft is not ready to be active.
        [409, 200, 200, 200],
        [409, 200, 200, 200],
        [409, 409, 409, 200],
    ];
    for (from, row) in statuses.iter().zip(table) {
        for (to, want) in statuses.iter().zip(row) {
            let id = campaign_at(&world, &member, from).await;
            let path = format!("/campaigns/{id}/status/{to}");
            let answer = world.patch(&path, &member.token, json!({})).await;
            assert_eq!(answer.status.as_u16(), want, "{from} to {to}: {}", answer.text);
            let now = world.get(&format!("/campaigns/{id}"), &member.token).await;
            let stays = if want == 200 { to } else { from };
            assert_eq!(now.body["status"], **stays, "{from} to {to}");
        }
    }
}

#[tokio::test]
async fn refused_moves_name_what_is_allowed() {
    let world = World::new();
    let member = world.member().await;
    let id = campaign_at(&world, &member, "active").await;
    let answer =
        world.patch(&format!("/campaigns/{id}/status/draft"), &member.token, json!({})).await;
    assert_eq!(answer.code(), "invalid_transition");
    let message = answer.body["message"].as_str().expect("a message");
    assert!(message.contains("paused, ended"), "{message}");
    let answer =
        world.patch(&format!("/campaigns/{id}/status/asleep"), &member.token, json!({})).await;
    assert_eq!((answer.status.as_u16(), answer.code()), (400, "validation_failed"));
    for method in ["POST", "PUT"] {
        let path = format!("/campaigns/{id}/status/active");
        let same = world.call_with(method, &path, &member.token, &[], None).await;
        assert_eq!(same.status, 200, "{method}");
    }
}

#[tokio::test]
async fn a_campaign_begins_when_it_is_ready() {
    let world = World::new();
    let member = world.member().await;
    let token = &member.token;
    let id = campaign_at(&world, &member, "draft").await;
    let activate = format!("/campaigns/{id}/status/active");
    let refused = world.patch(&activate, token, json!({})).await;
    assert_eq!(refused.code(), "not_ready");
    let message = refused.body["message"].as_str().expect("a message").to_owned();
    assert!(message.contains("published gig") && message.contains("reward rules"), "{message}");

    let gig = json!({"campaignId": id, "title": "G", "actionType": "a"});
    let gig = world.post("/gigs", token, gig).await.text_at("id");
    world.put(&format!("/campaigns/{id}/reward-rules"), token, rules()).await.text_at("campaignId");
    let refused = world.patch(&activate, token, json!({})).await;
    let message = refused.body["message"].as_str().expect("a message");
    assert!(message.contains("published gig") && !message.contains("reward rules"), "{message}");

    let draft = world.patch(&format!("/gigs/{gig}"), token, json!({"actionType": "b"})).await;
    assert_eq!(draft.body["actionType"], "b");
    world.patch(&format!("/gigs/{gig}/status/published"), token, json!({})).await.text_at("id");
    let late = world.patch(&format!("/gigs/{gig}"), token, json!({"actionType": "c"})).await;
    assert_eq!(late.code(), "not_a_draft");
    assert_eq!(world.patch(&activate, token, json!({})).await.status, 200);
    let closed = world.patch(&format!("/gigs/{gig}/status/draft"), token, json!({})).await;
    assert_eq!(closed.code(), "invalid_transition");
}

#[tokio::test]
async fn a_campaign_begins_when_its_rules_do() {
    let world = World::new();
    let member = world.member().await;
    let token = &member.token;
    let id = campaign_at(&world, &member, "draft").await;
    let gig = json!({"campaignId": id, "title": "G", "actionType": "a"});
    let gig = world.post("/gigs", token, gig).await.text_at("id");
    world.patch(&format!("/gigs/{gig}/status/published"), token, json!({})).await.text_at("id");
    let mut later = rules();
    later["effectiveFrom"] = "2027-01-01T00:00:00Z".into();
    let path = format!("/campaigns/{id}/reward-rules");
    assert_eq!(world.put(&path, token, later.clone()).await.status, 200);
    let activate = format!("/campaigns/{id}/status/active");
    let refused = world.patch(&activate, token, json!({})).await;
    assert_eq!(refused.code(), "not_ready");
    let message = refused.body["message"].as_str().expect("a message");
    assert!(message.contains("not in force yet"), "{message}");
    assert_eq!(world.put(&path, token, rules()).await.status, 200);
    assert_eq!(world.put(&path, token, later).await.status, 200);
    assert_eq!(world.patch(&activate, token, json!({})).await.status, 200, "the older is in force");
}

#[tokio::test]
async fn rules_are_checked_without_being_put() {
    let world = World::new();
    let member = world.member().await;
    let token = &member.token;
    let id = campaign_at(&world, &member, "draft").await;
    let path = format!("/campaigns/{id}/reward-rules");
    let validate = format!("{path}/validate");
    let valid = world.post(&validate, token, rules()).await;
    assert_eq!((valid.status.as_u16(), valid.body), (200, json!({"valid": true, "warnings": []})));
    let mut wrong = rules();
    wrong["currency"] = "EUR".into();
    wrong["changeNote"] = 7.into();
    let refused = world.post(&validate, token, wrong).await;
    let paths: Vec<String> = refused.faults().into_iter().map(|(path, _)| path).collect();
    assert_eq!(paths, ["/changeNote", "/currency"], "{}", refused.text);
    assert_eq!(world.get(&path, token).await.status, 404, "nothing was stored");
}

#[tokio::test]
async fn drafts_can_be_removed() {
    let world = World::new();
    let member = world.member().await;
    let token = &member.token;
    let (active, _) = world.active_campaign(&member).await;
    let draft = campaign_at(&world, &member, "draft").await;
    let gig = json!({"campaignId": draft, "title": "G", "actionType": "a"});
    let gig = world.post("/gigs", token, gig).await.text_at("id");
    let published = world.get(&format!("/gigs?campaignId={active}"), token).await;
    let published = published.body["data"][0]["id"].as_str().expect("an id").to_owned();
    for path in [format!("/campaigns/{active}"), format!("/gigs/{published}")] {
        let refused = world.delete(&path, token).await;
        assert_eq!((refused.status.as_u16(), refused.code()), (409, "not_a_draft"), "{path}");
    }
    for (list, path) in
        [("/gigs", format!("/gigs/{gig}")), ("/campaigns", format!("/campaigns/{draft}"))]
    {
        assert!(world.get(&path, token).await.body["deleted"].is_null(), "{path}");
        let stale = world.call_with("DELETE", &path, token, &[("if-match", "\"7\"")], None).await;
        assert_eq!(stale.status, 412, "{path}");
        assert_eq!(world.delete(&path, token).await.status, 204, "{path}");
        for method in ["GET", "DELETE", "PATCH"] {
            let gone = world.call_with(method, &path, token, &[], Some(json!({}))).await;
            assert_eq!(gone.status, 404, "{method} {path}");
        }
        let listed = world.get(list, token).await;
        assert_eq!(listed.body["data"].as_array().expect("data").len(), 1, "{list}");
    }
    let gig = json!({"campaignId": draft, "title": "G", "actionType": "a"});
    assert_eq!(world.post("/gigs", token, gig).await.status, 404);
}

#[tokio::test]
async fn if_match_keeps_changes_from_being_lost() {
    let world = World::new();
    let member = world.member().await;
    let token = &member.token;
    let (id, _) = world.active_campaign(&member).await;
    for (path, method, body) in [
        (format!("/campaigns/{id}"), "PATCH", json!({"name": "N"})),
        (format!("/campaigns/{id}/reward-rules"), "PUT", rules()),
    ] {
        let before = world.get(&path, token).await;
        let tag = before.header("etag").to_owned();
        assert!(tag.starts_with('"'), "{path}: {tag}");
        let headers = [("if-match", tag.as_str())];
        let first = world.call_with(method, &path, token, &headers, Some(body.clone())).await;
        assert_eq!(first.status, 200, "{path}: {}", first.text);
        let second = world.call_with(method, &path, token, &headers, Some(body.clone())).await;
        assert_eq!((second.status.as_u16(), second.code()), (412, "stale"), "{path}");
        let weak = format!("W/{}", first.header("etag"));
        let weak = world.call_with(method, &path, token, &[("if-match", &weak)], Some(body)).await;
        assert_eq!(weak.status, 412, "{path}: a weak tag never matches");
    }
}

#[tokio::test]
async fn rules_have_versions() {
    let world = World::new();
    let member = world.member().await;
    let token = &member.token;
    let (id, _) = world.active_campaign(&member).await;
    let path = format!("/campaigns/{id}/reward-rules");
    let mut body = rules();
    body["changeNote"] = "Q1 rates".into();
    body["effectiveFrom"] = "2027-01-01T00:00:00Z".into();
    let put = world.put(&path, token, body).await;
    assert_eq!(put.body["version"], 2, "{}", put.text);
    assert_eq!(put.body["effectiveFrom"], "2027-01-01T00:00:00.000Z");
    assert_eq!(put.body["status"], "scheduled");
    for (name, value) in rules().as_object().expect("members") {
        assert_eq!(put.body[name], *value, "{name}");
    }
    let versions = world.get(&format!("{path}/versions"), token).await;
    let numbers: Vec<_> = versions.body["data"]
        .as_array()
        .expect("data")
        .iter()
        .map(|version| version["version"].as_u64().expect("a number"))
        .collect();
    assert_eq!(numbers, [2, 1]);
    assert_eq!(versions.body["data"][0]["status"], "scheduled");
    assert_eq!(versions.body["data"][1]["status"], "active");
    let first = world.get(&format!("{path}/versions/1"), token).await;
    assert_eq!((&first.body["version"], &first.body["status"]), (&json!(1), &json!("active")));
    let below = world.get(&format!("{path}/versions?startingAfter={id}:{:020}", 2), token).await;
    assert_eq!(below.body["data"], json!([first.body]), "{}", below.text);
    assert_eq!(world.get(&format!("{path}/versions/3"), token).await.status, 404);
    assert_eq!(world.get(&path, token).await.body["changeNote"], "Q1 rates");

    let back = world.put(&path, token, first.body.clone()).await;
    assert_eq!((back.status.as_u16(), &back.body["version"]), (200, &json!(3)), "{}", back.text);
    assert_eq!(back.body["status"], "active");
    let ousted = world.get(&format!("{path}/versions/1"), token).await;
    assert_eq!(ousted.body["status"], "superseded");
    let mut foreign = first.body;
    foreign["campaignId"] = format!("camp_{}", "0".repeat(26)).into();
    let refused = world.put(&path, token, foreign).await;
    assert_eq!(refused.faults(), [("/campaignId".to_owned(), "invalid_choice".to_owned())]);

    let mut wrong = rules();
    wrong["currency"] = "EUR".into();
    wrong["changeNote"] = 7.into();
    let refused = world.put(&path, token, wrong).await;
    let codes: Vec<String> = refused.faults().into_iter().map(|(path, _)| path).collect();
    assert_eq!(codes, ["/changeNote", "/currency"], "{}", refused.text);
}
