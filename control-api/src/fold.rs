//! Reads of what the fold has committed, and commands that it decides.

use std::time::Duration;

use bytes::Bytes;
use engine::Row;
use engine::key::Key;
use prost::Message;
use schemas::fault::ApiError;
use schemas::partition::Scope;
use schemas::proto::{self, record::Body};
use schemas::time::Timestamp;
use storage::Topic;
use storage::state::{Group, KeyRange, Shard};

use crate::ControlParts;
use crate::config::{COMMAND_WAIT_MS, READ_WAIT_MS};
use crate::error;

impl ControlParts {
    /// Where a scope's rows of `group` are.
    pub(crate) fn shard(&self, group: Group, scope: Scope) -> Shard {
        Shard { group, partition: scope.partition(self.log.partitions()) }
    }

    /// The row under `key`, which holds an `M`.
    ///
    /// # Errors
    /// 503 where the store does not answer.
    pub(crate) async fn row<M: Message + Default>(&self, key: &Key) -> Result<Option<M>, ApiError> {
        Ok(self.rows(key.scope(), std::slice::from_ref(key)).await?.pop().flatten())
    }

    /// The rows under `keys` of one scope, each of which holds an `M`, in their order.
    ///
    /// # Errors
    /// As [`ControlParts::row`].
    pub(crate) async fn rows<M: Message + Default>(
        &self,
        scope: Scope,
        keys: &[Key],
    ) -> Result<Vec<Option<M>>, ApiError> {
        let keys: Vec<Bytes> = keys.iter().map(Key::encode).collect();
        let shard = self.shard(Group::Evaluator, scope);
        let rows = self.state.get(shard, &keys).await.map_err(|e| error::storage(&e))?;
        rows.into_iter().map(|row| row.map(read).transpose()).collect()
    }

    /// The same, decoded as what stands under each key.
    ///
    /// # Errors
    /// As [`ControlParts::row`].
    pub(crate) async fn typed_rows(
        &self,
        scope: Scope,
        keys: &[Key],
    ) -> Result<Vec<Option<Row>>, ApiError> {
        let names: Vec<Bytes> = keys.iter().map(Key::encode).collect();
        let shard = self.shard(Group::Evaluator, scope);
        let rows = self.state.get(shard, &names).await.map_err(|e| error::storage(&e))?;
        let row =
            |(key, row): (&Key, Option<Bytes>)| row.map(|row| Row::decode(key, row)).transpose();
        let rows: Result<_, _> = keys.iter().zip(rows).map(row).collect();
        rows.map_err(|e| error::unreadable("row", &e))
    }

    /// Up to `limit` rows of a range with their keys, from its end backwards if `newest_first`.
    ///
    /// # Errors
    /// As [`ControlParts::row`].
    pub(crate) async fn scan(
        &self,
        shard: Shard,
        (from, to): (Bytes, Bytes),
        newest_first: bool,
        limit: usize,
    ) -> Result<Vec<(Bytes, Bytes)>, ApiError> {
        let range = KeyRange { from, to };
        let found = self.state.scan(shard, range, newest_first, limit).await;
        found.map_err(|e| error::storage(&e))
    }

    /// Appends the command with this id, and waits for what the fold decides; `None` where that takes too long:
    /// it is decided all the same.
    ///
    /// # Errors
    /// 503 where log or store do not answer.
    pub(crate) async fn decide(
        &self,
        scope: Scope,
        now: Timestamp,
        id: u128,
        body: Body,
    ) -> Result<Option<proto::CommandRow>, ApiError> {
        match self.decide_all(scope, now, vec![body]).await? {
            true => self.row(&Key::Command(scope, id)).await,
            false => Ok(None),
        }
    }

    /// Decides a command that is made for a new id; the code, or `None` as in [`ControlParts::decide`].
    ///
    /// # Errors
    /// As [`ControlParts::decide`].
    pub(crate) async fn decide_new(
        &self,
        scope: Scope,
        now: Timestamp,
        command: impl FnOnce(Bytes) -> Body,
    ) -> Result<Option<String>, ApiError> {
        let id = self.random.bits();
        let body = command(Bytes::copy_from_slice(&id.to_be_bytes()));
        Ok(self.decide(scope, now, id, body).await?.map(|row| row.code))
    }

    /// Appends commands, and waits until all are decided; says whether they were in time.
    ///
    /// # Errors
    /// As [`ControlParts::decide`].
    pub(crate) async fn decide_all(
        &self,
        scope: Scope,
        now: Timestamp,
        bodies: Vec<Body>,
    ) -> Result<bool, ApiError> {
        let commands = bodies.into_iter().map(|body| self.command(scope, now, body)).collect();
        let appended = self.log.append(Topic::Events, commands).await;
        let offsets = appended.map_err(|e| error::storage(&e))?;
        let next_offset = offsets.iter().max().map_or(0, |offset| offset + 1);
        let committed = self.state.committed(self.shard(Group::Evaluator, scope), next_offset);
        match tokio::time::timeout(Duration::from_millis(COMMAND_WAIT_MS), committed).await {
            Ok(reached) => reached.map(|()| true).map_err(|e| error::storage(&e)),
            Err(_) => Ok(false),
        }
    }

    /// Waits until the fold has reached what is the end of its log now. Says whether it has.
    ///
    /// # Errors
    /// As [`ControlParts::row`].
    pub(crate) async fn caught_up(&self, scope: Scope) -> Result<bool, ApiError> {
        let shard = self.shard(Group::Evaluator, scope);
        let bounds = self.log.bounds(Topic::Events, shard.partition).await;
        let end = bounds.map_err(|e| error::storage(&e))?.end;
        let committed = self.state.committed(shard, end);
        match tokio::time::timeout(Duration::from_millis(READ_WAIT_MS), committed).await {
            Ok(reached) => reached.map(|()| true).map_err(|e| error::storage(&e)),
            Err(_) => Ok(false),
        }
    }
}

/// The message in a row's bytes.
///
/// # Errors
/// 500 where there is none.
pub(crate) fn read<M: Message + Default>(bytes: Bytes) -> Result<M, ApiError> {
    M::decode(bytes).map_err(|e| error::unreadable("row", &e))
}
