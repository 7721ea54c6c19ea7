//! What was counted: the directory's sums, as facts of a source of their own. How many of a partition
//! are taken over is its position.

use storage::Analytics;
use storage::analytics::{Fact, Source as Counted};

use super::Target;
use super::source::Source;
use crate::failure::chain;

/// Sums of one read.
const PAGE: usize = 10_000;
/// Sums of one step of a partition.
const STEP: usize = 16_384;

/// One partition on the servers.
#[derive(Default)]
struct Shelf {
    /// Sums it has.
    taken: u64,
    /// Sums of it that were read so far.
    read: u64,
    facts: Vec<Fact>,
}

/// Takes over the sums that are not there yet; how many there are.
pub(super) async fn take(source: &Source, target: &Target) -> Result<u64, String> {
    let as_of_ms = as_of_ms(source).await?;
    let partitions = target.log.partitions();
    let mut shelves = Vec::new();
    for partition in 0..partitions {
        let position = target.analytics.position(Counted::Moved, partition).await;
        shelves.push(Shelf { taken: position.map_err(chain)?.next, ..Shelf::default() });
    }
    let mut sums = 0;
    let mut after = None;
    loop {
        let page = source.analytics.export(after, PAGE).await.map_err(chain)?;
        after = page.last().cloned();
        sums += page.len() as u64;
        let is_end = after.is_none();
        for fact in page {
            let shelf = &mut shelves[usize::from(fact.scope.partition(partitions))];
            shelf.read += 1;
            if shelf.read > shelf.taken {
                shelf.facts.push(fact);
            }
        }
        for (partition, shelf) in (0..).zip(&mut shelves) {
            if shelf.facts.len() >= STEP || is_end {
                shelf.apply(&target.analytics, partition, as_of_ms).await?;
            }
        }
        if is_end {
            return Ok(sums);
        }
    }
}

impl Shelf {
    async fn apply(
        &mut self,
        analytics: &Analytics,
        partition: u16,
        as_of_ms: i64,
    ) -> Result<(), String> {
        let facts = std::mem::take(&mut self.facts);
        let next = self.taken + facts.len() as u64;
        if next > self.taken {
            let applied =
                analytics.apply(Counted::Moved, partition, self.taken, next, as_of_ms, &facts);
            applied.await.map_err(chain)?;
        }
        self.taken = next;
        Ok(())
    }
}

/// What the directory's figures are as of.
async fn as_of_ms(source: &Source) -> Result<i64, String> {
    let analytics = Analytics::Sqlite(source.analytics.clone());
    let mut as_of_ms = 0;
    for partition in 0..source.log.partitions() {
        for counted in [Counted::Outcomes, Counted::Clicks] {
            let position = analytics.position(counted, partition).await.map_err(chain)?;
            as_of_ms = as_of_ms.max(position.as_of_ms);
        }
    }
    Ok(as_of_ms)
}
