//! The floor of the evaluator on CQL: claims merely written, in batches of one store partition each, with no
//! write set, no head and nothing read or decided.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use bytes::Bytes;
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use scylla::statement::batch::{Batch, BatchType};
use scylla::statement::prepared::PreparedStatement;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Store partitions, as many as an owner's rows are cut into.
const BUCKETS: u64 = 32;
/// Rows of one batch: a write set of 2,000 rows makes such ones.
const BATCH: usize = 60;
/// Batches under way at once.
const UNDER_WAY: usize = 32;

type Claim = (Bytes, Bytes);

/// Writes `claims` into a table of their own in this keyspace; rows per second.
pub(crate) async fn write(node: &str, keyspace: &str, claims: Vec<Claim>) -> Result<f64, String> {
    let session = SessionBuilder::new().known_node(node).use_keyspace(keyspace, true).build().await;
    let session = session.map_err(|e| e.to_string())?;
    let table = "CREATE TABLE IF NOT EXISTS bench_claims (bucket int, key blob, value blob, \
                 PRIMARY KEY (bucket, key))";
    session.query_unpaged(table, ()).await.map_err(|e| e.to_string())?;
    let put = "INSERT INTO bench_claims (bucket, key, value) VALUES (?, ?, ?)";
    let put = session.prepare(put).await.map_err(|e| e.to_string())?;
    let rows = claims.len() as f64;
    let batches = batches(claims);
    let session = std::sync::Arc::new(session);
    let started = Instant::now();
    let mut tasks = JoinSet::new();
    for (bucket, claims) in batches {
        if tasks.len() == UNDER_WAY {
            done(tasks.join_next().await)?;
        }
        tasks.spawn(send(session.clone(), put.clone(), bucket, claims));
    }
    while let Some(task) = tasks.join_next().await {
        done(Some(task))?;
    }
    Ok(rows / started.elapsed().as_secs_f64())
}

type Task = Result<Result<(), String>, tokio::task::JoinError>;

fn done(task: Option<Task>) -> Result<(), String> {
    task.map_or(Ok(()), |task| task.map_err(|e| e.to_string())?)
}

/// Each of one store partition.
fn batches(claims: Vec<Claim>) -> Vec<(i32, Vec<Claim>)> {
    let mut buckets = BTreeMap::<i32, Vec<Claim>>::new();
    for claim in claims {
        let mut hasher = DefaultHasher::new();
        claim.0.hash(&mut hasher);
        buckets.entry((hasher.finish() % BUCKETS) as i32).or_default().push(claim);
    }
    let cut = |(bucket, claims): (i32, Vec<Claim>)| {
        let cut: Vec<_> = claims.chunks(BATCH).map(|claims| (bucket, claims.to_vec())).collect();
        cut
    };
    buckets.into_iter().flat_map(cut).collect()
}

async fn send(
    session: std::sync::Arc<Session>,
    put: PreparedStatement,
    bucket: i32,
    claims: Vec<Claim>,
) -> Result<(), String> {
    let mut batch = Batch::new(BatchType::Unlogged);
    claims.iter().for_each(|_| batch.append_statement(put.clone()));
    let values: Vec<_> =
        claims.iter().map(|(key, value)| (bucket, key.to_vec(), value.to_vec())).collect();
    session.batch(&batch, values).await.map(drop).map_err(|e| e.to_string())
}
