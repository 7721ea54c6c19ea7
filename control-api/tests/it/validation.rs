//! Every fault at once, and nothing half done.

use schemas::partition::Mode;
use serde_json::{Value, json};

use crate::world::World;

/// Path and code of every fault wanted.
type Faults = &'static [(&'static str, &'static str)];

/// Requests with many faults: path, body, and every fault.
type Case = (String, Value, Faults);

fn of_campaigns_and_attribution() -> Vec<Case> {
    vec![
        (
            "/campaigns?what=1".to_owned(),
            json!({"name": "", "description": 7, "extra": true}),
            &[
                ("/description", "wrong_type"),
                ("/extra", "unknown_field"),
                ("/name", "out_of_range"),
                ("what", "unknown_field"),
            ],
        ),
        (
            "/gigs".to_owned(),
            json!({"campaignId": "camp_x", "actionType": "a b", "budget": 1}),
            &[
                ("/actionType", "invalid_format"),
                ("/budget", "not_supported"),
                ("/campaignId", "invalid_format"),
                ("/title", "required"),
            ],
        ),
        (
            "/aktvators".to_owned(),
            json!({"name": "\u{7}", "country": "usa", "status": "great", "tags": ["", 1]}),
            &[
                ("/country", "invalid_format"),
                ("/name", "invalid_format"),
                ("/status", "invalid_choice"),
                ("/tags/0", "wrong_type"),
                ("/tags/1", "wrong_type"),
            ],
        ),
        (
            "/attribution/links".to_owned(),
            json!({"targetUrl": "https://u:p@example.com/", "code": "a-b", "password": "x"}),
            &[
                ("/aktvatorId", "required"),
                ("/campaignId", "required"),
                ("/code", "invalid_format"),
                ("/password", "not_supported"),
                ("/targetUrl", "invalid_format"),
            ],
        ),
    ]
}

fn of_organizations(id: &str) -> Vec<Case> {
    vec![
        (
            format!("/organizations/{id}/webhook-endpoints"),
            json!({
                "name": "W", "targetUrl": "https://10.0.0.1/", "active": "yes",
                "subscribedEvents": ["reward.paid", "reward.eaten"],
            }),
            &[
                ("/active", "wrong_type"),
                ("/subscribedEvents/1", "invalid_choice"),
                ("/targetUrl", "blocked_target"),
            ],
        ),
        (
            format!("/organizations/{id}/wallet/topup"),
            json!({"amount": 0, "currency": "usd"}),
            &[("/amount", "out_of_range"), ("/currency", "invalid_format")],
        ),
        (
            format!("/organizations/{id}/api-keys"),
            json!({"mode": "real", "scopes": ["all"], "expiresAt": "soon"}),
            &[
                ("/expiresAt", "invalid_format"),
                ("/mode", "invalid_choice"),
                ("/name", "required"),
                ("/scopes", "invalid_choice"),
            ],
        ),
    ]
}

#[tokio::test]
async fn all_faults_at_once() {
    let world = World::new();
    let member = world.member().await;
    let cases = [of_campaigns_and_attribution(), of_organizations(&member.id)].concat();
    for (path, body, want) in cases {
        let answer = world.post(&path, &member.token, body).await;
        assert_eq!((answer.status.as_u16(), answer.code()), (400, "validation_failed"), "{path}");
        let faults = answer.faults();
        let faults: Vec<_> = faults.iter().map(|(p, c)| (p.as_str(), c.as_str())).collect();
        assert_eq!(faults, want, "{path}");
    }
    let campaigns = world.get("/campaigns", &member.token).await;
    assert_eq!(campaigns.body["data"], json!([]));
}

#[tokio::test]
async fn bodies_that_are_not_json() {
    let world = World::new();
    let member = world.member().await;
    let deep = "[".repeat(50_000);
    let cases: [(&[u8], &str); 5] = [
        (b"{", "malformed_json"),
        (br#"{"name":"a","name":"b"}"#, "duplicate_key"),
        (br#"{"name":"\u0000"}"#, "nul_character"),
        (b"{\"name\":\"\xff\"}", "malformed_json"),
        (deep.as_bytes(), "too_deep"),
    ];
    for (body, code) in cases {
        let request = axum::http::Request::post("/campaigns")
            .header("authorization", format!("Bearer {}", member.token))
            .body(axum::body::Body::from(body.to_vec()))
            .expect("built");
        let answer = world.send(request).await;
        assert_eq!(answer.faults(), [(String::new(), code.to_owned())]);
    }
}

#[tokio::test]
async fn performance_asks_for_quarters_of_an_hour() {
    let world = World::new();
    let member = world.member().await;
    let (campaign, _) = world.active_campaign(&member).await;
    let path = format!("/campaigns/{campaign}/performance");
    let wrong = "from=2026-01-01T00:07:00Z&to=2025-01-01T00:00:00Z&granularity=minute\
                 &timezone=Mars/Olympus&groupBy=gig,gig,shoe&limit=0";
    let answer = world.get(&format!("{path}?{wrong}"), &member.token).await;
    let faults = answer.faults();
    let faults: Vec<_> = faults.iter().map(|(p, c)| (p.as_str(), c.as_str())).collect();
    assert_eq!(
        faults,
        [
            ("from", "out_of_range"),
            ("granularity", "invalid_choice"),
            ("groupBy", "duplicate_key"),
            ("groupBy", "invalid_choice"),
            ("limit", "out_of_range"),
            ("timezone", "invalid_choice"),
            ("to", "out_of_range"),
        ]
    );
    let right = "from=2026-01-01T00:00:00Z&to=2026-02-01T00:00:00Z&granularity=day\
                 &timezone=America/New_York&groupBy=aktvator,eventType&limit=5";
    let answer = world.get(&format!("{path}?{right}"), &member.token).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(answer.body["totals"]["conversions"], 0);
    assert_eq!(answer.body["timezone"], "America/New_York");
    assert_eq!(world.get(&path, &member.token).await.status, 200);
}

#[tokio::test]
async fn keys_hand_on_only_what_they_have() {
    let world = World::new();
    let member = world.member().await;
    let path = format!("/organizations/{}/api-keys", member.id);
    let narrow = world.key(&member.id, Mode::Live, &["keys:write", "campaigns:read"]).await;
    let body = |scope: &str| json!({"name": "K", "mode": "live", "scopes": [scope]});
    let refused = world.post(&path, &narrow, body("wallet:write")).await;
    assert_eq!((refused.status.as_u16(), refused.code()), (403, "insufficient_scope"));
    assert_eq!(world.post(&path, &narrow, body("*")).await.code(), "insufficient_scope");
    let made = world.post(&path, &narrow, body("campaigns:read")).await;
    let (id, token) = (made.text_at("id"), made.text_at("token"));
    assert!(
        token.starts_with("ak_live_") && token.ends_with(made.body["last4"].as_str().expect("4"))
    );
    assert_eq!(world.get("/campaigns", &token).await.status, 200);
    let refused = world.post("/campaigns", &token, json!({"name": "C"})).await;
    assert_eq!((refused.status.as_u16(), refused.code()), (403, "insufficient_scope"));

    let one = format!("{path}/{id}");
    let renamed = world.patch(&one, &world.operator, json!({"name": "New"})).await;
    assert_eq!(renamed.body["name"], "New");
    assert!(renamed.body["token"].is_null() && renamed.body["sha256"].is_null());
    assert_eq!(world.delete(&one, &world.operator).await.status, 200);
    let stopped = world.get("/campaigns", &token).await;
    assert_eq!((stopped.status.as_u16(), stopped.code()), (401, "key_revoked"));
    assert_eq!(stopped.header("www-authenticate"), "Bearer");
    let listed = world.get(&path, &world.operator).await;
    assert_eq!(listed.body["data"].as_array().expect("data").len(), 3);
    assert!(!listed.text.contains("sha256") && !listed.text.contains(&token));
}

#[tokio::test]
async fn nulls_clear_and_absences_keep() {
    let world = World::new();
    let member = world.member().await;
    let path = format!("/organizations/{}", member.id);
    let body = json!({"description": "D", "website": "https://example.com/"});
    assert_eq!(world.patch(&path, &member.token, body).await.status, 200);
    let answer = world.patch(&path, &member.token, json!({"description": null})).await;
    assert!(answer.body["description"].is_null(), "{}", answer.text);
    assert_eq!(answer.body["website"], "https://example.com/");
    let refused = world.patch(&path, &member.token, json!({"currency": "EUR"})).await;
    assert_eq!(refused.faults(), [("/currency".to_owned(), "unknown_field".to_owned())]);
}
