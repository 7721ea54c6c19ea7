//! `kill -9` and SIGTERM under load: what was acknowledged is there, once.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::json;

use crate::node::{Node, Organization, eventually};

/// Events acknowledged so far, by idempotency key.
type Acknowledged = Mutex<BTreeSet<String>>;

/// Sends batches of new events until `stop`; a batch that is not acknowledged is sent again until it
/// is or `stop` is set.
fn send(node: &str, shop: &Organization, sender: usize, stop: &AtomicBool, kept: &Acknowledged) {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(Duration::from_secs(10)))
        .build()
        .into();
    for round in 0.. {
        let keys: Vec<_> = (0..20).map(|i| format!("s{sender}-{round}-{i}")).collect();
        let events: Vec<_> = keys.iter().map(|key| shop.purchase(key, 100)).collect();
        let body = json!(events).to_string();
        let acknowledged = || {
            let answer = agent
                .post(format!("{node}/events/ingest/batch"))
                .header("authorization", format!("Bearer {}", shop.name("apiKey")))
                .header("content-type", "application/json")
                .send(&body);
            answer.is_ok_and(|a| a.status() == 202)
        };
        while !stop.load(Ordering::Relaxed) {
            if acknowledged() {
                kept.lock().expect("not poisoned").extend(keys);
                break;
            }
            thread::sleep(Duration::from_millis(20));
        }
        if stop.load(Ordering::Relaxed) {
            return;
        }
    }
}

/// Runs `disturb` while four senders are at work; what they were acknowledged.
fn under_load(
    node: &mut Node,
    shop: &Organization,
    disturb: impl FnOnce(&mut Node),
) -> BTreeSet<String> {
    let (stop, kept) = (AtomicBool::new(false), Acknowledged::default());
    let url = node.url("");
    thread::scope(|scope| {
        for sender in 0..4 {
            let (url, stop, kept) = (&url, &stop, &kept);
            scope.spawn(move || send(url, shop, sender, stop, kept));
        }
        disturb(node);
        stop.store(true, Ordering::Relaxed);
    });
    kept.into_inner().expect("not poisoned")
}

/// Every acknowledged event is decided, and the money adds up to the events decided.
fn assert_all_there(shop: &Organization, acknowledged: &BTreeSet<String>) {
    let wallet = format!("/organizations/{}/wallet", shop.name("organizationId"));
    let decided = eventually("all events", || {
        let (mut seen, mut cursor) = (BTreeSet::new(), String::new());
        loop {
            let page = shop.get(&format!("/events?limit=100{cursor}"));
            for event in page["data"].as_array().expect("events") {
                let key = event["idempotencyKey"].as_str().expect("a key").to_owned();
                assert!(seen.insert(key), "listed twice: {event}");
            }
            if page["hasMore"] == false {
                break;
            }
            cursor = format!("&startingAfter={}", page["nextCursor"].as_str().expect("a cursor"));
        }
        acknowledged.is_subset(&seen).then_some(seen)
    });
    // A fifth of 1.00 each; the aktvator's month is capped at 500.00.
    let wanted = (decided.len() as i64 * 20).min(50_000);
    assert_eq!(shop.get(&wallet)["reserved"], wanted);
}

fn wide_open(node: &Node) -> Organization {
    let shop = node.organization();
    let limits = json!({"ingestPerSecond": 1_000_000, "ingestBurst": 1_000_000,
                        "requestsPerSecond": 1_000_000, "requestsBurst": 1_000_000});
    let path = format!("/organizations/{}/limits", shop.name("organizationId"));
    let (status, body) = node.operator().call(ureq::http::Method::PUT, &path, Some(&limits));
    assert_eq!(status, 200, "{body}");
    shop
}

#[test]
fn nothing_acknowledged_is_lost_or_doubled_under_kill_9() {
    let mut node = Node::start();
    let shop = wide_open(&node);
    let acknowledged = under_load(&mut node, &shop, |node| {
        for _ in 0..3 {
            thread::sleep(Duration::from_millis(300));
            node.crash_and_restart();
        }
        thread::sleep(Duration::from_millis(300));
    });
    assert!(!acknowledged.is_empty());
    assert_all_there(&shop, &acknowledged);
}

#[test]
fn sigterm_drains_and_exits_cleanly() {
    let mut node = Node::start();
    let shop = wide_open(&node);
    let acknowledged = under_load(&mut node, &shop, |node| {
        thread::sleep(Duration::from_millis(500));
        assert!(node.terminate().success(), "{}", node.log());
    });
    assert!(!acknowledged.is_empty());
    node.restart();
    assert_all_there(&shop, &acknowledged);
}
