//! The catalog in SQLite: four tables, every change one transaction.

mod export;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension, Row, params};
use schemas::id::OrganizationId;
use schemas::partition::Mode;
use schemas::time::Timestamp;
use tokio::sync::watch;

pub use self::export::Entry;
use super::list;
use super::{CatalogError, Change, Document, Expected, Kind, ListFilter, OutboxRow, Page};
use crate::error::Error;
use crate::sqlite::{Database, Durability, Layout, atomically, failed};

const LAYOUT: Layout =
    Layout { name: "catalog", durability: Durability::Synced, migrations: &[TABLES, BY_AGE] };

pub(super) const TABLES: &str = "
CREATE TABLE documents (
    kind INTEGER NOT NULL,
    id TEXT NOT NULL,
    organization BLOB,
    mode INTEGER,
    parent TEXT,
    version INTEGER NOT NULL,
    created_at_ms INTEGER NOT NULL,
    json TEXT NOT NULL,
    UNIQUE (kind, id)
) STRICT;
CREATE INDEX documents_by_owner
    ON documents (kind, organization, mode, created_at_ms, id);
CREATE INDEX documents_by_parent
    ON documents (kind, parent, organization, mode, created_at_ms, id);
CREATE TABLE names (
    name TEXT PRIMARY KEY,
    kind INTEGER NOT NULL,
    id TEXT NOT NULL
) STRICT, WITHOUT ROWID;
-- AUTOINCREMENT: an id that was cleared must not come back and be waited for by another.
CREATE TABLE outbox (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    partition INTEGER NOT NULL,
    record BLOB NOT NULL
) STRICT;
CREATE TABLE settings (
    name TEXT PRIMARY KEY,
    value BLOB NOT NULL
) STRICT, WITHOUT ROWID;
";

/// Of [`Kind::Idempotency`] alone, which is swept by age.
const BY_AGE: &str =
    "CREATE INDEX documents_by_age ON documents (kind, created_at_ms) WHERE kind = 10";

const SWEEP: &str = "DELETE FROM documents WHERE rowid IN
    (SELECT rowid FROM documents WHERE kind = 10 AND created_at_ms < ?1
     ORDER BY created_at_ms LIMIT ?2)";

/// Below every id: the outbox was not looked at yet.
const NOT_KNOWN: u64 = 0;
/// Above every id: the outbox is empty.
const NONE_PENDING: u64 = u64::MAX;

/// The columns [`document`] reads, in its order.
pub(super) const COLUMNS: &str =
    "d.kind, d.id, d.organization, d.mode, d.parent, d.version, d.created_at_ms, d.json";

/// A catalog in an SQLite file or in memory.
#[derive(Clone)]
pub struct SqliteCatalog {
    database: Database,
    shared: Arc<Shared>,
}

/// What clones share besides the database.
struct Shared {
    revisions: [AtomicU64; Kind::ALL.len()],
    /// The lowest id in the outbox, which the relay clears in their order; or [`NOT_KNOWN`], or
    /// [`NONE_PENDING`]. Set by jobs of the one writer, after their commit.
    pending: watch::Sender<u64>,
}

impl SqliteCatalog {
    /// The file at `path`, created if need be.
    pub fn open(path: &Path) -> Result<Self, Error> {
        Database::open(path, LAYOUT).map(Self::over)
    }

    /// An empty one in memory.
    pub fn memory() -> Result<Self, Error> {
        Database::memory(LAYOUT).map(Self::over)
    }

    fn over(database: Database) -> Self {
        let pending = watch::Sender::new(NOT_KNOWN);
        let shared = Shared { revisions: Default::default(), pending };
        Self { database, shared: Arc::new(shared) }
    }

    pub(super) async fn apply(&self, changes: Vec<Change>) -> Result<Vec<u64>, CatalogError> {
        let shared = Arc::clone(&self.shared);
        self.database
            .write("apply", move |connection| {
                let applied = atomically(connection, "apply", |c| {
                    let queued = store_all(c, &changes)?;
                    let pending = lowest_pending(c).map_err(|e| failed("apply", e))?;
                    Ok((queued, pending))
                });
                // In the job, so that a caller who left does not leave caches behind the data; and
                // after a failure too, which may be an indeterminate one.
                shared.announce(&changes);
                applied.map(|(queued, pending)| {
                    shared.publish(pending);
                    queued
                })
            })
            .await
    }

    pub(super) async fn get(&self, kind: Kind, id: &str) -> Result<Option<Document>, Error> {
        let id = id.to_owned();
        let sql = format!("SELECT {COLUMNS} FROM documents d WHERE d.kind = ?1 AND d.id = ?2");
        self.database
            .query("get", move |connection| {
                let mut statement = connection.prepare_cached(&sql)?;
                statement.query_row(params![kind as u8, id], document).optional()
            })
            .await
    }

    pub(super) async fn named(&self, unique: &str) -> Result<Option<Document>, Error> {
        let name = unique.to_owned();
        let sql = format!(
            "SELECT {COLUMNS} FROM names n JOIN documents d ON d.kind = n.kind AND d.id = n.id
             WHERE n.name = ?1"
        );
        self.database
            .query("named", move |connection| {
                connection.prepare_cached(&sql)?.query_row([name], document).optional()
            })
            .await
    }

    pub(super) async fn list(
        &self,
        kind: Kind,
        filter: ListFilter,
        page: Page,
    ) -> Result<Vec<Document>, Error> {
        self.database
            .scan("list", move |connection| list::run(connection, kind, filter, page))
            .await
    }

    pub(super) async fn outbox(&self, limit: usize) -> Result<Vec<OutboxRow>, Error> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.database
            .query("outbox", move |connection| {
                const SQL: &str = "SELECT id, partition, record FROM outbox ORDER BY id LIMIT ?1";
                connection.prepare_cached(SQL)?.query_map([limit], outbox_row)?.collect()
            })
            .await
    }

    pub(super) async fn outbox_clear(&self, ids: &[u64]) -> Result<(), Error> {
        if ids.is_empty() {
            return Ok(());
        }
        let (ids, shared) = (ids.to_vec(), Arc::clone(&self.shared));
        self.database
            .write("outbox_clear", move |connection| {
                let pending = atomically(connection, "outbox_clear", |c| {
                    remove(c, &ids)
                        .and_then(|()| lowest_pending(c))
                        .map_err(|e| failed("outbox_clear", e))
                })?;
                shared.publish(pending);
                Ok(())
            })
            .await
    }

    pub(super) async fn outbox_cleared(&self, ids: &[u64]) -> Result<(), Error> {
        let Some(last) = ids.iter().max() else { return Ok(()) };
        let mut pending = self.shared.pending.subscribe();
        if *pending.borrow() == NOT_KNOWN {
            self.look_for_pending().await?;
        }
        // The sender lives in `self`, so it cannot be gone.
        let _ = pending.wait_for(|lowest| lowest > last).await;
        Ok(())
    }

    pub(super) async fn outbox_filled(&self) -> Result<(), Error> {
        // Subscribed before the first look, so that no change goes by unseen.
        let mut pending = self.shared.pending.subscribe();
        while self.outbox(1).await?.is_empty() {
            // The sender lives in `self`, so it cannot be gone.
            let _ = pending.changed().await;
        }
        Ok(())
    }

    pub(super) async fn sweep(
        &self,
        kind: Kind,
        created_before: Timestamp,
        limit: usize,
    ) -> Result<usize, Error> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let shared = Arc::clone(&self.shared);
        self.database
            .write("sweep", move |connection| {
                let swept = atomically(connection, "sweep", |c| {
                    let swept = c.prepare_cached(SWEEP).and_then(|mut statement| {
                        statement.execute([created_before.as_ms(), limit])
                    });
                    swept.map_err(|e| failed("sweep", e))
                });
                shared.revise(kind);
                swept
            })
            .await
    }

    pub(super) fn revision(&self, kind: Kind) -> u64 {
        self.shared.revisions[kind as usize].load(Ordering::Acquire)
    }

    pub(super) async fn setting(
        &self,
        name: &str,
        make: impl FnOnce() -> Vec<u8> + Send,
    ) -> Result<Vec<u8>, Error> {
        let wanted = name.to_owned();
        let stored = self.database.query("setting", move |c| stored_setting(c, &wanted)).await?;
        if let Some(value) = stored {
            return Ok(value);
        }
        let (name, value) = (name.to_owned(), make());
        self.database
            .write("setting", move |connection| {
                atomically(connection, "setting", |c| {
                    first_setting(c, &name, value).map_err(|e| failed("setting", e))
                })
            })
            .await
    }

    /// With the writer, so that what it publishes is in the order of the commits.
    async fn look_for_pending(&self) -> Result<(), Error> {
        let shared = Arc::clone(&self.shared);
        self.database
            .write("outbox_cleared", move |connection| {
                let pending = lowest_pending(connection);
                shared.publish(pending.map_err(|e| failed("outbox_cleared", e))?);
                Ok(())
            })
            .await
    }
}

impl Shared {
    fn announce(&self, changes: &[Change]) {
        for change in changes {
            self.revise(change.document.kind);
        }
    }

    fn revise(&self, kind: Kind) {
        self.revisions[kind as usize].fetch_add(1, Ordering::AcqRel);
    }

    fn publish(&self, lowest_pending: u64) {
        self.pending.send_if_modified(|lowest| {
            let was = std::mem::replace(lowest, lowest_pending);
            was != lowest_pending
        });
    }
}

fn store_all(connection: &Connection, changes: &[Change]) -> Result<Vec<u64>, CatalogError> {
    let mut outbox = Vec::new();
    for change in changes {
        store(connection, change)?;
        outbox.extend(queue(connection, change).map_err(|e| failed("apply", e))?);
    }
    Ok(outbox)
}

fn store(connection: &Connection, change: &Change) -> Result<(), CatalogError> {
    let stored = match change.expected {
        Expected::Absent => insert(connection, &change.document),
        Expected::Version(version) => replace(connection, &change.document, version),
    };
    if !stored.map_err(|e| failed("apply", e))? {
        return Err(CatalogError::Stale);
    }
    for name in &change.uniques {
        if !claim(connection, name, &change.document).map_err(|e| failed("apply", e))? {
            return Err(CatalogError::Taken { name: name.clone() });
        }
    }
    Ok(())
}

/// Whether there was no such document.
fn insert(connection: &Connection, document: &Document) -> rusqlite::Result<bool> {
    const SQL: &str = "INSERT INTO documents
        (kind, id, organization, mode, parent, version, created_at_ms, json)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT DO NOTHING";
    let inserted = connection.prepare_cached(SQL)?.execute(params![
        document.kind as u8,
        document.id,
        document.organization.map(OrganizationId::to_bytes),
        document.mode.map(Mode::byte),
        document.parent,
        document.version as i64,
        document.created_at.as_ms(),
        document.json,
    ])?;
    Ok(inserted == 1)
}

/// Whether it was at that version. Owner, parent and time of making stay what they were.
fn replace(connection: &Connection, document: &Document, from: u64) -> rusqlite::Result<bool> {
    const SQL: &str = "UPDATE documents SET version = ?4, json = ?5
        WHERE kind = ?1 AND id = ?2 AND version = ?3 AND version < ?4";
    let replaced = connection.prepare_cached(SQL)?.execute(params![
        document.kind as u8,
        document.id,
        from as i64,
        document.version as i64,
        document.json,
    ])?;
    Ok(replaced == 1)
}

/// Whether the document holds the name now.
fn claim(connection: &Connection, name: &str, document: &Document) -> rusqlite::Result<bool> {
    const CLAIM: &str =
        "INSERT INTO names (name, kind, id) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING";
    const HELD: &str =
        "SELECT EXISTS (SELECT 1 FROM names WHERE name = ?1 AND kind = ?2 AND id = ?3)";
    let claimed = params![name, document.kind as u8, document.id];
    if connection.prepare_cached(CLAIM)?.execute(claimed)? == 1 {
        return Ok(true);
    }
    connection.prepare_cached(HELD)?.query_row(claimed, |row| row.get(0))
}

/// The id of the outbox row, if the change has a command.
fn queue(connection: &Connection, change: &Change) -> rusqlite::Result<Option<u64>> {
    const SQL: &str = "INSERT INTO outbox (partition, record) VALUES (?1, ?2)";
    let Some((partition, record)) = &change.command else { return Ok(None) };
    let id = connection.prepare_cached(SQL)?.insert(params![partition, &record[..]])?;
    Ok(Some(id as u64))
}

fn remove(connection: &Connection, ids: &[u64]) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached("DELETE FROM outbox WHERE id = ?1")?;
    ids.iter().try_for_each(|&id| statement.execute([id as i64]).map(drop))
}

/// The lowest id in the outbox, or [`NONE_PENDING`].
fn lowest_pending(connection: &Connection) -> rusqlite::Result<u64> {
    let mut statement = connection.prepare_cached("SELECT min(id) FROM outbox")?;
    let lowest: Option<i64> = statement.query_row([], |row| row.get(0))?;
    Ok(lowest.map_or(NONE_PENDING, |id| id as u64))
}

fn stored_setting(connection: &Connection, name: &str) -> rusqlite::Result<Option<Vec<u8>>> {
    const SQL: &str = "SELECT value FROM settings WHERE name = ?1";
    connection.prepare_cached(SQL)?.query_row([name], |row| row.get(0)).optional()
}

/// `value`, or what another caller stored first.
fn first_setting(connection: &Connection, name: &str, value: Vec<u8>) -> rusqlite::Result<Vec<u8>> {
    const SQL: &str = "INSERT INTO settings (name, value) VALUES (?1, ?2) ON CONFLICT DO NOTHING";
    connection.prepare_cached(SQL)?.execute(params![name, value])?;
    Ok(stored_setting(connection, name)?.unwrap_or(value))
}

/// Reads [`COLUMNS`].
pub(super) fn document(row: &Row<'_>) -> rusqlite::Result<Document> {
    let kind: u8 = row.get(0)?;
    let organization: Option<[u8; 16]> = row.get(2)?;
    let mode: Option<u8> = row.get(3)?;
    Ok(Document {
        kind: *Kind::ALL.get(usize::from(kind)).ok_or(out_of_range(0, kind))?,
        id: row.get(1)?,
        organization: organization.map(|id| OrganizationId::from_u128(u128::from_be_bytes(id))),
        mode: mode.map(|byte| Mode::from_byte(byte).ok_or(out_of_range(3, byte))).transpose()?,
        parent: row.get(4)?,
        version: row.get::<_, i64>(5)? as u64,
        created_at: Timestamp::from_ms(row.get(6)?),
        json: row.get(7)?,
    })
}

fn out_of_range(column: usize, found: u8) -> rusqlite::Error {
    rusqlite::Error::IntegralValueOutOfRange(column, found.into())
}

fn outbox_row(row: &Row<'_>) -> rusqlite::Result<OutboxRow> {
    let record: Vec<u8> = row.get(2)?;
    Ok(OutboxRow {
        id: row.get::<_, i64>(0)? as u64,
        partition: row.get(1)?,
        record: Bytes::from(record),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sweep_is_a_range_of_an_index() {
        assert_eq!(Kind::Idempotency as u8, 10, "as the index and the sweep have it");
        let connection = Connection::open_in_memory().unwrap();
        LAYOUT.migrations.iter().for_each(|sql| connection.execute_batch(sql).unwrap());
        let steps: Vec<String> = connection
            .prepare(&format!("EXPLAIN QUERY PLAN {SWEEP}"))
            .unwrap()
            .query_map([1, 2], |row| row.get(3))
            .unwrap()
            .collect::<Result<_, _>>()
            .unwrap();
        let plan = steps.join("; ");
        assert!(plan.contains("documents_by_age (kind=? AND created_at_ms<?)"), "{plan}");
        assert!(!plan.contains("SCAN") && !plan.contains("TEMP"), "{plan}");
    }
}
