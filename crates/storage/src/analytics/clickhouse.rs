//! Analytics in ClickHouse: raw facts, and their sums as projections of the same table, so that a
//! sum is there when its facts are.
//!
//! An apply is three steps: the cut and its bytes are fixed in state, behind a fence; they are
//! inserted with a token that names them; state says that they are in. Whoever finds a cut of which
//! that is not known asks the table whether it has it, and otherwise inserts the same bytes with
//! the same token, which a table that has them after all answers by adding nothing. So a fact is
//! neither doubled nor lost, whoever crashed or lost its fence where.

mod cut;
mod fence;
mod select;
mod server;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use self::fence::{Cut, Fence, Position, Settled, corrupt, may_have_happened};
pub(crate) use self::server::Server;
use super::{Applied, Fact, Performance, PerformanceQuery, Source, Step, check};
use crate::error::{Error, Kind};
use crate::metrics;
use crate::state::{Epoch, StateStore};

/// An analytics store in ClickHouse.
#[derive(Clone)]
pub struct ClickHouseAnalytics {
    shared: Arc<Shared>,
}

struct Shared {
    server: Server,
    state: StateStore,
    fences: Mutex<HashMap<u16, Arc<Fence>>>,
}

impl ClickHouseAnalytics {
    pub(crate) fn new(server: Server, state: StateStore) -> Self {
        Self { shared: Arc::new(Shared { server, state, fences: Mutex::default() }) }
    }

    /// A cut that is on its way does not count, even if the table has it.
    pub(super) async fn position(&self, source: Source, partition: u16) -> Result<Applied, Error> {
        let position = self.fence(partition).position(source).await;
        position.map(|position| position.applied).map_err(|e| e.during("position"))
    }

    pub(super) async fn apply(&self, step: Step, facts: &[Fact]) -> Result<(), Error> {
        let fence = self.fence(step.partition);
        let mut stream = fence.stream(step.source).await;
        let epoch = fence.epoch().await.map_err(|e| e.during("apply"))?;
        let known = stream.take().filter(|settled| settled.epoch == epoch);
        let settled = match known {
            Some(settled) => settled,
            None => self.settle(&fence, epoch, step.source).await?,
        };
        let at = settled.position.applied.next;
        if at != step.from || step.next < step.from {
            *stream = Some(settled);
            let why = format!("the position is {at}, not {}", step.from);
            return Err(Error::determinate("apply", Kind::Conflict).because(why));
        }
        *stream = Some(self.advance(&fence, settled, step, facts).await?);
        Ok(())
    }

    pub(super) async fn performance(&self, query: &PerformanceQuery) -> Result<Performance, Error> {
        check(query)?;
        select::performance(&self.shared.server, query).await
    }

    /// What the state says of a source, once its cut is in.
    async fn settle(&self, fence: &Fence, epoch: Epoch, source: Source) -> Result<Settled, Error> {
        let server = &self.shared.server;
        server.ready("apply").await?;
        let position = fence.position(source).await?;
        let settled = position.settled();
        let taken = server.taken(source, fence.partition()).await?;
        if taken > settled.facts || (taken > position.facts && taken < settled.facts) {
            return Err(corrupt("the table has facts that the state knows nothing of"));
        }
        if taken < position.facts {
            tracing::warn!(
                source = source as u8,
                partition = fence.partition(),
                taken,
                facts = position.facts,
                "ClickHouse has fewer facts than it was given"
            );
        }
        if let Some(cut) = position.cut {
            if taken < settled.facts {
                let rows = fence.rows(source, &cut).await?;
                self.insert(&position.token(source, fence.partition()), rows).await?;
                metrics::resumed_cut();
            }
            fence.commit(epoch, source, &settled, &Bytes::new()).await?;
        }
        Ok(Settled { epoch, position: settled })
    }

    async fn advance(
        &self,
        fence: &Fence,
        settled: Settled,
        step: Step,
        facts: &[Fact],
    ) -> Result<Settled, Error> {
        let Settled { epoch, position } = settled;
        let applied = Applied { next: step.next, as_of_ms: step.as_of_ms };
        if facts.is_empty() {
            let position = Position { applied, ..position };
            fence.commit(epoch, step.source, &position, &Bytes::new()).await?;
            return Ok(Settled { epoch, position });
        }
        let rows = cut::encode(&step, position.facts, facts);
        let cut = Cut {
            applied,
            facts: facts.len() as u64,
            len: rows.len() as u64,
            crc: crc32fast::hash(&rows),
        };
        let position = Position { cut: Some(cut), ..position };
        fence.commit(epoch, step.source, &position, &rows).await.map_err(|e| e.during("apply"))?;
        // From here on it will be taken in, by this call or by whoever comes after it.
        let token = position.token(step.source, step.partition);
        self.insert(&token, rows).await.map_err(may_have_happened)?;
        let position = position.settled();
        let moved = fence.commit(epoch, step.source, &position, &Bytes::new()).await;
        moved.map_err(may_have_happened)?;
        Ok(Settled { epoch, position })
    }

    async fn insert(&self, token: &str, rows: Bytes) -> Result<(), Error> {
        let began = tokio::time::Instant::now();
        self.shared.server.insert(token, rows).await?;
        metrics::inserted(began.elapsed());
        Ok(())
    }

    fn fence(&self, partition: u16) -> Arc<Fence> {
        let mut fences = self.shared.fences.lock().unwrap_or_else(PoisonError::into_inner);
        let state = &self.shared.state;
        let fence = fences.entry(partition);
        fence.or_insert_with(|| Arc::new(Fence::new(state.clone(), partition))).clone()
    }
}
