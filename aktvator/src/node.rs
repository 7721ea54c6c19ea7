//! One process with every role: opens the stores, starts the services, drains them at the end.

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use access::{Gate, Token};
use control_api::ControlParts;
use dispatcher::DispatcherParts;
use evaluator::EvaluatorParts;
use ingest_edge::{ClickWriter, Edge, EdgeParts, RedirectParts, Redirector};
use serve::http::{Limits, Listener};
use serve::tls::Tls;
use serve::{Clock, Health, Shutdown};
use storage::embedded::OpenOptions;
use storage::{Analytics, Catalog, EventLog, StateStore};
use tokio::runtime::Handle;

use crate::config::Config;
use crate::operator;
use crate::public::{Public, Transport};

const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The source revision, where the build was told.
const REVISION: &str = match option_env!("AKTVATOR_REVISION") {
    Some(revision) => revision,
    None => "unknown",
};
/// What a handler may take beyond the reading of its body: the longest `?wait`, and more.
const HANDLER_TIMEOUT: Duration = Duration::from_secs(30);

/// Why the process ends before it was asked to.
pub(crate) enum Failure {
    /// A setting cannot be used.
    Config(String),
    /// Anything else.
    Start(String),
}

impl From<String> for Failure {
    fn from(message: String) -> Self {
        Self::Start(message)
    }
}

/// The stores and what every role shares.
struct Node {
    config: Config,
    clock: Clock,
    log: EventLog,
    state: StateStore,
    catalog: Catalog,
    analytics: Analytics,
    gate: Arc<Gate>,
    click_key: [u8; 32],
}

/// The listeners, bound before anything is said.
struct Listeners {
    front: FrontListeners,
    admin: Listener,
}

/// Those that the world may reach.
struct FrontListeners {
    public: Listener,
    redirect: Listener,
}

/// Runs until a signal asks for the end, then drains.
///
/// # Errors
/// What kept it from starting, and how to mend it.
pub(crate) fn run(config: Config) -> Result<(), Failure> {
    serve::telemetry::init_tracing(config.log.format, &config.log.filter)
        .map_err(|e| Failure::Config(chain(e)))?;
    if let Err(error) = serve::process::raise_open_files() {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| format!("no runtime: {e}"))?;
    // Deciding and telling give way to taking in: a burst is acknowledged first and decided after.
    let background =
        serve::process::background_runtime().map_err(|e| format!("no background runtime: {e}"))?;
    let result = runtime.block_on(serve_all(config, background.handle()));
    background.shutdown_background();
    result
}

async fn serve_all(config: Config, background: &Handle) -> Result<(), Failure> {
    let metrics = serve::telemetry::install_metrics(VERSION, REVISION).map_err(chain)?;
    let listeners = Listeners::bind(&config)?;
    let (node, new_token) = Node::open(config).await?;
    let health = Health::new();
    health.adopt_tasks();
    let shutdown = Shutdown::new();
    serve::listen_for_signals(&shutdown).map_err(|e| format!("no signal handlers: {e}"))?;
    node.greet(new_token);

    let admin_end = Shutdown::new();
    let admin = serve::admin::Admin {
        health: health.clone(),
        metrics,
        version: VERSION,
        revision: REVISION,
    };
    let admin = serve::spawn("admin", serve::admin::run(listeners.admin, admin, admin_end.clone()));

    node.work_until(&shutdown, &health, listeners.front, background).await?;

    admin_end.request();
    let _ = admin.await;
    tracing::info!("stopped; everything acknowledged is on disk");
    Ok(())
}

impl Listeners {
    fn bind(config: &Config) -> Result<Self, Failure> {
        let tls = || match &config.tls {
            Some(files) => Tls::load(&files.certificate, &files.key)
                .map(Some)
                .map_err(|e| Failure::Config(chain(e))),
            None => Ok(None),
        };
        let bind = |name, address, tls| Listener::bind(name, address, tls).map_err(chain);
        Ok(Self {
            front: FrontListeners {
                public: bind("public", config.listen, tls()?)?,
                redirect: bind("redirect", config.redirect_listen, tls()?)?,
            },
            admin: bind("admin", config.admin_listen, None)?,
        })
    }
}

impl Node {
    /// Opens or makes the data directory; also says whether its operator token is new.
    async fn open(config: Config) -> Result<(Self, bool), String> {
        let dir = config.data_dir.as_path();
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .map_err(|e| format!("the data directory {} cannot be made: {e}", dir.display()))?;
        let options = OpenOptions {
            partitions: config.storage.partitions.0,
            min_free_bytes: config.storage.min_free.0,
            ..OpenOptions::new(random()?)
        };
        let (log, state) = storage::embedded::open(dir, &options).map_err(|e| unopened(dir, e))?;
        let catalog = Catalog::open(&dir.join("catalog.db")).map_err(|e| unopened(dir, e))?;
        let analytics = Analytics::open(&dir.join("analytics.db")).map_err(|e| unopened(dir, e))?;
        let (token, new_token) = operator::load_or_create(dir)?;
        let fresh = random_bytes()?;
        let click_key = catalog.setting("click-key", || fresh.to_vec()).await.map_err(chain)?;
        let click_key = click_key.try_into().map_err(|_| "the stored click key is damaged")?;
        let gate = Arc::new(Gate::new(catalog.clone(), Token::sha256(&token)));
        let clock = Clock::system();
        Ok((Self { config, clock, log, state, catalog, analytics, gate, click_key }, new_token))
    }

    /// Says where everything is and, at the first start, what to do next.
    fn greet(&self, new_token: bool) {
        let Config { listen, redirect_listen, admin_listen, data_dir, .. } = &self.config;
        println!("Aktvator {VERSION}, data in {}", data_dir.display());
        println!("  API        {}  (OpenAPI at /openapi.json)", self.config.public_url());
        println!("  links      {}", self.config.redirect_url());
        println!("  operating  http://{admin_listen}  (/livez /readyz /metrics)");
        if new_token {
            println!(
                "First start: the operator token is in {}",
                operator::path(data_dir).display()
            );
            println!(
                "Next: `aktvator quickstart` sets up an organization and prints what to paste."
            );
        }
        if self.config.is_local() {
            tracing::warn!(
                "loopback only: the sandbox pays top-ups, and webhooks may go to this machine"
            );
        }
        tracing::info!(%listen, %redirect_listen, %admin_listen, "serving");
    }

    /// Runs every role. At the end the listeners answer what they have accepted and the last clicks reach
    /// the log; only then does what works behind them stop. What it leaves is durable, and done at the
    /// next start.
    async fn work_until(
        self,
        shutdown: &Shutdown,
        health: &Health,
        listeners: FrontListeners,
        background: &Handle,
    ) -> Result<(), String> {
        let behind = Shutdown::new();
        let (catalog, log, clock) = (self.catalog.clone(), self.log.clone(), self.clock.clone());
        let relay = control_api::relay(catalog, log, clock, behind.clone());
        let relay = serve::spawn("relay", relay);
        let evaluator = evaluator::run(self.evaluator(health), behind.clone());
        let dispatcher = dispatcher::run(self.dispatcher()?, behind.clone());
        let (evaluator, dispatcher) = {
            let _background = background.enter();
            (serve::spawn("evaluator", evaluator), serve::spawn("dispatcher", dispatcher))
        };
        let (redirector, clicks) = self.redirector()?;
        let clicks = serve::spawn("clicks", clicks.run());

        let front = tokio::spawn(self.listen(listeners, redirector, shutdown.clone())?);
        shutdown.requested().await;
        health.set_draining();
        for task in [front, clicks] {
            let _ = task.await;
        }
        behind.request();
        for task in [relay, evaluator, dispatcher] {
            let _ = task.await;
        }
        Ok(())
    }

    fn evaluator(&self, health: &Health) -> EvaluatorParts {
        EvaluatorParts {
            log: self.log.clone(),
            state: self.state.clone(),
            clock: self.clock.clone(),
            health: health.clone(),
            config: self.config.evaluator.clone(),
        }
    }

    fn dispatcher(&self) -> Result<DispatcherParts, String> {
        let config = dispatcher::Config {
            allow_loopback_targets: self.config.is_local(),
            ..self.config.dispatcher.clone()
        };
        Ok(DispatcherParts {
            log: self.log.clone(),
            state: self.state.clone(),
            catalog: self.catalog.clone(),
            analytics: self.analytics.clone(),
            clock: self.clock.clone(),
            seed: random()?,
            transport: dispatcher::Transport::network(&config),
            config,
        })
    }

    fn redirector(&self) -> Result<(Redirector, ClickWriter), String> {
        Ok(Redirector::new(RedirectParts {
            catalog: self.catalog.clone(),
            log: self.log.clone(),
            clock: self.clock.clone(),
            click_key: self.click_key,
            random: random()?,
            config: self.config.edge.clone(),
        }))
    }

    fn edge(&self) -> Result<Edge, String> {
        Ok(Edge::new(EdgeParts {
            log: self.log.clone(),
            state: self.state.clone(),
            gate: Arc::clone(&self.gate),
            clock: self.clock.clone(),
            click_key: self.click_key,
            random: random()?,
            config: self.config.edge.clone(),
        }))
    }

    fn control(&self) -> ControlParts {
        ControlParts {
            log: self.log.clone(),
            state: self.state.clone(),
            catalog: self.catalog.clone(),
            analytics: self.analytics.clone(),
            gate: Arc::clone(&self.gate),
            clock: self.clock.clone(),
            config: control_api::Config {
                public_base_url: self.config.public_url(),
                redirect_base_url: self.config.redirect_url(),
                sandbox_payments: self.config.is_local(),
                allow_loopback_targets: self.config.is_local(),
            },
            random: control_api::Random::System,
        }
    }

    /// Both public listeners, until `shutdown` is requested and their connections are done.
    fn listen(
        &self,
        listeners: FrontListeners,
        redirector: Redirector,
        shutdown: Shutdown,
    ) -> Result<impl Future<Output = ()> + use<>, String> {
        let FrontListeners { public, redirect } = listeners;
        let transport = Transport::new(&self.config.trusted_proxies, self.config.is_local());
        let api = Public {
            transport: transport.clone(),
            edge: Arc::new(self.edge()?),
            control: control_api::router(self.control()),
        };
        let limits = Limits {
            request_timeout: self.config.edge.body_timeout.0 + HANDLER_TIMEOUT,
            ..Limits::default()
        };
        let api = serve::http::serve(public, limits, shutdown.clone(), move |request, peer| {
            api.clone().handle(request, peer)
        });
        let redirector = Arc::new(redirector);
        let links =
            serve::http::serve(redirect, Limits::default(), shutdown, move |request, peer| {
                let (redirector, transport) = (Arc::clone(&redirector), transport.clone());
                async move {
                    if transport.is_private(&request, peer) {
                        redirector.handle(request).await
                    } else {
                        Transport::refusal()
                    }
                }
            });
        Ok(async move {
            tokio::join!(api, links);
        })
    }
}

fn random_bytes() -> Result<[u8; 32], String> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|e| format!("no randomness from the system: {e}"))?;
    Ok(bytes)
}

fn random() -> Result<u64, String> {
    getrandom::u64().map_err(|e| format!("no randomness from the system: {e}"))
}

/// An error with its causes, for people.
fn chain(error: impl std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

fn unopened(dir: &Path, error: storage::Error) -> String {
    format!("the data directory {} cannot be opened: {}", dir.display(), chain(error))
}
