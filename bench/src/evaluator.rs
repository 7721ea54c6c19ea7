//! `bench evaluator`: fills an event log, then measures how fast the evaluator decides it, from the
//! log to durable decisions; beside it the floor, the same rows written without reading or deciding
//! anything.

use std::path::PathBuf;

use bytes::Bytes;
use evaluator::EvaluatorParts;
use serve::{Clock, Health, Shutdown};
use storage::embedded::{self, OpenOptions};
use storage::state::{Group, KeyRange, Shard, WriteSet};
use storage::{Error, EventLog, StateStore, Topic};
use tokio::time::Instant;

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
}

/// Measures and prints.
pub(crate) fn run(options: &Evaluator) -> Result<(), String> {
    let runtime = tokio::runtime::Runtime::new().map_err(|e| e.to_string())?;
    runtime.block_on(measure(options)).map_err(|e| format!("{e}"))
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
    let decided = events / decide(&log, &state).await?;
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

/// Seconds until everything that is in the log is decided.
async fn decide(log: &EventLog, state: &StateStore) -> Result<f64, Error> {
    let shutdown = Shutdown::new();
    let parts = EvaluatorParts {
        log: log.clone(),
        state: state.clone(),
        clock: Clock::system(),
        health: Health::new(),
        config: evaluator::Config::default(),
    };
    let started = Instant::now();
    let running = serve::spawn("evaluator", evaluator::run(parts, shutdown.clone()));
    for partition in 0..log.partitions() {
        let end = log.bounds(Topic::Events, partition).await?.end;
        state.committed(Shard { group: Group::Evaluator, partition }, end).await?;
    }
    let seconds = started.elapsed().as_secs_f64();
    shutdown.request();
    let _ = running.await;
    Ok(seconds)
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
