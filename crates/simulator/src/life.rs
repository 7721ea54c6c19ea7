//! One life of the process: everything is started from what the disk holds, things happen, and it ends
//! by a crash or with all work done.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use access::Gate;
use bytes::Bytes;
use dispatcher::{DispatcherParts, Transport};
use evaluator::EvaluatorParts;
use http::Request;
use http_body_util::Empty;
use ingest_edge::{Edge, EdgeParts, RedirectParts, Redirector};
use rand::RngExt;
use rand::rngs::StdRng;
use serve::config::Span;
use serve::{Clock, Health, Shutdown};
use storage::analytics::Source;
use storage::fault::{Action as Fault, Faults};
use storage::log::Topic;
use storage::state::{Group, Shard};
use storage::{Analytics, EventLog, StateStore};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::clients;
use crate::crash::{self, POINTS};
use crate::deliveries;
use crate::fleet::{Fleet, PEERS_MAX};
use crate::invariant::{Checked, Invariant, Violation};
use crate::workload::Action;
use crate::world::{HOLDS_PER_STEP, PARTITIONS, World};

/// Nothing asked for may take longer once failures have an end, in virtual time.
const PATIENCE: Duration = Duration::from_secs(3_600);
/// Decisions are made within this, whatever becomes of webhooks and figures (M1).
const DECISIONS_WITHIN: Duration = Duration::from_secs(60);
/// Longer than any retry schedule.
const DELIVERIES_WITHIN: Duration = Duration::from_secs(8 * 86_400);
const CLICK_KEY: [u8; 32] = [7; 32];
const SECOND: Duration = Duration::from_secs(1);

/// How a life ended.
pub(crate) enum End {
    /// Where it was planned.
    Crashed,
    /// Everything is done and stopped in order.
    Done,
}

/// The parts of a running process, and on servers the evaluators beside it.
pub(crate) struct Life {
    faults: Faults,
    log: EventLog,
    state: StateStore,
    /// Through which nothing goes wrong.
    seen: (EventLog, StateStore),
    analytics: Analytics,
    clock: Clock,
    edge: Arc<Edge>,
    /// Until no visitor comes any more.
    redirector: Option<Redirector>,
    clicks: Option<JoinHandle<()>>,
    shutdown: Shutdown,
    tasks: Vec<JoinHandle<()>>,
    clients: Vec<JoinHandle<()>>,
    fleet: Fleet,
}

/// Lives until a crash or until all work is done.
pub(crate) async fn live(world: &mut World) -> Result<End, Violation> {
    let faults = Faults::default();
    plan(world, &faults);
    let mut life = Life::start(world, &faults);
    let clock = life.clock.clone();
    let ended = tokio::select! {
        biased;
        () = faults.crashed(1) => Ok(End::Crashed),
        done = life.work(world) => done.map(|()| End::Done),
    };
    world.now_ms = clock.now_ms();
    let scripts = std::iter::once(&faults).chain(life.fleet.scripts());
    scripts.for_each(|faults| crash::count(&mut world.mishaps, faults));
    if matches!(ended, Ok(End::Crashed)) {
        world.book.note(format!("{} crash at {:?}", world.now_ms, crash::last(&faults)));
    }
    let violation = world.book.open().violation.take();
    violation.map_or(ended, Err)
}

/// Plans what goes wrong, and how the process dies, if it is to.
fn plan(world: &mut World, faults: &Faults) {
    crash::trouble(faults, &mut world.rng);
    if world.stores.are_servers() {
        world.weather.befall(faults, &mut world.rng);
    }
    if world.crashes_left == 0 {
        return;
    }
    world.crashes_left -= 1;
    let turn = world.options.seed as usize * 5 + world.crashes_left as usize;
    crash::plan(faults, POINTS[turn % POINTS.len()], Fault::Crash, &mut world.rng);
}

impl Life {
    fn start(world: &mut World, faults: &Faults) -> Self {
        let (log, state) = world.stores.open(faults, world.now_ms, &mut world.rng);
        let clock = Clock::tokio(world.now_ms);
        let (catalog, analytics) = (world.catalog.clone(), world.analytics());
        let edge = Edge::new(EdgeParts {
            log: log.clone(),
            state: state.clone(),
            gate: Arc::new(Gate::new(catalog.clone(), [0; 32])),
            clock: clock.clone(),
            click_key: CLICK_KEY,
            random: world.rng.random(),
            config: ingest_edge::Config::default(),
        });
        let (redirector, clicks) = Redirector::new(RedirectParts {
            catalog: catalog.clone(),
            log: log.clone(),
            clock: clock.clone(),
            click_key: CLICK_KEY,
            random: world.rng.random(),
            config: ingest_edge::Config::default(),
        });
        let shutdown = Shutdown::new();
        let dispatcher = dispatcher::run(
            DispatcherParts {
                log: log.clone(),
                state: state.clone(),
                catalog: catalog.clone(),
                analytics: analytics.clone(),
                clock: clock.clone(),
                seed: world.rng.random(),
                transport: Transport::Scripted(world.receivers.script()),
                config: dispatcher::Config::default(),
            },
            shutdown.clone(),
        );
        let relay = control_api::relay(catalog, log.clone(), clock.clone(), shutdown.clone());
        let tasks = vec![serve::spawn("relay", relay), serve::spawn("dispatcher", dispatcher)];
        let (edge, clients) = (Arc::new(edge), Vec::new());
        let (redirector, clicks) = (Some(redirector), Some(serve::spawn("clicks", clicks.run())));
        let mut life = Self {
            faults: faults.clone(),
            log,
            state,
            seen: world.stores.look(),
            analytics,
            clock: clock.clone(),
            edge,
            redirector,
            clicks,
            shutdown,
            tasks,
            clients,
            fleet: Fleet::new(clock),
        };
        let evaluators =
            if world.stores.are_servers() { world.rng.random_range(1..=PEERS_MAX) } else { 1 };
        (0..evaluators).for_each(|_| life.evaluate(world));
        life
    }

    /// Starts an evaluator over all partitions: the only one, or a rival of those that run.
    fn evaluate(&mut self, world: &mut World) {
        if world.stores.are_servers() {
            return self.fleet.add(world);
        }
        let parts = EvaluatorParts {
            log: self.log.clone(),
            state: self.state.clone(),
            clock: self.clock.clone(),
            health: Health::new(),
            config: config(&mut world.rng),
        };
        let run = evaluator::run(parts, self.shutdown.clone());
        self.tasks.push(serve::spawn("evaluator", run));
    }

    /// Does all that is left to do, waits until all of it has had its effect, and stops.
    async fn work(&mut self, world: &mut World) -> Checked {
        let waiting: Vec<_> = world.book.open().waiting.values().cloned().collect();
        for order in waiting {
            self.send(world, order);
        }
        self.store(world).await?;
        while world.actions_left > 0 {
            world.actions_left -= 1;
            world.now_ms = self.clock.now_ms();
            let action = world.draw();
            self.act(world, action).await?;
            world.watch.look(&self.seen, world.upgrade.as_ref()).await?;
            self.fleet.check(world)?;
            let upgrade = self.fleet.upgrade(world, &self.seen);
            let what = "older processes do not halt where they know no further";
            within(PATIENCE, Invariant::D2, what, upgrade).await??;
        }
        if world.pay_up() && world.rng.random_bool(0.5) {
            // Soon, so that it falls among the releases.
            let point = POINTS[world.rng.random_range(0..6)];
            let nth = world.rng.random_range(1..=12);
            self.faults.at(point.op, point.step, nth, Fault::Crash);
            self.fleet.befall(&mut world.rng);
        }
        self.store(world).await?;
        self.settle(world).await?;
        self.stop(world).await
    }

    async fn store(&mut self, world: &mut World) -> Checked {
        while let Some(deed) = world.deeds.pop_front() {
            self.act(world, Action::Store(deed)).await?;
        }
        Ok(())
    }

    async fn act(&mut self, world: &mut World, action: Action) -> Checked {
        let now = self.clock.now_ms();
        match action {
            Action::Send(order) => {
                let events = serde_json::Value::from(order.events.clone());
                world.book.note(format!("{now} send #{}: {events}", order.number));
                world.book.open().waiting.insert(order.number, order.clone());
                self.send(world, order);
            }
            Action::Store(deed) => {
                world.book.note(format!("{now} store {}", deed.label));
                let stored = world.catalog.apply(vec![deed.change]).await;
                stored.map_err(|e| Violation::new(Invariant::Liveness, format!("catalog: {e}")))?;
            }
            Action::Click { tenant, code } => self.click(world, tenant, &code).await,
            Action::Damage { partition, bytes } => {
                world.book.note(format!("{now} damage in {partition}"));
                // Damage that does not make it into the log is none.
                let _ = self.log.append(Topic::Events, vec![(partition, bytes.into())]).await;
            }
            Action::Command { label, partition, record } => {
                world.book.note(format!("{now} {label}"));
                // One that does not make it into the log was refused to its caller.
                let _ = self.log.append(Topic::Events, vec![(partition, record)]).await;
            }
            Action::Rival => {
                world.book.note(format!("{now} a rival evaluator"));
                self.evaluate(world);
            }
            Action::Rest(ms) => tokio::time::sleep(Duration::from_millis(ms)).await,
        }
        tokio::time::sleep(Duration::from_millis(world.rng.random_range(0..30))).await;
        Ok(())
    }

    fn send(&mut self, world: &World, order: clients::Order) {
        let sending = clients::send(self.edge.clone(), order, world.book.clone());
        self.clients.push(serve::spawn("client", sending));
    }

    async fn click(&mut self, world: &mut World, tenant: usize, code: &str) {
        let request = Request::builder().uri(format!("/{code}")).body(Empty::<Bytes>::new());
        let request = request.expect("a code is a path");
        let Some(redirector) = &self.redirector else { return };
        let response = redirector.handle(request).await;
        let location = response.headers().get("location").and_then(|value| value.to_str().ok());
        let click = location.and_then(|url| url.split_once("akt_id=")).map(|(_, id)| id.to_owned());
        let now = self.clock.now_ms();
        world.book.note(format!("{now} click on {code}: {} {click:?}", response.status()));
        world.click_ids.extend(click.map(|click| (tenant, click)));
    }

    /// Waits until clients are acknowledged, everything is decided, counted and delivered.
    async fn settle(&mut self, world: &mut World) -> Checked {
        for client in self.clients.drain(..) {
            within(PATIENCE, Invariant::A1, "a client is not acknowledged", client).await?.ok();
        }
        self.redirector = None;
        if let Some(clicks) = self.clicks.take() {
            within(PATIENCE, Invariant::Liveness, "clicks are not written", clicks).await?.ok();
        }
        let outbox = async {
            while !world.catalog.outbox(1).await.unwrap_or_default().is_empty() {
                tokio::time::sleep(SECOND).await;
            }
        };
        within(PATIENCE, Invariant::Liveness, "the outbox is not relayed", outbox).await?;
        if world.stores.are_servers() {
            self.faults.clear();
            self.fleet.calm_down(world).await;
        }
        let what = "decisions wait for what they must not wait for";
        within(DECISIONS_WITHIN, Invariant::M1, what, self.decided()).await?;
        world.receivers.healed.store(true, Ordering::SeqCst);
        world.book.note(format!("{} receivers answer", self.clock.now_ms()));
        within(PATIENCE, Invariant::Liveness, "figures lag for ever", self.counted()).await?;
        let what = "a delivery is neither delivered nor exhausted";
        within(DELIVERIES_WITHIN, Invariant::N1, what, deliveries::finished(&self.log, &self.state))
            .await
    }

    /// Returns once every record of the log is decided, and nothing is appended any more.
    async fn decided(&self) {
        let mut ends = Vec::new();
        loop {
            let mut now = Vec::new();
            for partition in 0..PARTITIONS {
                let bounds = self.log.bounds(Topic::Events, partition).await;
                let Ok(bounds) = bounds else { continue };
                let _ = self.state.committed(shard(partition), bounds.end).await;
                now.push(bounds.end);
            }
            if now == ends && now.len() == usize::from(PARTITIONS) {
                return;
            }
            ends = now;
            // Longer than a tick.
            tokio::time::sleep(2 * SECOND).await;
        }
    }

    /// Returns once all outcomes and clicks are in the figures.
    async fn counted(&self) {
        for (source, topic) in
            [(Source::Outcomes, Topic::Outcomes), (Source::Clicks, Topic::Clicks)]
        {
            for partition in 0..PARTITIONS {
                loop {
                    let end = self.log.bounds(topic, partition).await.map(|bounds| bounds.end);
                    let next = self.analytics.position(source, partition).await;
                    if let (Ok(end), Ok(next)) = (end, next)
                        && end == next.next
                    {
                        break;
                    }
                    tokio::time::sleep(SECOND).await;
                }
            }
        }
    }

    async fn stop(&mut self, world: &World) -> Checked {
        world.book.note(format!("{} stop", self.clock.now_ms()));
        self.shutdown.request();
        within(PATIENCE, Invariant::Liveness, "a peer does not drain", self.fleet.stop()).await?;
        for task in self.tasks.drain(..) {
            within(PATIENCE, Invariant::Liveness, "a task does not drain", task).await?.ok();
        }
        Ok(())
    }
}

/// An evaluator's bounds, as different as they may be.
pub(crate) fn config(rng: &mut StdRng) -> evaluator::Config {
    evaluator::Config {
        batch_records_max: rng.random_range(1..40),
        slice_records_max: rng.random_range(1..20),
        cache_rows_max: [4, 64, 65_536][rng.random_range(0..3)],
        holds_per_step: HOLDS_PER_STEP,
        sample_every: Span::from_secs(3_600),
        retry_max: Span::from_secs(1),
        log_retention: Span::from_secs(365 * 86_400),
        ..evaluator::Config::default()
    }
}

async fn within<T>(
    limit: Duration,
    invariant: Invariant,
    what: &str,
    work: impl Future<Output = T>,
) -> Result<T, Violation> {
    let result = timeout(limit, work).await;
    result.map_err(|_| Violation::new(invariant, format!("{what}, after {limit:?}")))
}

pub(crate) const fn shard(partition: u16) -> Shard {
    Shard { group: Group::Evaluator, partition }
}
