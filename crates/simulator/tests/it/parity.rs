//! One log, embedded and on Kafka, CQL and ClickHouse: the same decisions, rewards, ledger and figures,
//! byte by byte.

use simulator::Options;
use simulator::parity::{Played, Recording, STORES_PARTITIONS, Stores};
use storage::Analytics;
use storage::clickhouse::{self, ClickHouseOptions};
use storage::cql::{self, CqlOptions};
use storage::embedded::{self, OpenOptions};
use storage::kafka::{self, KafkaOptions};

/// Runs that are compared.
const SEEDS: std::ops::Range<u64> = 0..3;

fn recording(seed: u64) -> Recording {
    let options = Options { actions: 600, crashes_max: 2, servers: false, ..Options::of(seed) };
    Recording::of(options).unwrap_or_else(|failure| panic!("{failure}"))
}

async fn embedded(recording: &Recording) -> Played {
    let dir = tempfile::TempDir::new().expect("a directory");
    let options = OpenOptions { partitions: STORES_PARTITIONS, ..OpenOptions::new(7) };
    let (log, state) = embedded::open(dir.path(), &options).expect("it opens");
    let analytics = Analytics::open(&dir.path().join("analytics.db")).expect("it opens");
    recording.play(Stores { log, state, analytics }).await.expect("the stores work")
}

/// Where a server is.
#[expect(clippy::disallowed_methods, reason = "the environment is where tests are told")]
fn address(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: see scripts/services"))
}

/// Topics, keyspace and database that nobody else has.
async fn fresh_servers() -> Stores {
    let name = format!("aktvator_parity_{:016x}", getrandom::u64().expect("randomness"));
    let kafka = KafkaOptions {
        brokers: address("AKTVATOR_TEST_KAFKA"),
        topic_prefix: format!("{name}."),
        partitions: STORES_PARTITIONS,
        replication: 1,
        min_insync: 1,
        ..KafkaOptions::default()
    };
    let cql = CqlOptions {
        nodes: vec![address("AKTVATOR_TEST_CQL")],
        keyspace: name.clone(),
        replication: 1,
        ..CqlOptions::default()
    };
    let url = address("AKTVATOR_TEST_CLICKHOUSE");
    let url = format!("http://{}", url.trim_start_matches("http://"));
    let clickhouse = ClickHouseOptions { url, database: name, ..ClickHouseOptions::default() };
    kafka::migrate(&kafka).await.expect("topics");
    cql::migrate(&cql).await.expect("a keyspace");
    clickhouse::migrate(&clickhouse).await.expect("a database");
    let log = kafka::connect(&kafka).await.expect("Kafka");
    let (state, _) = cql::connect(&cql, log.clone()).await.expect("CQL");
    let analytics = clickhouse::connect(&clickhouse, state.clone()).await.expect("ClickHouse");
    Stores { log, state, analytics }
}

/// Says where they differ instead of printing all of it.
fn assert_same(one: &Played, other: &Played) {
    for (partition, rows) in &one.rows {
        for (row, same) in rows.iter().zip(&other.rows[partition]) {
            assert_eq!(row, same, "partition {partition}");
        }
    }
    for (partition, outcomes) in &one.outcomes {
        assert_eq!(outcomes.len(), other.outcomes[partition].len(), "partition {partition}");
    }
    assert_eq!(one.performance, other.performance);
    assert!(one == other, "something else differs");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs AKTVATOR_TEST_KAFKA, AKTVATOR_TEST_CQL and AKTVATOR_TEST_CLICKHOUSE"]
async fn servers_come_to_the_same_bytes() {
    for seed in SEEDS {
        let recording = tokio::task::spawn_blocking(move || recording(seed)).await.expect("a run");
        let (here, there) = (embedded(&recording).await, fresh_servers().await);
        let there = recording.play(there).await.expect("the servers work");
        let count = |played: &Played| {
            let rows: usize = played.rows.values().map(Vec::len).sum();
            let outcomes: usize = played.outcomes.values().map(Vec::len).sum();
            (rows, outcomes, played.performance.iter().map(|p| p.rows.len()).sum::<usize>())
        };
        println!("seed {seed}: rows, outcomes, figures: {:?}", count(&here));
        assert_same(&here, &there);
    }
}
