//! A fold that decides one partition with the engine: enough of an evaluator for these tests.

use std::sync::Arc;

use bytes::Bytes;
use engine::key::Key;
use engine::row::Row;
use engine::{Entry, Plan, Settings, Snapshot};
use prost::Message as _;
use storage::log::ReadLimit;
use storage::state::{Group, Shard, WriteSet};
use storage::{EventLog, StateStore, Topic};

/// Decides what comes onto the partition's log, for ever.
pub(crate) async fn run(log: EventLog, state: StateStore, partition: u16) {
    let shard = Shard { group: Group::Evaluator, partition };
    let settings = Settings::default();
    let (epoch, mut head) = state.acquire(shard).await.expect("acquired");
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
        let batch = &entries[..engine::batch_len(&entries)];
        let mut snapshot = fetched(&state, shard, &settings, batch).await;
        let verdict = engine::decide(&settings, head.fold_time_ms, batch, &mut snapshot);
        head.seq += 1;
        head.next_offset += batch.len() as u64;
        head.fold_time_ms = verdict.fold_time_ms;
        let rows = verdict
            .writes
            .iter()
            .map(|(key, row)| (key.encode(), row.as_ref().map(|row| row.encode())));
        let set = WriteSet {
            seq: head.seq,
            next_offset: head.next_offset,
            log_identity: identity,
            fold_time_ms: head.fold_time_ms,
            rows: rows.collect(),
            outcomes: verdict.outcomes.iter().map(|o| Bytes::from(o.encode_to_vec())).collect(),
        };
        state.commit(shard, epoch, set).await.expect("committed");
    }
}

async fn fetched(
    state: &StateStore,
    shard: Shard,
    settings: &Settings,
    batch: &[Entry],
) -> Snapshot {
    let mut snapshot = Snapshot::new();
    let mut plan = Plan::new(settings, batch);
    loop {
        let want = plan.wants(&snapshot);
        if want.is_empty() {
            return snapshot;
        }
        let keys: Vec<Bytes> = want.iter().map(Key::encode).collect();
        let rows = state.get(shard, &keys).await.expect("rows");
        for (key, bytes) in want.into_iter().zip(rows) {
            let row = bytes.map(|bytes| Arc::new(Row::decode(&key, bytes).expect("a row")));
            snapshot.insert(key, row);
        }
    }
}
