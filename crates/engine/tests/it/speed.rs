//! How long decoding, deciding and encoding take, in CPU time; run by hand with
//! `cargo test --release -p engine -- --ignored --nocapture speed`.

use std::time::Duration;

use bytes::Bytes;
use engine::{Entry, Fold, Key, Settings};
use prost::Message;
use serde_json::json;

use crate::script::{Script, event, ms, with_defaults};
use crate::world::{self, SCOPE, World, conversion, record};

const BATCH: usize = 1_000;
const BATCHES: usize = 200;
const AKTVATORS: u128 = 97;

#[test]
#[ignore = "measures; only a release build says anything"]
fn speed() {
    let (world, start) = prepared();
    let logs: Vec<Vec<Bytes>> = (0..BATCHES).map(batch).collect();
    for name in ["cold snapshot", "warm snapshot"] {
        let warm = name.starts_with("warm");
        let mut spent = Spent::default();
        let mut world = world.clone();
        let mut fold = Fold::new(Settings::default(), world.fold_time_ms);
        for (i, log) in logs.iter().enumerate() {
            if !warm {
                fold = Fold::new(Settings::default(), world.fold_time_ms);
            }
            batch_of(&mut world, &mut fold, start + (i * BATCH) as u64, log, &mut spent);
            fold.committed(i as u64 + 1);
        }
        let per_event = |spent: Duration| spent.as_nanos() / (BATCH * BATCHES) as u128;
        println!(
            "{name}: decode {} decide {} take {} ns/event",
            per_event(spent.decode),
            per_event(spent.decide),
            per_event(spent.take),
        );
        assert!(world.wallet().reserved > 0, "something was rewarded");
    }
}

#[derive(Default)]
struct Spent {
    decode: Duration,
    decide: Duration,
    take: Duration,
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

fn batch(number: usize) -> Vec<Bytes> {
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

fn batch_of(world: &mut World, fold: &mut Fold, offset: u64, log: &[Bytes], spent: &mut Spent) {
    let mut lap = Lap::start();
    let mut entries: Vec<Entry> = (offset..)
        .zip(log)
        .map(|(offset, bytes)| Entry::decode(offset, bytes.clone()).expect("decodable"))
        .collect();
    // As the evaluator's filter says of a key never seen.
    entries.iter_mut().for_each(|entry| entry.is_new = true);
    spent.decode += lap.lap();
    let mut rest = &entries[..];
    while !rest.is_empty() {
        rest = &rest[fold.decide(rest)..];
        for key in fold.wants(rest) {
            let row = world.row(&key);
            fold.learn(key, row);
        }
    }
    spent.decide += lap.lap();
    let verdict = fold.take();
    let outcomes: Vec<Vec<u8>> = verdict.outcomes.iter().map(Message::encode_to_vec).collect();
    spent.take += lap.lap();
    assert_eq!(outcomes.len(), entries.len());
    // A store that grows would be measured too: only the wallet is kept, as what shows that all went well.
    let wallet = Key::Wallet(SCOPE).encode();
    let kept = verdict.writes.into_iter().filter(|(key, _)| *key == wallet);
    world.rows.extend(kept.filter_map(|(key, row)| Some((key, Bytes::copy_from_slice(&row?)))));
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
