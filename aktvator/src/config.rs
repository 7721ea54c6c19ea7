//! The settings of `aktvator serve`: one struct of the services' own, and what only the whole knows.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serve::config::Size;

/// All settings, each with a default that runs on loopback with its data below the working directory.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    /// Where the data is kept; made at the first start.
    pub(crate) data_dir: PathBuf,
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
    /// The stores in the data directory.
    pub(crate) storage: Storage,
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

/// The stores in the data directory.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Storage {
    /// Partitions of the log; fixed once the data directory is made.
    pub(crate) partitions: u16,
    /// Below so much free space the log takes nothing more: ingest answers 503 until there is room.
    pub(crate) min_free: Size,
}

impl Default for Config {
    fn default() -> Self {
        let local = |port| SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port);
        Self {
            data_dir: PathBuf::from("./aktvator-data"),
            listen: local(8080),
            redirect_listen: local(8081),
            admin_listen: local(9600),
            public_url: None,
            redirect_url: None,
            trusted_proxies: Vec::new(),
            tls: None,
            log: Log::default(),
            storage: Storage::default(),
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
        Self { partitions: 16, min_free: Size(256 << 20) }
    }
}

impl Config {
    /// Defaults, then the file, then `AKTVATOR__SECTION__KEY` of the environment, then the flags.
    ///
    /// # Errors
    /// What is wrong, where, and how to mend it.
    pub(crate) fn load(file: Option<&Path>, flags: toml::Table) -> Result<Self, String> {
        let config: Self =
            serve::config::load(file, "AKTVATOR", serve::config::environment(), flags)
                .map_err(|e| e.to_string())?;
        config.checked()
    }

    fn checked(self) -> Result<Self, String> {
        if !(1..=1024).contains(&self.storage.partitions) {
            return Err("storage.partitions must be from 1 to 1024".to_owned());
        }
        if !self.is_local() && self.tls.is_none() && self.trusted_proxies.is_empty() {
            return Err(format!(
                "{} and {} are not both on loopback, and plain HTTP is for loopback only: set \
                 tls.certificate and tls.key, or name the proxies in front in trusted_proxies",
                self.listen, self.redirect_listen
            ));
        }
        Ok(self)
    }

    /// Nobody but this machine can reach the public listeners.
    pub(crate) fn is_local(&self) -> bool {
        self.listen.ip().is_loopback() && self.redirect_listen.ip().is_loopback()
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
        let scheme = if self.is_local() && self.tls.is_none() { "http" } else { "https" };
        format!("{scheme}://{address}")
    }

    /// As TOML that `--config` reads back.
    pub(crate) fn to_toml(&self) -> String {
        serve::config::print(self).unwrap_or_else(|e| format!("# cannot be shown: {e}\n"))
    }
}
