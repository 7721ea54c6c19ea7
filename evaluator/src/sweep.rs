//! Looks for what has outlived its retention, a bounded number of rows a pass: claims that led to no
//! reward, and records of the events log behind the head.

use std::collections::BTreeMap;

use bytes::Bytes;
use engine::key::BLOCK_LEN;
use engine::{IndexKind, Key};
use prost::Message;
use schemas::id::{ConversionEventId, OrganizationId};
use schemas::partition::{Mode, Scope};
use schemas::proto::{self, EventRow, ExpireClaims, IndexRow, Record, record::Body};
use storage::error::{Error, Kind};
use storage::log::Topic;
use storage::state::{Head, KeyRange, Shard};

use crate::claims::{end_of_keys, successor};
use crate::commit::append;
use crate::partition::Context;

/// Scopes looked at in one pass; the next pass goes on behind them.
const SCOPES_MAX: usize = 64;
/// Bytes of a key that say whose it is.
const SCOPE_LEN: usize = 17;

/// How far the sweeps of one ownership term have come.
#[derive(Debug, Default)]
pub(crate) struct Sweep {
    /// The key the next pass looks for scopes from.
    from: Bytes,
    /// The last index row that was looked at, by scope.
    looked_at: BTreeMap<Scope, u64>,
}

impl Sweep {
    /// One bounded pass; whether there may be more to forget.
    pub(crate) async fn pass(&mut self, context: &Context, shard: Shard) -> Result<bool, Error> {
        let head = context.state.head(shard).await?;
        let more = self.expire_claims(context, shard, head).await?;
        trim_log(context, shard, head).await?;
        Ok(more)
    }

    /// Appends a command for every index row past the retention that lists claims to forget; whether
    /// the bounds of a pass left some.
    async fn expire_claims(
        &mut self,
        context: &Context,
        shard: Shard,
        head: Head,
    ) -> Result<bool, Error> {
        let mut room = context.config.sweep_rows_max;
        for _ in 0..SCOPES_MAX {
            let Some(scope) = next_scope(context, shard, self.from.clone()).await? else {
                self.from = Bytes::new();
                return Ok(false);
            };
            let old = self.old_rows(context, shard, head, scope, room).await?;
            room -= old.len();
            // A row that grows, or is not old as a whole, is looked at again.
            let is_done = |row: &IndexRow| {
                row.ids.len() as u64 == BLOCK_LEN
                    && row.last_accepted_at_ms < horizon(context, head)
            };
            let done = old.iter().take_while(|(_, row)| is_done(row)).last();
            let last = done.map(|(position, _)| *position);
            let mut commands = Vec::new();
            for (position, row) in old {
                if has_forgettable(context, shard, scope, row, horizon(context, head)).await? {
                    commands.push(command(context, scope, position));
                }
            }
            append(&context.log, shard, commands.into_iter()).await?;
            if let Some(last) = last {
                self.looked_at.insert(scope, last);
            }
            if room == 0 {
                return Ok(true);
            }
            self.from = successor(&scope.to_bytes()).unwrap_or_default();
        }
        Ok(true)
    }

    /// The oldest index rows of a scope with claims that may be deleted and that are not done with, at most
    /// `room`, with the positions that name them.
    async fn old_rows(
        &self,
        context: &Context,
        shard: Shard,
        head: Head,
        scope: Scope,
        room: usize,
    ) -> Result<Vec<(u64, IndexRow)>, Error> {
        let (mut from, to) = Key::index_range(scope, IndexKind::Events);
        if let Some(last) = self.looked_at.get(&scope) {
            from = Key::EventIndex(scope, last + 1).encode();
        }
        let rows = context.state.scan(shard, KeyRange { from, to }, false, room).await?;
        let horizon = horizon(context, head);
        let mut old = Vec::new();
        for (key, row) in rows {
            let row = IndexRow::decode(row).map_err(corrupt)?;
            if row.first_accepted_at_ms >= horizon {
                break;
            }
            old.extend(Key::index_position(&key).map(|position| (position, row)));
        }
        Ok(old)
    }
}

/// Claims accepted before this may be deleted, in milliseconds since the epoch.
fn horizon(context: &Context, head: Head) -> i64 {
    let age_ms = context.settings.claim_retention_ms.saturating_add(engine::EXPIRY_MARGIN_MS);
    head.fold_time_ms.saturating_sub(age_ms)
}

/// Does the row list a claim accepted before `horizon` that led to no reward? Those that led to one stay for
/// as long as it does.
async fn has_forgettable(
    context: &Context,
    shard: Shard,
    scope: Scope,
    row: IndexRow,
    horizon: i64,
) -> Result<bool, Error> {
    let ids = row.ids.iter().filter_map(|id| ConversionEventId::from_proto(id));
    let keys: Vec<Bytes> = ids.map(|id| Key::Event(scope, id).encode()).collect();
    for event in context.state.get(shard, &keys).await?.into_iter().flatten() {
        let EventRow { decision, accepted_at_ms, .. } = EventRow::decode(event).map_err(corrupt)?;
        if accepted_at_ms >= horizon {
            continue;
        }
        let mut rules = decision.iter().flat_map(|decision| &decision.rules);
        if rules.all(|rule| rule.reward_id.is_none()) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The first organization and mode with a row at or behind `from`.
async fn next_scope(context: &Context, shard: Shard, from: Bytes) -> Result<Option<Scope>, Error> {
    let range = KeyRange { from, to: end_of_keys() };
    let rows = context.state.scan(shard, range, false, 1).await?;
    Ok(rows.first().and_then(|(key, _)| scope_of(key)))
}

fn scope_of(key: &[u8]) -> Option<Scope> {
    let (organization, mode) = key.get(..SCOPE_LEN)?.split_at(SCOPE_LEN - 1);
    let organization = OrganizationId::from_proto(organization)?;
    Some(Scope { organization, mode: Mode::from_byte(mode[0])? })
}

fn command(context: &Context, scope: Scope, index_position: u64) -> Record {
    let retention_ms = context.settings.claim_retention_ms;
    Record {
        organization: scope.organization.to_proto(),
        mode: proto::Mode::from(scope.mode).into(),
        accepted_at_ms: context.clock.now_ms(),
        body: Some(Body::ExpireClaims(ExpireClaims { index_position, retention_ms })),
    }
}

/// Lets go of decided records that were accepted before the retention.
async fn trim_log(context: &Context, shard: Shard, head: Head) -> Result<(), Error> {
    let bounds = context.log.bounds(Topic::Events, shard.partition).await?;
    let retention = i64::try_from(context.config.log_retention.as_ms()).unwrap_or(i64::MAX);
    let horizon = context.clock.now_ms().saturating_sub(retention);
    // Records stand nearly in the order they were accepted; a few milliseconds do not matter here. One
    // that cannot be decoded counts as new: then less is let go of this time, and no record too early.
    let is_old =
        |bytes: Bytes| Record::decode(bytes).is_ok_and(|record| record.accepted_at_ms < horizon);
    let offsets = bounds.start..head.next_offset.min(bounds.end);
    let before =
        context.log.partition_point(Topic::Events, shard.partition, offsets, is_old).await?;
    if before > bounds.start {
        context.log.trim(Topic::Events, shard.partition, before).await?;
    }
    Ok(())
}

fn corrupt(error: prost::DecodeError) -> Error {
    Error::determinate("sweep", Kind::Corrupt).because(error)
}
