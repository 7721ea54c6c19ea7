//! `aktvator move`: takes a stopped installation from its data directory to the servers.
//!
//! What is decided moves as rows, by whose they are; what is counted, as sums; what is not decided yet,
//! as records to decide there. The directory's own loose ends are tied up first: outcomes and clicks
//! that only its logs know become deliveries and sums. Every step can be repeated, and finds out by
//! itself how far it came: rows and documents are put again, sums and records are counted. Marks at
//! both ends keep either installation from being served meanwhile, and the old one for good.

mod documents;
mod marks;
mod records;
mod rows;
mod source;
mod sums;

use std::path::PathBuf;

use storage::{Analytics, Catalog, EventLog, StateStore};

pub(crate) use self::marks::may_serve;
use self::marks::{Begun, Marks};
use self::source::Source;
use crate::config::Config;
use crate::failure::{Failure, chain};
use crate::role::Roles;
use crate::stores::Stores;

/// Options of `aktvator move`.
#[derive(clap::Args, Debug)]
pub(crate) struct Move {
    /// The data directory of the stopped installation. It cannot be served from any more afterwards.
    #[arg(long)]
    from: PathBuf,
    /// The settings of the installation on servers, on which `aktvator migrate` was run.
    #[arg(long)]
    config: PathBuf,
}

/// Where everything goes.
struct Target {
    log: EventLog,
    state: StateStore,
    catalog: Catalog,
    analytics: Analytics,
}

impl Move {
    /// Moves everything, and prints what there was.
    ///
    /// # Errors
    /// What is in the way. Repeating the command goes on from there.
    pub(crate) fn run(&self) -> Result<(), Failure> {
        let config = Config::load(Some(&self.config), toml::Table::new());
        let config = config.map_err(Failure::Config)?;
        config.check_servers().map_err(Failure::Config)?;
        serve::telemetry::init_tracing(config.log.format, &config.log.filter)
            .map_err(|e| Failure::Config(chain(e)))?;
        let runtime = tokio::runtime::Runtime::new().map_err(|e| format!("no runtime: {e}"))?;
        Ok(runtime.block_on(self.all(&config))?)
    }

    async fn all(&self, config: &Config) -> Result<(), String> {
        let source = Source::open(&self.from, config)?;
        let stores = Stores::open(config, &Roles::of(&[])).await?;
        let analytics = stores.analytics()?;
        let target =
            Target { log: stores.log, state: stores.state, catalog: stores.catalog, analytics };
        let marks = Marks::of(&source).await?;
        if marks.begin(&target).await? == Begun::Done {
            println!("{} was moved before; nothing is left to do", self.from.display());
            return Ok(());
        }
        source.catch_up(config).await?;
        println!("catalog    {} documents", documents::take(&source, &target).await?);
        let taken = rows::take(&source, &target).await?;
        println!("state      {} rows", taken.rows);
        println!("analytics  {} sums", sums::take(&source, &target).await?);
        let records = records::take(&source, &target, &taken.continuations).await?;
        println!("log        {records} records to decide");
        marks.end(&source, &target).await?;
        println!(
            "moved; start the roles on the servers: {} is not served any more",
            self.from.display()
        );
        Ok(())
    }
}
