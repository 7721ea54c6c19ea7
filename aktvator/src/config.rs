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
    /// Partitions of the log, 1 to 1024; fixed once the data directory is made.
    pub(crate) partitions: Partitions,
    /// Below so much free space the log takes nothing more: ingest answers 503 until there is room.
    pub(crate) min_free: Size,
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
        Self { partitions: Partitions(16), min_free: Size(256 << 20) }
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

    /// What no single setting can say of itself.
    fn checked(self) -> Result<Self, String> {
        let mut wrong = Vec::new();
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
        if wrong.is_empty() { Ok(self) } else { Err(wrong.join("\n")) }
    }

    fn is_on_loopback(&self) -> bool {
        self.listen.ip().is_loopback() && self.redirect_listen.ip().is_loopback()
    }

    /// The default installation: nobody but this machine is served, also not through a proxy in front.
    /// Only then are payments a sandbox and this machine a webhook receiver.
    pub(crate) fn is_local(&self) -> bool {
        self.is_on_loopback()
            && self.trusted_proxies.is_empty()
            && self.tls.is_none()
            && self.public_url.is_none()
            && self.redirect_url.is_none()
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

    /// As TOML that `--config` reads back.
    pub(crate) fn to_toml(&self) -> String {
        serve::config::print(self).unwrap_or_else(|e| format!("# cannot be shown: {e}\n"))
    }
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
