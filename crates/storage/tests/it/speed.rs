//! Figures for tuning, by hand: `cargo test --release -p storage --test it -- --ignored speed
//! --nocapture`.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use storage::embedded::{self, OpenOptions};
use storage::log::ReadLimit;
use storage::state::{Group, WriteSet};
use storage::{EventLog, Shard, StateStore, Topic};
use tempfile::TempDir;
use tokio::time::Instant;

const TIME: Duration = Duration::from_secs(5);
const RECORD: [u8; 220] = [b'x'; 220];

/// On the file system of the build directory: the system's temporary one may be memory.
fn open() -> (TempDir, EventLog, StateStore) {
    let dir = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let (log, state) = embedded::open(dir.path(), &OpenOptions::new(1)).unwrap();
    (dir, log, state)
}

/// Runs `callers` loops of `call` for [`TIME`]; calls per second.
async fn rate<F: Future<Output = ()> + Send>(
    callers: usize,
    call: impl Fn(usize) -> F + Send + Sync + Clone + 'static,
) -> u64 {
    let calls = Arc::new(AtomicU64::new(0));
    let end = Instant::now() + TIME;
    let loops: Vec<_> = (0..callers)
        .map(|caller| {
            let (call, calls) = (call.clone(), calls.clone());
            tokio::spawn(async move {
                while Instant::now() < end {
                    call(caller).await;
                    calls.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    for each in loops {
        each.await.unwrap();
    }
    calls.load(Ordering::Relaxed) / TIME.as_secs()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "prints figures"]
async fn speed_of_single_appends() {
    println!("floor: {} fdatasyncs/s after 64 records", syncs());
    for callers in [1, 64, 256] {
        let (_dir, log, _state) = open();
        let appends = rate(callers, move |caller| {
            let log = log.clone();
            async move {
                let record = (caller as u16 % 16, Bytes::from_static(&RECORD));
                log.append(Topic::Events, vec![record]).await.unwrap();
            }
        });
        println!("{callers} callers, one record each: {} appends/s", appends.await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "prints figures"]
async fn speed_of_batches_and_of_reading_them() {
    let (dir, log, state) = open();
    let writer = log.clone();
    let appends = rate(4, move |caller| {
        let log = writer.clone();
        async move {
            let record = (caller as u16, Bytes::from_static(&RECORD));
            log.append(Topic::Events, vec![record; 1_000]).await.unwrap();
        }
    });
    println!("4 callers, 1,000 records each: {} records/s", appends.await * 1_000);
    let (start, mut read) = (Instant::now(), 0);
    for partition in 0..4 {
        let mut from = 0;
        let limit = ReadLimit { records: 2_000, bytes: 1 << 20 };
        loop {
            let records = log.read(Topic::Events, partition, from, limit).await.unwrap();
            let Some(last) = records.last() else { break };
            from = last.offset + 1;
            read += records.len() as u64;
        }
    }
    println!("read back: {} records/s", (read as f64 / start.elapsed().as_secs_f64()) as u64);
    drop((log, state));
    let start = Instant::now();
    let again = embedded::open(dir.path(), &OpenOptions::new(1)).unwrap();
    println!("reopened in {:?}", start.elapsed());
    drop(again);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "prints figures"]
async fn speed_of_commits() {
    const ROWS: u64 = 2_000;
    let (dir, log, state) = open();
    let mut owners = Vec::new();
    for partition in 0..4 {
        let shard = Shard { group: Group::Evaluator, partition };
        owners.push((shard, state.acquire(shard).await.unwrap().0, AtomicU64::new(0)));
    }
    let (owners, store) = (Arc::new(owners), state.clone());
    let commits = rate(4, move |caller| {
        let (state, owners) = (store.clone(), owners.clone());
        async move {
            let (shard, epoch, seq) = &owners[caller];
            let seq = seq.fetch_add(1, Ordering::Relaxed) + 1;
            let keys: Vec<_> = (0..ROWS).map(|i| key(seq * ROWS + i)).collect();
            state.get(*shard, &keys[..ROWS as usize / 10]).await.unwrap();
            let rows = keys.into_iter().map(|key| (key, Some(Bytes::from_static(&RECORD[..100]))));
            let outcomes = vec![Bytes::from_static(&RECORD[..150]); ROWS as usize / 3];
            let set = WriteSet { seq, rows: rows.collect(), outcomes, ..WriteSet::default() };
            state.commit(*shard, *epoch, set).await.unwrap();
        }
    });
    println!("4 shards, {ROWS} rows of 42 + 100 bytes each: {} rows/s", commits.await * ROWS);
    drop((log, state));
    let start = Instant::now();
    let again = embedded::open(dir.path(), &OpenOptions::new(1)).unwrap();
    println!("reopened in {:?}", start.elapsed());
    drop(again);
}

/// What the disk gives at this moment to a plain file.
fn syncs() -> u64 {
    let dir = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let mut file = std::fs::File::create(dir.path().join("file")).unwrap();
    let (end, mut count) = (Instant::now() + TIME, 0);
    while Instant::now() < end {
        file.write_all(&[b'x'; 64 * RECORD.len()]).unwrap();
        file.sync_data().unwrap();
        count += 1;
    }
    count / TIME.as_secs()
}

/// Spread evenly, as hashes are.
fn key(n: u64) -> Bytes {
    let spread = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut key = [7; 42];
    key[18..26].copy_from_slice(&spread.to_be_bytes());
    Bytes::copy_from_slice(&key)
}
