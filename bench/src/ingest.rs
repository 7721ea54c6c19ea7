//! `bench ingest`: durable ingest in a closed loop, single events and batches, each round beside
//! the floor: a bare hyper handler in a process of its own that parses the same body and stores
//! nothing; on servers an edge alone, beside one that also waits until the same broker has it. Rounds of single events alternate
//! with the floor's, so that a drift of the machine meets both.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use crate::api::{self, Organization};
use crate::connection::{Connection, post};
use crate::server::Server;
use crate::servers::Servers;

/// Options of `bench ingest`.
#[derive(clap::Args)]
pub(crate) struct Ingest {
    /// The server's binary.
    #[arg(long, default_value = "target/release/aktvator")]
    server: PathBuf,
    /// Where the server's data goes; emptied first.
    #[arg(long, default_value = "bench/data/ingest")]
    work: PathBuf,
    /// Connections, each with one request under way.
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// Seconds of one round.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Rounds of each kind.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Events in one batch.
    #[arg(long, default_value_t = 500)]
    batch: usize,
    /// Connections of the batch rounds.
    #[arg(long, default_value_t = 8)]
    batch_connections: usize,
    #[command(flatten)]
    servers: Servers,
}

/// One kind of load: what is sent where.
struct Load {
    address: String,
    path: &'static str,
    key: String,
    campaign: String,
    code: String,
    /// Events in one request; 1 is the single-event path.
    events: usize,
    connections: usize,
    duration: Duration,
}

/// Events per second and the latency of requests, in microseconds.
struct Round {
    rate: f64,
    p50_us: u128,
    p99_us: u128,
}

/// Measures and prints.
pub(crate) fn run(options: &Ingest) -> Result<(), String> {
    let data_dir = options.work.join("data");
    let _ = std::fs::remove_dir_all(&options.work);
    std::fs::create_dir_all(&data_dir).map_err(|e| format!("{}: {e}", data_dir.display()))?;
    let floor = FloorProcess::start(&[])?;
    let stored = options.servers.kafka.as_deref().map(stored_floor).transpose()?;
    let config = options.servers.install(&options.server, &data_dir)?;
    let is_on_servers = config.is_some();
    let mut server = Server::start(&options.server, &data_dir, config)?;
    let organization =
        api::organization(&server.address(), &server.operator_token()?, 1_000_000_000)?;
    let campaign = api::campaign(&organization.api, &rulebook())?;
    let (_, code) = api::aktvator(&organization.api, &campaign, "Bench")?;
    if is_on_servers {
        // Who decides is a process elsewhere there; the floor has none beside it either.
        server.restart_as("edge")?;
    }

    let single = load(options, &server.address(), &organization, &campaign, &code, 1);
    let bare = Load { address: floor.address.clone(), ..single_copy(&single) };
    let batch = load(options, &server.address(), &organization, &campaign, &code, options.batch);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| e.to_string())?;
    let mut unique = 0;
    let measured = |what: &str, round, load: &Load, floor: f64, unique: &mut u64| {
        let cpu = server.cpu_seconds();
        let ours = runtime.block_on(measure(load, unique))?;
        let spent = (server.cpu_seconds() - cpu) / (ours.rate * options.seconds as f64);
        print_round(round, what, &ours, Some((ours.rate / floor, spent)));
        Ok::<(), String>(())
    };
    let mut floor = 0.0;
    for round in 1..=options.rounds {
        let bare = runtime.block_on(measure(&bare, &mut unique))?;
        print_round(round, "floor, no store", &bare, None);
        floor = bare.rate;
        if let Some(stored) = &stored {
            let stored = Load { address: stored.address.clone(), ..single_copy(&single) };
            let stored = runtime.block_on(measure(&stored, &mut unique))?;
            print_round(round, "floor, on Kafka", &stored, None);
            floor = stored.rate;
        }
        measured("single, durable", round, &single, floor, &mut unique)?;
    }
    // Last, since what they leave to decide would be decided during the next round.
    for round in 1..=options.rounds {
        measured("batch, durable", round, &batch, floor, &mut unique)?;
    }
    Ok(())
}

fn load(
    options: &Ingest,
    address: &str,
    organization: &Organization,
    campaign: &str,
    code: &str,
    events: usize,
) -> Load {
    let single = events == 1;
    Load {
        address: address.to_owned(),
        path: if single { "/events/ingest" } else { "/events/ingest/batch" },
        key: organization.key.clone(),
        campaign: campaign.to_owned(),
        code: code.to_owned(),
        events,
        connections: if single { options.connections } else { options.batch_connections },
        duration: Duration::from_secs(options.seconds),
    }
}

fn single_copy(load: &Load) -> Load {
    Load {
        address: load.address.clone(),
        path: load.path,
        key: load.key.clone(),
        campaign: load.campaign.clone(),
        code: load.code.clone(),
        ..*load
    }
}

/// A fifth of each purchase, without a cap.
fn rulebook() -> serde_json::Value {
    json!({
        "currency": "USD", "timezone": "UTC",
        "rules": [{
            "key": "purchase", "priority": 1, "on": {"eventTypes": ["customer.purchase"]},
            "reward": {"type": "percent", "bps": 2000, "of": "event.amount"},
        }],
    })
}

/// A closed loop: every connection sends, waits for the answer, and sends again.
async fn measure(load: &Load, unique: &mut u64) -> Result<Round, String> {
    let start = Instant::now();
    let end = start + load.duration;
    let counter = std::rc::Rc::new(std::cell::Cell::new(*unique));
    let local = tokio::task::LocalSet::new();
    let mut tasks = Vec::new();
    for _ in 0..load.connections {
        let load = single_copy(load);
        let counter = counter.clone();
        tasks.push(local.spawn_local(async move { send(&load, end, &counter).await }));
    }
    let mut latencies = Vec::new();
    local
        .run_until(async {
            for task in tasks {
                latencies.extend(task.await.map_err(|e| e.to_string())??);
            }
            Ok::<(), String>(())
        })
        .await?;
    let seconds = start.elapsed().as_secs_f64();
    *unique = counter.get();
    latencies.sort_unstable();
    let at = |share: usize| latencies.get(latencies.len() * share / 100).copied().unwrap_or(0);
    let rate = (latencies.len() * load.events) as f64 / seconds;
    Ok(Round { rate, p50_us: at(50), p99_us: at(99) })
}

async fn send(
    load: &Load,
    end: Instant,
    counter: &std::cell::Cell<u64>,
) -> Result<Vec<u128>, String> {
    let mut connection = Connection::open(&load.address).await.map_err(|e| e.to_string())?;
    let mut latencies = Vec::new();
    while Instant::now() < end {
        let first = counter.get();
        counter.set(first + load.events as u64);
        let request = request(load, first);
        let sent = Instant::now();
        let answer = connection.call(&request).await.map_err(|e| e.to_string())?;
        if answer.status != 202 {
            let body = String::from_utf8_lossy(answer.body);
            return Err(format!("the server answered {}: {body}", answer.status));
        }
        latencies.push(sent.elapsed().as_micros());
    }
    Ok(latencies)
}

/// Events `first..first + load.events`, each of about 206 bytes.
fn request(load: &Load, first: u64) -> Vec<u8> {
    let event = |n: u64| {
        format!(
            r#"{{"eventType":"customer.purchase","campaignId":"{}","idempotencyKey":"order_{n:012}","attributionCode":"{}","amount":4900,"currency":"USD","customer":{{"id":"cust_{n:08}"}}}}"#,
            load.campaign, load.code
        )
    };
    let body = if load.events == 1 {
        event(first)
    } else {
        let events: Vec<_> = (first..first + load.events as u64).map(event).collect();
        format!("[{}]", events.join(","))
    };
    post(&load.address, load.path, &load.key, body.as_bytes())
}

fn print_round(round: usize, what: &str, ours: &Round, against: Option<(f64, f64)>) {
    let Round { rate, p50_us, p99_us } = ours;
    let beside = against.map_or_else(String::new, |(ratio, cpu)| {
        format!("  {ratio:>6.2} of the floor  {:>6.1} us server CPU per event", cpu * 1e6)
    });
    println!(
        "round {round}  {what:<16} {rate:>9.0} events/s  p50 {p50_us:>6} us  p99 {p99_us:>6} us{beside}"
    );
}

/// The minimal handler that stores on the same broker.
fn stored_floor(kafka: &str) -> Result<FloorProcess, String> {
    let topic = format!("bench_{}.floor", std::process::id());
    FloorProcess::start(&["--kafka", kafka, "--topic", &topic])
}

/// `bench floor` as a process of its own, ended when dropped.
struct FloorProcess {
    child: Child,
    address: String,
}

impl FloorProcess {
    fn start(arguments: &[&str]) -> Result<Self, String> {
        let this = std::env::current_exe().map_err(|e| e.to_string())?;
        let mut child = Command::new(this)
            .arg("floor")
            .args(arguments)
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|e| format!("the floor cannot be started: {e}"))?;
        let mut address = String::new();
        if let Some(output) = child.stdout.take() {
            BufReader::new(output).read_line(&mut address).map_err(|e| e.to_string())?;
        }
        Ok(Self { child, address: address.trim().to_owned() })
    }
}

impl Drop for FloorProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
