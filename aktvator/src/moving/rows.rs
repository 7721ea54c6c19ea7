//! Committed rows: each goes to the partition that its scope has on the servers.

use std::collections::BTreeMap;

use bytes::Bytes;
use engine::Key;
use schemas::delivery_key;
use storage::state::{Epoch, Group, Head, KeyRange, Shard, WriteSet};
use storage::{StateStore, Topic};

use super::Target;
use super::source::Source;
use crate::failure::chain;

/// Rows of one read.
const PAGE: usize = 2_000;
/// Rows of one write set, and bytes after which it is not added to.
const SET_ROWS: usize = 1_000;
const SET_BYTES: usize = 1 << 20;
/// Above every key.
const KEYS_END: [u8; 64] = [0xff; 64];

/// What was put.
pub(super) struct Taken {
    pub(super) rows: u64,
    /// Rows of continuations, which belong to a partition of the old log and become records.
    pub(super) continuations: Vec<Bytes>,
}

/// Puts all rows of the fold and of deliveries.
pub(super) async fn take(source: &Source, target: &Target) -> Result<Taken, String> {
    let mut taken = Taken { rows: 0, continuations: Vec::new() };
    for (group, topic) in [(Group::Evaluator, Topic::Events), (Group::Webhooks, Topic::Outcomes)] {
        let mut shelves = Shelves { target, group, topic, shelves: BTreeMap::new() };
        for partition in 0..source.log.partitions() {
            let shard = Shard { group, partition };
            let fold_time_ms = source.state.head(shard).await.map_err(chain)?.fold_time_ms;
            let mut from = Bytes::new();
            while let Some((last, page)) = page(&source.state, shard, from).await? {
                for (key, row) in page {
                    if group == Group::Evaluator && key == Key::Continuations.encode() {
                        taken.continuations.push(row);
                        continue;
                    }
                    taken.rows += 1;
                    shelves.put(key, row, fold_time_ms).await?;
                }
                from = [&last[..], &[0]].concat().into();
            }
        }
        shelves.close().await?;
    }
    Ok(taken)
}

type Page = (Bytes, Vec<(Bytes, Bytes)>);

/// The next rows, and the last key of them.
async fn page(state: &StateStore, shard: Shard, from: Bytes) -> Result<Option<Page>, String> {
    let range = KeyRange { from, to: Bytes::from_static(&KEYS_END) };
    let rows = state.scan(shard, range, false, PAGE).await.map_err(chain)?;
    Ok(rows.last().map(|(last, _)| last.clone()).map(|last| (last, rows)))
}

/// The partitions of one group on the servers, as far as something goes there.
struct Shelves<'a> {
    target: &'a Target,
    group: Group,
    /// What the group follows.
    topic: Topic,
    shelves: BTreeMap<u16, Shelf>,
}

/// One partition, and what waits to be committed there.
struct Shelf {
    shard: Shard,
    epoch: Epoch,
    head: Head,
    rows: Vec<(Bytes, Option<Bytes>)>,
    bytes: usize,
}

impl Shelves<'_> {
    async fn put(&mut self, key: Bytes, row: Bytes, fold_time_ms: i64) -> Result<(), String> {
        let scope = match self.group {
            Group::Webhooks => delivery_key::scope(&key),
            Group::Evaluator | Group::Analytics => Key::scope_of(&key),
        };
        let scope = scope.ok_or_else(|| format!("a row belongs to nobody: {key:?}"))?;
        let partition = scope.partition(self.target.log.partitions());
        if !self.shelves.contains_key(&partition) {
            let shelf = self.open(partition).await?;
            self.shelves.insert(partition, shelf);
        }
        let shelf = self.shelves.get_mut(&partition).expect("it was just put there");
        shelf.head.fold_time_ms = shelf.head.fold_time_ms.max(fold_time_ms);
        shelf.bytes += key.len() + row.len();
        shelf.rows.push((key, Some(row)));
        if shelf.rows.len() >= SET_ROWS || shelf.bytes >= SET_BYTES {
            shelf.commit(&self.target.state).await?;
        }
        Ok(())
    }

    /// Takes the partition; what decides there begins at the log's start.
    async fn open(&self, partition: u16) -> Result<Shelf, String> {
        let shard = Shard { group: self.group, partition };
        let (epoch, head) = self.target.state.acquire(shard).await.map_err(chain)?;
        let bounds = self.target.log.bounds(self.topic, partition).await.map_err(chain)?;
        let head = Head { next_offset: bounds.start, log_identity: bounds.identity, ..head };
        Ok(Shelf { shard, epoch, head, rows: Vec::new(), bytes: 0 })
    }

    async fn close(mut self) -> Result<(), String> {
        for shelf in self.shelves.values_mut().filter(|shelf| !shelf.rows.is_empty()) {
            shelf.commit(&self.target.state).await?;
        }
        Ok(())
    }
}

impl Shelf {
    async fn commit(&mut self, state: &StateStore) -> Result<(), String> {
        self.head.seq += 1;
        self.bytes = 0;
        let set = WriteSet {
            seq: self.head.seq,
            next_offset: self.head.next_offset,
            log_identity: self.head.log_identity,
            fold_time_ms: self.head.fold_time_ms,
            rows: std::mem::take(&mut self.rows),
            outcomes: Vec::new(),
        };
        state.commit(self.shard, self.epoch, set).await.map_err(|e| match e.kind {
            storage::Kind::Fenced => {
                "a process of the installation runs on the servers; stop it and repeat".to_owned()
            }
            _ => chain(e),
        })
    }
}
