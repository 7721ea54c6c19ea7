//! Purchases under rules so plain that what must become of them is known, in whatever order they are
//! decided and whatever happens meanwhile. [`crate::invariants`] checks it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use serde::Serialize;
use serde_json::{Value, json};
use ureq::http::Method;

use crate::node::{Node, Organization, eventually};
use crate::receiver::Receiver;

/// What a small purchase costs and earns, in cents.
pub(crate) const SMALL: i64 = 100;
pub(crate) const SMALL_REWARD: i64 = 20;
/// What a large purchase costs and earns.
pub(crate) const LARGE: i64 = 300;
pub(crate) const LARGE_REWARD: i64 = 50;
/// What all large purchases earn together at most: a hundred of them, and a fifth of another one.
pub(crate) const LARGE_MAX: i64 = 5_010;
/// Every so manyth purchase is a large one.
const LARGE_EVERY: usize = 5;
/// What the quickstart's wallet holds, in cents: more than any load here earns.
pub(crate) const FUNDS: i64 = 1_000_000;

const SENDERS: usize = 4;
const BATCH: usize = 20;
/// Every so manyth batch of a sender is sent once more.
const REPEAT_EVERY: usize = 3;
/// For an answer, which takes as long as `kafka.delivery_timeout_ms`; a process that stands still gives none.
const ANSWER_MAX: Duration = Duration::from_secs(12);

/// A purchase that was sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Purchase {
    pub(crate) amount: i64,
    /// Was it answered as taken in?
    pub(crate) is_acknowledged: bool,
}

/// An organization, and all that it has sent.
pub(crate) struct Workload {
    pub(crate) shop: Organization,
    pub(crate) receiver: Receiver,
    edges: Vec<String>,
    agent: ureq::Agent,
    /// By idempotency key.
    sent: Mutex<BTreeMap<String, Purchase>>,
}

impl Workload {
    /// A new organization of the installation with this `control`, which pushes to these edges and
    /// gets all its webhooks.
    pub(crate) fn new(control: &Node, edges: Vec<String>) -> Self {
        let receiver = Receiver::start(&[], Duration::ZERO);
        let shop = control.unlimited_organization_with(&["--webhook-url", receiver.url()]);
        let path = format!("/campaigns/{}/reward-rules", shop.name("campaignId"));
        let (status, body) = shop.call(Method::PUT, &path, Some(&rulebook()));
        assert_eq!(status, 200, "{body}");
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(ANSWER_MAX))
            .build()
            .into();
        Self { shop, receiver, edges, agent, sent: Mutex::default() }
    }

    /// All that was sent so far.
    pub(crate) fn sent(&self) -> MutexGuard<'_, BTreeMap<String, Purchase>> {
        self.sent.lock().expect("not poisoned")
    }

    /// Runs `disturb` while senders are at work, each with a `pause` between its batches.
    pub(crate) fn during(&self, pause: Duration, disturb: impl FnOnce()) {
        let stop = AtomicBool::new(false);
        let before = self.sent().len();
        thread::scope(|scope| {
            for sender in 0..SENDERS {
                let stop = &stop;
                scope.spawn(move || self.send(&format!("{before}-{sender}"), pause, stop));
            }
            // Also where it panics: the senders are waited for.
            let _stopping = Stopping(&stop);
            disturb();
        });
    }

    /// A batch, again and again until it is acknowledged, then the next, until `stop`.
    fn send(&self, sender: &str, pause: Duration, stop: &AtomicBool) {
        for round in 0.. {
            let keys: Vec<_> = (0..BATCH).map(|i| format!("{sender}-{round}-{i}")).collect();
            let batch = self.purchases(&keys);
            let mut edges = self.edges.iter().cycle().skip(round);
            while edges.next().is_some_and(|edge| !self.push(edge, "/batch", &batch)) {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                thread::sleep(Duration::from_millis(20));
            }
            self.acknowledge(&keys);
            if round % REPEAT_EVERY == 0 {
                self.push(&self.edges[0], "/batch", &batch);
            }
            thread::sleep(pause);
            if stop.load(Ordering::Relaxed) {
                return;
            }
        }
    }

    /// Sends one more purchase, until it is acknowledged.
    pub(crate) fn push_one(&self) -> Value {
        let keys = [format!("single-{}", self.sent().len())];
        let event = self.purchases(&keys).remove(0);
        let mut edges = self.edges.iter().cycle();
        eventually("an acknowledgement", || {
            edges.next().filter(|edge| self.push(edge, "", &event))
        });
        self.acknowledge(&keys);
        event
    }

    /// Sends one more purchase once; the answer's status, 0 without an answer.
    pub(crate) fn try_one(&self) -> u16 {
        let keys = [format!("single-{}", self.sent().len())];
        let event = self.purchases(&keys).remove(0);
        let status = self.post(&self.edges[0], "", &event).map_or(0, |(status, _)| status);
        if status == 202 {
            self.acknowledge(&keys);
        }
        status
    }

    /// Sends one more purchase and returns when it is decided.
    pub(crate) fn decide_one(&self) {
        let event = self.push_one();
        let mut edges = self.edges.iter().cycle();
        eventually("a decision", || {
            let (_, answer) = self.post(edges.next()?, "?wait=5000", &event)?;
            answer["decision"].is_object().then_some(())
        });
    }

    /// Notes them as sent, and gives them as they are sent.
    fn purchases(&self, keys: &[String]) -> Vec<Value> {
        let mut sent = self.sent();
        let purchase = |(i, key): (usize, &String)| {
            let amount = if i % LARGE_EVERY == 0 { LARGE } else { SMALL };
            sent.insert(key.clone(), Purchase { amount, is_acknowledged: false });
            self.shop.purchase(key, amount)
        };
        keys.iter().enumerate().map(purchase).collect()
    }

    fn acknowledge(&self, keys: &[String]) {
        let mut sent = self.sent();
        for key in keys {
            sent.get_mut(key).expect("it was sent").is_acknowledged = true;
        }
    }

    fn push(&self, edge: &str, path: &str, body: &impl Serialize) -> bool {
        self.post(edge, path, body).is_some_and(|(status, _)| status == 202)
    }

    /// Status and body; `None` without an answer.
    fn post(&self, edge: &str, path: &str, body: &impl Serialize) -> Option<(u16, Value)> {
        let request = self
            .agent
            .post(format!("{edge}/events/ingest{path}"))
            .header("authorization", format!("Bearer {}", self.shop.name("apiKey")));
        let mut answer = request.send_json(body).ok()?;
        let body = answer.body_mut().read_json().ok()?;
        Some((answer.status().as_u16(), body))
    }
}

/// Sets its flag at the end of its scope.
struct Stopping<'a>(&'a AtomicBool);

impl Drop for Stopping<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn rulebook() -> Value {
    let when = |op, value| json!({"field": "event.amount", "op": op, "value": value});
    let on = json!({"eventTypes": ["customer.purchase"]});
    json!({
        "currency": "USD", "timezone": "UTC",
        "rules": [
            {"key": "small", "priority": 1, "on": on, "when": when("lt", LARGE),
             "reward": {"type": "percent", "bps": SMALL_REWARD * 10_000 / SMALL}},
            {"key": "large", "priority": 2, "on": on, "when": when("gte", LARGE),
             "reward": {"type": "flat", "amount": LARGE_REWARD},
             "caps": [{"key": "large", "scope": "campaign", "metric": "amount", "limit": LARGE_MAX}]},
        ],
    })
}
