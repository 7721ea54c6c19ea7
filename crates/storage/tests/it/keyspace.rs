//! One keyspace on the CQL server for this process.

use std::sync::atomic::{AtomicU16, Ordering};

use storage::cql::{self, CqlOptions};
use tokio::sync::OnceCell;

static OPTIONS: OnceCell<CqlOptions> = OnceCell::const_new();
static NEXT_PARTITION: AtomicU16 = AtomicU16::new(0);

/// The first of so many partitions that no one else in this process gets.
pub(crate) fn fresh_partitions(count: u16) -> u16 {
    NEXT_PARTITION.fetch_add(count, Ordering::Relaxed)
}

/// The address of the server.
#[expect(clippy::disallowed_methods, reason = "the environment is where tests are told")]
pub(crate) fn address() -> String {
    std::env::var("AKTVATOR_TEST_CQL").expect("AKTVATOR_TEST_CQL is a server's address")
}

/// A keyspace name that nobody else has. Its beginning tells a later run that it may go.
pub(crate) fn fresh_name() -> String {
    format!("aktvator_test_{}_{:08x}", unix_s(), getrandom::u32().unwrap())
}

/// How this process's keyspace is reached; the first caller makes it.
pub(crate) async fn options() -> &'static CqlOptions {
    OPTIONS
        .get_or_init(|| async {
            drop_old().await;
            fresh().await
        })
        .await
}

/// A keyspace of one's own, migrated; to be left with [`leave`].
pub(crate) async fn fresh() -> CqlOptions {
    let options = CqlOptions {
        nodes: vec![address()],
        keyspace: fresh_name(),
        replication: 1,
        buckets: 5,
        ..CqlOptions::default()
    };
    cql::migrate(&options).await.unwrap();
    options
}

/// Drops it.
pub(crate) async fn leave(options: &CqlOptions) {
    run(&format!("DROP KEYSPACE \"{}\"", options.keyspace)).await;
}

/// Runs one statement outside of every keyspace.
pub(crate) async fn run(statement: &str) -> Vec<String> {
    let session = scylla::client::session_builder::SessionBuilder::new();
    let session = session.known_node(address()).build().await.unwrap();
    let result = session.query_unpaged(statement, ()).await.unwrap();
    let Ok(rows) = result.into_rows_result() else { return Vec::new() };
    rows.rows::<(String,)>().unwrap().map(|row| row.unwrap().0).collect()
}

/// Keyspaces of tests that ended more than an hour ago: a test that stops leaves its own behind.
async fn drop_old() {
    for name in run("SELECT keyspace_name FROM system_schema.keyspaces").await {
        let made = name.strip_prefix("aktvator_test_").and_then(|rest| rest.split('_').next());
        let made = made.and_then(|seconds| seconds.parse::<u64>().ok());
        if made.is_some_and(|made| made + 3600 < unix_s()) {
            run(&format!("DROP KEYSPACE IF EXISTS \"{name}\"")).await;
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "names of other runs tell their age in real time")]
fn unix_s() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
}
