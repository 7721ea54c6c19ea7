//! ClickHouse as the analytics backend: its settings, its tables, and how they are made and checked.
//!
//! [`migrate`] makes what is missing and says what is there but different; it never changes a table
//! that holds facts. [`connect`] gives the backend, whose files are under `analytics/clickhouse`.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::analytics::{Analytics, ClickHouseAnalytics, Server};
use crate::error::{Error, Kind};
use crate::state::StateStore;

/// Where ClickHouse is and what it holds for us.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClickHouseOptions {
    /// Its HTTP interface, `http://` or `https://`.
    pub url: String,
    /// The database, which `migrate` makes: a letter, then letters, digits and underscores.
    pub database: String,
    /// Who asks; the server's default user when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// With which password. Never written out again.
    #[serde(skip_serializing)]
    pub password: Option<String>,
    /// Settings that go with every statement, by ClickHouse's names: `insert_quorum` on a cluster,
    /// for example. What makes an insert exact cannot be changed by them.
    pub settings: BTreeMap<String, String>,
}

impl Default for ClickHouseOptions {
    fn default() -> Self {
        Self {
            url: "http://127.0.0.1:8123".to_owned(),
            database: "aktvator".to_owned(),
            user: None,
            password: None,
            settings: BTreeMap::new(),
        }
    }
}

/// Without the password.
impl fmt::Debug for ClickHouseOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClickHouseOptions")
            .field("url", &self.url)
            .field("database", &self.database)
            .field("user", &self.user)
            .field("password", &self.password.as_ref().map(|_| "..."))
            .field("settings", &self.settings)
            .finish()
    }
}

/// What [`migrate`] did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// What was missing and is there now, like `table aktvator.facts`.
    pub created: Vec<String>,
    /// What was there and is as it must be.
    pub found: Vec<String>,
}

/// Makes the database and the table where they are missing, and checks what is there. Repeating it
/// is harmless.
///
/// # Errors
/// `Conflict` for a database name that is none, or a table that is there and different, with what is
/// different; `Unavailable` when the server cannot be reached or refuses.
pub async fn migrate(options: &ClickHouseOptions) -> Result<Report, Error> {
    let server = Server::new(options)?;
    let mut report = Report::default();
    let database = format!("database {}", server.database());
    let table = format!("table {}.facts", server.database());
    let made = if server.has_database().await? { &mut report.found } else { &mut report.created };
    made.push(database);
    server.run(&server.database_ddl()).await?;
    let made = if server.has_table().await? { &mut report.found } else { &mut report.created };
    made.push(table);
    server.run(&server.table_ddl()).await?;
    // Settings are not facts: what an older build or a hand has set is set right.
    server.run(&server.settings_ddl()).await?;
    server.check().await?;
    Ok(report)
}

/// The analytics store on ClickHouse; `state` holds how far each source was taken in, and the cut
/// that is being inserted.
///
/// A server that is away is no error: what needs it fails as `Unavailable` until it is back.
///
/// # Errors
/// `Conflict` for options that cannot work, and where [`migrate`] has not been run or finds
/// differences.
pub async fn connect(options: &ClickHouseOptions, state: StateStore) -> Result<Analytics, Error> {
    let server = Server::new(options)?;
    match server.ready("connect").await {
        Err(e) if e.kind == Kind::Unavailable => {
            tracing::warn!(error = %e, url = options.url, "ClickHouse is away, facts wait for it");
        }
        checked => checked?,
    }
    Ok(Analytics::ClickHouse(ClickHouseAnalytics::new(server, state)))
}
