//! An installation of several processes on Kafka, CQL and ClickHouse, of the test's own: topics,
//! keyspace and database have a name that no other test has.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use storage::cql::CqlOptions;
use storage::kafka::KafkaOptions;

use crate::node::{BINARY, Node, fresh_folder};

/// Partitions of the test's topics: enough that both evaluators have some.
pub(crate) const PARTITIONS: u16 = 4;

/// Where the servers are.
struct Servers {
    kafka: String,
    cql: String,
    clickhouse: String,
}

impl Servers {
    /// Of the environment, as `scripts/test` sets it.
    fn of_environment() -> Self {
        #[allow(clippy::disallowed_methods, reason = "tests have no configuration file")]
        let address = |name: &str| {
            std::env::var(name)
                .unwrap_or_else(|_| panic!("{name} is not set: see scripts/services"))
        };
        Self {
            kafka: address("AKTVATOR_TEST_KAFKA"),
            cql: address("AKTVATOR_TEST_CQL"),
            clickhouse: address("AKTVATOR_TEST_CLICKHOUSE"),
        }
    }
}

/// The configuration that all its processes share, and what it named on the servers.
pub(crate) struct Cluster {
    folder: PathBuf,
    name: String,
    servers: Servers,
}

impl Cluster {
    /// A configuration; nothing is on the servers yet.
    pub(crate) fn configured() -> Self {
        let servers = Servers::of_environment();
        let folder = fresh_folder();
        let number = folder.file_name().expect("a name").to_string_lossy().replace('-', "_");
        let cluster = Self { name: format!("aktvator_{number}"), folder, servers };
        let text = cluster.toml(&cluster.servers.cql);
        std::fs::write(cluster.config(), text).expect("a configuration file");
        cluster
    }

    /// The same, with everything on the servers that it needs.
    pub(crate) fn migrated() -> Self {
        let cluster = Self::configured();
        let done = cluster.migrate();
        let said = String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).into_owned();
        assert!(done.status.success(), "{said}");
        cluster
    }

    /// Runs `aktvator migrate`.
    pub(crate) fn migrate(&self) -> Output {
        self.aktvator(&["migrate"])
    }

    /// Runs a command with this configuration, to its end.
    pub(crate) fn aktvator(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(BINARY);
        command.args(arguments).arg("--config").arg(self.config());
        command.output().expect("the binary runs")
    }

    /// A process with these roles, ready.
    pub(crate) fn start(&self, roles: &str) -> Node {
        self.start_from(roles, &self.config())
    }

    /// The same, which finds the CQL server at `cql`.
    pub(crate) fn start_by(&self, roles: &str, cql: &str) -> Node {
        let config = self.folder.join(format!("by-{}.toml", cql.replace(':', "-")));
        std::fs::write(&config, self.toml(cql)).expect("a configuration file");
        self.start_from(roles, &config)
    }

    fn start_from(&self, roles: &str, config: &Path) -> Node {
        let arguments = ["--role", roles, "--config", config.to_str().expect("a path")];
        Node::start_in(fresh_folder(), self.folder.clone(), &arguments)
    }

    /// The configuration file.
    pub(crate) fn config(&self) -> PathBuf {
        self.folder.join("aktvator.toml")
    }

    /// Where the operator token is.
    pub(crate) fn operator_token_file(&self) -> PathBuf {
        self.folder.join("operator-token")
    }

    /// The folder of the configuration.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where the CQL server is.
    pub(crate) fn cql(&self) -> &str {
        &self.servers.cql
    }

    /// The topics, as a client of the storage crate finds them.
    pub(crate) fn kafka_options(&self) -> KafkaOptions {
        KafkaOptions {
            brokers: self.servers.kafka.clone(),
            topic_prefix: format!("{}.", self.name),
            partitions: PARTITIONS,
            ..KafkaOptions::default()
        }
    }

    /// The keyspace, as a client of the storage crate finds it.
    pub(crate) fn cql_options(&self) -> CqlOptions {
        CqlOptions {
            nodes: vec![self.servers.cql.clone()],
            keyspace: self.name.clone(),
            ..CqlOptions::default()
        }
    }

    fn toml(&self, cql: &str) -> String {
        let Servers { kafka, clickhouse, .. } = &self.servers;
        let (name, token) = (&self.name, self.operator_token_file());
        let mut text =
            format!("operator_token_file = {token:?}\n[storage]\nbackend = \"servers\"\n");
        let _ = write!(
            text,
            "[kafka]\nbrokers = \"{kafka}\"\ntopic_prefix = \"{name}.\"\npartitions = {PARTITIONS}\n\
             replication = 1\nmin_insync = 1\n\
             [cql]\nnodes = [\"{cql}\"]\nkeyspace = \"{name}\"\nreplication = 1\n\
             [clickhouse]\nurl = \"http://{}\"\ndatabase = \"{name}\"\n",
            clickhouse.trim_start_matches("http://"),
        );
        text
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
