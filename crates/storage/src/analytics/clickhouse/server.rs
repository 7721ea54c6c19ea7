//! The server: its tables, the statements it is sent, and what its answers mean.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use clickhouse::query::Query;
use tokio::sync::OnceCell;
use tokio::time::timeout;

use super::cut::COLUMNS;
use crate::analytics::{FACTS_MAX, Source};
use crate::clickhouse::ClickHouseOptions;
use crate::error::{Error, Kind};

/// For a statement about tables, or a look at few rows.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(10);
/// For one INSERT. A writer that lost its fence is done with its last one after that.
const INSERT_TIMEOUT: Duration = Duration::from_secs(30);
/// Inserts whose tokens the table remembers: at one a second from each of 128 streams, 13 minutes.
const DEDUPLICATION_WINDOW: u32 = 100_000;
/// ClickHouse's `TOO_MANY_PARTS` and `MEMORY_LIMIT_EXCEEDED`, in the words every version has.
const FULL: [&str; 2] = ["Code: 252.", "Code: 241."];

/// Where facts are, with the database in it.
const TABLE: &str = "`{database}`.facts";

/// Column by column; `seq` counts the facts of a source and partition, from 0 without gaps, so that
/// the table itself shows whether one is missing or doubled. Ids are their bytes, zeroes for none.
///
/// One cut has one `taken_at`, what its source's figures are as of, so that it never spans two
/// partitions, whatever times its events have.
const SCHEMA: [(&str, &str); 19] = [
    ("source", "UInt8"),
    ("partition", "UInt16"),
    ("seq", "UInt64"),
    ("taken_at", "DateTime64(3, 'UTC')"),
    ("organization", "FixedString(16)"),
    ("mode", "UInt8"),
    ("campaign", "FixedString(16)"),
    ("at", "DateTime64(3, 'UTC')"),
    ("bucket_ms", "Int64"),
    ("gig", "FixedString(16)"),
    ("aktvator", "FixedString(16)"),
    ("link", "FixedString(16)"),
    ("code", "String"),
    ("event_type", "LowCardinality(String)"),
    ("clicks", "Int64"),
    ("conversions", "Int64"),
    ("revenue", "Int64"),
    ("rewards", "Int64"),
    ("reward_amount", "Int64"),
];

/// Sums are of 128 bits, because ClickHouse lets those of 64 wrap.
const SUMS: &str = "sum(toInt128(clicks)), sum(toInt128(conversions)), sum(toInt128(revenue)), \
                    sum(toInt128(rewards)), sum(toInt128(reward_amount))";

/// Name, keys and values of the sums that every part of the table keeps beside its rows, in the
/// same atomic insert.
const PROJECTIONS: [(&str, &str, &str); 3] = [
    (
        "rollup",
        "organization, mode, campaign, bucket_ms, gig, aktvator, link, code, event_type",
        SUMS,
    ),
    ("campaign_rollup", "organization, mode, campaign, bucket_ms", SUMS),
    ("taken", "source, partition", "max(seq), count()"),
];

/// What the table must have beyond its shape. A cut is durable when its INSERT is answered, and is
/// known again by its token; both window settings are there because a cluster's table engine takes
/// the second.
fn table_settings() -> [(&'static str, u32); 5] {
    [
        ("fsync_after_insert", 1),
        ("fsync_part_directory", 1),
        ("non_replicated_deduplication_window", DEDUPLICATION_WINDOW),
        ("replicated_deduplication_window", DEDUPLICATION_WINDOW),
        ("replicated_deduplication_window_seconds", 7 * 86_400),
    ]
}

/// One ClickHouse server, or a cluster behind one address.
pub(crate) struct Server {
    client: clickhouse::Client,
    database: String,
    ready: OnceCell<()>,
}

impl Server {
    pub(crate) fn new(options: &ClickHouseOptions) -> Result<Self, Error> {
        let ClickHouseOptions { url, database, user, password, settings } = options;
        let refused = |why: String| Err(Error::determinate("connect", Kind::Conflict).because(why));
        if !is_name(database) {
            return refused(format!("`{database}` cannot be the name of a database"));
        }
        if !url.starts_with("http://") && !url.starts_with("https://") {
            return refused(format!("`{url}` must begin with http:// or https://"));
        }
        let mut client = clickhouse::Client::default().with_url(url);
        if let Some(user) = user {
            client = client.with_user(user);
        }
        if let Some(password) = password {
            client = client.with_password(password);
        }
        for (name, value) in settings {
            client.set_setting(name, value);
        }
        Ok(Self { client, database: database.clone(), ready: OnceCell::new() })
    }

    pub(crate) fn database(&self) -> &str {
        &self.database
    }

    /// The quoted name of the table.
    pub(super) fn table(&self) -> String {
        TABLE.replace("{database}", &self.database)
    }

    pub(crate) fn database_ddl(&self) -> String {
        format!("CREATE DATABASE IF NOT EXISTS `{}`", self.database)
    }

    pub(crate) fn table_ddl(&self) -> String {
        let columns = SCHEMA.map(|(name, kind)| format!("    {name} {kind},\n")).concat();
        let projections = PROJECTIONS.map(|(name, keys, values)| {
            format!("    PROJECTION {name} (SELECT {keys}, {values} GROUP BY {keys})")
        });
        let settings = table_settings().map(|(name, value)| format!("{name} = {value}"));
        format!(
            "CREATE TABLE IF NOT EXISTS {table} (\n{columns}{projections}\n)\n\
             ENGINE = MergeTree\n\
             PARTITION BY toYYYYMM(taken_at)\n\
             ORDER BY (organization, mode, campaign, bucket_ms)\n\
             SETTINGS {settings}",
            table = self.table(),
            projections = projections.join(",\n"),
            settings = settings.join(", "),
        )
    }

    pub(crate) fn settings_ddl(&self) -> String {
        let settings = table_settings().map(|(name, value)| format!("{name} = {value}"));
        format!("ALTER TABLE {} MODIFY SETTING {}", self.table(), settings.join(", "))
    }

    pub(crate) async fn has_database(&self) -> Result<bool, Error> {
        let count = self.query("SELECT count() FROM system.databases WHERE name = ?");
        Ok(self.one::<u64>("migrate", count.bind(&self.database)).await? > 0)
    }

    pub(crate) async fn has_table(&self) -> Result<bool, Error> {
        let sql = "SELECT count() FROM system.tables WHERE database = ? AND name = 'facts'";
        Ok(self.one::<u64>("migrate", self.query(sql).bind(&self.database)).await? > 0)
    }

    /// Runs a statement that gives nothing.
    pub(crate) async fn run(&self, sql: &str) -> Result<(), Error> {
        within("migrate", STATEMENT_TIMEOUT, self.query(sql).execute()).await
    }

    /// That the table is as it must be; once it was, it is not looked at again.
    pub(crate) async fn ready(&self, op: &'static str) -> Result<(), Error> {
        self.ready.get_or_try_init(|| self.check()).await.map(drop).map_err(|e| e.during(op))
    }

    /// # Errors
    /// `Conflict` with everything that is missing or different.
    pub(crate) async fn check(&self) -> Result<(), Error> {
        let columns =
            "SELECT name, type FROM system.columns WHERE database = ? AND table = 'facts'";
        let found = self.pairs(columns).await?;
        let mut faults: Vec<_> = SCHEMA
            .iter()
            .filter(|(name, kind)| found.get(*name).is_none_or(|found| found != kind))
            .map(|(name, kind)| format!("column {name} {kind}"))
            .collect();
        let sql = "SELECT name, create_table_query FROM system.tables
            WHERE database = ? AND name = 'facts'";
        let definition = self.pairs(sql).await?.remove("facts").unwrap_or_default();
        let definition: String = squeezed(&definition);
        let projections = PROJECTIONS.map(|(name, keys, values)| {
            format!("PROJECTION {name} (SELECT {keys}, {values} GROUP BY {keys})")
        });
        let settings = table_settings().map(|(name, value)| format!("{name} = {value}"));
        let order = "ORDER BY (organization, mode, campaign, bucket_ms)".to_owned();
        let parts = "PARTITION BY toYYYYMM(taken_at)".to_owned();
        let wanted = projections.into_iter().chain(settings).chain([order, parts]);
        faults.extend(wanted.filter(|wanted| !definition.contains(&squeezed(wanted))));
        if faults.is_empty() {
            return Ok(());
        }
        let why = format!("{} lacks: {}; run migrate", self.table(), faults.join("; "));
        Err(Error::determinate("check", Kind::Conflict).because(why))
    }

    /// How many facts of a source and partition the table has ever had: one more than the last
    /// one's number.
    pub(super) async fn taken(&self, source: Source, partition: u16) -> Result<u64, Error> {
        let sql = format!(
            "SELECT if(count() = 0, 0, max(seq) + 1) FROM {} WHERE source = ? AND partition = ?",
            self.table()
        );
        let query = self.query(&sql).bind(source as u8).bind(partition);
        self.one("apply", query).await
    }

    /// Inserts rows as they are encoded. The same token again adds nothing.
    pub(super) async fn insert(&self, token: &str, rows: Bytes) -> Result<(), Error> {
        let sql = format!("INSERT INTO {} ({COLUMNS}) FORMAT RowBinary", self.table());
        // One block of one partition is one part, and so all or nothing, which the server is to
        // make sure of; what it puts off until later would not be known by its token.
        let block = (FACTS_MAX * 2).to_string();
        let mut insert = self
            .client
            .insert_formatted_with(sql)
            .with_setting("insert_deduplicate", "1")
            .with_setting("insert_deduplication_token", token)
            .with_setting("async_insert", "0")
            .with_setting("max_insert_block_size", &block)
            .with_setting("min_insert_block_size_rows", &block)
            .with_setting("min_insert_block_size_bytes", "0")
            .with_setting("max_insert_threads", "1")
            .with_setting("input_format_parallel_parsing", "0")
            .with_setting("max_partitions_per_insert_block", "1")
            .with_setting("throw_on_max_partitions_per_insert_block", "1");
        within("apply", INSERT_TIMEOUT, async {
            insert.send(rows).await?;
            insert.end().await
        })
        .await
    }

    /// A statement with a `?` for each value to bind.
    pub(super) fn query(&self, sql: &str) -> Query {
        self.client.query(sql)
    }

    async fn one<T>(&self, op: &'static str, query: Query) -> Result<T, Error>
    where
        T: clickhouse::RowOwned + clickhouse::RowRead,
    {
        within(op, STATEMENT_TIMEOUT, query.fetch_one()).await
    }

    async fn pairs(&self, sql: &str) -> Result<BTreeMap<String, String>, Error> {
        let query = self.query(sql).bind(&self.database);
        let rows = query.fetch_all::<(String, String)>();
        within("check", STATEMENT_TIMEOUT, rows).await.map(|rows| rows.into_iter().collect())
    }
}

/// The result of a call to the server, which may take that long. Errors are determinate; whoever
/// changes something says otherwise.
pub(super) async fn within<T>(
    op: &'static str,
    limit: Duration,
    call: impl Future<Output = clickhouse::error::Result<T>>,
) -> Result<T, Error> {
    match timeout(limit, call).await {
        Ok(result) => result.map_err(|e| failed(op, e)),
        Err(elapsed) => Err(Error::determinate(op, Kind::Unavailable).because(elapsed)),
    }
}

fn failed(op: &'static str, error: clickhouse::error::Error) -> Error {
    let text = error.to_string();
    let kind =
        if FULL.iter().any(|code| text.contains(code)) { Kind::Full } else { Kind::Unavailable };
    Error::determinate(op, kind).because(error)
}

/// Without blanks, quotes and brackets, which versions set differently.
fn squeezed(sql: &str) -> String {
    sql.chars().filter(|c| !c.is_whitespace() && !"`()".contains(*c)).collect()
}

fn is_name(text: &str) -> bool {
    text.len() <= 64
        && text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}
