//! Everything a catalog holds, in pages, for another one to take in.

use rusqlite::{Connection, Row, params};

use super::{COLUMNS, SqliteCatalog, document};
use crate::catalog::{Document, Kind};
use crate::error::Error;
use crate::sqlite::failed;

/// A document and the names it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The document.
    pub document: Document,
    /// Its names, sorted.
    pub names: Vec<String>,
}

impl SqliteCatalog {
    /// Up to `limit` documents of a kind that follow the id `after`, by id.
    ///
    /// # Errors
    /// `Unavailable` while the file cannot be read.
    pub async fn export(
        &self,
        kind: Kind,
        after: Option<String>,
        limit: usize,
    ) -> Result<Vec<Entry>, Error> {
        let job = move |c: &Connection| {
            entries(c, kind, after.as_deref(), limit).map_err(|e| failed("export", e))
        };
        self.database.scan("export", job).await
    }

    /// Every installation setting, by name.
    ///
    /// # Errors
    /// `Unavailable` while the file cannot be read.
    pub async fn settings(&self) -> Result<Vec<(String, Vec<u8>)>, Error> {
        const SQL: &str = "SELECT name, value FROM settings ORDER BY name";
        let read = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?));
        self.database.query("export", move |c| c.prepare(SQL)?.query_map([], read)?.collect()).await
    }
}

fn entries(
    connection: &Connection,
    kind: Kind,
    after: Option<&str>,
    limit: usize,
) -> rusqlite::Result<Vec<Entry>> {
    let sql = format!(
        "SELECT {COLUMNS} FROM documents d WHERE d.kind = ?1 AND d.id > ?2 ORDER BY d.id LIMIT ?3"
    );
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let mut statement = connection.prepare_cached(&sql)?;
    let documents =
        statement.query_map(params![kind as u8, after.unwrap_or(""), limit], document)?;
    let documents = documents.collect::<rusqlite::Result<Vec<_>>>()?;
    let (Some(first), Some(last)) = (documents.first(), documents.last()) else {
        return Ok(Vec::new());
    };
    let mut names = names(connection, kind, &first.id, &last.id)?.into_iter().peekable();
    let with_names = |document: Document| {
        let mut own = Vec::new();
        while let Some((_, name)) = names.next_if(|(id, _)| *id == document.id) {
            own.push(name);
        }
        Entry { document, names: own }
    };
    Ok(documents.into_iter().map(with_names).collect())
}

/// The names of documents from id to id, both inclusive, by id and name.
fn names(
    connection: &Connection,
    kind: Kind,
    from: &str,
    to: &str,
) -> rusqlite::Result<Vec<(String, String)>> {
    const SQL: &str = "SELECT id, name FROM names WHERE kind = ?1 AND id BETWEEN ?2 AND ?3
        ORDER BY id, name";
    let read = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?));
    connection.prepare_cached(SQL)?.query_map(params![kind as u8, from, to], read)?.collect()
}
