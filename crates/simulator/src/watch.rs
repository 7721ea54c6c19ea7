//! What must hold at every moment, whatever is under way.

use std::collections::BTreeMap;

use prost::Message;
use schemas::proto::Record;
use storage::log::{LogRecord, ReadLimit, Topic};
use storage::{EventLog, StateStore};

use crate::invariant::{Checked, Invariant, Violation, ensure};
use crate::life::shard;
use crate::model::Model;
use crate::oracle::unreadable;
use crate::upgrade::{Stage, Upgrade};
use crate::world::{HOLDS_PER_STEP, PARTITIONS};

/// How far the partitions were seen to be.
pub(crate) struct Watch {
    /// The highest offset each was seen committed to, and what its records tell up to there.
    seen: BTreeMap<u16, Seen>,
    model: Model,
}

#[derive(Clone, Copy, Default)]
struct Seen {
    next_offset: u64,
    outcomes: u64,
}

impl Watch {
    pub(crate) fn new() -> Self {
        Self { seen: BTreeMap::new(), model: Model::new(HOLDS_PER_STEP) }
    }

    /// Nothing is committed that the log does not hold, no head goes back, nothing is told that is not
    /// committed (F1), and nobody passes a record that no process knows (D2).
    pub(crate) async fn look(
        &mut self,
        (log, state): &(EventLog, StateStore),
        upgrade: Option<&Upgrade>,
    ) -> Checked {
        for partition in 0..PARTITIONS {
            // In this order: what is told later must not count against an earlier head.
            let told = log.bounds(Topic::Outcomes, partition).await.map_err(unreadable)?.end;
            let head = state.head(shard(partition)).await.map_err(unreadable)?;
            let end = log.bounds(Topic::Events, partition).await.map_err(unreadable)?.end;
            let seen = self.seen.get(&partition).copied().unwrap_or_default();
            let (from, to) = (seen.next_offset, head.next_offset);
            ensure((from..=end).contains(&to), Invariant::F1, || {
                format!(
                    "partition {partition}: {head:?} after offset {from}, the log ends at {end}"
                )
            })?;
            let decided = read(log, partition, from..to).await?;
            let unknown = upgrade.filter(|upgrade| upgrade.stage == Stage::Begun);
            let passed = decided.iter().find(|r| unknown.is_some_and(|u| u.is_news(&r.bytes)));
            ensure(passed.is_none(), Invariant::D2, || {
                format!("partition {partition}: {passed:?} was decided, which nobody knows")
            })?;
            let outcomes = seen.outcomes + self.told(partition, decided);
            ensure(told <= outcomes, Invariant::F1, || {
                format!("partition {partition}: {told} outcomes are told, {outcomes} committed")
            })?;
            self.seen.insert(partition, Seen { next_offset: to, outcomes });
        }
        Ok(())
    }

    /// How many outcomes these records come to.
    fn told(&mut self, partition: u16, records: Vec<LogRecord>) -> u64 {
        let records = records.into_iter().filter_map(|record| Record::decode(record.bytes).ok());
        records.map(|record| self.model.fold(partition, &record).len() as u64).sum()
    }
}

async fn read(
    log: &EventLog,
    partition: u16,
    offsets: std::ops::Range<u64>,
) -> Result<Vec<LogRecord>, Violation> {
    if offsets.is_empty() {
        return Ok(Vec::new());
    }
    let records = usize::try_from(offsets.end - offsets.start).unwrap_or(usize::MAX);
    let limit = ReadLimit { records, bytes: usize::MAX };
    log.read(Topic::Events, partition, offsets.start, limit).await.map_err(unreadable)
}
