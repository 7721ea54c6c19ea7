//! `bench evaluator`: fills an event log, then measures how fast the evaluator decides it, from the
//! log to durable decisions; beside it the floor, the same rows written without reading or deciding
//! anything; on servers, claims merely written to the same CQL server.

use std::path::PathBuf;

use bytes::Bytes;
use engine::Key;
use evaluator::EvaluatorParts;
use schemas::id::ConversionEventId;
use serve::{Clock, Health, Shutdown};
use storage::cql::CqlOptions;
use storage::embedded::{self, OpenOptions};
use storage::kafka::KafkaOptions;
use storage::state::{Group, KeyRange, Shard, WriteSet};
use storage::{Error, EventLog, StateStore, Topic};
use tokio::time::Instant;

use crate::claims;
use crate::fill::Shop;

/// Rows of one write set of the floor: two for each of a batch's events.
const FLOOR_ROWS: usize = 4_000;
/// Rows read at once to copy them.
const COPY_ROWS: usize = 20_000;

/// Options of `bench evaluator`.
#[derive(clap::Args)]
pub(crate) struct Evaluator {
    /// Where the data goes; emptied first.
    #[arg(long, default_value = "bench/data/evaluator")]
    work: PathBuf,
    /// Events in each partition.
    #[arg(long, default_value_t = 500_000)]
    events: u64,
    /// Partitions at work side by side.
    #[arg(long, default_value_t = 2)]
    partitions: u16,
    /// A broker, `host:port`: the log is on it, and the state on `--cql`.
    #[arg(long, requires = "cql")]
    kafka: Option<String>,
    /// A node of ScyllaDB or Cassandra, `host:port`.
    #[arg(long, requires = "kafka")]
    cql: Option<String>,
}

/// Claims that the floor on CQL writes.
const CLAIMS: usize = 200_000;

/// Measures and prints.
pub(crate) fn run(options: &Evaluator) -> Result<(), String> {
    let runtime = tokio::runtime::Runtime::new().map_err(|e| e.to_string())?;
    match (&options.kafka, &options.cql) {
        (Some(kafka), Some(cql)) => runtime.block_on(measure_on_servers(options, kafka, cql)),
        _ => runtime.block_on(measure(options)).map_err(|e| format!("{e}")),
    }
}

async fn measure_on_servers(options: &Evaluator, kafka: &str, cql: &str) -> Result<(), String> {
    let name = format!("bench_{}", std::process::id());
    let kafka = KafkaOptions {
        brokers: kafka.to_owned(),
        topic_prefix: format!("{name}."),
        partitions: options.partitions,
        replication: 1,
        min_insync: 1,
        ..KafkaOptions::default()
    };
    let keyspace = CqlOptions {
        nodes: vec![cql.to_owned()],
        keyspace: name.clone(),
        replication: 1,
        ..CqlOptions::default()
    };
    let (log, state) = on_servers(&kafka, &keyspace).await.map_err(|e| format!("{e}"))?;
    for partition in 0..options.partitions {
        let shop = Shop::within(partition, options.partitions);
        shop.fill(&log, options.events).await.map_err(|e| format!("{e}"))?;
    }
    let decided = decide(&log, &state).await.map_err(|e| format!("{e}"))?;
    println!("evaluator on Kafka and CQL           {decided:>9.0} events/s");
    let claims = claims(&state, options.partitions).await.map_err(|e| format!("{e}"))?;
    let written = claims::write(cql, &name, claims).await?;
    println!("floor, claims merely written         {written:>9.0} rows/s");
    println!("ratio                                {:>9.2}", decided / written);
    Ok(())
}

async fn on_servers(
    kafka: &KafkaOptions,
    keyspace: &CqlOptions,
) -> Result<(EventLog, StateStore), Error> {
    storage::kafka::migrate(kafka).await?;
    storage::cql::migrate(keyspace).await?;
    let log = storage::kafka::connect(kafka).await?;
    let (state, _) = storage::cql::connect(keyspace, log.clone()).await?;
    Ok((log, state))
}

/// Some of the claims that were made.
async fn claims(state: &StateStore, partitions: u16) -> Result<Vec<(Bytes, Bytes)>, Error> {
    let mut claims = Vec::new();
    for partition in 0..partitions {
        let scope = Shop::within(partition, partitions).scope();
        let key = |id| Key::Event(scope, ConversionEventId::from_u128(id)).encode();
        let mut range = KeyRange { from: key(0), to: key(u128::MAX) };
        let shard = Shard { group: Group::Evaluator, partition };
        while claims.len() < CLAIMS * (usize::from(partition) + 1) / usize::from(partitions) {
            let some = state.scan(shard, range.clone(), false, COPY_ROWS).await?;
            let Some((last, _)) = some.last() else { break };
            range.from = [last.as_ref(), &[0]].concat().into();
            claims.extend(some);
        }
    }
    Ok(claims)
}

async fn measure(options: &Evaluator) -> Result<(), Error> {
    let _ = std::fs::remove_dir_all(&options.work);
    let open = |name: &str| {
        let dir = options.work.join(name);
        std::fs::create_dir_all(&dir)
            .map_err(|e| Error::determinate("create", storage::Kind::Unavailable).because(e))?;
        embedded::open(&dir, &OpenOptions { partitions: options.partitions, ..OpenOptions::new(1) })
    };
    let (log, state) = open("decided")?;
    for partition in 0..options.partitions {
        Shop::within(partition, options.partitions).fill(&log, options.events).await?;
    }
    let events = (options.events * u64::from(options.partitions)) as f64;
    let decided = decide(&log, &state).await?;
    println!("evaluator, log to durable decisions  {decided:>9.0} events/s");

    let (_, floor) = open("floor")?;
    let mut seconds = 0.0;
    let mut rows = 0;
    for partition in 0..options.partitions {
        let (copied, spent) = copy(&state, &floor, partition).await?;
        rows += copied;
        seconds += spent;
    }
    let written = events / seconds;
    println!(
        "floor, its {rows} rows merely written   {written:>9.0} events/s, one partition after another"
    );
    println!("ratio                                {:>9.2}", decided / written);
    let _ = std::fs::remove_dir_all(&options.work);
    Ok(())
}

/// Records decided per second, from the first write set of the slowest partition on: who joins a group
/// waits for the others first.
async fn decide(log: &EventLog, state: &StateStore) -> Result<f64, Error> {
    let shutdown = Shutdown::new();
    let parts = EvaluatorParts {
        log: log.clone(),
        state: state.clone(),
        clock: Clock::system(),
        health: Health::new(),
        config: evaluator::Config::default(),
    };
    let running = serve::spawn("evaluator", evaluator::run(parts, shutdown.clone()));
    let shards: Vec<_> = (0..log.partitions())
        .map(|partition| Shard { group: Group::Evaluator, partition })
        .collect();
    for shard in &shards {
        state.committed(*shard, 1).await?;
    }
    let started = Instant::now();
    let mut records = 0;
    for shard in &shards {
        let end = log.bounds(Topic::Events, shard.partition).await?.end;
        records += end - state.head(*shard).await?.next_offset;
    }
    for shard in &shards {
        let end = log.bounds(Topic::Events, shard.partition).await?.end;
        state.committed(*shard, end).await?;
    }
    let seconds = started.elapsed().as_secs_f64();
    shutdown.request();
    let _ = running.await;
    Ok(records as f64 / seconds)
}

/// Writes one partition's rows again, into another store; how many, and the seconds the writing took.
async fn copy(from: &StateStore, to: &StateStore, partition: u16) -> Result<(usize, f64), Error> {
    let shard = Shard { group: Group::Evaluator, partition };
    let (epoch, mut head) = to.acquire(shard).await?;
    let (mut rows, mut seconds) = (0, 0.0);
    let mut range = KeyRange { from: Bytes::new(), to: Bytes::from_static(&[0xff; 64]) };
    loop {
        let some = from.scan(shard, range.clone(), false, COPY_ROWS).await?;
        let Some((last, _)) = some.last() else { return Ok((rows, seconds)) };
        range.from = [last.as_ref(), &[0]].concat().into();
        rows += some.len();
        let started = Instant::now();
        for set in some.chunks(FLOOR_ROWS) {
            head.seq += 1;
            let rows = set.iter().map(|(key, value)| (key.clone(), Some(value.clone()))).collect();
            let set = WriteSet {
                seq: head.seq,
                next_offset: head.seq,
                log_identity: 1,
                fold_time_ms: 0,
                rows,
                outcomes: Vec::new(),
            };
            to.commit(shard, epoch, set).await?;
        }
        seconds += started.elapsed().as_secs_f64();
    }
}
