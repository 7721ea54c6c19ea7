//! `kill -9` and SIGTERM under load: what was acknowledged is there, once.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::json;

use crate::node::{Node, Organization, eventually};

/// The quickstart's rule gives a fifth of 1.00, and an aktvator at most so many cents a month.
const AKTVATOR_MONTH_MAX: i64 = 50_000;

/// Events acknowledged so far, by idempotency key.
type Acknowledged = Mutex<BTreeSet<String>>;

/// What the senders do.
#[derive(Clone, Copy)]
pub(crate) struct Load<'a> {
    /// Where they push to, each to the next of them.
    pub(crate) edges: &'a [String],
    pub(crate) shop: &'a Organization,
    /// From one batch of a sender to its next.
    pub(crate) pause: Duration,
}

/// Sends batches of new events until `stop`; a batch that is not acknowledged is sent again until it
/// is or `stop` is set.
fn send(load: Load<'_>, sender: usize, stop: &AtomicBool, kept: &Acknowledged) {
    let (edge, shop) = (&load.edges[sender % load.edges.len()], load.shop);
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
                .post(format!("{edge}/events/ingest/batch"))
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
        thread::sleep(load.pause);
    }
}

/// Runs `disturb` while four senders are at work; what they were acknowledged.
pub(crate) fn under_load(load: Load<'_>, disturb: impl FnOnce()) -> BTreeSet<String> {
    let (stop, kept) = (AtomicBool::new(false), Acknowledged::default());
    thread::scope(|scope| {
        for sender in 0..4 {
            let (stop, kept) = (&stop, &kept);
            scope.spawn(move || send(load, sender, stop, kept));
        }
        disturb();
        stop.store(true, Ordering::Relaxed);
    });
    kept.into_inner().expect("not poisoned")
}

/// Every acknowledged event is decided, and the money adds up to the events decided: 20 cents for each, as
/// far as `money_max` cents go.
pub(crate) fn assert_all_there(
    shop: &Organization,
    acknowledged: &BTreeSet<String>,
    money_max: i64,
) {
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
    let wanted = (decided.len() as i64 * 20).min(money_max);
    assert_eq!(shop.get(&wallet)["reserved"], wanted);
}

#[test]
fn nothing_acknowledged_is_lost_or_doubled_under_kill_9() {
    let mut node = Node::start();
    let shop = node.unlimited_organization();
    let edges = [node.url("")];
    let load = Load { edges: &edges, shop: &shop, pause: Duration::ZERO };
    let acknowledged = under_load(load, || {
        for _ in 0..3 {
            thread::sleep(Duration::from_millis(300));
            node.crash_and_restart();
        }
        thread::sleep(Duration::from_millis(300));
    });
    assert!(!acknowledged.is_empty());
    assert_all_there(&shop, &acknowledged, AKTVATOR_MONTH_MAX);
}

#[test]
fn sigterm_drains_and_exits_cleanly() {
    let mut node = Node::start();
    let shop = node.unlimited_organization();
    let edges = [node.url("")];
    let load = Load { edges: &edges, shop: &shop, pause: Duration::ZERO };
    let acknowledged = under_load(load, || {
        thread::sleep(Duration::from_millis(500));
        assert!(node.terminate().success(), "{}", node.log());
    });
    assert!(!acknowledged.is_empty());
    node.restart();
    assert_all_there(&shop, &acknowledged, AKTVATOR_MONTH_MAX);
}
