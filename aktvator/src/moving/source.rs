//! The installation that is left.

use std::path::Path;

use serve::Clock;
use storage::analytics::SqliteAnalytics;
use storage::catalog::SqliteCatalog;
use storage::{Analytics, Catalog, EventLog, StateStore};

use crate::config::Config;
use crate::failure::chain;

/// The stores of a data directory, which nobody else has open.
pub(super) struct Source {
    pub(super) log: EventLog,
    pub(super) state: StateStore,
    pub(super) catalog: SqliteCatalog,
    pub(super) analytics: SqliteAnalytics,
}

impl Source {
    /// Opens what is in `dir`, as it is.
    ///
    /// # Errors
    /// Where it is no data directory, or a process has it open.
    pub(super) fn open(dir: &Path, config: &Config) -> Result<Self, String> {
        let refused =
            |e: storage::Error| format!("{} cannot be moved: {}", dir.display(), chain(e));
        for name in ["catalog.db", "analytics.db"] {
            if !dir.join(name).is_file() {
                return Err(format!("{} is no data directory: it has no {name}", dir.display()));
            }
        }
        let (log, state) =
            storage::embedded::reopen(dir, config.storage.min_free.0).map_err(refused)?;
        Ok(Self {
            log,
            state,
            catalog: SqliteCatalog::open(&dir.join("catalog.db")).map_err(refused)?,
            analytics: SqliteAnalytics::open(&dir.join("analytics.db")).map_err(refused)?,
        })
    }

    /// Makes deliveries and sums of what only the logs know so far. Nothing is sent.
    ///
    /// # Errors
    /// Where something on the logs cannot be read.
    pub(super) async fn catch_up(&self, config: &Config) -> Result<(), String> {
        let parts = dispatcher::DispatcherParts {
            log: self.log.clone(),
            state: self.state.clone(),
            catalog: Catalog::Sqlite(self.catalog.clone()),
            analytics: Analytics::Sqlite(self.analytics.clone()),
            clock: Clock::system(),
            seed: 0,
            transport: dispatcher::Transport::network(&config.dispatcher),
            config: config.dispatcher.clone(),
        };
        dispatcher::catch_up(parts).await.map_err(chain)
    }
}
