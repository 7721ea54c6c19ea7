//! A state store that follows a script of failures; see [`crate::fault`].

use std::sync::Arc;

use bytes::Bytes;

use super::{Epoch, Head, KeyRange, Shard, StateStore, WriteSet};
use crate::Error;
use crate::fault::{Faults, Op, Process};

/// Any state store, with scripted failures. Calls are boxed because they go to the enum this is a variant of.
#[derive(Clone)]
pub struct FaultState {
    inner: Box<StateStore>,
    process: Arc<Process>,
}

impl FaultState {
    pub(crate) fn new(inner: StateStore, process: Arc<Process>) -> Self {
        Self { inner: Box::new(inner), process }
    }

    pub(crate) async fn acquire(&self, shard: Shard) -> Result<(Epoch, Head), Error> {
        self.run(Op::Acquire, Box::pin(self.inner.acquire(shard))).await
    }

    pub(crate) async fn commit(
        &self,
        shard: Shard,
        epoch: Epoch,
        set: WriteSet,
    ) -> Result<(), Error> {
        self.run(Op::Commit, Box::pin(self.inner.commit(shard, epoch, set))).await
    }

    pub(crate) async fn get(
        &self,
        shard: Shard,
        keys: &[Bytes],
    ) -> Result<Vec<Option<Bytes>>, Error> {
        self.run(Op::Get, Box::pin(self.inner.get(shard, keys))).await
    }

    pub(crate) async fn scan(
        &self,
        shard: Shard,
        range: KeyRange,
        reverse: bool,
        limit: usize,
    ) -> Result<Vec<(Bytes, Bytes)>, Error> {
        self.run(Op::Scan, Box::pin(self.inner.scan(shard, range, reverse, limit))).await
    }

    pub(crate) async fn head(&self, shard: Shard) -> Result<Head, Error> {
        self.run(Op::Head, Box::pin(self.inner.head(shard))).await
    }

    pub(crate) async fn committed(&self, shard: Shard, next_offset: u64) -> Result<(), Error> {
        Box::pin(self.inner.committed(shard, next_offset)).await
    }

    async fn run<T>(
        &self,
        op: Op,
        call: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        self.process.run(op, || self.inner.crash(), call).await
    }
}

impl StateStore {
    /// The same store, asking the script at steps only the backend knows of.
    pub(crate) fn following(self, faults: &Faults) -> Self {
        match self {
            Self::Memory(state) => Self::Memory(state.following(faults)),
            other => other,
        }
    }

    /// Forgets what was not synced, where there is such a thing.
    fn crash(&self) {
        if let Self::Memory(state) = self {
            state.crash();
        }
    }
}
