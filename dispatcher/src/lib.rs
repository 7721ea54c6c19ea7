//! Follows outcomes and clicks and brings them outside: into analytics, and as signed webhooks to
//! whoever subscribed. Two consumers that never wait for each other.
//!
//! What it is not: it knows no rule and decides nothing about money; it has no listener.
//!
//! Invariants: a notice is delivered or its attempts are exhausted, each attempt logged and
//! numbered from 1 without gaps (at least once: a crash between answer and record sends again); what
//! is stored is what is signed is what is sent; a receiver that is slow, dead or hostile costs its
//! own endpoint's time and nobody else's; facts count once whatever crashes where; no record is
//! skipped because something is away.
//!
//! Start reading at [`run`]; then [`notice`] (what is told), [`attempt`] (what follows from an
//! answer), `partition` (the owner's loop), [`lanes`] (who is next), [`facts`] (what is counted).

mod analytics;
pub mod attempt;
mod backoff;
mod board;
mod catch_up;
mod chain;
mod commit;
pub mod config;
mod endpoints;
pub mod expand;
pub mod facts;
mod follow;
pub mod lanes;
pub mod metrics;
pub mod notice;
mod partition;
pub mod retry_after;
pub mod rows;
mod send;
pub mod sign;
mod store;
pub mod transport;
mod trim;

use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use serve::{Clock, Crew, Shutdown};
use storage::{Analytics, Catalog, EventLog, StateStore};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use crate::analytics::Follower;
use crate::backoff::Backoff;
use crate::board::{Board, Consumer};
pub use crate::catch_up::{Behind, catch_up};
use crate::chain::chain;
pub use crate::config::Config;
use crate::endpoints::Endpoints;
use crate::partition::{Owner, Shared};
pub use crate::transport::Transport;

/// What a dispatcher is made of.
pub struct DispatcherParts {
    /// Where outcomes and clicks are.
    pub log: EventLog,
    /// Where deliveries are kept.
    pub state: StateStore,
    /// Where endpoints are registered.
    pub catalog: Catalog,
    /// Where facts go.
    pub analytics: Analytics,
    /// What time it is.
    pub clock: Clock,
    /// Of the jitter of retries: the same seed gives the same jitter.
    pub seed: u64,
    /// How webhooks leave.
    pub transport: Transport,
    /// The settings.
    pub config: Config,
}

impl DispatcherParts {
    /// What partitions share, and what only some of their consumers need.
    fn shared(self) -> (Arc<Shared>, Analytics) {
        let Self { log, state, catalog, analytics, clock, transport, config, .. } = self;
        let permits = config.in_flight_max.clamp(1, Semaphore::MAX_PERMITS);
        let shared = Shared {
            endpoints: Endpoints::new(catalog),
            board: Board::new(log.partitions()),
            permits: Arc::new(Semaphore::new(permits)),
            log,
            state,
            clock,
            transport,
            config,
        };
        (Arc::new(shared), analytics)
    }
}

/// The name under which dispatchers share the partitions among themselves.
const GROUP: &str = "dispatcher";

/// Runs both consumers over the partitions that are this process's until `shutdown`; then it begins
/// nothing more, finishes the attempts that are under way, and stores what came of them. If it is
/// dropped, everything it began ends with it.
pub async fn run(parts: DispatcherParts, shutdown: Shutdown) {
    if parts.config.allow_loopback_targets {
        tracing::info!("webhooks to this machine are permitted, over http too");
    }
    let (seed, (shared, analytics)) = (parts.seed, parts.shared());
    let mut assignments = shared.log.assignments(GROUP);
    let mut chores = Tasks::default();
    chores.spawn("trim", trim::run(shared.clone(), analytics.clone(), shutdown.clone()));
    chores.spawn("dispatcher-report", report(shared.clone(), shutdown.clone()));
    let mut crew = Crew::new();
    while !shutdown.is_requested() {
        let partitions = assignments.borrow();
        shared.board.own(&partitions);
        let all = |partition| Consumer::ALL.map(|consumer| (partition, consumer));
        let wanted: Vec<_> = partitions.into_iter().flat_map(all).collect();
        crew.keep(&wanted, |(partition, consumer), stop| match consumer.source() {
            None => serve::spawn("webhooks", own(shared.clone(), partition, seed, stop)),
            Some(source) => {
                let (shared, analytics) = (shared.clone(), analytics.clone());
                let follower = Follower { shared, analytics, consumer, source, partition };
                serve::spawn("analytics", follower.run(stop))
            }
        });
        tokio::select! {
            biased;
            () = shutdown.requested() => {}
            () = assignments.changed() => {}
            (partition, _) = crew.ended() => {
                if crew.keys().all(|(still, _)| still != partition) {
                    assignments.release(partition);
                }
            }
        }
    }
    crew.finish().await;
    chores.finish().await;
}

async fn report(shared: Arc<Shared>, shutdown: Shutdown) {
    shared.board.report(&shared.log, &shared.clock, &shutdown).await;
}

/// Owns a partition's deliveries, again and again, until `stop`: the process ends, or the partition is
/// another one's.
async fn own(shared: Arc<Shared>, partition: u16, seed: u64, stop: Shutdown) {
    let mut backoff = Backoff::new();
    while !stop.is_requested() {
        match Owner::take(shared.clone(), partition, seed, stop.clone()).await {
            Ok(owner) => match owner.run().await {
                Ok(()) => return,
                Err(lost) => {
                    let error = chain(&lost);
                    tracing::warn!(partition, error, "deliveries have another owner");
                }
            },
            Err(error) => {
                shared.board.progress(Consumer::Webhooks, partition).halted();
                let error = chain(&error);
                tracing::error!(partition, error, "deliveries cannot be taken over");
            }
        }
        tokio::select! {
            biased;
            () = stop.requested() => return,
            () = backoff.wait() => {}
        }
    }
}

/// Tasks that end with whoever holds them.
#[derive(Default)]
struct Tasks(FuturesUnordered<JoinHandle<()>>);

impl Tasks {
    fn spawn(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        self.0.push(serve::spawn(name, task));
    }

    async fn finish(&mut self) {
        // A task that panicked has been reported where it was spawned.
        while self.0.next().await.is_some() {}
    }
}

impl Drop for Tasks {
    fn drop(&mut self) {
        for task in &self.0 {
            task.abort();
        }
    }
}
