//! What keeps an installation from being served while it moves, or after it has.

use schemas::time::Timestamp;
use serde::{Deserialize, Serialize};
use serve::Clock;
use storage::catalog::{Change, Document, Expected, Kind, ListFilter, Page};
use storage::state::{Group, Shard};
use storage::{Catalog, Topic};

use super::Target;
use super::source::Source;
use crate::failure::chain;

/// In the catalog of the servers: where the installation came from.
const ORIGIN: &str = "origin";
/// In the catalog of the directory: that it is left.
const LEFT: &str = "left";

/// Which installation moves, as it stood when the move began.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Origin {
    /// The identity of its log, in hex.
    log: String,
    /// Write sets it had committed.
    write_sets: u64,
    /// Records it had acknowledged, ever.
    records: u64,
    /// Whether everything has been taken over.
    complete: bool,
}

/// How far the move is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Begun {
    /// Now, or before but not to its end.
    Open,
    /// It came to its end before.
    Done,
}

/// The marks of one move.
pub(super) struct Marks {
    origin: Origin,
    now: Timestamp,
}

/// Whether this installation may be served.
///
/// # Errors
/// Why not.
pub(crate) async fn may_serve(catalog: &Catalog) -> Result<(), String> {
    if catalog.get(Kind::Setting, LEFT).await.map_err(chain)?.is_some() {
        let why = "this installation was moved to servers (`aktvator move`); start the roles there";
        return Err(why.to_owned());
    }
    match origin(catalog).await? {
        Some((_, origin)) if !origin.complete => {
            let why = "a move to these servers was interrupted; repeat `aktvator move` first";
            Err(why.to_owned())
        }
        _ => Ok(()),
    }
}

impl Marks {
    /// Of the installation as it stands.
    ///
    /// # Errors
    /// Where its stores cannot be read.
    pub(super) async fn of(source: &Source) -> Result<Self, String> {
        let mut origin = Origin { log: String::new(), write_sets: 0, records: 0, complete: false };
        for partition in 0..source.log.partitions() {
            let shard = Shard { group: Group::Evaluator, partition };
            origin.write_sets += source.state.head(shard).await.map_err(chain)?.seq;
            let bounds = source.log.bounds(Topic::Events, partition).await.map_err(chain)?;
            origin.records += bounds.end;
            origin.log = format!("{:016x}", bounds.identity);
        }
        Ok(Self { origin, now: Timestamp::from_ms(Clock::system().now_ms()) })
    }

    /// Claims the servers for this move.
    ///
    /// # Errors
    /// Where they have something of another installation, or of this one as it stood before.
    pub(super) async fn begin(&self, target: &Target) -> Result<Begun, String> {
        match origin(&target.catalog).await? {
            None => {
                must_be_empty(target).await?;
                self.put(&target.catalog, ORIGIN, &self.origin, None).await?;
                Ok(Begun::Open)
            }
            Some((_, found)) if found.log != self.origin.log => {
                Err("another installation was moved to these servers".to_owned())
            }
            Some((_, found)) if found.complete => Ok(Begun::Done),
            Some((_, found)) if found == self.origin => Ok(Begun::Open),
            Some(_) => Err("the installation was served after a move to these servers was \
                interrupted; begin again with an empty keyspace, database and topics"
                .to_owned()),
        }
    }

    /// From now on the servers have it, and the directory no more.
    ///
    /// # Errors
    /// Where one of the catalogs cannot be written.
    pub(super) async fn end(&self, source: &Source, target: &Target) -> Result<(), String> {
        let complete = Origin { complete: true, ..self.origin.clone() };
        let left = Catalog::Sqlite(source.catalog.clone());
        if left.get(Kind::Setting, LEFT).await.map_err(chain)?.is_none() {
            self.put(&left, LEFT, &complete, None).await?;
        }
        let version = origin(&target.catalog).await?.map(|(version, _)| version);
        self.put(&target.catalog, ORIGIN, &complete, version).await
    }

    async fn put(
        &self,
        catalog: &Catalog,
        id: &str,
        origin: &Origin,
        version: Option<u64>,
    ) -> Result<(), String> {
        let document = Document {
            kind: Kind::Setting,
            organization: None,
            mode: None,
            id: id.to_owned(),
            parent: None,
            version: version.map_or(1, |version| version + 1),
            created_at: self.now,
            json: serde_json::to_string(origin).expect("numbers and text are always JSON"),
        };
        let expected = version.map_or(Expected::Absent, Expected::Version);
        let change = Change { document, expected, uniques: Vec::new(), command: None };
        catalog.apply(vec![change]).await.map(drop).map_err(chain)
    }
}

async fn origin(catalog: &Catalog) -> Result<Option<(u64, Origin)>, String> {
    let Some(document) = catalog.get(Kind::Setting, ORIGIN).await.map_err(chain)? else {
        return Ok(None);
    };
    let origin = serde_json::from_str(&document.json);
    let origin = origin.map_err(|e| format!("the mark of an earlier move cannot be read: {e}"))?;
    Ok(Some((document.version, origin)))
}

async fn must_be_empty(target: &Target) -> Result<(), String> {
    let used = "the servers are in use; a move needs an empty keyspace, database and topics";
    let page = Page { limit: 1, ..Page::default() };
    let found = target.catalog.list(Kind::Organization, ListFilter::default(), page).await;
    let mut is_empty = found.map_err(chain)?.is_empty();
    for partition in 0..target.log.partitions() {
        for group in Group::ALL {
            let head = target.state.head(Shard { group, partition }).await.map_err(chain)?;
            is_empty &= head.seq == 0;
        }
        for topic in [Topic::Events, Topic::Outcomes, Topic::Clicks] {
            let bounds = target.log.bounds(topic, partition).await.map_err(chain)?;
            is_empty &= bounds.end == 0;
        }
    }
    if is_empty { Ok(()) } else { Err(used.to_owned()) }
}
