//! How long planning, deciding and encoding take, in CPU time; run by hand with
//! `cargo test --release -p engine -- --ignored --nocapture speed`.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use engine::{Entry, Key, Plan, Settings, Snapshot};
use prost::Message;
use serde_json::json;

use crate::script::{Script, event, ms, with_defaults};
use crate::world::{self, World, conversion, record};

const BATCH: usize = 1_000;
const BATCHES: usize = 200;
const AKTVATORS: u128 = 97;

#[test]
#[ignore = "measures; only a release build says anything"]
fn speed() {
    let (world, start) = prepared();
    let logs: Vec<Vec<bytes::Bytes>> = (0..BATCHES).map(batch).collect();
    for name in ["cold snapshot", "warm snapshot"] {
        let warm = name.starts_with("warm");
        let mut spent = Spent::default();
        let mut world = world.clone();
        let mut snapshot = Snapshot::new();
        for (i, log) in logs.iter().enumerate() {
            if !warm {
                snapshot = Snapshot::new();
            }
            batch_of(&mut world, &mut snapshot, start + (i * BATCH) as u64, log, &mut spent);
        }
        let per_event = |spent: Duration| spent.as_nanos() / (BATCH * BATCHES) as u128;
        println!(
            "{name}: decode {} plan {} decide {} encode {} ns/event",
            per_event(spent.decode),
            per_event(spent.plan),
            per_event(spent.decide),
            per_event(spent.encode),
        );
        assert!(world.wallet().reserved > 0, "something was rewarded");
    }
}

#[derive(Default)]
struct Spent {
    decode: Duration,
    plan: Duration,
    decide: Duration,
    encode: Duration,
}

/// One percent rule, three caps, a full wallet.
fn prepared() -> (World, u64) {
    let mut world = Script::new().world;
    let now_ms = ms("2026-03-10T12:00:00Z");
    for id in 0..AKTVATORS {
        world.append(now_ms, world::aktvator(1_000 + id, 1, "approved"));
        world.append(now_ms, world::code(&format!("CODE{id}"), 1, world::CAMPAIGN, 1_000 + id));
    }
    world.append(now_ms, world::credit(1, 1 << 50, "USD"));
    let cap = |key: &str, scope: &str, period: &str| json!({"key": key, "scope": scope, "metric": "amount", "limit": 1i64 << 50, "period": period});
    let rulebook = with_defaults(json!({
        "timezone": "America/New_York",
        "caps": [cap("total", "campaign", "lifetime"), cap("month", "aktvator", "month"),
            cap("day", "customer", "day")],
    }));
    world.append(now_ms, world::rulebook(1, now_ms, &rulebook));
    world.run(usize::MAX);
    let start = world.log.len() as u64;
    (world, start)
}

fn batch(number: usize) -> Vec<bytes::Bytes> {
    let now_ms = ms("2026-03-10T12:00:00Z");
    let one = |i: usize| {
        let id = number * BATCH + i;
        let code = format!("code=CODE{}", id as u128 % AKTVATORS);
        let customer = format!("customer=customer_{}", id % 23_570);
        let fields = event(&["amount=4900", "quantity=2", &code, &customer]);
        record(now_ms, conversion(&format!("order_{id}"), fields)).encode_to_vec().into()
    };
    (0..BATCH).map(one).collect()
}

fn batch_of(
    world: &mut World,
    snapshot: &mut Snapshot,
    offset: u64,
    log: &[bytes::Bytes],
    spent: &mut Spent,
) {
    let settings = Settings::default();
    let mut lap = Lap::start();
    let entries: Vec<Entry> = (offset..)
        .zip(log)
        .map(|(offset, bytes)| Entry::decode(offset, bytes.clone()).expect("decodable"))
        .collect();
    spent.decode += lap.lap();
    let mut plan = Plan::new(&settings, &entries);
    // As the evaluator's filter says of a key never seen.
    entries.iter().filter_map(Entry::claim).for_each(|claim| snapshot.insert(claim, None));
    loop {
        let want = plan.wants(snapshot);
        spent.plan += lap.lap();
        if want.is_empty() {
            break;
        }
        for key in want {
            let row = world.row(&key).map(Arc::new);
            snapshot.insert(key, row);
        }
    }
    let verdict = engine::decide(&settings, world.fold_time_ms, &entries, snapshot);
    spent.decide += lap.lap();
    let rows = engine::row::encode(&verdict.writes);
    let outcomes: Vec<Vec<u8>> = verdict.outcomes.iter().map(Message::encode_to_vec).collect();
    spent.encode += lap.lap();
    assert_eq!(outcomes.len(), entries.len());
    // What is asked for again; the rest would only grow, and measure this map.
    let kept = |key: &Key| matches!(key, Key::Counter(..) | Key::Wallet(_));
    for ((key, _), (bytes, row)) in verdict.writes.iter().zip(rows) {
        if let (true, Some(row)) = (kept(key), row) {
            let (bytes, row) = (Bytes::copy_from_slice(&bytes), Bytes::copy_from_slice(&row));
            world.rows.insert(bytes, (key.clone(), row));
        }
    }
    let once = |key: &&Key| matches!(key, Key::Event(..) | Key::Reward(..));
    let keys = verdict.writes.iter().map(|(key, _)| key);
    keys.filter(once).for_each(|key| snapshot.forget(key));
}

/// A stopwatch of this thread's CPU time, which other load on the machine does not add to.
struct Lap(Duration);

impl Lap {
    fn start() -> Self {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        Self(now.try_into().expect("not before zero"))
    }

    /// The time since the last call.
    fn lap(&mut self) -> Duration {
        let now = Self::start().0;
        now - std::mem::replace(&mut self.0, now)
    }
}
