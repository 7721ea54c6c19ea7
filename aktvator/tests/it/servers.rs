//! Several processes on Kafka, CQL and ClickHouse: the main path, partitions that move, keys that stop
//! everywhere. What goes wrong is in `faults`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Output;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use ureq::http::Method;

use crate::cluster::Cluster;
use crate::installation::Installation;
use crate::invariants;
use crate::node::{Node, Organization, eventually};
use crate::receiver::Receiver;

/// In which a revoked key must have stopped at every edge.
const REVOKED_WITHIN: Duration = Duration::from_secs(2);

/// From now on every purchase is worth `amount` cents, without a cap.
fn put_flat_rule(shop: &Organization, amount: i64) {
    let rules = format!("/campaigns/{}/reward-rules", shop.name("campaignId"));
    let flat = json!({
        "currency": "USD", "timezone": "UTC",
        "rules": [{"key": "flat", "priority": 1, "on": {"eventTypes": ["customer.purchase"]},
                   "reward": {"type": "flat", "amount": amount}}],
    });
    let (status, body) = shop.call(Method::PUT, &rules, Some(&flat));
    assert_eq!(status, 200, "{body}");
}

fn wallet(shop: &Organization) -> Value {
    shop.get(&format!("/organizations/{}/wallet", shop.name("organizationId")))
}

/// Runs a role that is expected not to start.
fn serve(cluster: &Cluster, role: &str) -> Output {
    let anywhere = "127.0.0.1:0";
    let listen = ["--listen", anywhere, "--redirect-listen", anywhere, "--admin-listen", anywhere];
    cluster.aktvator(&[&["serve", "--role", role], &listen[..]].concat())
}

#[test]
#[ignore = "needs AKTVATOR_TEST_KAFKA, AKTVATOR_TEST_CQL and AKTVATOR_TEST_CLICKHOUSE"]
fn migrate_makes_what_is_missing_and_serve_says_when_it_was_not_run() {
    let cluster = Cluster::configured();
    for role in ["edge", "evaluator", "dispatcher", "control"] {
        let done = serve(&cluster, role);
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(!done.status.success() && said.contains("aktvator migrate"), "{role}: {said}");
    }
    let first = cluster.migrate();
    let said = String::from_utf8_lossy(&first.stdout).into_owned();
    assert!(first.status.success(), "{said}{}", String::from_utf8_lossy(&first.stderr));
    for part in ["Kafka", "CQL", "ClickHouse", "created", "operator-token"] {
        assert!(said.contains(part), "no {part} in {said}");
    }
    let file = cluster.operator_token_file();
    assert_eq!(fs::metadata(&file).expect("a token").permissions().mode() & 0o777, 0o600);
    let token = fs::read(&file).expect("a token");
    let again = cluster.migrate();
    let said = String::from_utf8_lossy(&again.stdout).into_owned();
    assert!(again.status.success() && !said.contains("created"), "{said}");
    assert_eq!(fs::read(&file).expect("a token"), token);
    fs::remove_file(&file).expect("a token");
    let done = serve(&cluster, "control");
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(!done.status.success() && said.contains("operator-token"), "{said}");
}

#[test]
#[ignore = "needs AKTVATOR_TEST_KAFKA, AKTVATOR_TEST_CQL and AKTVATOR_TEST_CLICKHOUSE"]
fn a_purchase_goes_through_every_process() {
    let all = Installation::start();
    let receiver = Receiver::start(&[], Duration::ZERO);
    let mut shop = all.control.organization_with(&["--webhook-url", receiver.url()]);

    shop.push_to(&all.edges[0]);
    let first = shop.decide(&shop.purchase("order_1", 4900));
    assert_eq!(first["decision"]["code"], "rewarded");
    shop.push_to(&all.edges[1]);
    let second = shop.decide(&shop.purchase("order_1", 4900));
    assert_eq!((&second["status"], &second["eventId"]), (&json!("duplicate"), &first["eventId"]));

    let id = first["eventId"].as_str().expect("an id");
    assert_eq!(shop.get(&format!("/events/{id}"))["decision"]["code"], "rewarded");
    assert_eq!(shop.get("/rewards")["data"][0]["amount"], 980);
    let now = wallet(&shop);
    assert_eq!((&now["reserved"], &now["available"]), (&json!(980), &json!(999_020)));

    put_flat_rule(&shop, 500);
    let third = shop.decide(&shop.purchase("order_2", 4900));
    assert_eq!(third["decision"]["rulebookVersion"], 2, "{third}");

    let totals = eventually("counted conversions", || {
        let campaign = shop.name("campaignId");
        let totals = shop.get(&format!("/campaigns/{campaign}/performance"))["totals"].clone();
        (totals["conversions"] == 2).then_some(totals)
    });
    assert_eq!((&totals["revenue"], &totals["rewardAmount"]), (&json!(9800), &json!(1480)));
    let hook = eventually("a webhook", || receiver.of_type("action_attempt.verified"));
    assert_eq!(hook.json()["data"]["rewardAmount"], 980);

    // Of another role's paths a process says that there is no such thing.
    let path = all.edges[0].url("/campaigns");
    assert_eq!(shop.call(Method::GET, &path, None).0, 404);
    let path = all.control.url("/events/ingest/batch");
    assert_eq!(shop.post(&path, &json!([shop.purchase("order_3", 1)])).0, 404);
    assert!(!all.cluster.folder().join("log").exists(), "nothing is kept on disk");
}

#[test]
#[ignore = "needs AKTVATOR_TEST_KAFKA, AKTVATOR_TEST_CQL and AKTVATOR_TEST_CLICKHOUSE"]
fn partitions_move_when_evaluators_stop_and_start() {
    let mut all = Installation::start();
    let workload = all.workload();
    workload.during(Duration::from_millis(500), || {
        for at in [0, 1, 0] {
            let evaluator = &mut all.evaluators[at];
            assert!(evaluator.terminate().success(), "{}", evaluator.log());
            workload.decide_one();
            evaluator.restart();
            workload.decide_one();
        }
    });
    invariants::check(&workload);
    all.assert_few_series();
}

#[test]
#[ignore = "needs AKTVATOR_TEST_KAFKA, AKTVATOR_TEST_CQL and AKTVATOR_TEST_CLICKHOUSE"]
fn a_revoked_key_stops_at_every_edge() {
    let all = Installation::start();
    let mut shop = all.control.organization();
    shop.push_to(&all.edges[0]);
    let keys = format!("/organizations/{}/api-keys", shop.name("organizationId"));
    let operator = all.control.operator();
    let key = json!({"name": "narrow", "mode": "live", "scopes": ["events:ingest"]});
    let (status, key) = operator.post(&keys, &key);
    assert_eq!(status, 201, "{key}");
    let token = format!("Bearer {}", key["token"].as_str().expect("a token"));
    let agent: ureq::Agent =
        ureq::Agent::config_builder().http_status_as_error(false).build().into();
    let push = |edge: &Node| {
        let answer = agent
            .post(edge.url("/events/ingest"))
            .header("authorization", &token)
            .header("content-type", "application/json")
            .send(shop.purchase("k", 1).to_string());
        answer.expect("it answers").status().as_u16()
    };
    for edge in &all.edges {
        assert_eq!(push(edge), 202);
    }
    let id = key["id"].as_str().expect("an id");
    let (status, _) = operator.call(Method::DELETE, &format!("{keys}/{id}"), None);
    assert!((200..300).contains(&status), "{status}");
    thread::sleep(REVOKED_WITHIN);
    for edge in &all.edges {
        assert_eq!(push(edge), 401, "a revoked key still passes");
    }
}
