//! What is on the old log and not decided yet, and what could not be decoded.
//!
//! Each partition of the servers gets its records in a fixed order, and nobody else writes there, so
//! how many it has says which come next.

use bytes::Bytes;
use engine::{Key, Row};
use prost::Message;
use schemas::id::OrganizationId;
use schemas::partition::{Mode, Scope};
use schemas::proto;
use storage::log::ReadLimit;
use storage::state::{Group, Shard};
use storage::{EventLog, Topic};

use super::Target;
use super::source::Source;
use crate::failure::chain;

/// Of one read and of one append.
const LIMIT: ReadLimit = ReadLimit { records: 1_000, bytes: 1 << 20 };

/// Appends what is not there yet; how many records there are to decide.
pub(super) async fn take(
    source: &Source,
    target: &Target,
    continuations: &[Bytes],
) -> Result<u64, String> {
    let mut events = Feed::open(&target.log, Topic::Events).await?;
    for partition in 0..source.log.partitions() {
        let shard = Shard { group: Group::Evaluator, partition };
        let head = source.state.head(shard).await.map_err(chain)?;
        events.copy(&source.log, partition, head.next_offset).await?;
    }
    for row in continuations {
        let Ok(Row::Continuations(records)) = Row::decode(&Key::Continuations, row.clone()) else {
            return Err("the continuations of a partition cannot be read".to_owned());
        };
        for record in records {
            events.add(record.encode_to_vec().into(), 0).await?;
        }
    }
    let catalog = storage::Catalog::Sqlite(source.catalog.clone());
    for row in catalog.outbox(usize::MAX).await.map_err(chain)? {
        events.add(row.record, row.partition).await?;
    }
    let records = events.close().await?;
    let mut dead_letters = Feed::open(&target.log, Topic::DeadLetters).await?;
    for partition in 0..source.log.partitions() {
        let bounds = source.log.bounds(Topic::DeadLetters, partition).await.map_err(chain)?;
        dead_letters.copy(&source.log, partition, bounds.start).await?;
    }
    dead_letters.close().await?;
    Ok(records)
}

/// A topic on the servers.
struct Feed<'a> {
    log: &'a EventLog,
    topic: Topic,
    partitions: Vec<Counted>,
    batch: Vec<(u16, Bytes)>,
}

/// One partition of it.
#[derive(Clone, Copy)]
struct Counted {
    /// Records it had.
    had: u64,
    /// Records it is to have, as far as they are known.
    wants: u64,
}

impl<'a> Feed<'a> {
    async fn open(log: &'a EventLog, topic: Topic) -> Result<Self, String> {
        let mut partitions = Vec::new();
        for partition in 0..log.partitions() {
            let bounds = log.bounds(topic, partition).await.map_err(chain)?;
            partitions.push(Counted { had: bounds.end, wants: 0 });
        }
        Ok(Self { log, topic, partitions, batch: Vec::new() })
    }

    /// Adds a partition of another log from an offset on.
    async fn copy(&mut self, log: &EventLog, partition: u16, from: u64) -> Result<(), String> {
        let mut from = from;
        loop {
            let records = log.read(self.topic, partition, from, LIMIT).await.map_err(chain)?;
            let Some(last) = records.last() else { return Ok(()) };
            from = last.offset + 1;
            for record in records {
                self.add(record.bytes, partition).await?;
            }
        }
    }

    /// Adds a record to its scope's partition; one without a scope, to what takes the place of `old`.
    async fn add(&mut self, record: Bytes, old: u16) -> Result<(), String> {
        let count = self.log.partitions();
        let partition = scope(&record).map_or(old % count, |scope| scope.partition(count));
        let counted = &mut self.partitions[usize::from(partition)];
        counted.wants += 1;
        if counted.wants > counted.had {
            self.batch.push((partition, record));
        }
        if self.batch.len() >= LIMIT.records {
            self.append().await?;
        }
        Ok(())
    }

    async fn append(&mut self) -> Result<(), String> {
        let batch = std::mem::take(&mut self.batch);
        self.log.append(self.topic, batch).await.map(drop).map_err(chain)
    }

    async fn close(mut self) -> Result<u64, String> {
        self.append().await?;
        let topic = self.topic.as_str();
        if self.partitions.iter().any(|counted| counted.had > counted.wants) {
            return Err(format!("{topic} on the servers has records of somebody else"));
        }
        Ok(self.partitions.iter().map(|counted| counted.wants).sum())
    }
}

/// Whose record it is, if that can be read.
fn scope(record: &Bytes) -> Option<Scope> {
    let record = proto::Record::decode(record.clone()).ok()?;
    let organization = OrganizationId::from_proto(&record.organization)?;
    let mode = match record.mode() {
        proto::Mode::Live => Mode::Live,
        proto::Mode::Test => Mode::Test,
        proto::Mode::Unspecified => return None,
    };
    Some(Scope { organization, mode })
}
