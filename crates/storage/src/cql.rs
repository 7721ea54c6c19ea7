//! The backends on CQL: what they are told, how their schema is made, how they are opened.
//!
//! The statements stay within what Apache Cassandra 5.0 and ScyllaDB both accept. How rows are laid
//! out, and why, is in `docs/adr/0006-cql-layout.md`. Start reading at [`connect`].

mod patience;
pub(crate) mod schema;
pub(crate) mod session;

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub(crate) use self::patience::Patience;
use crate::catalog::{Catalog, CqlCatalog};
use crate::state::CqlState;
use crate::state::cql::{SessionTables, Sources, Store, Tables};
use crate::{Error, EventLog, StateStore};

/// Where the cluster is and how it is used.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CqlOptions {
    /// Addresses (`host:port`) to begin with; the cluster tells the others.
    pub nodes: Vec<String>,
    /// Letters, digits and underscores; at most 48. [`migrate`] creates it.
    pub keyspace: String,
    /// Copies of each row in every data center; only [`migrate`] looks at it, when it creates the
    /// keyspace.
    pub replication: u8,
    /// Parts each shard's rows are cut into; only [`migrate`] looks at it, the first time. It never
    /// changes afterwards.
    pub buckets: u16,
    /// With `password`, where the cluster asks for them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// With `user`. Never written out again.
    #[serde(skip_serializing)]
    pub password: Option<String>,
    /// Its nodes are asked first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub local_datacenter: Option<String>,
}

impl Default for CqlOptions {
    fn default() -> Self {
        Self {
            nodes: vec!["127.0.0.1:9042".to_owned()],
            keyspace: "aktvator".to_owned(),
            replication: 3,
            buckets: 32,
            user: None,
            password: None,
            local_datacenter: None,
        }
    }
}

/// Without the password.
impl fmt::Debug for CqlOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CqlOptions")
            .field("nodes", &self.nodes)
            .field("keyspace", &self.keyspace)
            .field("replication", &self.replication)
            .field("buckets", &self.buckets)
            .field("user", &self.user)
            .field("local_datacenter", &self.local_datacenter)
            .finish_non_exhaustive()
    }
}

/// What [`migrate`] has done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// What was missing and is there now: names of the keyspace and of tables.
    pub created: Vec<String>,
    /// What was there already.
    pub found: Vec<String>,
}

/// Creates what is missing of the keyspace, its tables and its layout, and checks that conditional
/// updates work there. Nothing that is there changes; repeating it is harmless.
///
/// # Errors
/// `Conflict` for a name or number that cannot be, or a keyspace that refuses conditional updates
/// (the reason says what to do); `Unavailable` when the cluster is out of reach.
pub async fn migrate(options: &CqlOptions) -> Result<Report, Error> {
    schema::migrate(options).await
}

/// Opens the state store, whose outcomes are published to `log`, and the catalog, whose changes are
/// told and heard there.
///
/// Background tasks run on the runtime this is called on.
///
/// # Errors
/// `Unavailable` when the cluster is out of reach or was not migrated; `Conflict` as [`migrate`].
pub async fn connect(options: &CqlOptions, log: EventLog) -> Result<(StateStore, Catalog), Error> {
    let session = session::open(options).await?;
    let layout = schema::layout(&session).await?;
    let tables = Tables::Session(Box::new(SessionTables::prepare(session).await?));
    let store = Arc::new(Store::new(tables, layout.buckets, log.clone(), Sources::System));
    let catalog = CqlCatalog::start(store.clone(), log).await?;
    Ok((StateStore::Cql(CqlState::start(store)), Catalog::Cql(catalog)))
}
