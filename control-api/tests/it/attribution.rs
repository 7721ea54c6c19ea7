//! Links and codes: given out once, never again.

use serde_json::{Value, json};

use crate::world::World;

#[tokio::test]
async fn links_as_on_the_product_page() {
    let world = World::new();
    let member = world.member().await;
    let (campaign, aktvator) = world.active_campaign(&member).await;
    let body = json!({
        "campaignId": campaign, "targetUrl": "https://yoursite.com/signup", "aktvatorId": aktvator,
    });
    let made = world.post("/attribution/links", &member.token, body).await;
    assert_eq!(made.status, 201);
    let code = made.text_at("code");
    assert_eq!(made.body["targetUrl"], "https://yoursite.com/signup");
    assert_eq!(made.body["shortUrl"], format!("http://127.0.0.1:8081/{code}"));
    assert!(code.len() >= 7 && !code.contains(['0', 'O', '1', 'I']), "{code}");

    let path = format!("/attribution/codes/{}", code.to_lowercase());
    assert_eq!(world.get(&path, &member.token).await.body["linkId"], made.body["id"]);
    let path = format!("/attribution/links/{}", made.text_at("id"));
    let archived = world.delete(&path, &member.token).await;
    assert_eq!(archived.body["archived"], true);
    assert_eq!(world.delete(&path, &member.token).await.status, 200);
    let again = json!({"campaignId": campaign, "aktvatorId": aktvator, "code": code});
    let refused = world.post("/attribution/codes", &member.token, again).await;
    assert_eq!((refused.status.as_u16(), refused.code()), (409, "code_taken"));
    for (filter, many) in [("archived=true", 1), ("archived=false", 0), ("archived=-true", 0)] {
        let listed = world.get(&format!("/attribution/links?{filter}"), &member.token).await;
        assert_eq!(listed.body["data"].as_array().expect("data").len(), many, "{filter}");
    }
}

#[tokio::test]
async fn upserts_find_the_first() {
    let world = World::new();
    let member = world.member().await;
    let (campaign, aktvator) = world.active_campaign(&member).await;
    let body = |target: &str, code: Value| {
        json!({
            "campaignId": campaign, "targetUrl": target, "aktvatorId": aktvator, "code": code,
        })
    };
    let plain = "/attribution/links";
    let upsert = "/attribution/links?upsert=true";
    let post = |path: &'static str, target: &str, code: Value| {
        world.post(path, &member.token, body(target, code))
    };
    let first = post(plain, "https://example.com/a", Value::Null).await;
    let second = post(plain, "https://example.com/a", Value::Null).await;
    assert_ne!(first.body["id"], second.body["id"]);
    let found = post(upsert, "https://example.com/a", Value::Null).await;
    assert_eq!((found.status.as_u16(), &found.body["id"]), (200, &first.body["id"]));
    let made = post(upsert, "https://example.com/b", json!("spring")).await;
    assert_eq!((made.status.as_u16(), &made.body["code"]), (201, &json!("SPRING")));
    let found = post(upsert, "https://example.com/b", json!("Spring")).await;
    assert_eq!((found.status.as_u16(), &found.body["id"]), (200, &made.body["id"]));
    let differs = post(upsert, "https://example.com/b", json!("summer")).await;
    assert_eq!(differs.code(), "code_differs");
    let taken = post(upsert, "https://example.com/c", json!("spring")).await;
    assert_eq!(taken.code(), "code_taken");
}

#[tokio::test]
async fn bare_codes() {
    let world = World::new();
    let member = world.member().await;
    let other = world.member().await;
    let (campaign, aktvator) = world.active_campaign(&member).await;
    let (foreign, stranger) = world.active_campaign(&other).await;
    let body = json!({"campaignId": campaign, "aktvatorId": aktvator, "code": "Abc123"});
    let made = world.post("/attribution/codes", &member.token, body).await;
    assert_eq!((made.status.as_u16(), made.text_at("code").as_str()), (201, "ABC123"));
    let body = json!({"campaignId": foreign, "aktvatorId": stranger, "code": "aBC123"});
    assert_eq!(world.post("/attribution/codes", &other.token, body).await.code(), "code_taken");
    let gone = world.delete("/attribution/codes/abc123", &member.token).await;
    assert_eq!(gone.body["archived"], true);
    let still = world.get("/attribution/codes/ABC123", &member.token).await;
    assert_eq!((still.status.as_u16(), &still.body["archived"]), (200, &json!(true)));
}

#[tokio::test]
async fn external_ids_are_unique_in_a_scope() {
    let world = World::new();
    let (a, b) = (world.member().await, world.member().await);
    let body = json!({"name": "A", "externalId": "u1"});
    let made = world.post("/aktvators", &a.token, body.clone()).await;
    assert_eq!((made.status.as_u16(), &made.body["status"]), (201, &json!("approved")));
    assert_eq!(world.post("/aktvators", &a.token, body.clone()).await.code(), "taken");
    assert_eq!(world.post("/aktvators", &b.token, body).await.status, 201);
    let path = format!("/aktvators/{}", made.text_at("id"));
    let changed = json!({"status": "banned", "group": "vip", "tags": ["b", "a", "b"]});
    let changed = world.patch(&path, &a.token, changed).await;
    assert_eq!(changed.body["tags"], json!(["a", "b"]), "{}", changed.text);
    let cleared = world.patch(&path, &a.token, json!({"group": null})).await;
    assert!(cleared.body["group"].is_null() && cleared.body["status"] == "banned");
    let moved = world.patch(&path, &a.token, json!({"externalId": "u2"})).await;
    assert_eq!(moved.code(), "external_id_set");
    let found = world.get("/aktvators?externalId=u1&status=-approved", &a.token).await;
    assert_eq!(found.body["data"].as_array().expect("data").len(), 1);
}
