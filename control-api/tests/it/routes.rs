//! What is documented is what is routed, and whatever is sent gets the one error shape.

use std::collections::{BTreeMap, BTreeSet};

use axum::body::Body;
use axum::http::Request;
use serde_json::{Value, json};

use crate::world::World;

const METHODS: [&str; 5] = ["GET", "POST", "PUT", "PATCH", "DELETE"];

/// Documented methods by path, aliases among them.
fn documented(document: &Value) -> BTreeMap<String, BTreeSet<String>> {
    let paths = document["paths"].as_object().expect("paths");
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (path, item) in paths {
        for (method, operation) in item.as_object().expect("operations") {
            if operation["x-answered-by"].is_string() {
                continue;
            }
            let methods = found.entry(path.clone()).or_default();
            methods.insert(method.to_uppercase());
            let aliases = operation["x-method-aliases"].as_array().cloned().unwrap_or_default();
            methods.extend(aliases.iter().map(|a| a.as_str().expect("text").to_owned()));
        }
    }
    found
}

#[tokio::test]
async fn every_route_is_in_the_document_and_back() {
    let world = World::new();
    let document = world.get("/openapi.json", "").await.body;
    assert_eq!(document["openapi"], "3.1.0");
    for (path, methods) in documented(&document) {
        let real = path.replace(['{', '}'], "");
        for prefix in ["", "/v1"] {
            for method in METHODS {
                let answer =
                    world.call_with(method, &format!("{prefix}{real}"), "", &[], None).await;
                let is_routed = answer.status != 405 && answer.body["message"] != NO_PATH;
                assert_eq!(is_routed, methods.contains(method), "{method} {prefix}{path}");
            }
        }
        let answer = world.call_with("OPTIONS", &real, "", &[], None).await;
        let allowed: BTreeSet<String> = answer
            .header("allow")
            .split(", ")
            .filter(|method| METHODS.contains(method))
            .map(str::to_owned)
            .collect();
        assert_eq!((answer.status.as_u16(), allowed), (204, methods), "{path}");
    }
}

const NO_PATH: &str = "No such path. The paths are listed at /openapi.json.";

#[tokio::test]
async fn the_document_is_whole() {
    let world = World::new();
    let document = world.get("/openapi.json", "").await.body;
    let mut ids = BTreeSet::new();
    for item in document["paths"].as_object().expect("paths").values() {
        for operation in item.as_object().expect("operations").values() {
            let id = operation["operationId"].as_str().expect("an id");
            assert!(ids.insert(id.to_owned()), "{id} stands twice");
            assert!(!operation["summary"].as_str().unwrap_or_default().is_empty(), "{id}");
            let secured = operation["security"].is_array();
            assert_eq!(secured, operation["x-access"] != "open", "{id}");
            let answer = &operation["responses"]["200"]["content"]["application/json"]["schema"];
            let is_page = answer["$ref"].as_str().is_some_and(|name| name.ends_with("Page"));
            assert_eq!(is_page, id.starts_with("list"), "{id}: {answer}");
        }
    }
    let text = document.to_string();
    let known = document["components"]["schemas"].as_object().expect("schemas");
    for part in text.split("#/components/schemas/").skip(1) {
        let name = part.split('"').next().unwrap_or_default();
        assert!(known.contains_key(name), "{name} is referred to and not there");
    }
}

#[tokio::test]
async fn the_ingest_endpoints_are_documented() {
    let world = World::new();
    let document = world.get("/openapi.json", "").await.body;
    for (path, statuses) in
        [("/events/ingest", &["202"][..]), ("/events/ingest/batch", &["202", "207"])]
    {
        let operation = &document["paths"][path]["post"];
        assert_eq!(operation["x-answered-by"], "ingest edge", "{path}");
        assert_eq!(operation["x-limit-class"], "ingest", "{path}");
        for status in statuses.iter().chain(&["400", "401", "403", "408", "413", "415", "429"]) {
            assert!(operation["responses"][status].is_object(), "{path}: {status}");
        }
        assert!(operation["responses"]["404"].is_null(), "{path}");
    }
    let event = &document["components"]["schemas"]["IngestEvent"];
    assert_eq!(event["required"], json!(["eventType", "idempotencyKey"]));
    assert_eq!(event["properties"]["idempotencyKey"]["maxLength"], 255);
    assert_eq!(event["properties"].as_object().expect("properties").len(), 15);
}

#[tokio::test]
async fn conditions_and_conflicts_are_documented() {
    let world = World::new();
    let document = world.get("/openapi.json", "").await.body;
    let operation = |method: &str, path: &str| document["paths"][path][method].clone();
    for (method, path, statuses) in [
        ("patch", "/campaigns/{id}", &["412", "413", "415"][..]),
        ("put", "/campaigns/{id}/reward-rules", &["412"]),
        ("post", "/campaigns", &["201", "408", "409", "422"]),
        ("post", "/attribution/links", &["200", "201"]),
        ("post", "/sandbox/payments/{topupId}", &["200", "202"]),
    ] {
        for status in statuses {
            let operation = operation(method, path);
            assert!(operation["responses"][status].is_object(), "{method} {path}: {status}");
        }
    }
    let rules = &document["components"]["schemas"]["RewardRules"];
    for name in ["campaignId", "version", "status", "effectiveFrom", "timezone", "fx", "rules"] {
        assert!(rules.to_string().contains(&format!("\"{name}\"")), "{name}: {rules}");
    }
}

/// The pages of the product that this API answers.
#[tokio::test]
async fn the_product_page_is_covered() {
    let world = World::new();
    let found = documented(&world.get("/openapi.json", "").await.body);
    for (method, path) in [
        ("GET", "/campaigns"),
        ("POST", "/campaigns"),
        ("GET", "/campaigns/{id}"),
        ("GET", "/campaigns/{id}/performance"),
        ("PATCH", "/campaigns/{id}/status/{status}"),
        ("GET", "/gigs"),
        ("POST", "/gigs"),
        ("PATCH", "/gigs/{id}/status/{status}"),
        ("GET", "/organizations/{id}"),
        ("PATCH", "/organizations/{id}"),
        ("GET", "/organizations/{id}/wallet"),
        ("POST", "/organizations/{id}/wallet/topup"),
        ("GET", "/organizations/{id}/api-keys"),
        ("POST", "/attribution/links"),
        ("POST", "/organizations/{id}/webhook-endpoints"),
    ] {
        assert!(found.get(path).is_some_and(|m| m.contains(method)), "{method} {path}");
    }
}

#[tokio::test]
async fn whatever_is_sent_gets_the_one_shape() {
    let world = World::new();
    let member = world.member().await;
    let big = "x".repeat((1 << 20) + 1);
    let rules = format!("/campaigns/{}/reward-rules", "camp_00000000000000000000000000");
    let bearer = format!("Bearer {}", member.token);
    let request = |method: &str, path: &str| {
        Request::builder().method(method).uri(path).header("authorization", &bearer)
    };
    let json_type = ("content-type", "application/json");
    let cases: Vec<(&str, u16, Request<Body>)> = vec![
        ("not_found", 404, request("GET", "/nowhere").body(Body::empty()).expect("built")),
        ("not_found", 404, request("GET", "/campaigns/").body(Body::empty()).expect("built")),
        ("not_found", 404, request("GET", "/campaigns/%ff").body(Body::empty()).expect("built")),
        ("method_not_allowed", 405, request("DELETE", "/gigs").body(Body::empty()).expect("built")),
        (
            "payload_too_large",
            413,
            request("POST", "/campaigns")
                .header(json_type.0, json_type.1)
                .body(Body::from(big.clone()))
                .expect("built"),
        ),
        (
            "payload_too_large",
            413,
            request("PUT", &rules)
                .header(json_type.0, json_type.1)
                .body(Body::from(big[..(256 << 10) + 1].to_owned()))
                .expect("built"),
        ),
        (
            "unsupported_media_type",
            415,
            request("POST", "/campaigns")
                .header("content-type", "application/x-www-form-urlencoded")
                .body(Body::from("name=x"))
                .expect("built"),
        ),
        (
            "unsupported_media_type",
            415,
            request("POST", "/campaigns")
                .header(json_type.0, json_type.1)
                .header("content-encoding", "gzip")
                .body(Body::from("{}"))
                .expect("built"),
        ),
    ];
    for (code, status, request) in cases {
        let label = format!("{} {}", request.method(), request.uri());
        let answer = world.send(request).await;
        assert_eq!((answer.code(), answer.status.as_u16()), (code, status), "{label}");
        assert_eq!(answer.body["statusCode"], status, "{label}");
        assert_eq!(answer.body["requestId"], answer.header("x-request-id"), "{label}");
        assert_eq!(answer.header("cache-control"), "no-store", "{label}");
    }
}

#[tokio::test]
async fn a_request_keeps_the_name_its_client_gave_it() {
    let world = World::new();
    let long = "x".repeat(129);
    let cases = [
        ("trace-1/a", true),
        (&long[1..], true),
        (&long, false),
        ("with blank", false),
        ("", false),
    ];
    for (name, is_kept) in cases {
        let answer = world.call_with("GET", "/nowhere", "", &[("x-request-id", name)], None).await;
        assert_eq!(answer.header("x-request-id") == name, is_kept, "{name}");
        assert_eq!(answer.body["requestId"], answer.header("x-request-id"), "{name}");
    }
    let twice = [("x-request-id", "a"), ("x-request-id", "b")];
    let answer = world.call_with("GET", "/nowhere", "", &twice, None).await;
    assert!(answer.header("x-request-id").starts_with("req_"));
}

#[tokio::test]
async fn heads_and_limits() {
    let world = World::new();
    let member = world.member().await;
    let head = world.call_with("HEAD", "/campaigns", &member.token, &[], None).await;
    assert_eq!((head.status.as_u16(), head.text.as_str()), (200, ""));
    assert_ne!(head.header("content-length"), "0");
    let answer = world.get("/campaigns", &member.token).await;
    for name in ["ratelimit", "ratelimit-policy", "x-ratelimit-limit", "x-ratelimit-remaining"] {
        assert!(!answer.header(name).is_empty(), "{name}");
    }

    let limits = json!({
        "ingestPerSecond": 1, "ingestBurst": 1, "requestsPerSecond": 1, "requestsBurst": 3,
    });
    let path = format!("/organizations/{}/limits", member.id);
    assert_eq!(world.put(&path, &world.operator, limits.clone()).await.status, 200);
    assert_eq!(world.put(&path, &member.token, limits).await.code(), "operator_only");
    let mut last = world.get("/campaigns", &member.token).await;
    for _ in 0..5 {
        last = world.get("/campaigns", &member.token).await;
    }
    assert_eq!((last.status.as_u16(), last.code()), (429, "rate_limited"));
    assert_ne!(last.header("retry-after"), "");
}
