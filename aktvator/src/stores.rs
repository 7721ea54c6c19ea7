//! The stores that the roles of a process work on.

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use storage::embedded::OpenOptions;
use storage::{Analytics, Catalog, EventLog, StateStore, clickhouse, cql, kafka};

use crate::config::{Backend, Config};
use crate::failure::chain;
use crate::random;
use crate::role::{Role, Roles};

/// What the roles of a process work on, open.
pub(crate) struct Stores {
    pub(crate) log: EventLog,
    pub(crate) state: StateStore,
    pub(crate) catalog: Catalog,
    /// Only for roles that need it: the others must not depend on it.
    analytics: Option<Analytics>,
}

impl Stores {
    /// Opens what `config` names and `roles` need.
    ///
    /// # Errors
    /// What cannot be opened, and how to mend it.
    pub(crate) async fn open(config: &Config, roles: &Roles) -> Result<Self, String> {
        match config.storage.backend {
            Backend::Embedded => Self::embedded(config),
            Backend::Servers => Self::servers(config, roles).await,
        }
    }

    /// Of the roles that need it.
    ///
    /// # Errors
    /// Of another role.
    pub(crate) fn analytics(&self) -> Result<Analytics, String> {
        self.analytics.clone().ok_or_else(|| "this role has no analytics".to_owned())
    }

    /// Looks whether the servers have what `aktvator migrate` makes.
    async fn servers(config: &Config, roles: &Roles) -> Result<Self, String> {
        let log = kafka::connect(&config.kafka).await.map_err(|e| unusable("Kafka", e))?;
        let (state, catalog) =
            cql::connect(&config.cql, log.clone()).await.map_err(|e| unusable("CQL", e))?;
        let mut stores = Self { log, state, catalog, analytics: None };
        if roles.has(Role::Dispatcher) || roles.has(Role::Control) {
            let analytics = clickhouse::connect(&config.clickhouse, stores.state.clone()).await;
            stores.analytics = Some(analytics.map_err(|e| unusable("ClickHouse", e))?);
        }
        Ok(stores)
    }

    /// Opens or makes the data directory.
    fn embedded(config: &Config) -> Result<Self, String> {
        let dir = config.data_dir.as_path();
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .map_err(|e| format!("the data directory {} cannot be made: {e}", dir.display()))?;
        let options = OpenOptions {
            partitions: config.storage.partitions.0,
            min_free_bytes: config.storage.min_free.0,
            ..OpenOptions::new(random::number()?)
        };
        let (log, state) = storage::embedded::open(dir, &options).map_err(|e| unopened(dir, e))?;
        let catalog = Catalog::open(&dir.join("catalog.db")).map_err(|e| unopened(dir, e))?;
        let analytics = Analytics::open(&dir.join("analytics.db")).map_err(|e| unopened(dir, e))?;
        Ok(Self { log, state, catalog, analytics: Some(analytics) })
    }
}

fn unopened(dir: &Path, error: storage::Error) -> String {
    format!("the data directory {} cannot be opened: {}", dir.display(), chain(error))
}

fn unusable(server: &str, error: storage::Error) -> String {
    format!(
        "{server} cannot be used: {}; is it up, and was `aktvator migrate --config FILE` run?",
        chain(error)
    )
}
