//! What outlives a crash: the disk, the catalog, the figures, the receivers, the clients, and what is
//! still to be done.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use dispatcher::transport::{Reply, Scripted};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use schemas::id::{AktvatorId, CampaignId, PayoutId};
use schemas::partition::Scope;
use serde_json::Value;
use storage::analytics::{AnalyticsFault, FaultyAnalytics, SqliteAnalytics};
use storage::{Analytics, Catalog, Kind};

use crate::Options;
use crate::cast::{self, Deed, START_MS, Tenant};
use crate::clients::Book;
use crate::crash::{Mishaps, Weather};
use crate::stores::Stores;
use crate::upgrade::Upgrade;
use crate::watch::Watch;

/// Partitions of every topic.
pub(crate) const PARTITIONS: u16 = 4;
/// Held rewards released by one record: few, so that continuations are needed.
pub(crate) const HOLDS_PER_STEP: u32 = 2;
/// After how long an unanswered attempt is given up.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(15);

/// The world of one seed.
pub(crate) struct World {
    pub(crate) rng: StdRng,
    pub(crate) options: Options,
    pub(crate) tenants: Vec<Tenant>,
    /// Still to be stored in the catalog, in order.
    pub(crate) deeds: VecDeque<Deed>,
    pub(crate) stores: Stores,
    pub(crate) weather: Weather,
    pub(crate) upgrade: Option<Upgrade>,
    /// Has an older program halted, and a newer one come?
    pub(crate) upgraded: bool,
    pub(crate) catalog: Catalog,
    analytics: SqliteAnalytics,
    pub(crate) receivers: Receivers,
    pub(crate) book: Book,
    /// Virtual time, in milliseconds since the epoch.
    pub(crate) now_ms: i64,
    pub(crate) actions_left: u32,
    /// Was what is held paid for at the end?
    pub(crate) paid_up: bool,
    pub(crate) crashes_left: u32,
    pub(crate) mishaps: Mishaps,
    /// Evaluators on servers started so far.
    pub(crate) peers: u64,
    /// Events sent so far, with whose they are: what is repeated is one of them.
    pub(crate) sent: Vec<(usize, Value)>,
    /// Payouts asked for so far.
    pub(crate) payouts: Vec<(Scope, PayoutId)>,
    pub(crate) click_ids: Vec<(usize, String)>,
    pub(crate) versions: Versions,
    pub(crate) next_order: u64,
    pub(crate) watch: Watch,
}

/// The last version of what changes.
#[derive(Default)]
pub(crate) struct Versions {
    pub(crate) campaigns: BTreeMap<CampaignId, u64>,
    pub(crate) aktvators: BTreeMap<AktvatorId, u64>,
    pub(crate) rulebooks: BTreeMap<CampaignId, u64>,
}

impl World {
    /// Everything as it is before the first start.
    pub(crate) fn new(options: Options) -> Self {
        let mut rng = StdRng::seed_from_u64(options.seed);
        let (tenants, deeds) = cast::draw(&mut rng, PARTITIONS);
        let receivers = Receivers::draw(&mut rng);
        let stores = Stores::draw(&mut rng, options.servers);
        let upgrades = options.servers && rng.random_bool(0.4);
        Self {
            tenants,
            deeds: deeds.into(),
            stores,
            weather: Weather::draw(&mut rng),
            upgrade: upgrades.then(|| Upgrade::draw(&mut rng, options.actions)),
            upgraded: false,
            catalog: Catalog::memory().expect("SQLite opens in memory"),
            analytics: SqliteAnalytics::memory().expect("SQLite opens in memory"),
            receivers,
            book: Book::default(),
            now_ms: START_MS,
            actions_left: options.actions,
            paid_up: false,
            crashes_left: rng.random_range(0..=options.crashes_max),
            mishaps: Mishaps::new(),
            peers: 0,
            sent: Vec::new(),
            payouts: Vec::new(),
            click_ids: Vec::new(),
            versions: Versions::default(),
            next_order: 0,
            watch: Watch::new(),
            rng,
            options,
        }
    }

    /// The figures for the next process; in some they are out of reach for a while.
    pub(crate) fn analytics(&mut self) -> Analytics {
        let faulty = FaultyAnalytics::new(self.analytics.clone());
        let faults = if self.rng.random_bool(0.3) { self.rng.random_range(1..12) } else { 0 };
        let script: Vec<_> = (0..faults).map(|_| Some(self.analytics_fault())).collect();
        faulty.script(script);
        Analytics::Fault(faulty)
    }

    fn analytics_fault(&mut self) -> AnalyticsFault {
        if self.rng.random_bool(0.5) {
            AnalyticsFault::Before(Kind::Unavailable)
        } else {
            AnalyticsFault::After(Kind::Unavailable)
        }
    }

    /// The figures as they are, for the oracle.
    pub(crate) fn figures(&self) -> Analytics {
        Analytics::Sqlite(self.analytics.clone())
    }

    /// All processes have died: on a disk what was not synced is gone, and it takes a moment to start
    /// again.
    pub(crate) async fn crash(&mut self) {
        self.stores.crash();
        self.figures().crash().await.expect("figures in memory can be forgotten");
        self.now_ms += self.rng.random_range(1..5_000);
    }
}

/// Webhook receivers: how each of them behaves is decided by its address and the seed.
pub(crate) struct Receivers {
    salt: u64,
    /// Some receivers never answer well: then deliveries are exhausted after days.
    some_are_dead: bool,
    /// Until then nobody answers at all.
    pub(crate) healed: Arc<AtomicBool>,
    /// One for each process that ran.
    pub(crate) scripts: Vec<Scripted>,
}

impl Receivers {
    fn draw(rng: &mut StdRng) -> Self {
        let healed = Arc::new(AtomicBool::new(rng.random_bool(0.7)));
        let some_are_dead = rng.random_bool(0.1);
        Self { salt: rng.random(), some_are_dead, healed, scripts: Vec::new() }
    }

    /// Receivers for the next process.
    pub(crate) fn script(&mut self) -> Scripted {
        let (salt, some_are_dead, healed) = (self.salt, self.some_are_dead, self.healed.clone());
        let script = Scripted::new(ATTEMPT_TIMEOUT, move |request| {
            let delivery = request.delivery.to_u128();
            let luck = (delivery as u64 ^ salt).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
            if !healed.load(Ordering::SeqCst) {
                return Reply { after: Duration::from_secs(3_600), ..Reply::status(200) };
            }
            let fails = match luck % 16 {
                0..=10 => 0,
                11..=14 => (luck >> 8) as u32 % 4,
                _ if some_are_dead => u32::MAX,
                _ => 5,
            };
            match (request.attempt <= fails, luck % 3) {
                (false, _) => Reply::status(200),
                (true, 0) => Reply { after: Duration::from_secs(60), ..Reply::status(200) },
                (true, _) => Reply::status(500),
            }
        });
        self.scripts.push(script.clone());
        script
    }
}
