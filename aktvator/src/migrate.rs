//! `aktvator migrate`: makes what the servers must have, and checks what is there.

use std::path::PathBuf;

use storage::{clickhouse, cql, kafka};

use crate::config::Config;
use crate::failure::{Failure, chain};
use crate::operator;

/// Options of `aktvator migrate`.
#[derive(clap::Args, Debug)]
pub(crate) struct Migrate {
    /// The settings that every process of the installation is started with.
    #[arg(long)]
    config: PathBuf,
}

/// What one part of the installation has.
struct Part {
    name: &'static str,
    created: Vec<String>,
    found: Vec<String>,
}

impl Migrate {
    /// Goes through all parts, also where one fails, and prints what each has. Repeating it is harmless.
    ///
    /// # Errors
    /// What could not be made or is not as it must be.
    pub(crate) fn run(&self) -> Result<(), Failure> {
        let config = Config::load(Some(&self.config), toml::Table::new());
        let config = config.map_err(Failure::Config)?;
        config.check_servers().map_err(Failure::Config)?;
        serve::telemetry::init_tracing(config.log.format, &config.log.filter)
            .map_err(|e| Failure::Config(chain(e)))?;
        let runtime = tokio::runtime::Runtime::new().map_err(|e| format!("no runtime: {e}"))?;
        let parts = runtime.block_on(servers(&config)).into_iter();
        let mut failed = Vec::new();
        for part in parts.chain([operator_token(&config)]) {
            match part {
                Ok(part) => part.print(),
                Err(message) => failed.push(message),
            }
        }
        if failed.is_empty() { Ok(()) } else { Err(Failure::Start(failed.join("\n"))) }
    }
}

async fn servers(config: &Config) -> [Result<Part, String>; 3] {
    let failed = |name| move |error: storage::Error| format!("{name}: {}", chain(error));
    [
        kafka::migrate(&config.kafka)
            .await
            .map(|r| Part { name: "Kafka", created: r.created, found: r.found })
            .map_err(failed("Kafka")),
        cql::migrate(&config.cql)
            .await
            .map(|r| Part { name: "CQL", created: r.created, found: r.found })
            .map_err(failed("CQL")),
        clickhouse::migrate(&config.clickhouse)
            .await
            .map(|r| Part { name: "ClickHouse", created: r.created, found: r.found })
            .map_err(failed("ClickHouse")),
    ]
}

fn operator_token(config: &Config) -> Result<Part, String> {
    let path = config.operator_token_file();
    let (_, is_new) = operator::load_or_create(&path)?;
    let file = vec![format!("{} (every control process reads this file)", path.display())];
    let (created, found) = if is_new { (file, Vec::new()) } else { (Vec::new(), file) };
    Ok(Part { name: "operator token", created, found })
}

impl Part {
    fn print(&self) {
        println!("{}", self.name);
        for (what, names) in [("created", &self.created), ("found", &self.found)] {
            for name in names {
                println!("  {what:7}  {name}");
            }
        }
    }
}
