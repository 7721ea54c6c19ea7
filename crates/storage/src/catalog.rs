//! The catalog port: documents with unique names, and the outbox of what the fold must hear.
//!
//! Contract: a change is durable, with its names and its outbox row, when [`Catalog::apply`]
//! returns; an error leaves nothing of any change in the call, unless it is indeterminate. Reads
//! see everything applied before them. Names are never released, and documents never deleted
//! except the recorded answers that [`Catalog::sweep`] takes, so neither an id nor a code ever comes
//! to mean something else.

mod cql;
mod fault;
mod list;
mod sqlite;

use std::path::Path;

use bytes::Bytes;
use schemas::id::OrganizationId;
use schemas::partition::Mode;
use schemas::time::Timestamp;

pub use cql::CqlCatalog;
pub use fault::{CatalogFault, FaultyCatalog};
pub use sqlite::{Entry, SqliteCatalog};

use crate::error::Error;

/// What a document is. Stored as its number: append-only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Kind {
    /// An organization; bound to no mode.
    Organization = 0,
    /// An API key.
    ApiKey = 1,
    /// A campaign.
    Campaign = 2,
    /// A gig.
    Gig = 3,
    /// An aktvator.
    Aktvator = 4,
    /// A link that redirects.
    Link = 5,
    /// A code.
    Code = 6,
    /// One version of a campaign's rulebook.
    Rulebook = 7,
    /// A webhook endpoint.
    Endpoint = 8,
    /// A wallet top-up.
    TopUp = 9,
    /// The recorded answer to a request with an `Idempotency-Key`.
    Idempotency = 10,
    /// What is known of the installation as a whole; its secrets are [`Catalog::setting`]s.
    Setting = 11,
}

impl Kind {
    /// Every kind, in the order of its number.
    pub const ALL: [Self; 12] = [
        Self::Organization,
        Self::ApiKey,
        Self::Campaign,
        Self::Gig,
        Self::Aktvator,
        Self::Link,
        Self::Code,
        Self::Rulebook,
        Self::Endpoint,
        Self::TopUp,
        Self::Idempotency,
        Self::Setting,
    ];
}

/// One document, as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// What it is.
    pub kind: Kind,
    /// Whose it is; `None` where it is nobody's.
    pub organization: Option<OrganizationId>,
    /// In which mode; `None` where it is in both.
    pub mode: Option<Mode>,
    /// Unique within its kind, for ever; that of a recorded answer until it is swept.
    pub id: String,
    /// The document it belongs to, like a campaign's id.
    pub parent: Option<String>,
    /// Rises with every change.
    pub version: u64,
    /// When it was made: lists are in this order. Does not change.
    pub created_at: Timestamp,
    /// The document itself, a JSON object.
    pub json: String,
}

/// What must be stored before a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// No document of this kind and id.
    Absent,
    /// This version; the new one must be higher.
    Version(u64),
}

/// A document to store, what must hold before, and what goes with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The document as it is to be. Of one that exists, only version and JSON change.
    pub document: Document,
    /// What must be stored now.
    pub expected: Expected,
    /// Global names it claims, like `code:ABC123`. A name it holds already may be claimed again.
    pub uniques: Vec<String>,
    /// A command for the fold: the partition of `events` and the record's bytes.
    pub command: Option<(u16, Bytes)>,
}

/// A refused or failed change; nothing of it was stored, unless the storage error is indeterminate.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// Another document holds the name.
    #[error("the name {name} is taken")]
    Taken {
        /// The name as it was claimed.
        name: String,
    },
    /// The stored document is not the one that was expected: read it again.
    #[error("the document has changed")]
    Stale,
    /// The store failed.
    #[error("the catalog failed")]
    Storage(#[from] Error),
}

/// Documents that a list keeps or drops by one field of their JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldFilter {
    /// A top-level field: ASCII letters only, at least one.
    pub field: String,
    /// Compared as text; booleans are `true` and `false`.
    pub values: Vec<String>,
    /// Drop what has one of the values (what lacks the field stays), instead of keeping it.
    pub exclude: bool,
}

/// Which documents a list has; everything must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListFilter {
    /// Of this organization.
    pub organization: Option<OrganizationId>,
    /// Of this mode.
    pub mode: Option<Mode>,
    /// Under this parent.
    pub parent: Option<String>,
    /// By fields of the JSON.
    pub fields: Vec<FieldFilter>,
    /// Made at or after.
    pub created_from: Option<Timestamp>,
    /// Made before.
    pub created_to: Option<Timestamp>,
}

/// Which part of a list; the order is (created at, id).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// At most this many documents. To learn whether there are more, ask for one more.
    pub limit: usize,
    /// Those that follow this id in the order of the list.
    pub after: Option<String>,
    /// Those that come before this id. Without `after`, the nearest ones, in the list's order.
    pub before: Option<String>,
    /// Turns the order round.
    pub newest_first: bool,
}

/// A command that is not in the log yet, or not known to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboxRow {
    /// Rises with every command of this catalog.
    pub id: u64,
    /// The partition of `events` it goes to.
    pub partition: u16,
    /// The record's bytes.
    pub record: Bytes,
}

/// The catalog. Cheap to clone; clones are the same catalog.
#[derive(Clone)]
pub enum Catalog {
    /// SQLite, in a file or in memory.
    Sqlite(SqliteCatalog),
    /// Rows of a CQL cluster, shared by several processes.
    Cql(CqlCatalog),
    /// SQLite that fails as it is told.
    Fault(FaultyCatalog),
}

impl Catalog {
    /// Opens or creates the file at `path`, readable by its owner alone (it holds secrets).
    pub fn open(path: &Path) -> Result<Self, Error> {
        SqliteCatalog::open(path).map(Self::Sqlite)
    }

    /// An empty catalog in memory. It runs inline, on any runtime, and lives as long as a clone of
    /// it: every change counts as synced, so a crash of the process under test loses nothing.
    pub fn memory() -> Result<Self, Error> {
        SqliteCatalog::memory().map(Self::Sqlite)
    }

    /// Stores all changes in one transaction, in the order given, and returns the ids of their
    /// outbox rows in that order. A change sees those before it.
    ///
    /// A call that changes what the fold sees MUST hand those ids to [`Catalog::outbox_cleared`]
    /// before it answers. [`Catalog::revision`] of every kind concerned has risen on return.
    pub async fn apply(&self, changes: Vec<Change>) -> Result<Vec<u64>, CatalogError> {
        match self {
            Self::Sqlite(catalog) => catalog.apply(changes).await,
            Self::Cql(catalog) => catalog.apply(changes).await,
            Self::Fault(catalog) => catalog.apply(changes).await,
        }
    }

    /// The document, if there is one.
    pub async fn get(&self, kind: Kind, id: &str) -> Result<Option<Document>, Error> {
        match self {
            Self::Sqlite(catalog) => catalog.get(kind, id).await,
            Self::Cql(catalog) => catalog.get(kind, id).await,
            Self::Fault(catalog) => catalog.inner().get(kind, id).await,
        }
    }

    /// The document that claimed the name.
    pub async fn named(&self, unique: &str) -> Result<Option<Document>, Error> {
        match self {
            Self::Sqlite(catalog) => catalog.named(unique).await,
            Self::Cql(catalog) => catalog.named(unique).await,
            Self::Fault(catalog) => catalog.inner().named(unique).await,
        }
    }

    /// A page of the documents of one kind. [`crate::Kind::Conflict`] if a cursor is no document of
    /// the kind, organization and mode asked for, or a field's name is not letters; `Unavailable` if
    /// finding them takes more than two seconds.
    pub async fn list(
        &self,
        kind: Kind,
        filter: ListFilter,
        page: Page,
    ) -> Result<Vec<Document>, Error> {
        match self {
            Self::Sqlite(catalog) => catalog.list(kind, filter, page).await,
            Self::Cql(catalog) => catalog.list(kind, filter, page).await,
            Self::Fault(catalog) => catalog.inner().list(kind, filter, page).await,
        }
    }

    /// The oldest commands that are not cleared, by rising id.
    pub async fn outbox(&self, limit: usize) -> Result<Vec<OutboxRow>, Error> {
        match self {
            Self::Sqlite(catalog) => catalog.outbox(limit).await,
            Self::Cql(catalog) => catalog.outbox(limit).await,
            Self::Fault(catalog) => catalog.inner().outbox(limit).await,
        }
    }

    /// Forgets commands, which MUST be durable in the log. Ids that are not there are no error.
    pub async fn outbox_clear(&self, ids: &[u64]) -> Result<(), Error> {
        match self {
            Self::Sqlite(catalog) => catalog.outbox_clear(ids).await,
            Self::Cql(catalog) => catalog.outbox_clear(ids).await,
            Self::Fault(catalog) => catalog.outbox_clear(ids).await,
        }
    }

    /// Returns once none of these commands is in the outbox, nor any before them: all are in the
    /// log. Give it a time limit; the command stays in the outbox whatever becomes of the caller.
    /// It costs no query for each that waits.
    pub async fn outbox_cleared(&self, ids: &[u64]) -> Result<(), Error> {
        match self {
            Self::Sqlite(catalog) => catalog.outbox_cleared(ids).await,
            Self::Cql(catalog) => catalog.outbox_cleared(ids).await,
            Self::Fault(catalog) => catalog.inner().outbox_cleared(ids).await,
        }
    }

    /// Returns once the outbox has a command.
    pub async fn outbox_filled(&self) -> Result<(), Error> {
        match self {
            Self::Sqlite(catalog) => catalog.outbox_filled().await,
            Self::Cql(catalog) => catalog.outbox_filled().await,
            Self::Fault(catalog) => catalog.inner().outbox_filled().await,
        }
    }

    /// Deletes documents of this kind that were made before `created_before`, the oldest first, at
    /// most `limit`, and says how many. Only [`Kind::Idempotency`], which claims no names; of another
    /// kind it is [`crate::Kind::Conflict`].
    pub async fn sweep(
        &self,
        kind: Kind,
        created_before: Timestamp,
        limit: usize,
    ) -> Result<usize, Error> {
        if kind != Kind::Idempotency {
            let why = format!("documents of kind {kind:?} are kept");
            return Err(Error::determinate("sweep", crate::Kind::Conflict).because(why));
        }
        match self {
            Self::Sqlite(catalog) => catalog.sweep(kind, created_before, limit).await,
            Self::Cql(catalog) => catalog.sweep(created_before, limit).await,
            Self::Fault(catalog) => catalog.inner().sweep(kind, created_before, limit).await,
        }
    }

    /// A number that rises with each applied change of that kind: at once with those of this process,
    /// soon with those of others, after 60 s in any case. Read it before the document: what was
    /// cached at another number is out of date.
    pub fn revision(&self, kind: Kind) -> u64 {
        match self {
            Self::Sqlite(catalog) => catalog.revision(kind),
            Self::Cql(catalog) => catalog.revision(kind),
            Self::Fault(catalog) => catalog.inner().revision(kind),
        }
    }

    /// The value of an installation setting; the first caller's `make` decides it, durably. Callers
    /// that race get the same value.
    pub async fn setting(
        &self,
        name: &str,
        make: impl FnOnce() -> Vec<u8> + Send,
    ) -> Result<Vec<u8>, Error> {
        match self {
            Self::Sqlite(catalog) => catalog.setting(name, make).await,
            Self::Cql(catalog) => catalog.setting(name, make).await,
            Self::Fault(catalog) => catalog.inner().setting(name, make).await,
        }
    }
}
