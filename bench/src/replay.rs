//! `bench replay cdnow`: real purchases over HTTP into a server of its own, then the independent
//! checker over the same file.
//!
//! The ordered run sends each purchase once, in the file's order, singly and then in batches: there
//! the campaign's cap binds. The `--chaos` run sends every purchase twice, shuffled, from parallel
//! connections, and kills the server at random moments; it must end in the same figures, so its
//! campaign cap is out of reach (who gets the last cent depends on the order of arrival).

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};

use crate::api::{self, Api, Organization};
use crate::cdnow::{self, Purchase};
use crate::connection::{Connection, post};
use crate::server::Server;
use crate::servers::Servers;

/// How many aktvators share the customers.
const AKTVATORS: usize = 97;
/// Purchases in the whole file; caps scale with the part that is replayed.
const WHOLE: i64 = 69_659;
/// What the wallet holds, in cents: more than all rewards.
const FUNDS: i64 = 1_000_000_000;
/// Connections of the chaos run.
const CONNECTIONS: usize = 16;
/// Events in one batch.
const BATCH: usize = 250;
/// Pause before an event that was not acknowledged is sent again.
const RETRY_PAUSE: Duration = Duration::from_millis(50);
/// How long the evaluator and the analytics may take to catch up at the end.
const CATCH_UP_TRIES: u32 = 1_200;
const CATCH_UP_PAUSE: Duration = Duration::from_millis(100);

/// Options of `bench replay`.
#[derive(clap::Args)]
pub(crate) struct Replay {
    /// What to replay.
    #[arg(value_enum)]
    dataset: Dataset,
    /// The server's binary.
    #[arg(long, default_value = "target/release/aktvator")]
    server: PathBuf,
    /// The purchase log, as bench/cdnow/fetch brings it.
    #[arg(long, default_value = "bench/data/CDNOW_master.txt")]
    file: PathBuf,
    /// The checker, run while the server is up.
    #[arg(long, default_value = "bench/cdnow/check.py")]
    check: PathBuf,
    /// Where the server's data and the manifest go; emptied first.
    #[arg(long, default_value = "bench/data/replay")]
    work: PathBuf,
    /// Only the first so many purchases.
    #[arg(long)]
    limit: Option<usize>,
    /// How many of them go singly, before the batches (ordered run).
    #[arg(long, default_value_t = 5_000)]
    singly: usize,
    /// Every purchase twice, shuffled, in parallel, under kill -9.
    #[arg(long)]
    chaos: bool,
    /// A graduated monthly tier and a retroactive bonus instead of a percentage (ordered run).
    #[arg(long, conflicts_with = "chaos")]
    tiered: bool,
    /// How often the server is killed (chaos run).
    #[arg(long, default_value_t = 10)]
    kills: usize,
    /// Of the shuffle and of the moments (chaos run).
    #[arg(long, default_value_t = 1)]
    seed: u64,
    #[command(flatten)]
    servers: Servers,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Dataset {
    /// 69,659 purchases, January 1997 to June 1998.
    Cdnow,
}

/// The campaign that purchases go into.
struct Scenario {
    organization: Organization,
    campaign: String,
    aktvators: Vec<String>,
    codes: Vec<String>,
    rules: Value,
}

/// Replays and checks.
pub(crate) fn run(options: &Replay) -> Result<(), String> {
    let Dataset::Cdnow = options.dataset;
    let purchases = cdnow::read(&options.file, options.limit)?;
    let data_dir = options.work.join("data");
    let _ = std::fs::remove_dir_all(&options.work);
    std::fs::create_dir_all(&data_dir).map_err(|e| format!("{}: {e}", data_dir.display()))?;

    let config = options.servers.install(&options.server, &data_dir)?;
    let mut server = Server::start(&options.server, &data_dir, config)?;
    let scenario = set_up(&server, options, purchases.len())?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| e.to_string())?;
    if options.chaos {
        runtime.block_on(chaos(options, &mut server, &scenario, &purchases))?;
    } else {
        runtime.block_on(ordered(options, &server.address(), &scenario, &purchases))?;
    }
    wait_until_counted(&scenario, purchases.len())?;
    check(options, &server, &scenario)
}

fn set_up(server: &Server, options: &Replay, purchases: usize) -> Result<Scenario, String> {
    let organization = api::organization(&server.address(), &server.operator_token()?, FUNDS)?;
    let part = |whole: i64| (whole * purchases as i64 / WHOLE).max(1);
    let rules = json!({
        "bps": 1000,
        "aktvatorMonthCap": part(20_000),
        "campaignCap": if options.chaos { FUNDS } else { part(15_000_000) },
    });
    let rules = if options.tiered { tiers(rules) } else { rules };
    let campaign = api::campaign(&organization.api, &rulebook(&rules))?;
    let made = (0..AKTVATORS)
        .map(|i| api::aktvator(&organization.api, &campaign, &format!("Aktvator {i}")))
        .collect::<Result<Vec<_>, _>>()?;
    let (aktvators, codes) = made.into_iter().unzip();
    Ok(Scenario { organization, campaign, aktvators, codes, rules })
}

/// What the tiers are: of revenue in the month, and of conversions in it.
fn tiers(mut rules: Value) -> Value {
    rules["tiers"] = json!([[0, 700], [20_000, 1_000], [60_000, 1_500]]);
    rules["bonuses"] = json!([[1, 10], [8, 25], [20, 60]]);
    rules
}

/// Both rules give their reward: the part of the amount that is in each tier, and a bonus that is made up for
/// when the next is reached.
fn tiered(rules: &Value) -> Value {
    let each = |name: &str, reward: &dyn Fn(&Value) -> Value| {
        let tiers = rules[name].as_array().into_iter().flatten();
        tiers.map(|tier| json!({"from": tier[0], "reward": reward(&tier[1])})).collect::<Vec<_>>()
    };
    let month = json!([{
        "key": "aktvator_month", "scope": "aktvator", "metric": "amount",
        "limit": rules["aktvatorMonthCap"], "period": "month", "onExceed": "clip",
    }]);
    json!([
        {
            "key": "graduated", "priority": 1, "caps": month,
            "reward": {
                "type": "tiered", "mode": "graduated", "metric": "aktvator.revenue", "period": "month",
                "tiers": each("tiers", &|bps| json!({"type": "percent", "bps": bps})),
            },
        },
        {
            "key": "bonus", "priority": 2,
            "reward": {
                "type": "tiered", "retroactive": true, "metric": "aktvator.conversions", "period": "month",
                "tiers": each("bonuses", &|amount| json!({"type": "flat", "amount": amount})),
            },
        },
    ])
}

fn rulebook(rules: &Value) -> Value {
    if rules["tiers"].is_array() {
        return json!({
            "currency": "USD",
            "timezone": "America/New_York",
            "combine": "sum",
            "attribution": {"lateEventMaxDays": 36_500},
            "caps": [campaign_cap(rules)],
            "rules": tiered(rules),
        });
    }
    json!({
        "currency": "USD",
        "timezone": "America/New_York",
        "attribution": {"lateEventMaxDays": 36_500},
        "caps": [campaign_cap(rules)],
        "rules": [{
            "key": "purchase", "priority": 1,
            "on": {"eventTypes": ["customer.purchase"]},
            "reward": {"type": "percent", "bps": rules["bps"], "of": "event.amount"},
            "caps": [{
                "key": "aktvator_month", "scope": "aktvator", "metric": "amount",
                "limit": rules["aktvatorMonthCap"], "period": "month", "onExceed": "clip",
            }],
        }],
    })
}

fn campaign_cap(rules: &Value) -> Value {
    json!({
        "key": "campaign", "scope": "campaign", "metric": "amount",
        "limit": rules["campaignCap"], "period": "lifetime", "onExceed": "clip",
    })
}

impl Scenario {
    fn event(&self, purchase: &Purchase) -> String {
        purchase.event(&self.campaign, &self.codes[purchase.customer as usize % AKTVATORS])
    }

    /// The request of one unit of work: a single event, or a batch of several.
    fn request(&self, address: &str, unit: &[&Purchase]) -> Vec<u8> {
        match unit {
            [one] => {
                post(address, "/events/ingest", &self.organization.key, self.event(one).as_bytes())
            }
            many => {
                let events: Vec<_> = many.iter().map(|p| self.event(p)).collect();
                let body = format!("[{}]", events.join(","));
                post(address, "/events/ingest/batch", &self.organization.key, body.as_bytes())
            }
        }
    }
}

async fn ordered(
    options: &Replay,
    address: &str,
    scenario: &Scenario,
    purchases: &[Purchase],
) -> Result<(), String> {
    let bar = progress(purchases.len());
    let (singly, batched) = purchases.split_at(options.singly.min(purchases.len()));
    let mut connection = Connection::open(address).await.map_err(|e| e.to_string())?;
    for chunk in singly.chunks(1).chain(batched.chunks(BATCH)) {
        let unit: Vec<_> = chunk.iter().collect();
        let request = scenario.request(address, &unit);
        let answer = connection.call(&request).await.map_err(|e| e.to_string())?;
        if answer.status != 202 {
            let body = String::from_utf8_lossy(answer.body);
            return Err(format!("the server answered {}: {body}", answer.status));
        }
        bar.inc(chunk.len() as u64);
    }
    bar.finish();
    Ok(())
}

async fn chaos(
    options: &Replay,
    server: &mut Server,
    scenario: &Scenario,
    purchases: &[Purchase],
) -> Result<(), String> {
    let mut rng = StdRng::seed_from_u64(options.seed);
    let mut twice: Vec<_> = purchases.iter().chain(purchases).collect();
    twice.shuffle(&mut rng);
    let units = units(&twice, &mut rng);
    let mut moments: Vec<u64> =
        (0..options.kills).map(|_| rng.random_range(0..twice.len() as u64)).collect();
    moments.sort_unstable();

    let bar = progress(twice.len());
    let address = server.address();
    let next = std::cell::Cell::new(0);
    let senders = (0..CONNECTIONS).map(|_| send_units(scenario, &address, &units, &next, &bar));
    let senders = join_all(senders.collect());
    let killer = kill_at(server, &moments, &bar);
    let ((), killed) = tokio::join!(senders, killer);
    bar.finish();
    killed
}

/// Runs `futures` side by side on this task.
async fn join_all<F: Future<Output = ()>>(futures: Vec<F>) {
    let mut futures: Vec<_> = futures.into_iter().map(Box::pin).collect();
    std::future::poll_fn(|context| {
        futures.retain_mut(|f| f.as_mut().poll(context).is_pending());
        if futures.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
}

/// Cuts the shuffled purchases into single events and batches, about half of the events in each.
fn units<'p>(purchases: &[&'p Purchase], rng: &mut StdRng) -> Vec<Vec<&'p Purchase>> {
    let mut units = Vec::new();
    let mut rest = purchases;
    while !rest.is_empty() {
        let len = if rng.random_ratio(BATCH as u32 / 5, BATCH as u32 / 5 + 1) {
            1
        } else {
            rng.random_range(2..=100)
        };
        let (unit, tail) = rest.split_at(len.min(rest.len()));
        units.push(unit.to_vec());
        rest = tail;
    }
    units
}

/// Takes units one after another and sends each until it is acknowledged.
async fn send_units(
    scenario: &Scenario,
    address: &str,
    units: &[Vec<&Purchase>],
    next: &std::cell::Cell<usize>,
    bar: &ProgressBar,
) {
    let mut connection = None;
    while let Some(unit) = units.get(next.replace(next.get() + 1)) {
        let request = scenario.request(address, unit);
        while !acknowledged(&mut connection, address, &request).await {
            connection = None;
            tokio::time::sleep(RETRY_PAUSE).await;
        }
        bar.inc(unit.len() as u64);
    }
}

async fn acknowledged(connection: &mut Option<Connection>, address: &str, request: &[u8]) -> bool {
    if connection.is_none() {
        *connection = Connection::open(address).await.ok();
    }
    let Some(open) = connection else { return false };
    open.call(request).await.is_ok_and(|answer| answer.status == 202)
}

/// Kills the server each time so many events have been acknowledged, and starts it again.
async fn kill_at(server: &mut Server, moments: &[u64], bar: &ProgressBar) -> Result<(), String> {
    for moment in moments {
        while bar.position() < *moment {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        server.kill_and_restart()?;
    }
    Ok(())
}

/// Waits until `/performance` counts as many conversions as there are purchases.
fn wait_until_counted(scenario: &Scenario, purchases: usize) -> Result<(), String> {
    let path = format!(
        "/campaigns/{}/performance?from=1997-01-01T00:00:00Z&to=1999-01-01T00:00:00Z&granularity=none",
        scenario.campaign
    );
    let api: &Api = &scenario.organization.api;
    let mut counted = Value::Null;
    for _ in 0..CATCH_UP_TRIES {
        counted = api.get(&path)?["totals"]["conversions"].clone();
        if counted.as_u64().is_some_and(|n| n >= purchases as u64) {
            return Ok(());
        }
        std::thread::sleep(CATCH_UP_PAUSE);
    }
    Err(format!("performance counts {counted} conversions of {purchases}"))
}

fn check(options: &Replay, server: &Server, scenario: &Scenario) -> Result<(), String> {
    let manifest = json!({
        "file": options.file,
        "limit": options.limit,
        "ordered": !options.chaos,
        "url": format!("http://{}", server.address()),
        "apiKey": scenario.organization.key,
        "organizationId": scenario.organization.id,
        "campaignId": scenario.campaign,
        "aktvators": scenario.aktvators,
        "rules": scenario.rules,
        "funds": FUNDS,
    });
    let path = options.work.join("manifest.json");
    std::fs::write(&path, manifest.to_string()).map_err(|e| format!("{}: {e}", path.display()))?;
    let status = Command::new("python3")
        .arg(&options.check)
        .arg(&path)
        .status()
        .map_err(|e| format!("python3 cannot be started: {e}"))?;
    if status.success() { Ok(()) } else { Err("the replay differs from the file".to_owned()) }
}

fn progress(len: usize) -> ProgressBar {
    let style =
        ProgressStyle::with_template("{wide_bar} {pos}/{len} events {per_sec} {elapsed_precise}");
    ProgressBar::new(len as u64).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}
