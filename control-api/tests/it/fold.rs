//! A fold that decides one partition with the engine: enough of an evaluator for these tests.

use bytes::Bytes;
use engine::key::Key;
use engine::row::Row;
use engine::{Entry, Fold, Settings};
use prost::Message as _;
use storage::log::ReadLimit;
use storage::state::{Group, Shard, WriteSet};
use storage::{EventLog, StateStore, Topic};

/// Decides what comes onto the partition's log, for ever.
pub(crate) async fn run(log: EventLog, state: StateStore, partition: u16) {
    let shard = Shard { group: Group::Evaluator, partition };
    let (epoch, mut head) = state.acquire(shard).await.expect("acquired");
    let mut fold = Fold::new(Settings::default(), head.fold_time_ms);
    let identity = log.bounds(Topic::Events, partition).await.expect("bounds").identity;
    loop {
        log.wait(Topic::Events, partition, head.next_offset).await;
        let limit = ReadLimit { records: 100, bytes: 1 << 20 };
        let records = log.read(Topic::Events, partition, head.next_offset, limit).await;
        let entries: Vec<Entry> = records
            .expect("read")
            .into_iter()
            .map(|record| Entry::decode(record.offset, record.bytes).expect("decodes"))
            .collect();
        let mut rest = &entries[..];
        while !rest.is_empty() {
            rest = &rest[fold.decide(rest)..];
            fetch(&mut fold, &state, shard, rest).await;
        }
        let verdict = fold.take();
        head.seq += 1;
        head.next_offset += entries.len() as u64;
        let set = WriteSet {
            seq: head.seq,
            next_offset: head.next_offset,
            log_identity: identity,
            fold_time_ms: verdict.fold_time_ms,
            rows: verdict.writes,
            outcomes: verdict.outcomes.iter().map(|o| Bytes::from(o.encode_to_vec())).collect(),
        };
        state.commit(shard, epoch, set).await.expect("committed");
    }
}

async fn fetch(fold: &mut Fold, state: &StateStore, shard: Shard, entries: &[Entry]) {
    let wanted = fold.wants(entries);
    let keys: Vec<Bytes> = wanted.iter().map(Key::encode).collect();
    let rows = state.get(shard, &keys).await.expect("rows");
    for (key, bytes) in wanted.into_iter().zip(rows) {
        let row = bytes.map(|bytes| Row::decode(&key, bytes).expect("a row"));
        fold.learn(key, row);
    }
}
