//! Parity: what a simulated run has put on the log, decided and counted over any stores, comes to the
//! same bytes and the same figures.

use std::collections::BTreeMap;

use bytes::Bytes;
use dispatcher::{DispatcherParts, Transport};
use evaluator::EvaluatorParts;
use jiff::tz::TimeZone;
use schemas::id::CampaignId;
use schemas::partition::Scope;
use schemas::time::Timestamp;
use serve::config::Span;
use serve::{Clock, Health, Shutdown};
use storage::analytics::{BUCKET_MS, Dimension, Granularity, Performance, PerformanceQuery};
use storage::log::{ReadLimit, Topic};
use storage::state::KeyRange;
use storage::{Analytics, Catalog, Error, EventLog, StateStore};

use crate::cast::START_MS;
use crate::life::shard;
use crate::world::{HOLDS_PER_STEP, PARTITIONS, World};
use crate::{Failure, Options, play, runtime};

/// Partitions that the stores must have.
pub const STORES_PARTITIONS: u16 = PARTITIONS;

const ALL: ReadLimit = ReadLimit { records: usize::MAX, bytes: usize::MAX };
const DAY_MS: i64 = 86_400_000;

/// What a run has put on the log, in order, and whose campaigns it was about.
#[derive(Clone, Debug)]
pub struct Recording {
    events: BTreeMap<u16, Vec<Bytes>>,
    campaigns: Vec<(Scope, CampaignId)>,
}

/// Empty stores.
#[derive(Clone)]
pub struct Stores {
    /// With [`STORES_PARTITIONS`].
    pub log: EventLog,
    /// As many.
    pub state: StateStore,
    /// For the figures.
    pub analytics: Analytics,
}

/// Everything that came of a recording.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Played {
    /// By partition: decisions, rewards, ledger and all else the fold keeps.
    pub rows: BTreeMap<u16, Vec<(Bytes, Bytes)>>,
    /// By partition.
    pub outcomes: BTreeMap<u16, Vec<Bytes>>,
    /// For every campaign, by several calendars and dimensions.
    pub performance: Vec<Performance>,
}

impl Recording {
    /// Runs a seed, and keeps its log.
    ///
    /// # Errors
    /// Where the run breaks an invariant.
    pub fn of(options: Options) -> Result<Self, Box<Failure>> {
        let mut world = World::new(options);
        let trace = |world: &mut World| std::mem::take(&mut world.book.open().trace);
        if let Err(violation) = play(&mut world) {
            return Err(Box::new(Failure { options, violation, trace: trace(&mut world) }));
        }
        let (log, _) = world.stores.look();
        let events = (0..PARTITIONS).map(|partition| {
            let records = runtime().block_on(log.read(Topic::Events, partition, 0, ALL));
            let records = records.expect("a log in memory can be read");
            (partition, records.into_iter().map(|record| record.bytes).collect())
        });
        let campaigns = world
            .tenants
            .iter()
            .flat_map(|tenant| tenant.campaigns.iter().map(|campaign| (tenant.scope, campaign.id)));
        Ok(Self { events: events.collect(), campaigns: campaigns.collect() })
    }

    /// Puts it on another log, and has it decided and counted there.
    ///
    /// # Errors
    /// Where one of the stores fails.
    pub async fn play(&self, stores: Stores) -> Result<Played, Error> {
        for (partition, events) in &self.events {
            let records = events.iter().map(|bytes| (*partition, bytes.clone())).collect();
            stores.log.append(Topic::Events, records).await?;
        }
        self.decide(&stores).await?;
        count(&stores).await;
        let mut played =
            Played { rows: BTreeMap::new(), outcomes: BTreeMap::new(), performance: Vec::new() };
        for partition in 0..PARTITIONS {
            let range = KeyRange { from: Bytes::new(), to: Bytes::from_static(&[u8::MAX; 32]) };
            let rows = stores.state.scan(shard(partition), range, false, usize::MAX).await?;
            played.rows.insert(partition, rows);
            stores.log.bounds(Topic::Outcomes, partition).await?;
            let outcomes = stores.log.read(Topic::Outcomes, partition, 0, ALL).await?;
            played.outcomes.insert(partition, outcomes.into_iter().map(|o| o.bytes).collect());
        }
        for (scope, campaign) in &self.campaigns {
            for query in queries(*scope, *campaign) {
                played.performance.push(stores.analytics.performance(&query).await?);
            }
        }
        Ok(played)
    }

    async fn decide(&self, stores: &Stores) -> Result<(), Error> {
        let never = Span::from_secs(u64::from(u32::MAX));
        let config = evaluator::Config {
            holds_per_step: HOLDS_PER_STEP,
            tick_every: never,
            sample_every: never,
            ..evaluator::Config::default()
        };
        let shutdown = Shutdown::new();
        let parts = EvaluatorParts {
            log: stores.log.clone(),
            state: stores.state.clone(),
            clock: Clock::manual(START_MS),
            health: Health::new(),
            config,
        };
        let evaluator = serve::spawn("parity", evaluator::run(parts, shutdown.clone()));
        for (partition, events) in &self.events {
            stores.state.committed(shard(*partition), events.len() as u64).await?;
        }
        shutdown.request();
        evaluator.await.expect("the evaluator ends in order");
        Ok(())
    }
}

async fn count(stores: &Stores) {
    let config = dispatcher::Config::default();
    let parts = DispatcherParts {
        log: stores.log.clone(),
        state: stores.state.clone(),
        catalog: Catalog::memory().expect("SQLite opens in memory"),
        analytics: stores.analytics.clone(),
        clock: Clock::manual(START_MS),
        seed: 0,
        transport: Transport::network(&config),
        config,
    };
    dispatcher::catch_up(parts).await.expect("outcomes can be followed");
}

fn queries(scope: Scope, campaign: CampaignId) -> impl Iterator<Item = PerformanceQuery> {
    let from = (START_MS - 60 * DAY_MS).div_euclid(BUCKET_MS) * BUCKET_MS;
    let all = vec![
        Dimension::Gig,
        Dimension::Aktvator,
        Dimension::Link,
        Dimension::Code,
        Dimension::EventType,
    ];
    let wanted = [
        (Granularity::None, TimeZone::UTC, vec![]),
        (Granularity::Hour, TimeZone::get("Asia/Kathmandu").expect("it is bundled"), vec![]),
        (Granularity::Day, TimeZone::get("America/New_York").expect("it is bundled"), all),
        (Granularity::Month, TimeZone::UTC, vec![Dimension::Code]),
    ];
    wanted.into_iter().map(move |(granularity, timezone, group_by)| PerformanceQuery {
        scope,
        campaign,
        from: Timestamp::from_ms(from),
        to: Timestamp::from_ms(from + 400 * DAY_MS),
        granularity,
        timezone,
        group_by,
        limit: 1_000_000,
    })
}
