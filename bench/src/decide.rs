//! The pure decide loop on one thread: no log, no store, no network. The floor is decoding the records, which
//! nobody can do without.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use engine::simulation::Simulation;
use engine::{Entry, Fold, Key, Row, Rulebook, Settings};
use prost::Message;
use schemas::hash::{event_id, hash128};
use schemas::id::{AktvatorId, CampaignId, GigId, OrganizationId};
use schemas::partition::{Mode, Scope};
use schemas::proto::{self, record::Body};
use serde_json::{Value, json};
use tokio::time::Instant;

const SCOPE: Scope = Scope { organization: OrganizationId::from_u128(1), mode: Mode::Live };
const CAMPAIGN: CampaignId = CampaignId::from_u128(2);
const GIG: GigId = GigId::from_u128(3);
/// 2026-03-10T12:00:00Z.
const NOW_MS: i64 = 1_773_144_000_000;
const AKTVATORS: u64 = 1_000;
const CUSTOMERS: u64 = 23_570;
const BATCH: u64 = 1_000;
const RULES: i64 = 100;

/// What to measure.
#[derive(Args)]
pub(crate) struct Decide {
    /// Events of each round.
    #[arg(long, default_value_t = 1_000_000)]
    events: u64,
}

/// A fold and the rows that nobody stores: what was decided is still known.
struct Owner {
    fold: Fold,
    rows: HashMap<Bytes, Bytes>,
    sets: u64,
}

pub(crate) fn run(options: &Decide) -> Result<(), String> {
    let events = options.events.next_multiple_of(BATCH);
    println!("{events} events, {AKTVATORS} aktvators, one thread");
    let floor = decoded(events)?;
    println!("  floor, records merely decoded   {:>9.0} events/s", floor);
    for (name, rulebook) in [("one flat rule", flat()), ("100 rules, 4 caps each, tiers", full())] {
        let compiled = compiled(&rulebook)?;
        let (decided, repeated) = decided(events, &rulebook)?;
        let tried = tried(events, &rulebook)?;
        println!("{name}");
        println!("  compile                         {:>9.3} ms", compiled.as_secs_f64() * 1e3);
        println!("  decide   {decided:>9.0} events/s, {:.2} of the floor", decided / floor);
        println!("  repeats  {repeated:>9.0} events/s, {:.2} of the floor", repeated / floor);
        println!(
            "  simulate {:.2} s, {:.0} events/s",
            tried.as_secs_f64(),
            events as f64 / tried.as_secs_f64()
        );
    }
    Ok(())
}

fn flat() -> Value {
    json!({"currency": "USD", "timezone": "America/New_York",
        "rules": [{"key": "flat", "reward": {"type": "flat", "amount": 250}}]})
}

/// Each rule takes a hundredth of the amounts, so that half of them are asked about an event.
fn full() -> Value {
    let cap = |key: String, scope: &str, period: &str| json!({"key": key, "scope": scope, "metric": "amount", "limit": 1_i64 << 50, "period": period});
    let rule = |n: i64| {
        let reward = |bps: i64| json!({"type": "percent", "bps": bps});
        json!({
            "key": format!("rule_{n:03}"), "priority": n,
            "when": {"all": [
                {"field": "event.amount", "op": "gte", "value": n * 100},
                {"field": "event.amount", "op": "lt", "value": (n + 1) * 100}]},
            "reward": {"type": "tiered", "metric": "aktvator.conversions", "period": "month", "tiers": [
                {"from": 1, "reward": reward(500)}, {"from": 10, "reward": reward(700)},
                {"from": 100, "reward": reward(900)}]},
            "caps": [cap(format!("c{n}"), "campaign", "lifetime"), cap(format!("m{n}"), "aktvator", "month"),
                cap(format!("d{n}"), "customer", "day"), cap(format!("r{n}"), "rule", "week")],
        })
    };
    let rules: Vec<Value> = (0..RULES).map(rule).collect();
    json!({"currency": "USD", "timezone": "America/New_York", "rules": rules})
}

fn record(body: Body) -> Bytes {
    let record = proto::Record {
        organization: SCOPE.organization.to_proto(),
        mode: proto::Mode::from(SCOPE.mode).into(),
        accepted_at_ms: NOW_MS,
        body: Some(body),
    };
    record.encode_to_vec().into()
}

fn event(n: u64) -> Bytes {
    let key = format!("order_{n}");
    record(Body::Conversion(proto::ConversionEvent {
        event_id: event_id(SCOPE, &key).to_proto(),
        fingerprint: hash128("bench", &[key.as_bytes()]).to_be_bytes().to_vec().into(),
        idempotency_key: key,
        event_type: "purchase".to_owned(),
        campaign_id: Some(CAMPAIGN.to_proto()),
        attribution_code: Some(format!("CODE{}", n % AKTVATORS)),
        amount: Some((n.wrapping_mul(7_919) % (RULES as u64 * 100)) as i64),
        currency: Some("USD".to_owned()),
        customer: Some(proto::Customer {
            id: Some(format!("customer_{}", n % CUSTOMERS)),
            ..Default::default()
        }),
        ..Default::default()
    }))
}

fn catalog(rulebook: &Value) -> Vec<Bytes> {
    let campaign = proto::CampaignState {
        id: CAMPAIGN.to_proto(),
        version: 1,
        status: "active".to_owned(),
        name: "bench".to_owned(),
    };
    let gig = proto::GigState {
        id: GIG.to_proto(),
        version: 1,
        campaign_id: CAMPAIGN.to_proto(),
        action_type: "purchase".to_owned(),
        status: "published".to_owned(),
    };
    let rules = proto::RulebookState {
        campaign_id: CAMPAIGN.to_proto(),
        version: 1,
        effective_from_ms: 0,
        json: rulebook.to_string().into(),
    };
    let credit = proto::WalletCredit {
        command_id: vec![1; 16].into(),
        amount: 1 << 50,
        currency: "USD".to_owned(),
        ..Default::default()
    };
    let mut records = vec![Body::Campaign(campaign), Body::Gig(gig), Body::Rulebook(rules)];
    records.push(Body::WalletCredit(credit));
    for n in 0..AKTVATORS {
        let aktvator_id = AktvatorId::from_u128(u128::from(n) + 10).to_proto();
        records.push(Body::Aktvator(proto::AktvatorState {
            id: aktvator_id.clone(),
            version: 1,
            status: "approved".to_owned(),
            ..Default::default()
        }));
        records.push(Body::Code(proto::CodeState {
            code: format!("CODE{n}"),
            version: 1,
            campaign_id: CAMPAIGN.to_proto(),
            aktvator_id,
            ..Default::default()
        }));
    }
    records.into_iter().map(record).collect()
}

fn entries(records: impl Iterator<Item = Bytes>, is_new: bool) -> Result<Vec<Entry>, String> {
    let entry = |bytes| Entry::decode(0, bytes).map(|entry| Entry { is_new, ..entry });
    records.map(|bytes| entry(bytes).map_err(|e| e.to_string())).collect()
}

fn per_second(events: u64, spent: Duration) -> f64 {
    events as f64 / spent.as_secs_f64()
}

fn decoded(events: u64) -> Result<f64, String> {
    let mut spent = Duration::ZERO;
    for first in (0..events).step_by(BATCH as usize) {
        let records: Vec<Bytes> = (first..first + BATCH).map(event).collect();
        let started = Instant::now();
        let entries = entries(records.into_iter(), true)?;
        spent += started.elapsed();
        drop(entries);
    }
    Ok(per_second(events, spent))
}

fn compiled(rulebook: &Value) -> Result<Duration, String> {
    const TIMES: u32 = 50;
    let json = Bytes::from(rulebook.to_string());
    let started = Instant::now();
    for _ in 0..TIMES {
        Rulebook::compile(json.clone()).map_err(|faults| format!("{faults:?}"))?;
    }
    Ok(started.elapsed() / TIMES)
}

fn row(rows: &HashMap<Bytes, Bytes>, key: &Key) -> Option<Row> {
    Row::decode(key, rows.get(&key.encode())?.clone()).ok()
}

impl Owner {
    fn new(rulebook: &Value) -> Result<Self, String> {
        let mut owner =
            Self { fold: Fold::new(Settings::default(), 0), rows: HashMap::new(), sets: 0 };
        owner.decide(&entries(catalog(rulebook).into_iter(), false)?);
        Ok(owner)
    }

    /// Decides all, and ends a write set; the time it took.
    fn decide(&mut self, entries: &[Entry]) -> Duration {
        let mut spent = Duration::ZERO;
        let mut rest = entries;
        while !rest.is_empty() {
            let started = Instant::now();
            rest = &rest[self.fold.decide(rest)..];
            let wanted = if rest.is_empty() { Vec::new() } else { self.fold.wants(rest) };
            spent += started.elapsed();
            for key in wanted {
                let row = row(&self.rows, &key);
                self.fold.learn(key, row);
            }
        }
        let started = Instant::now();
        let verdict = self.fold.take();
        spent += started.elapsed();
        self.sets += 1;
        self.fold.committed(self.sets);
        // Rows that change are known; those that are written once are asked for by repeats.
        self.rows.extend(verdict.writes.into_iter().filter_map(|(key, row)| Some((key, row?))));
        spent
    }
}

/// Events decided a second, for the first time and again.
fn decided(events: u64, rulebook: &Value) -> Result<(f64, f64), String> {
    let mut owner = Owner::new(rulebook)?;
    let mut spent = Duration::ZERO;
    for first in (0..events).step_by(BATCH as usize) {
        spent += owner.decide(&entries((first..first + BATCH).map(event), true)?);
    }
    let again = entries((0..BATCH).map(event), false)?;
    owner.decide(&again);
    let rounds = (events / BATCH).min(200);
    let repeated: Duration = (0..rounds).map(|_| owner.decide(&again)).sum();
    Ok((per_second(events, spent), per_second(rounds * BATCH, repeated)))
}

/// How long trying a rulebook on so many events takes, decoding included.
fn tried(events: u64, rulebook: &Value) -> Result<Duration, String> {
    let json = Bytes::from(rulebook.to_string());
    let compiled = Rulebook::compile(json).map_err(|faults| format!("{faults:?}"))?;
    let catalog = Owner::new(rulebook)?.rows;
    let mut simulation = Simulation::new(SCOPE, CAMPAIGN, Arc::new(compiled));
    let mut spent = Duration::ZERO;
    for first in (0..events).step_by(BATCH as usize) {
        let records: Vec<Bytes> = (first..first + BATCH).map(event).collect();
        let started = Instant::now();
        let entries = entries(records.into_iter(), true)?;
        loop {
            let wanted = simulation.wants(&entries);
            if wanted.is_empty() {
                break;
            }
            for key in wanted {
                let row = row(&catalog, &key);
                simulation.learn(key, row);
            }
        }
        simulation.decide(&entries);
        spent += started.elapsed();
    }
    Ok(spent)
}
