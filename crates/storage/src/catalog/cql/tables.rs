//! Reads of the catalog's rows, which are rows of one place among the state's.

use std::sync::Arc;

use bytes::Bytes;

use super::keys;
use crate::catalog::{Document, Kind, OutboxRow};
use crate::cql::session::corrupt;
use crate::error::Error;
use crate::state::KeyRange;
use crate::state::cql::{Place, Store, Way};

/// Where the catalog's rows are: no shard has this group.
pub(super) const PLACE: Place = Place { group: 100, number: 0 };

#[derive(Clone)]
pub(super) struct Tables {
    pub(super) store: Arc<Store>,
}

impl Tables {
    pub(super) async fn get(
        &self,
        op: &'static str,
        keys: &[Bytes],
    ) -> Result<Vec<Option<Bytes>>, Error> {
        self.store.rows.get(PLACE, keys).await.map_err(|e| e.during(op))
    }

    pub(super) async fn value(&self, op: &'static str, key: Bytes) -> Result<Option<Bytes>, Error> {
        Ok(self.get(op, &[key]).await?.pop().flatten())
    }

    pub(super) async fn scan(
        &self,
        range: &KeyRange,
        downwards: bool,
        limit: usize,
    ) -> Result<Vec<(Bytes, Bytes)>, Error> {
        let way = if downwards { Way::Down } else { Way::Up };
        self.store.rows.scan(PLACE, range, way, limit).await
    }

    pub(super) async fn document(
        &self,
        op: &'static str,
        kind: Kind,
        id: &str,
    ) -> Result<Option<Document>, Error> {
        let value = self.value(op, keys::document(kind, id)).await?;
        value.map(|value| read(op, kind, id, value)).transpose()
    }

    /// In the order of the ids.
    pub(super) async fn documents(
        &self,
        kind: Kind,
        ids: &[String],
    ) -> Result<Vec<Option<Document>>, Error> {
        let keys: Vec<_> = ids.iter().map(|id| keys::document(kind, id)).collect();
        let values = self.get("list", &keys).await?.into_iter().zip(ids);
        values
            .map(|(value, id)| value.map(|value| read("list", kind, id, value)).transpose())
            .collect()
    }

    /// The lowest id that may be in the outbox.
    pub(super) async fn floor(&self, op: &'static str) -> Result<u64, Error> {
        let value = self.value(op, keys::floor()).await?;
        let Some(value) = value else { return Ok(FIRST_ID) };
        keys::number(&value).ok_or_else(|| corrupt(op, "the outbox's floor"))
    }

    /// The oldest commands from this id on.
    pub(super) async fn outbox(&self, from: u64, limit: usize) -> Result<Vec<OutboxRow>, Error> {
        let range = KeyRange { from: keys::outbox(from), to: keys::outbox_end() };
        let rows = self.scan(&range, false, limit).await.map_err(|e| e.during("outbox"))?;
        let row = |(key, value): (Bytes, Bytes)| {
            keys::decode_command(&key, value).ok_or_else(|| corrupt("outbox", "a command"))
        };
        rows.into_iter().map(row).collect()
    }
}

/// Of the outbox.
pub(super) const FIRST_ID: u64 = 1;

pub(super) fn read(
    op: &'static str,
    kind: Kind,
    id: &str,
    value: Bytes,
) -> Result<Document, Error> {
    keys::decode(kind, id, value).ok_or_else(|| corrupt(op, format!("{kind:?} {id}")))
}
