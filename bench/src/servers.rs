//! Kafka, CQL and ClickHouse to measure on, instead of the data directory.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

/// Where they are; all three or none.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Servers {
    /// A broker, `host:port`: measures on servers, of which `scripts/services up` starts a set.
    #[arg(long, requires_all = ["cql", "clickhouse"])]
    pub(crate) kafka: Option<String>,
    /// A node of ScyllaDB or Cassandra, `host:port`.
    #[arg(long, requires = "kafka")]
    cql: Option<String>,
    /// ClickHouse's HTTP address.
    #[arg(long, requires = "kafka")]
    clickhouse: Option<String>,
}

impl Servers {
    /// Makes a new installation on the servers: writes its configuration beside `data_dir` and lets
    /// `binary` migrate it. `None` where there are no servers.
    pub(crate) fn install(
        &self,
        binary: &Path,
        data_dir: &Path,
    ) -> Result<Option<PathBuf>, String> {
        let (Some(kafka), Some(cql), Some(clickhouse)) = (&self.kafka, &self.cql, &self.clickhouse)
        else {
            return Ok(None);
        };
        let name = format!("bench_{}", std::process::id());
        let config = json!({
            "data_dir": data_dir,
            "storage": {"backend": "servers"},
            "kafka": {
                "brokers": kafka, "topic_prefix": format!("{name}."), "partitions": PARTITIONS,
                "replication": 1, "min_insync": 1,
            },
            "cql": {"nodes": [cql], "keyspace": name, "replication": 1},
            "clickhouse": {"url": clickhouse, "database": name},
        });
        let text = toml::to_string(&config).map_err(|e| e.to_string())?;
        let path = data_dir.with_extension("toml");
        std::fs::write(&path, text).map_err(|e| format!("{}: {e}", path.display()))?;
        let migrated = Command::new(binary).arg("migrate").arg("--config").arg(&path).output();
        let migrated = migrated.map_err(|e| format!("{}: {e}", binary.display()))?;
        if !migrated.status.success() {
            return Err(String::from_utf8_lossy(&migrated.stderr).into_owned());
        }
        Ok(Some(path))
    }
}

/// Of the topics; fewer than by default, since one organization lives in one.
const PARTITIONS: u16 = 4;
