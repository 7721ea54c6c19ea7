//! Pages: together they are the list, whatever the size of a page and whatever comes in between.

use proptest::prelude::*;
use serde_json::json;

use crate::world::{Member, World};

/// Walks a list by pages of `limit`, and says the ids in the order they came.
async fn walk(
    world: &World,
    member: &Member,
    path: &str,
    id: &str,
    limit: usize,
    backwards_from: Option<String>,
) -> Vec<String> {
    let cursor_name = if backwards_from.is_some() { "endingBefore" } else { "startingAfter" };
    let mut cursor = backwards_from.clone();
    let mut seen = Vec::new();
    loop {
        let tail = cursor.map(|cursor| format!("&{cursor_name}={cursor}")).unwrap_or_default();
        let page = world.get(&format!("{path}?limit={limit}{tail}"), &member.token).await;
        let data = page.body["data"].as_array().unwrap_or_else(|| panic!("{}", page.text));
        assert!(data.len() <= limit);
        let mut ids: Vec<String> =
            data.iter().map(|item| item[id].as_str().expect("an id").to_owned()).collect();
        if backwards_from.is_some() {
            ids.reverse();
        }
        seen.extend(ids);
        cursor = page.body["nextCursor"].as_str().map(str::to_owned);
        assert_eq!(page.body["hasMore"].as_bool().expect("a flag"), cursor.is_some());
        if cursor.is_none() {
            return seen;
        }
    }
}

async fn check(limit: usize, many: usize) {
    let world = World::new();
    let member = world.member().await;
    let (campaign, aktvator) = world.active_campaign(&member).await;
    let code = json!({"campaignId": campaign, "aktvatorId": aktvator});
    let code = world.post("/attribution/codes", &member.token, code).await.text_at("code");
    world.fund(&member, 1_000_000).await;
    let mut events = Vec::new();
    let mut aktvators = vec![aktvator];
    for i in 0..many {
        events.push(world.purchase(&member, &campaign, &code, &format!("order_{i}")).await);
        let made = world.post("/aktvators", &member.token, json!({"name": "A"})).await;
        aktvators.push(made.text_at("id"));
    }
    let Some(last) = events.last() else { return };
    world.get(&format!("/events/{last}"), &member.token).await.text_at("eventId");
    events.reverse();
    aktvators.reverse();
    assert_eq!(walk(&world, &member, "/events", "eventId", limit, None).await, events);
    assert_eq!(walk(&world, &member, "/rewards", "eventId", limit, None).await, events);
    assert_eq!(walk(&world, &member, "/aktvators", "id", limit, None).await, aktvators);

    let transactions = format!("/organizations/{}/wallet/transactions", member.id);
    let found = walk(&world, &member, &transactions, "id", limit, None).await;
    assert_eq!(found.len(), many + 1);

    for (path, id, list) in [("/events", "eventId", &events), ("/aktvators", "id", &aktvators)] {
        let oldest = list.last().cloned();
        let mut newer: Vec<String> = list[..list.len() - 1].to_vec();
        newer.reverse();
        assert_eq!(walk(&world, &member, path, id, limit, oldest).await, newer, "{path}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]
    #[test]
    fn pages_neither_skip_nor_repeat(limit in 1usize..9, many in 1usize..20) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(check(limit, many));
    }
}

#[tokio::test]
async fn what_comes_in_meanwhile_does_not_move_a_page() {
    let world = World::new();
    let member = world.member().await;
    let (campaign, _) = world.active_campaign(&member).await;
    let mut events = Vec::new();
    for i in 0..6 {
        events.push(world.purchase(&member, &campaign, "NONE", &format!("a{i}")).await);
    }
    let last = events.last().expect("six");
    world.get(&format!("/events/{last}"), &member.token).await.text_at("eventId");
    let first = world.get("/events?limit=3", &member.token).await;
    let cursor = first.text_at("nextCursor");
    let newer = world.purchase(&member, &campaign, "NONE", "later").await;
    world.get(&format!("/events/{newer}"), &member.token).await.text_at("eventId");
    let second = world.get(&format!("/events?limit=3&startingAfter={cursor}"), &member.token).await;
    let ids: Vec<_> = [&first, &second]
        .iter()
        .flat_map(|page| page.body["data"].as_array().expect("data"))
        .map(|event| event["eventId"].as_str().expect("an id").to_owned())
        .collect();
    events.reverse();
    assert_eq!(ids, events);
}

#[tokio::test]
async fn filters_of_events() {
    let world = World::new();
    let member = world.member().await;
    let (campaign, aktvator) = world.active_campaign(&member).await;
    let code = json!({"campaignId": campaign, "aktvatorId": aktvator});
    let code = world.post("/attribution/codes", &member.token, code).await.text_at("code");
    world.fund(&member, 1_000_000).await;
    world.purchase(&member, &campaign, &code, "one").await;
    world.purchase(&member, &campaign, "NOSUCH", "two").await;
    let third = world.purchase(&member, &campaign, &code, "three").await;
    world.get(&format!("/events/{third}"), &member.token).await.text_at("eventId");
    for (filter, many) in [
        ("code=rewarded".to_owned(), 2),
        ("code=-rewarded".to_owned(), 1),
        (format!("aktvatorId={aktvator}"), 2),
        (format!("campaignId={campaign}"), 3),
        (format!("campaignId=-{campaign}"), 0),
        ("eventType=customer.purchase,x".to_owned(), 3),
        ("idempotencyKey=two".to_owned(), 1),
        ("idempotencyKey=two&code=rewarded".to_owned(), 0),
        ("customerId=c".to_owned(), 0),
        ("from=2026-01-02T00:00:00Z&to=2026-01-03T00:00:00Z".to_owned(), 3),
        ("to=2026-01-01T00:00:00Z".to_owned(), 0),
    ] {
        let listed = world.get(&format!("/events?{filter}"), &member.token).await;
        let data = listed.body["data"].as_array().unwrap_or_else(|| panic!("{}", listed.text));
        assert_eq!(data.len(), many, "{filter}");
    }
    let mine = world.get(&format!("/rewards?eventId={third}"), &member.token).await;
    assert_eq!(mine.body["data"].as_array().expect("data").len(), 1);
    for wrong in ["startingAfter=evt_x", "endingBefore=0", "startingAfter=1.1&endingBefore=1.1"] {
        let refused = world.get(&format!("/events?{wrong}"), &member.token).await;
        assert_eq!(refused.status, 400, "{wrong}");
    }
}
