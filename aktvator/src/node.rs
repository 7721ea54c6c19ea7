//! One process: opens the stores, starts the roles it was given, drains them at the end.

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
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use crate::config::{Backend, Config};
use crate::failure::{Failure, chain};
use crate::public::{self, Api, Transport};
use crate::role::{Role, Roles};
use crate::stores::Stores;
use crate::{moving, operator, random};

const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The source revision, where the build was told.
const REVISION: &str = match option_env!("AKTVATOR_REVISION") {
    Some(revision) => revision,
    None => "unknown",
};
/// What a handler may take beyond the reading of its body: the longest `?wait`, and more.
const HANDLER_TIMEOUT: Duration = Duration::from_secs(30);

/// The stores and what every role shares.
struct Node {
    config: Config,
    roles: Roles,
    clock: Clock,
    stores: Stores,
    gate: Arc<Gate>,
    click_key: [u8; 32],
}

/// The listeners, bound before anything is said; those of roles that the process has.
struct Listeners {
    public: Option<Listener>,
    redirect: Option<Listener>,
    admin: Listener,
}

/// What a process does, in the order in which it ends.
#[derive(Default)]
struct Work {
    /// Answers callers from outside, and what they wait for.
    front: Vec<JoinHandle<()>>,
    /// Works behind them.
    behind: Vec<JoinHandle<()>>,
}

/// Runs `roles` until a signal asks for the end, then drains.
///
/// # Errors
/// What kept it from starting, and how to mend it.
pub(crate) fn run(config: Config, roles: Roles) -> Result<(), Failure> {
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
    let result = runtime.block_on(serve_roles(config, roles, background.handle()));
    background.shutdown_background();
    result
}

async fn serve_roles(config: Config, roles: Roles, background: &Handle) -> Result<(), Failure> {
    let metrics = serve::telemetry::install_metrics(VERSION, REVISION).map_err(chain)?;
    let Listeners { public, redirect, admin } = Listeners::bind(&config, &roles)?;
    let (node, new_token) = Node::open(config, roles).await?;
    let health = Health::new();
    health.adopt_tasks();
    let shutdown = Shutdown::new();
    serve::listen_for_signals(&shutdown).map_err(|e| format!("no signal handlers: {e}"))?;
    node.greet(new_token);

    let admin_end = Shutdown::new();
    let shown = serve::admin::Admin {
        health: health.clone(),
        metrics,
        version: VERSION,
        revision: REVISION,
    };
    let admin = serve::spawn("admin", serve::admin::run(admin, shown, admin_end.clone()));

    let behind_end = Shutdown::new();
    let mut work = Work::default();
    node.work_behind(&mut work, &health, background, &behind_end)?;
    node.answer(&mut work, public, redirect, &shutdown)?;
    for role in node.roles.iter().filter(|role| *role != Role::Evaluator) {
        health.register(role.as_str()).set_ready(true, "");
    }
    work.until(&shutdown, &behind_end, &health).await;

    admin_end.request();
    let _ = admin.await;
    tracing::info!("stopped; everything acknowledged is durable");
    Ok(())
}

/// What an operator's token hashes to, and whether the token is new. Where no operator is answered no
/// token does.
fn operator_sha256(config: &Config, roles: &Roles) -> Result<([u8; 32], bool), String> {
    let file = config.operator_token_file();
    match config.storage.backend {
        Backend::Embedded => {
            let (token, is_new) = operator::load_or_create(&file)?;
            Ok((Token::sha256(&token), is_new))
        }
        Backend::Servers if roles.has(Role::Control) => {
            let token = operator::read(&file).map_err(|e| {
                format!(
                    "{e}; copy it from where `aktvator migrate` was run, see operator_token_file"
                )
            })?;
            Ok((Token::sha256(&token), false))
        }
        Backend::Servers => Ok((random::bytes()?, false)),
    }
}

impl Listeners {
    fn bind(config: &Config, roles: &Roles) -> Result<Self, Failure> {
        let tls = || match &config.tls {
            Some(files) => Tls::load(&files.certificate, &files.key)
                .map(Some)
                .map_err(|e| Failure::Config(chain(e))),
            None => Ok(None),
        };
        let bind = |name, address, tls| Listener::bind(name, address, tls).map_err(chain);
        let mut listeners =
            Self { public: None, redirect: None, admin: bind("admin", config.admin_listen, None)? };
        if roles.have_callers() {
            listeners.public = Some(bind("public", config.listen, tls()?)?);
        }
        if roles.has(Role::Edge) {
            listeners.redirect = Some(bind("redirect", config.redirect_listen, tls()?)?);
        }
        Ok(listeners)
    }
}

impl Work {
    /// At the end the listeners answer what they have accepted and the last clicks reach the log; only
    /// then does what works behind them stop. What it leaves is durable, and done at the next start.
    async fn until(self, shutdown: &Shutdown, behind_end: &Shutdown, health: &Health) {
        shutdown.requested().await;
        health.set_draining();
        for task in self.front {
            // A panic was reported where it happened.
            let _ = task.await;
        }
        behind_end.request();
        for task in self.behind {
            let _ = task.await;
        }
    }
}

impl Node {
    /// Opens the stores; also says whether the operator token is new.
    async fn open(config: Config, roles: Roles) -> Result<(Self, bool), Failure> {
        let stores = Stores::open(&config, &roles).await?;
        moving::may_serve(&stores.catalog).await?;
        let (operator, new_token) = operator_sha256(&config, &roles)?;
        let fresh = random::bytes()?;
        let setting = stores.catalog.setting("click-key", || fresh.to_vec()).await;
        let click_key = setting.map_err(chain)?;
        let click_key = click_key.try_into();
        let click_key = click_key.map_err(|_| "the stored click key is damaged".to_owned())?;
        let gate = Arc::new(Gate::new(stores.catalog.clone(), operator));
        let clock = Clock::system();
        Ok((Self { config, roles, clock, stores, gate, click_key }, new_token))
    }

    /// Says where everything is and, at the first start, what to do next.
    fn greet(&self, new_token: bool) {
        let Config { listen, redirect_listen, admin_listen, data_dir, .. } = &self.config;
        match self.config.storage.backend {
            Backend::Embedded => println!("Aktvator {VERSION}, data in {}", data_dir.display()),
            Backend::Servers => println!("Aktvator {VERSION} on servers: {}", self.roles),
        }
        if self.roles.have_callers() {
            println!("  API        {}  (OpenAPI at /openapi.json)", self.config.public_url());
            println!("  links      {}", self.config.redirect_url());
        }
        println!("  operating  http://{admin_listen}  (/livez /readyz /metrics)");
        if new_token {
            let file = self.config.operator_token_file();
            println!("First start: the operator token is in {}", file.display());
            println!(
                "Next: `aktvator quickstart` sets up an organization and prints what to paste."
            );
        }
        if self.config.is_local() {
            tracing::warn!(
                "loopback only: the sandbox pays top-ups, and webhooks may go to this machine"
            );
        }
        tracing::info!(roles = %self.roles, %listen, %redirect_listen, %admin_listen, "serving");
    }

    /// Starts what nobody outside talks to: relay, evaluator, dispatcher.
    fn work_behind(
        &self,
        work: &mut Work,
        health: &Health,
        background: &Handle,
        end: &Shutdown,
    ) -> Result<(), String> {
        if self.roles.has(Role::Control) {
            let (catalog, log) = (self.stores.catalog.clone(), self.stores.log.clone());
            let relay = control_api::relay(catalog, log, self.clock.clone(), end.clone());
            work.behind.push(serve::spawn("relay", relay));
        }
        let _background = background.enter();
        if self.roles.has(Role::Evaluator) {
            let evaluator = evaluator::run(self.evaluator(health), end.clone());
            work.behind.push(serve::spawn("evaluator", evaluator));
        }
        if self.roles.has(Role::Dispatcher) {
            let dispatcher = dispatcher::run(self.dispatcher()?, end.clone());
            work.behind.push(serve::spawn("dispatcher", dispatcher));
        }
        Ok(())
    }

    /// Starts what the listeners are there for, until `shutdown`.
    fn answer(
        &self,
        work: &mut Work,
        public: Option<Listener>,
        redirect: Option<Listener>,
        shutdown: &Shutdown,
    ) -> Result<(), String> {
        let transport = Transport::new(&self.config.trusted_proxies, self.config.is_local());
        if let (Some(listener), Some(api)) = (public, self.api()?) {
            let limits = Limits {
                request_timeout: self.config.edge.body_timeout.0 + HANDLER_TIMEOUT,
                ..Limits::default()
            };
            let transport = transport.clone();
            let api = public::serve_api(listener, limits, transport, api, shutdown.clone());
            work.front.push(serve::spawn("api", api));
        }
        if let Some(listener) = redirect {
            let (redirector, clicks) = self.redirector()?;
            let links = public::serve_links(listener, transport, redirector, shutdown.clone());
            work.front.push(serve::spawn("links", links));
            work.front.push(serve::spawn("clicks", clicks.run()));
        }
        Ok(())
    }

    /// What answers at the public address; `None` where no role does.
    fn api(&self) -> Result<Option<Api>, String> {
        let control = || self.control().map(control_api::router);
        Ok(match (self.roles.has(Role::Edge), self.roles.has(Role::Control)) {
            (true, true) => Some(Api::Both(Arc::new(self.edge()?), control()?)),
            (true, false) => Some(Api::Edge(Arc::new(self.edge()?))),
            (false, true) => Some(Api::Control(control()?)),
            (false, false) => None,
        })
    }

    fn evaluator(&self, health: &Health) -> EvaluatorParts {
        EvaluatorParts {
            log: self.stores.log.clone(),
            state: self.stores.state.clone(),
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
            log: self.stores.log.clone(),
            state: self.stores.state.clone(),
            catalog: self.stores.catalog.clone(),
            analytics: self.stores.analytics()?,
            clock: self.clock.clone(),
            seed: random::number()?,
            transport: dispatcher::Transport::network(&config),
            config,
        })
    }

    fn redirector(&self) -> Result<(Redirector, ClickWriter), String> {
        Ok(Redirector::new(RedirectParts {
            catalog: self.stores.catalog.clone(),
            log: self.stores.log.clone(),
            clock: self.clock.clone(),
            click_key: self.click_key,
            random: random::number()?,
            config: self.config.edge.clone(),
        }))
    }

    fn edge(&self) -> Result<Edge, String> {
        Ok(Edge::new(EdgeParts {
            log: self.stores.log.clone(),
            state: self.stores.state.clone(),
            gate: Arc::clone(&self.gate),
            clock: self.clock.clone(),
            click_key: self.click_key,
            random: random::number()?,
            config: self.config.edge.clone(),
        }))
    }

    fn control(&self) -> Result<ControlParts, String> {
        Ok(ControlParts {
            log: self.stores.log.clone(),
            state: self.stores.state.clone(),
            catalog: self.stores.catalog.clone(),
            analytics: self.stores.analytics()?,
            gate: Arc::clone(&self.gate),
            clock: self.clock.clone(),
            config: control_api::Config {
                public_base_url: self.config.public_url(),
                redirect_base_url: self.config.redirect_url(),
                sandbox_payments: self.config.is_local(),
                allow_loopback_targets: self.config.is_local(),
            },
            random: control_api::Random::System,
        })
    }
}
