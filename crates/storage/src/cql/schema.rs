//! The tables on CQL, and what is written down about them once: `docs/adr/0006-cql-layout.md`.

use scylla::client::session::Session;

use super::session::{self, Explained, applied, corrupt, failed, open_outside};
use super::{CqlOptions, Report};
use crate::{Error, Kind};

/// Of the tables and what is in them; rises when an older program could not work with them.
const VERSION: i64 = 1;

/// Every table, with its columns and options. A partition of `write_sets` is one blob, deleted as a whole soon after it
/// was written; what a lost replica brings back of it is never read, hence the short grace.
const TABLES: &[(&str, &str)] = &[
    ("layout", "(name text PRIMARY KEY, value bigint)"),
    (
        "heads",
        "(shard_group smallint, shard int, epoch bigint, owner bigint, seq bigint,
          next_offset bigint, log_identity bigint, fold_time_ms bigint, next_outcome bigint,
          stamp bigint, pending blob, PRIMARY KEY ((shard_group, shard)))",
    ),
    (
        "applied",
        "(shard_group smallint, shard int, next_offset bigint, PRIMARY KEY ((shard_group, shard)))",
    ),
    (
        "write_sets",
        "(shard_group smallint, shard int, epoch bigint, seq bigint, stamp bigint, chunk int,
          bytes blob, PRIMARY KEY ((shard_group, shard, epoch, seq, stamp), chunk))
         WITH gc_grace_seconds = 3600",
    ),
    (
        "rows",
        "(shard_group smallint, shard int, bucket int, key blob, value blob,
          PRIMARY KEY ((shard_group, shard, bucket), key))",
    ),
];

/// What was decided when the tables were made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout {
    /// Parts each shard's rows are cut into.
    pub(crate) buckets: u16,
}

pub(super) async fn migrate(options: &CqlOptions) -> Result<Report, Error> {
    let outside = open_outside(options).await?;
    let mut report = Report::default();
    let name = &options.keyspace;
    let keyspace = "SELECT keyspace_name FROM system_schema.keyspaces WHERE keyspace_name = ?";
    if exists(&outside, keyspace, (name,)).await? {
        report.found.push(name.clone());
    } else {
        create_keyspace(&outside, options).await?;
        report.created.push(name.clone());
    }
    for (table, columns) in TABLES {
        let known = "SELECT table_name FROM system_schema.tables
            WHERE keyspace_name = ? AND table_name = ?";
        if exists(&outside, known, (name, table)).await? {
            report.found.push((*table).to_owned());
            continue;
        }
        let create = format!("CREATE TABLE IF NOT EXISTS \"{name}\".{table} {columns}");
        outside.query_unpaged(create, ()).await.map_err(|e| session::unknown("migrate", e))?;
        report.created.push((*table).to_owned());
    }
    drop(outside);
    let session = session::open(options).await?;
    // The first decides; afterwards they are only read.
    note(&session, "version", VERSION).await?;
    note(&session, "buckets", options.buckets.into()).await?;
    layout(&session).await?;
    Ok(report)
}

async fn exists(
    session: &Session,
    cql: &str,
    values: impl scylla::serialize::row::SerializeRow,
) -> Result<bool, Error> {
    let found = session.query_unpaged(cql, values).await.map_err(|e| failed("migrate", e))?;
    Ok(session::rows("migrate", found)?.rows_num() > 0)
}

/// ScyllaDB would make a keyspace of tablets, where older versions refuse conditional updates, and
/// must be told not to; Cassandra does not know the word.
async fn create_keyspace(session: &Session, options: &CqlOptions) -> Result<(), Error> {
    let CqlOptions { keyspace, replication, .. } = options;
    let plain = format!(
        "CREATE KEYSPACE IF NOT EXISTS \"{keyspace}\" WITH replication =
         {{'class': 'NetworkTopologyStrategy', 'replication_factor': {replication}}}"
    );
    let untableted = format!("{plain} AND tablets = {{'enabled': false}}");
    if session.query_unpaged(untableted, ()).await.is_ok() {
        return Ok(());
    }
    let created = session.query_unpaged(plain, ()).await;
    created.map(drop).map_err(|e| session::unknown("migrate", e))
}

/// What is written down in the keyspace, if this program knows it, after a conditional update has
/// shown that they work here.
pub(crate) async fn layout(session: &Session) -> Result<Layout, Error> {
    probe(session).await?;
    let cql = "SELECT name, value FROM layout";
    let found = session.query_unpaged(cql, ()).await.map_err(|e| not_migrated(e.into()))?;
    let found = session::rows("connect", found)?;
    let (mut version, mut buckets) = (None, None);
    for row in found.rows::<(String, i64)>().map_err(|e| corrupt("connect", e))? {
        match row.map_err(|e| corrupt("connect", e))? {
            (name, value) if name == "version" => version = Some(value),
            (name, value) if name == "buckets" => buckets = u16::try_from(value).ok(),
            _ => {}
        }
    }
    let (Some(version), Some(buckets)) = (version, buckets.filter(|buckets| *buckets > 0)) else {
        return Err(not_migrated("the layout is not written down".into()));
    };
    if version != VERSION {
        let why = format!("the tables are of version {version}, this program knows {VERSION}");
        return Err(Error::determinate("connect", Kind::Conflict).because(why));
    }
    Ok(Layout { buckets })
}

/// A condition that never holds, so that nothing is written.
async fn probe(session: &Session) -> Result<(), Error> {
    let cql = "UPDATE layout SET value = 0 WHERE name = 'probe' IF value = 1";
    match session.query_unpaged(cql, ()).await {
        Ok(_) => Ok(()),
        Err(e) if refuses_conditions(&e.to_string()) => Err(explained(e)),
        Err(e) => Err(not_migrated(e.into())),
    }
}

async fn note(session: &Session, name: &str, value: i64) -> Result<(), Error> {
    let cql = "INSERT INTO layout (name, value) VALUES (?, ?) IF NOT EXISTS";
    let written = session.query_unpaged(cql, (name, value)).await;
    match written {
        Ok(result) => applied("migrate", result).map(drop),
        Err(e) if refuses_conditions(&e.to_string()) => Err(explained(e)),
        Err(e) => Err(session::unknown("migrate", e)),
    }
}

fn not_migrated(source: Box<dyn std::error::Error + Send + Sync>) -> Error {
    failed("connect", Explained { why: "was `aktvator migrate` run?", source })
}

/// ScyllaDB before 2025.4: "Cannot use LightWeight Transactions for table ..: LWT is not yet
/// supported with tablets" (scylladb/scylladb#18066).
fn refuses_conditions(message: &str) -> bool {
    message.contains("supported with tablets")
}

fn explained(e: scylla::errors::ExecutionError) -> Error {
    let why = "this keyspace is made of tablets, and this server refuses conditional updates there: \
               let `aktvator migrate` create another keyspace, or create one yourself with \
               tablets = {'enabled': false}";
    Error::determinate("connect", Kind::Conflict).because(Explained { why, source: e.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_of_conditions_is_known_by_its_text() {
        let refusal = "Database returned an error: The query is syntactically correct but invalid, \
            Error message: Cannot use LightWeight Transactions for table a.heads: LWT is not yet \
            supported with tablets";
        assert!(refuses_conditions(refusal));
        assert!(!refuses_conditions("Unknown property 'tablets'"));
    }
}
