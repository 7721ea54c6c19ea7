//! The settings of `aktvator serve`: one struct of the services' own, and what only the whole knows.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serve::config::Size;
use storage::clickhouse::ClickHouseOptions;
use storage::cql::CqlOptions;
use storage::kafka::KafkaOptions;

use crate::failure::chain;
use crate::operator;
use crate::role::Roles;

/// All settings, each with a default that runs on loopback with its data below the working directory.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    /// Where the data is kept; made at the first start.
    pub(crate) data_dir: PathBuf,
    /// Holds the token for the operator's calls; `operator-token` in the data directory if it is not set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) operator_token_file: Option<PathBuf>,
    /// Where the API answers.
    pub(crate) listen: SocketAddr,
    /// Where links redirect.
    pub(crate) redirect_listen: SocketAddr,
    /// Where health and metrics are shown; plain HTTP, so keep it private.
    pub(crate) admin_listen: SocketAddr,
    /// Where clients reach the API, when that is not `listen` itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) public_url: Option<String>,
    /// Where customers reach links, when that is not `redirect_listen` itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) redirect_url: Option<String>,
    /// Proxies in front that speak TLS for us and say so in `X-Forwarded-Proto`.
    pub(crate) trusted_proxies: Vec<IpAddr>,
    /// The certificate of both public listeners.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tls: Option<TlsFiles>,
    /// What is logged, and how.
    pub(crate) log: Log,
    /// Where everything is kept.
    pub(crate) storage: Storage,
    /// The event log, with `storage.backend` servers.
    pub(crate) kafka: KafkaOptions,
    /// State and catalog, with `storage.backend` servers.
    pub(crate) cql: CqlOptions,
    /// Analytics, with `storage.backend` servers.
    pub(crate) clickhouse: ClickHouseOptions,
    /// Ingest and redirects.
    pub(crate) edge: ingest_edge::Config,
    /// Deciding.
    pub(crate) evaluator: evaluator::Config,
    /// Webhooks and analytics.
    pub(crate) dispatcher: dispatcher::Config,
}

/// PEM files.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TlsFiles {
    /// The certificate, with its chain.
    pub(crate) certificate: PathBuf,
    /// Its private key.
    pub(crate) key: PathBuf,
}

/// What is logged, and how.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Log {
    /// `text` or `json`.
    pub(crate) format: serve::telemetry::LogFormat,
    /// `info`, or directives like `info,dispatcher=debug`.
    pub(crate) filter: String,
}

/// Where everything is kept.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Storage {
    /// In the data directory, or on servers.
    pub(crate) backend: Backend,
    /// Partitions of the log in the data directory, 1 to 1024; fixed once it is made.
    pub(crate) partitions: Partitions,
    /// Below so much free space the log takes nothing more: ingest answers 503 until there is room.
    pub(crate) min_free: Size,
}

/// What keeps the data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Backend {
    /// The data directory, for one process.
    Embedded,
    /// Kafka, CQL and ClickHouse, for any number of processes.
    Servers,
}

/// How many partitions the log has.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(try_from = "u16", into = "u16")]
pub(crate) struct Partitions(pub(crate) u16);

impl TryFrom<u16> for Partitions {
    type Error = &'static str;

    fn try_from(number: u16) -> Result<Self, Self::Error> {
        if (1..=1024).contains(&number) { Ok(Self(number)) } else { Err("must be from 1 to 1024") }
    }
}

impl From<Partitions> for u16 {
    fn from(partitions: Partitions) -> Self {
        partitions.0
    }
}

impl Default for Config {
    fn default() -> Self {
        let local = |port| SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port);
        Self {
            data_dir: PathBuf::from("./aktvator-data"),
            operator_token_file: None,
            listen: local(8080),
            redirect_listen: local(8081),
            admin_listen: local(9600),
            public_url: None,
            redirect_url: None,
            trusted_proxies: Vec::new(),
            tls: None,
            log: Log::default(),
            storage: Storage::default(),
            kafka: KafkaOptions::default(),
            cql: CqlOptions::default(),
            clickhouse: ClickHouseOptions::default(),
            edge: ingest_edge::Config::default(),
            evaluator: evaluator::Config::default(),
            dispatcher: dispatcher::Config::default(),
        }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self { format: serve::telemetry::LogFormat::Text, filter: "info".to_owned() }
    }
}

impl Default for Storage {
    fn default() -> Self {
        Self { backend: Backend::Embedded, partitions: Partitions(16), min_free: Size(256 << 20) }
    }
}

impl Config {
    /// Defaults, then the file, then `AKTVATOR__SECTION__KEY` of the environment, then the flags.
    ///
    /// # Errors
    /// What is wrong, where, and how to mend it.
    pub(crate) fn load(file: Option<&Path>, flags: toml::Table) -> Result<Self, String> {
        serve::config::load(file, "AKTVATOR", serve::config::environment(), flags)
            .map_err(|e| e.to_string())
    }

    /// What no single setting can say of itself: whether a process with these roles can run on them.
    ///
    /// # Errors
    /// What does not fit together, and how to mend it.
    pub(crate) fn check(&self, roles: &Roles) -> Result<(), String> {
        let mut wrong = Vec::new();
        match self.storage.backend {
            Backend::Embedded => self.check_embedded(roles, &mut wrong),
            Backend::Servers => self.check_options(&mut wrong),
        }
        if roles.have_callers() {
            self.check_listeners(&mut wrong);
        }
        if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n")) }
    }

    /// Whether `migrate` can run on them.
    ///
    /// # Errors
    /// As [`Config::check`].
    pub(crate) fn check_servers(&self) -> Result<(), String> {
        let mut wrong = Vec::new();
        match self.storage.backend {
            Backend::Embedded => wrong.push(
                "`storage.backend` is \"embedded\", which has nothing to migrate: the data directory is \
                 made at the first start. For servers set it to \"servers\""
                    .to_owned(),
            ),
            Backend::Servers => self.check_options(&mut wrong),
        }
        if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n")) }
    }

    /// The data directory is one process's, and no server's setting has an effect.
    fn check_embedded(&self, roles: &Roles, wrong: &mut Vec<String>) {
        if !roles.are_all() {
            wrong.push(format!(
                "`--role` {roles} alone needs stores that processes share, and the data directory is one \
                 process's: leave `--role` out, or set `storage.backend` to \"servers\""
            ));
        }
        let set = [
            ("kafka", self.kafka != KafkaOptions::default()),
            ("cql", self.cql != CqlOptions::default()),
            ("clickhouse", self.clickhouse != ClickHouseOptions::default()),
        ];
        for (section, _) in set.into_iter().filter(|(_, is_set)| *is_set) {
            wrong.push(format!(
                "`{section}` has settings, but `storage.backend` is \"embedded\": set it to \"servers\", \
                 or remove them"
            ));
        }
    }

    /// What the servers' own sections say.
    fn check_options(&self, wrong: &mut Vec<String>) {
        if let Err(error) = self.kafka.check() {
            wrong.push(format!("`kafka`: {}", chain(error)));
        }
        let (kept, claims) = (self.kafka.retention_ms, self.evaluator.claim_retention.as_ms());
        if u64::try_from(kept).is_ok_and(|kept| kept < claims) {
            wrong.push(format!(
                "`kafka.retention_ms` {kept} is less than `evaluator.claim_retention`, {claims} ms: \
                 an event could be gone before it is decided; raise the one or lower the other"
            ));
        }
    }

    /// Who is served how.
    fn check_listeners(&self, wrong: &mut Vec<String>) {
        if !self.is_on_loopback() && self.tls.is_none() && self.trusted_proxies.is_empty() {
            wrong.push(format!(
                "`listen` {} and `redirect_listen` {} are not both on loopback, and plain HTTP is for \
                 loopback only: set `tls.certificate` and `tls.key`, or name the proxies in front in \
                 `trusted_proxies`",
                self.listen, self.redirect_listen
            ));
        }
        let is_fronted = !self.is_on_loopback() || !self.trusted_proxies.is_empty();
        for (key, url) in [("public_url", &self.public_url), ("redirect_url", &self.redirect_url)] {
            match url {
                None if is_fronted => wrong.push(format!(
                    "`{key}` is required when others than this machine are served: set it to the \
                     address that they use, like https://api.example.com"
                )),
                Some(url) if !is_origin(url) => wrong.push(format!(
                    "`{key}` is {url:?}; write scheme and host alone, like https://api.example.com"
                )),
                _ => {}
            }
        }
    }

    /// The file with the operator's token.
    pub(crate) fn operator_token_file(&self) -> PathBuf {
        self.operator_token_file.clone().unwrap_or_else(|| operator::path(&self.data_dir))
    }

    fn is_on_loopback(&self) -> bool {
        self.listen.ip().is_loopback() && self.redirect_listen.ip().is_loopback()
    }

    /// Do all servers run on this machine? Then so does every process.
    fn has_local_servers(&self) -> bool {
        let clickhouse = self.clickhouse.url.parse::<hyper::Uri>();
        let clickhouse = clickhouse.ok().and_then(|url| Some(url.authority()?.to_string()));
        let brokers = self.kafka.brokers.split(',');
        let nodes = self.cql.nodes.iter().map(String::as_str);
        brokers.chain(nodes).chain([clickhouse.as_deref().unwrap_or_default()]).all(is_local)
    }

    /// The default installation: nobody but this machine is served, also not through a proxy in front,
    /// and everything is kept on it. Only then are payments a sandbox and this machine a webhook receiver.
    pub(crate) fn is_local(&self) -> bool {
        self.is_on_loopback()
            && self.trusted_proxies.is_empty()
            && self.tls.is_none()
            && self.public_url.is_none()
            && self.redirect_url.is_none()
            && (self.storage.backend == Backend::Embedded || self.has_local_servers())
    }

    /// Where clients reach the API.
    pub(crate) fn public_url(&self) -> String {
        self.public_url.clone().unwrap_or_else(|| self.url_of(self.listen))
    }

    /// Where customers reach links.
    pub(crate) fn redirect_url(&self) -> String {
        self.redirect_url.clone().unwrap_or_else(|| self.url_of(self.redirect_listen))
    }

    fn url_of(&self, address: SocketAddr) -> String {
        let scheme = if self.tls.is_none() { "http" } else { "https" };
        format!("{scheme}://{address}")
    }

    /// As TOML that `--config` reads back: what is in force, but for passwords.
    pub(crate) fn to_toml(&self) -> String {
        self.try_to_toml().unwrap_or_else(|e| format!("# cannot be shown: {e}\n"))
    }

    fn try_to_toml(&self) -> Result<String, toml::ser::Error> {
        let mut settings = toml::Table::try_from(self)?;
        let storage = settings.get_mut("storage").and_then(toml::Value::as_table_mut);
        match (self.storage.backend, storage) {
            (Backend::Servers, Some(storage)) => {
                for of_the_data_directory in ["partitions", "min_free"] {
                    storage.remove(of_the_data_directory);
                }
            }
            _ => {
                for of_servers in ["kafka", "cql", "clickhouse"] {
                    settings.remove(of_servers);
                }
            }
        }
        serve::config::print(&settings)
    }
}

/// Is a `host:port` on this machine?
fn is_local(address: &str) -> bool {
    let host = address.trim().rsplit_once(':').map_or(address, |(host, _)| host);
    let ip = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host == "localhost" || ip.is_ok_and(|ip| ip.is_loopback())
}

/// Scheme and authority, nothing behind them.
fn is_origin(url: &str) -> bool {
    url.parse::<hyper::Uri>().is_ok_and(|uri| {
        matches!(uri.scheme_str(), Some("http" | "https"))
            && uri.authority().is_some()
            && uri.path() == "/"
            && uri.query().is_none()
            && !url.ends_with('/')
    })
}
