//! Measures; run with `cargo test --release -p evaluator -- --ignored --nocapture throughput`.

use std::time::Duration;

use evaluator::Config;
use storage::embedded::{self, OpenOptions};
use storage::log::Topic;

use crate::support::{PERCENT, Running, Shop, append, shard};

const PARTITIONS: u16 = 2;
const EVENTS: usize = 500_000;
const APPENDED_AT_ONCE: usize = 10_000;

/// From a filled log to durable decisions: a percentage with three caps, every key new, one fsync a
/// write set.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement, not a check"]
async fn events_per_second() {
    let directory = std::env::temp_dir().join(format!("evaluator-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&directory);
    std::fs::create_dir_all(&directory).unwrap();
    let options = OpenOptions { partitions: PARTITIONS, ..OpenOptions::new(7) };
    let (log, state) = embedded::open(&directory, &options).unwrap();
    for partition in 0..PARTITIONS {
        let shop = Shop::within(partition, PARTITIONS);
        append(&log, partition, shop.opening(PERCENT)).await;
        append(&log, partition, vec![shop.credit(1, 1 << 50)]).await;
        for from in (0..EVENTS).step_by(APPENDED_AT_ONCE) {
            let events = (from..from + APPENDED_AT_ONCE).map(|n| {
                shop.purchase(
                    &format!("order-{n}"),
                    1_000 + n as i64 % 9_000,
                    &format!("c{}", n % 20_000),
                )
            });
            append(&log, partition, events.collect()).await;
        }
    }
    let started = tokio::time::Instant::now();
    let evaluator = Running::start(&log, &state, Config::default());
    for partition in 0..PARTITIONS {
        let end = log.bounds(Topic::Events, partition).await.unwrap().end;
        let committed = state.committed(shard(partition), end);
        tokio::time::timeout(Duration::from_secs(300), committed).await.unwrap().unwrap();
    }
    let seconds = started.elapsed().as_secs_f64();
    let events = EVENTS * usize::from(PARTITIONS);
    println!("{events} events in {seconds:.2} s: {:.0} events/s", events as f64 / seconds);
    evaluator.stop().await;
    let _ = std::fs::remove_dir_all(&directory);
}
