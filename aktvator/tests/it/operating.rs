//! What the operator sees: configuration, tokens, limits, health, metrics.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use serde_json::{Value, json};
use ureq::http::Method;

use crate::node::{BINARY, Node, fresh_folder};

#[test]
fn the_first_start_makes_a_private_token_and_says_so() {
    let mut node = Node::start();
    let path = node.data_dir().join("operator-token");
    let mode = fs::metadata(&path).expect("a token").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let token = node.operator_token();
    assert!(node.log().contains("operator-token") && !node.log().contains(&token));
    assert!(node.log().contains("loopback only"), "{}", node.log());
    assert!(node.terminate().success());
    node.restart();
    assert_eq!(node.operator_token(), token);
}

#[test]
fn a_second_server_on_the_same_data_is_refused() {
    let node = Node::start();
    let ports = crate::node::free_ports::<3>().map(|p| format!("127.0.0.1:{p}"));
    let done = Command::new(BINARY)
        .args(["serve", "--listen", &ports[0], "--redirect-listen", &ports[1]])
        .args(["--admin-listen", &ports[2], "--data-dir"])
        .arg(node.data_dir())
        .output()
        .expect("it runs");
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(!done.status.success() && said.contains("data directory"), "{said}");
}

#[test]
fn configuration_errors_name_file_line_and_remedy() {
    let folder = fresh_folder();
    let file = folder.join("aktvator.toml");
    let run = |text: &str| {
        fs::write(&file, text).expect("a file");
        let done = Command::new(BINARY)
            .args(["serve", "--print-config", "--config"])
            .arg(&file)
            .output()
            .expect("it runs");
        (
            done.status.code(),
            String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).into_owned(),
        )
    };
    let (code, printed) = run("listen = \"127.0.0.1:9999\"\n[storage]\npartitions = 4\n");
    assert_eq!(code, Some(0), "{printed}");
    assert!(printed.contains("127.0.0.1:9999") && printed.contains("partitions = 4"), "{printed}");
    let (again, same) = run(&printed);
    assert_eq!((again, &same), (Some(0), &printed), "what is printed reads back");

    let (code, said) = run("listen = \"127.0.0.1:9999\"\n[storage]\npartition = 4\n");
    assert_eq!(code, Some(78), "{said}");
    assert!(said.contains("aktvator.toml:3") && said.contains("partitions"), "{said}");
    let (code, said) = run("listen = \"127.0.0.1:9999\"\n[storage]\npartitions = 0\n");
    assert_eq!(code, Some(78), "{said}");
    assert!(said.contains("aktvator.toml:3") && said.contains("1 to 1024"), "{said}");
    let (code, said) =
        run("trusted_proxies = [\"127.0.0.1\"]\nredirect_url = \"go.example.com\"\n");
    assert_eq!(code, Some(78), "{said}");
    assert!(said.contains("public_url") && said.contains("redirect_url"), "{said}");
    let (code, said) = run("listen = 7\n");
    assert_eq!(code, Some(78), "{said}");
    assert!(said.contains("aktvator.toml:1"), "{said}");
    let (code, said) = run("listen = \"0.0.0.0:8080\"\n");
    assert_eq!(code, Some(78), "{said}");
    assert!(said.contains("tls.certificate") && said.contains("trusted_proxies"), "{said}");
    fs::remove_dir_all(folder).expect("a folder");
}

#[test]
fn keys_are_checked_scoped_limited_and_revoked() {
    let node = Node::start();
    let shop = node.organization();
    let organization = shop.name("organizationId");
    let agent: ureq::Agent =
        ureq::Agent::config_builder().http_status_as_error(false).build().into();
    let ingest = |token: &str| {
        let mut answer = agent
            .post(node.url("/events/ingest"))
            .header("authorization", token)
            .header("content-type", "application/json")
            .send(shop.purchase("k", 1).to_string())
            .expect("it answers");
        let body: Value = answer.body_mut().read_json().expect("JSON");
        (answer.status().as_u16(), body, answer.headers().clone())
    };
    for token in ["", "Bearer ", "Bearer nonsense", "Basic eDp5"] {
        let (status, body, headers) = ingest(token);
        assert_eq!(status, 401, "{token}: {body}");
        assert_eq!(body["statusCode"], 401);
        assert!(headers.contains_key("www-authenticate"));
    }
    let keys = format!("/organizations/{organization}/api-keys");
    let operator = node.operator();
    let (status, key) = operator
        .post(&keys, &json!({"name": "narrow", "mode": "live", "scopes": ["events:ingest"]}));
    assert_eq!(status, 201, "{key}");
    let token = format!("Bearer {}", key["token"].as_str().expect("a token"));
    let (status, body, headers) = ingest(&token);
    assert_eq!(status, 202, "{body}");
    for name in [
        "ratelimit",
        "ratelimit-policy",
        "x-ratelimit-limit",
        "x-ratelimit-remaining",
        "x-ratelimit-reset",
        "x-request-id",
    ] {
        assert!(headers.contains_key(name), "no {name} in {headers:?}");
    }
    let answer =
        agent.get(node.url("/campaigns")).header("authorization", &token).call().expect("answers");
    assert_eq!(answer.status(), 403);

    let limits = json!({"ingestPerSecond": 1, "ingestBurst": 2, "requestsPerSecond": 100, "requestsBurst": 100});
    let path = format!("/organizations/{organization}/limits");
    assert_eq!(operator.call(Method::PUT, &path, Some(&limits)).0, 200);
    let refused = (0..10).map(|_| ingest(&token)).find(|(status, _, _)| *status == 429);
    let (_, body, headers) = refused.expect("the limit holds");
    assert_eq!(body["code"], "rate_limited");
    assert!(
        headers["retry-after"].to_str().expect("seconds").parse::<u32>().expect("seconds") >= 1
    );

    let id = key["id"].as_str().expect("an id");
    let (status, _) = operator.call(Method::DELETE, &format!("{keys}/{id}"), None);
    assert!((200..300).contains(&status));
    assert_eq!(ingest(&token).0, 401, "a revoked key stops at its next request");
    let listed = operator.get(&keys).to_string();
    assert!(
        !listed.contains(key["token"].as_str().expect("a token")) && !listed.contains("sha256")
    );
}

#[test]
fn live_and_test_never_meet() {
    let node = Node::start();
    let shop = node.organization();
    let keys = format!("/organizations/{}/api-keys", shop.name("organizationId"));
    let (status, key) =
        node.operator().post(&keys, &json!({"name": "test", "mode": "test", "scopes": ["*"]}));
    assert_eq!(status, 201, "{key}");
    let token = key["token"].as_str().expect("a token");
    assert!(token.starts_with("ak_test_"));
    let get = |path: &str| {
        let agent: ureq::Agent =
            ureq::Agent::config_builder().http_status_as_error(false).build().into();
        let mut answer = agent
            .get(node.url(path))
            .header("authorization", format!("Bearer {token}"))
            .call()
            .expect("answers");
        (answer.status().as_u16(), answer.body_mut().read_json::<Value>().expect("JSON"))
    };
    assert_eq!(get(&format!("/campaigns/{}", shop.name("campaignId"))).0, 404);
    assert_eq!(get("/campaigns").1["data"], json!([]));
    let wallet = get(&format!("/organizations/{}/wallet", shop.name("organizationId")));
    assert_eq!(wallet.1["balance"], 0);
}

/// Series that one process may show.
const SERIES_MAX: usize = 3_000;

/// Whether a scrape's series are so few as is promised.
pub(crate) fn assert_few_series(scraped: &str) {
    let series = scraped.lines().filter(|line| !line.starts_with('#')).count();
    assert!((1..=SERIES_MAX).contains(&series), "{series} series");
}

#[test]
fn metrics_and_health_are_shown() {
    let node = Node::start();
    let shop = node.organization();
    shop.decide(&shop.purchase("k", 100));
    let text = node.metrics();
    assert_few_series(&text);
    for id in [shop.name("organizationId"), shop.name("campaignId")] {
        assert!(!text.contains(id), "an id is a label");
    }
    for part in ["aktvator_ingest", "aktvator_evaluator", "aktvator_dispatcher", "aktvator_serve"] {
        assert!(text.contains(part), "no {part} in the metrics");
    }
    assert_eq!(ureq::get(&node.admin("/livez")).call().expect("alive").status(), 200);
}

#[test]
fn behind_a_proxy_nothing_of_the_sandbox_is_left() {
    let folder = fresh_folder();
    let file = folder.join("aktvator.toml");
    let text = "trusted_proxies = [\"127.0.0.1\"]\npublic_url = \"https://api.example.com\"\n\
                redirect_url = \"https://go.example.com\"\n";
    fs::write(&file, text).expect("a file");
    let node = Node::start_with(&["--config", file.to_str().expect("a path")]);
    assert!(!node.log().contains("sandbox"), "{}", node.log());
    let agent: ureq::Agent =
        ureq::Agent::config_builder().http_status_as_error(false).build().into();
    let call = |scheme: Option<&str>, path: &str, token: &str, body: &Value| {
        let mut request =
            agent.post(node.url(path)).header("authorization", format!("Bearer {token}"));
        if let Some(scheme) = scheme {
            request = request.header("x-forwarded-proto", scheme);
        }
        let mut answer = request.send_json(body).expect("it answers");
        (answer.status().as_u16(), answer.body_mut().read_json::<Value>().expect("JSON"))
    };
    let operator = node.operator_token();
    let organization = json!({"name": "Shop"});
    for scheme in [None, Some("http")] {
        let (status, body) = call(scheme, "/organizations", &operator, &organization);
        assert_eq!((status, &body["code"]), (403, &json!("https_required")), "{scheme:?}");
    }
    let https = Some("https");
    let (status, made) = call(https, "/organizations", &operator, &organization);
    assert_eq!(status, 201, "{made}");
    let organization = format!("/organizations/{}", made["id"].as_str().expect("an id"));
    let key = json!({"name": "all", "mode": "live", "scopes": ["*"]});
    let (_, key) = call(https, &format!("{organization}/api-keys"), &operator, &key);
    let token = key["token"].as_str().expect("a token");
    let top_up = json!({"amount": 100, "currency": "USD"});
    let (status, body) = call(https, &format!("{organization}/wallet/topup"), token, &top_up);
    assert_eq!((status, &body["code"]), (409, &json!("payments_not_configured")), "{body}");
    for target in ["http://127.0.0.1:9600/metrics", "https://127.0.0.1/", "https://localhost/"] {
        let endpoint = json!({"name": "x", "targetUrl": target, "subscribedEvents": ["*"]});
        let path = format!("{organization}/webhook-endpoints");
        assert_eq!(call(https, &path, token, &endpoint).0, 400, "{target}");
    }
    drop(node);
    fs::remove_dir_all(folder).expect("a folder");
}
