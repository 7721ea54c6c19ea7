//! `aktvator move`: the same answers on the servers as before, and nothing lost on the way.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::node::{BINARY, Node, Organization, eventually};
use crate::receiver::Receiver;

/// Events beside those that are looked at closely.
const OTHERS: usize = 300;
/// Events of the burst that ends with `kill -9`.
const BURST: usize = 3_000;
/// What the rule gives at most to an aktvator in a month, in cents.
const AKTVATOR_MONTH_MAX: i64 = 50_000;

/// Runs `aktvator move`; what it printed if it succeeded, else what was wrong.
fn moved(node: &Node, cluster: &Cluster) -> Result<String, String> {
    let from = node.data_dir().to_str().expect("a path");
    let done = cluster.aktvator(&["move", "--from", from]);
    match done.status.success() {
        true => Ok(String::from_utf8_lossy(&done.stdout).into_owned()),
        false => Err(String::from_utf8_lossy(&done.stderr).into_owned()),
    }
}

/// Begins a move and kills it after a while.
fn interrupt(node: &Node, cluster: &Cluster, after: Duration) {
    let mut child = Command::new(BINARY)
        .args(["move", "--from"])
        .arg(node.data_dir())
        .arg("--config")
        .arg(cluster.config())
        .stdout(Stdio::null())
        .spawn()
        .expect("the binary runs");
    thread::sleep(after);
    let _ = child.kill();
    child.wait().expect("a child");
}

/// What an organization can see of itself.
fn seen(shop: &Organization) -> Vec<(String, Value)> {
    let organization = format!("/organizations/{}", shop.name("organizationId"));
    let campaign = format!("/campaigns/{}", shop.name("campaignId"));
    let mut seen = Vec::new();
    for (path, id) in [("/events", "eventId"), ("/rewards", "id")] {
        for item in shop.pages(path).expect("a list") {
            let one = format!("{path}/{}", item[id].as_str().expect("an id"));
            seen.push((one.clone(), shop.get(&one)));
            seen.push((one, item));
        }
    }
    let lists = ["/campaigns", "/gigs", "/aktvators", "/attribution/codes"].map(str::to_owned);
    let own = ["wallet/transactions", "webhook-endpoints", "api-keys"];
    for path in lists.into_iter().chain(own.map(|name| format!("{organization}/{name}"))) {
        seen.push((path.clone(), shop.pages(&path).expect("a list").into()));
    }
    for path in [format!("{organization}/wallet"), format!("{campaign}/reward-rules")] {
        seen.push((path.clone(), shop.get(&path)));
    }
    for query in ["", "?granularity=day&groupBy=aktvator,code"] {
        let path = format!("{campaign}/performance{query}");
        let mut performance = shop.get(&path);
        performance["freshness"] = Value::Null;
        seen.push((path, performance));
    }
    seen
}

/// A burst is on the log, acknowledged, and the process killed before it decides all of it.
fn burst(node: &mut Node, shop: &Organization) -> BTreeSet<String> {
    let keys: Vec<_> = (0..BURST).map(|i| format!("burst-{i}")).collect();
    for keys in keys.chunks(1_000) {
        let events: Vec<_> = keys.iter().map(|key| shop.purchase(key, 100)).collect();
        let (status, body) = shop.post("/events/ingest/batch", &json!(events));
        assert_eq!(status, 202, "{body}");
    }
    node.kill();
    keys.into_iter().collect()
}

#[test]
#[ignore = "needs AKTVATOR_TEST_KAFKA, AKTVATOR_TEST_CQL and AKTVATOR_TEST_CLICKHOUSE"]
fn what_was_embedded_goes_on_on_servers() {
    let mut node = Node::start();
    let receiver = Receiver::start(&[500; 4], Duration::ZERO);
    let mut shop = node.unlimited_organization_with(&["--webhook-url", receiver.url()]);
    let first = shop.decide(&shop.purchase("order_1", 4_900));
    let refused = shop.decide(&json!({
        "eventType": "customer.purchase", "idempotencyKey": "order_2", "amount": 100,
        "currency": "USD", "attributionCode": "NOBODY", "campaignId": shop.name("campaignId"),
    }));
    assert_eq!(refused["decision"]["code"], "unknown_attribution");
    let events: Vec<_> = (0..OTHERS).map(|i| shop.purchase(&format!("other_{i}"), 10)).collect();
    assert_eq!(shop.post("/events/ingest/batch", &json!(events)).0, 202);
    eventually("counted conversions", || {
        let path = format!("/campaigns/{}/performance", shop.name("campaignId"));
        (shop.get(&path)["totals"]["conversions"] == 1 + OTHERS).then_some(())
    });
    let before = seen(&shop);
    assert!(node.terminate().success());
    eventually("the failed attempts", || (receiver.received().len() >= 2).then_some(()));

    let cluster = Cluster::configured();
    let unprepared = moved(&node, &cluster).expect_err("nothing is prepared");
    assert!(unprepared.contains("aktvator migrate"), "{unprepared}");
    assert!(cluster.migrate().status.success());
    for pause in [40, 80, 160, 320] {
        interrupt(&node, &cluster, Duration::from_millis(pause));
    }
    let said = moved(&node, &cluster).expect("it moves");
    assert!(said.contains("moved"), "{said}");
    let again = moved(&node, &cluster).expect("a repeat is harmless");
    assert!(again.contains("nothing is left to do"), "{again}");
    let left = node.refuses_to_start();
    assert!(left.contains("aktvator move"), "{left}");

    let (control, edge) = (cluster.start("control,dispatcher"), cluster.start("edge,evaluator"));
    shop.served_by(&control, &edge);
    for ((path, was), (_, is)) in before.iter().zip(&seen(&shop)) {
        assert_eq!(was, is, "{path}");
    }
    let repeat = shop.decide(&shop.purchase("order_1", 4_900));
    assert_eq!((&repeat["status"], &repeat["eventId"]), (&json!("duplicate"), &first["eventId"]));
    let other = shop.decide(&shop.purchase("order_1", 5_000));
    assert_eq!(other["status"], "conflict", "{other}");
    let next = shop.decide(&shop.purchase("order_3", 100));
    assert_eq!(next["decision"]["code"], "rewarded", "{next}");
    // The notices whose first attempts failed before the move, and those of what came after it.
    for (kind, deliveries) in
        [("action_attempt.verified", OTHERS + 2), ("reward.created", OTHERS + 2)]
    {
        eventually(kind, || {
            let of_kind = |r: &&crate::receiver::Received| r.json()["type"] == kind;
            let ids: BTreeSet<_> = receiver
                .received()
                .iter()
                .filter(of_kind)
                .map(|r| r.header("webhook-id").to_owned())
                .collect();
            (ids.len() == deliveries).then_some(())
        });
    }
}

#[test]
#[ignore = "needs AKTVATOR_TEST_KAFKA, AKTVATOR_TEST_CQL and AKTVATOR_TEST_CLICKHOUSE"]
fn what_was_acknowledged_and_not_decided_is_decided_on_servers() {
    let mut node = Node::start();
    let mut shop = node.unlimited_organization();
    let acknowledged = burst(&mut node, &shop);
    let cluster = Cluster::migrated();
    let said = moved(&node, &cluster).expect("it moves");
    assert!(said.contains("records to decide"), "{said}");
    let (control, edge) = (cluster.start("control,dispatcher"), cluster.start("edge,evaluator"));
    shop.served_by(&control, &edge);
    eventually("a decision for each event", || {
        let events = shop.pages("/events")?;
        let keys = events.iter().map(|event| event["idempotencyKey"].as_str().expect("a key"));
        (keys.collect::<BTreeSet<_>>() == acknowledged.iter().map(String::as_str).collect())
            .then_some(())
    });
    let wallet = shop.get(&format!("/organizations/{}/wallet", shop.name("organizationId")));
    assert_eq!(wallet["reserved"], AKTVATOR_MONTH_MAX);
    let conversions = eventually("all conversions", || {
        let path = format!("/campaigns/{}/performance", shop.name("campaignId"));
        let conversions = shop.get(&path)["totals"]["conversions"].as_u64()?;
        (conversions >= BURST as u64).then_some(conversions)
    });
    assert_eq!(conversions, BURST as u64);
}

#[test]
#[ignore = "needs AKTVATOR_TEST_KAFKA, AKTVATOR_TEST_CQL and AKTVATOR_TEST_CLICKHOUSE"]
fn a_move_that_cannot_be_is_refused_with_the_reason() {
    let mut node = Node::start();
    node.organization();
    let cluster = Cluster::migrated();
    let running = moved(&node, &cluster).expect_err("it is open");
    assert!(running.contains("another process"), "{running}");
    let elsewhere = cluster.aktvator(&["move", "--from", "/nonexistent"]);
    let said = String::from_utf8_lossy(&elsewhere.stderr).into_owned();
    assert!(said.contains("is no data directory"), "{said}");

    let control = cluster.start("control");
    control.organization();
    drop(control);
    assert!(node.terminate().success());
    let used = moved(&node, &cluster).expect_err("the servers are in use");
    assert!(used.contains("are in use"), "{used}");
    node.restart();
}
