//! Analytics in SQLite: one table of sums, one of positions.
//!
//! Commits in a file are ordered but not synced (`synchronous = NORMAL`). A power failure may take
//! the last of them, facts and position together, which is harmless: the records from the older
//! position on are still in their log and are taken in again. It saves a sync per batch on the disk
//! the event log lives on. [`SqliteAnalytics::sync`] is for whoever wants to trim that log.

mod export;

use std::collections::BTreeMap;
use std::path::Path;

use rusqlite::{Connection, OptionalExtension, Row, params};
use schemas::partition::Scope;

use super::report::{GroupKey, Report};
use super::rollup::{self, Metrics, RollupKey};
use super::{Applied, Dimension, Fact, Performance, PerformanceQuery, Source, Step, check};
use crate::error::{Error, Kind};
use crate::sqlite::{Database, Durability, Layout, atomically, failed};

const LAYOUT: Layout =
    Layout { name: "analytics", durability: Durability::Ordered, migrations: &[TABLES] };

/// An absent id is an empty blob, an absent text an empty text: a primary key has no nulls.
const TABLES: &str = "
CREATE TABLE rollup (
    organization BLOB NOT NULL,
    mode INTEGER NOT NULL,
    campaign BLOB NOT NULL,
    bucket_ms INTEGER NOT NULL,
    gig BLOB NOT NULL,
    aktvator BLOB NOT NULL,
    link BLOB NOT NULL,
    code TEXT NOT NULL,
    event_type TEXT NOT NULL,
    clicks INTEGER NOT NULL,
    conversions INTEGER NOT NULL,
    revenue INTEGER NOT NULL,
    rewards INTEGER NOT NULL,
    reward_amount INTEGER NOT NULL,
    PRIMARY KEY (organization, mode, campaign, bucket_ms, gig, aktvator, link, code, event_type)
) STRICT, WITHOUT ROWID;
CREATE TABLE positions (
    source INTEGER NOT NULL,
    partition INTEGER NOT NULL,
    next INTEGER NOT NULL,
    as_of_ms INTEGER NOT NULL,
    PRIMARY KEY (source, partition)
) STRICT, WITHOUT ROWID;
";

/// An analytics store in an SQLite file or in memory.
#[derive(Clone)]
pub struct SqliteAnalytics {
    database: Database,
}

impl SqliteAnalytics {
    /// The file at `path`, created if need be.
    pub fn open(path: &Path) -> Result<Self, Error> {
        Ok(Self { database: Database::open(path, LAYOUT)? })
    }

    /// An empty one in memory: everything since the last sync is one open transaction, which a
    /// crash rolls back.
    pub fn memory() -> Result<Self, Error> {
        Ok(Self { database: Database::unsynced_memory(LAYOUT)? })
    }

    pub(super) async fn position(&self, source: Source, partition: u16) -> Result<Applied, Error> {
        self.database.query("position", move |c| stored_position(c, source, partition)).await
    }

    pub(super) async fn apply(&self, step: Step, facts: &[Fact]) -> Result<(), Error> {
        let sums = rollup::sum(facts);
        self.database
            .write("apply", move |connection| {
                atomically(connection, "apply", |c| {
                    advance(c, step)?;
                    add(c, &sums).map_err(|e| failed("apply", e))
                })
            })
            .await
    }

    pub(super) async fn sync(&self) -> Result<(), Error> {
        self.database.sync("sync").await
    }

    pub(super) async fn crash(&self) -> Result<(), Error> {
        self.database.crash("crash").await
    }

    pub(super) async fn performance(&self, query: &PerformanceQuery) -> Result<Performance, Error> {
        check(query)?;
        let query = query.clone();
        let job =
            move |c: &Connection| performance(c, &query).map_err(|e| failed("performance", e));
        self.database.scan("performance", job).await
    }
}

fn stored_position(
    connection: &Connection,
    source: Source,
    partition: u16,
) -> rusqlite::Result<Applied> {
    const SQL: &str = "SELECT next, as_of_ms FROM positions WHERE source = ?1 AND partition = ?2";
    let read =
        |row: &Row<'_>| Ok(Applied { next: row.get::<_, i64>(0)? as u64, as_of_ms: row.get(1)? });
    let stored = connection
        .prepare_cached(SQL)?
        .query_row(params![source as u8, partition], read)
        .optional();
    Ok(stored?.unwrap_or_default())
}

fn advance(connection: &Connection, step: Step) -> Result<(), Error> {
    let at =
        stored_position(connection, step.source, step.partition).map_err(|e| failed("apply", e))?;
    if at.next != step.from || step.next < step.from {
        let why = format!("the position is {}, not {}", at.next, step.from);
        return Err(Error::determinate("apply", Kind::Conflict).because(why));
    }
    store_position(connection, step).map_err(|e| failed("apply", e))
}

fn store_position(connection: &Connection, step: Step) -> rusqlite::Result<()> {
    const SQL: &str = "INSERT OR REPLACE INTO positions (source, partition, next, as_of_ms)
        VALUES (?1, ?2, ?3, ?4)";
    let values = params![step.source as u8, step.partition, step.next as i64, step.as_of_ms];
    connection.prepare_cached(SQL)?.execute(values).map(drop)
}

fn add(connection: &Connection, sums: &BTreeMap<RollupKey, Metrics>) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached(&upsert())?;
    for (key, metrics) in sums {
        statement.execute(params![
            key.organization,
            key.mode,
            key.campaign,
            key.bucket_ms,
            bytes(&key.gig),
            bytes(&key.aktvator),
            bytes(&key.link),
            key.code,
            key.event_type,
            metrics.clicks,
            metrics.conversions,
            metrics.revenue,
            metrics.rewards,
            metrics.reward_amount,
        ])?;
    }
    Ok(())
}

fn bytes(id: &Option<[u8; 16]>) -> &[u8] {
    id.as_ref().map_or(&[], |id| id)
}

/// SQLite turns a sum that overflows into a float, which the table refuses; one absurd amount would
/// then stop its partition for ever. So sums stop at the ends of 64 bits.
fn upsert() -> String {
    let sums = ["clicks", "conversions", "revenue", "rewards", "reward_amount"].map(|column| {
        format!(
            "{column} = CASE
                WHEN excluded.{column} > 0 AND {column} > {max} - excluded.{column} THEN {max}
                WHEN excluded.{column} < 0 AND {column} < -{max} - excluded.{column} THEN -{max}
                ELSE {column} + excluded.{column} END",
            max = i64::MAX,
        )
    });
    format!(
        "INSERT INTO rollup VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)
         ON CONFLICT DO UPDATE SET {}",
        sums.join(", ")
    )
}

fn performance(connection: &Connection, query: &PerformanceQuery) -> rusqlite::Result<Performance> {
    let mut statement = connection.prepare_cached(&rows_sql(&query.group_by))?;
    let Scope { organization, mode } = query.scope;
    let mut rows = statement.query(params![
        organization.to_bytes(),
        mode.byte(),
        query.campaign.to_bytes(),
        query.from.as_ms(),
        query.to.as_ms(),
    ])?;
    let mut report = Report::new(query);
    let mut group = GroupKey::default();
    while let Some(row) = rows.next()? {
        group.clear();
        for (column, &dimension) in (FIRST_DIMENSION..).zip(&query.group_by) {
            group.push(dimension, row.get_ref(column)?.as_bytes()?);
        }
        report.add(row.get(0)?, &group, &row_metrics(row)?);
    }
    Ok(report.finish())
}

/// The column after the bucket and the metrics.
const FIRST_DIMENSION: usize = 6;

fn row_metrics(row: &Row<'_>) -> rusqlite::Result<Metrics> {
    Ok(Metrics {
        clicks: row.get(1)?,
        conversions: row.get(2)?,
        revenue: row.get(3)?,
        rewards: row.get(4)?,
        reward_amount: row.get(5)?,
    })
}

/// One range of the primary key, in its order: nothing is sorted, nothing else is read. `GROUP BY`
/// would sort by period and dimensions first; over a million rows that took four times as long.
fn rows_sql(dimensions: &[Dimension]) -> String {
    let mut columns =
        String::from("bucket_ms, clicks, conversions, revenue, rewards, reward_amount");
    for dimension in dimensions {
        columns.push_str(", ");
        columns.push_str(column(*dimension));
    }
    format!(
        "SELECT {columns} FROM rollup WHERE organization = ?1 AND mode = ?2 AND campaign = ?3
         AND bucket_ms >= ?4 AND bucket_ms < ?5 ORDER BY bucket_ms"
    )
}

fn column(dimension: Dimension) -> &'static str {
    match dimension {
        Dimension::Gig => "gig",
        Dimension::Aktvator => "aktvator",
        Dimension::Link => "link",
        Dimension::Code => "code",
        Dimension::EventType => "event_type",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_one_range_of_the_primary_key() {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(TABLES).unwrap();
        let sql = rows_sql(&[Dimension::Code, Dimension::Gig]);
        let steps: Vec<String> = connection
            .prepare(&format!("EXPLAIN QUERY PLAN {sql}"))
            .unwrap()
            .query_map(params![[0u8; 16], 1, [0u8; 16], 0, 1], |row| row.get(3))
            .unwrap()
            .collect::<Result<_, _>>()
            .unwrap();
        let range = "(organization=? AND mode=? AND campaign=? AND bucket_ms>? AND bucket_ms<?)";
        assert_eq!(steps, [format!("SEARCH rollup USING PRIMARY KEY {range}")]);
    }
}
