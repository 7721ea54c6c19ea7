//! Nobody waits for another's receiver.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dispatcher::Transport;
use dispatcher::attempt::AGE_MAX_MS;
use dispatcher::transport::{Reply, Scripted, WebhookRequest};
use schemas::id::DeliveryId;
use schemas::partition::Scope;
use schemas::target::Host;

use crate::world::{PARTITIONS, World, scope, scripted};

fn host(request: &WebhookRequest) -> String {
    match &request.target.host {
        Host::Name(name) => name.clone(),
        Host::Address(address) => address.to_string(),
    }
}

/// Organizations in the same partition, so that they share an owner.
fn neighbours(count: usize) -> Vec<Scope> {
    (1..).map(scope).filter(|s| s.partition(PARTITIONS) == 0).take(count).collect()
}

#[tokio::test(start_paused = true)]
async fn a_dead_receiver_with_a_thousand_deliveries_delays_nobody() {
    let world = World::new();
    let [dead, well] = neighbours(2)[..] else { panic!("two organizations") };
    let dead_id = world.endpoint(dead, "https://dead.example.com/", &["*"]).await;
    let well_id = world.endpoint(well, "https://well.example.com/", &["*"]).await;
    let (transport, script) = scripted(|request| {
        let dead = host(request) == "dead.example.com";
        Reply { after: Duration::from_secs(if dead { 3_600 } else { 0 }), ..Reply::status(200) }
    });
    let running = world.start(transport);
    world.campaigns(dead, 1_000).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    for _ in 0..20 {
        world.campaigns(well, 5).await;
        tokio::time::sleep(Duration::from_secs(5)).await;
    }
    running.stop().await;
    let rows = world.deliveries(well, well_id).await;
    assert_eq!(rows.len(), 100);
    for row in &rows {
        assert_eq!(row.status, "delivered");
        let late_ms = row.attempts[0].started_at_ms - row.created_at_ms;
        assert!(late_ms < 100, "{late_ms} ms late");
    }
    // The dead one is asked less and less at once, and all of its deliveries are still there.
    let asked = script.sent().iter().filter(|r| host(r) == "dead.example.com").count();
    assert!((10..60).contains(&asked), "{asked} attempts in 105 s");
    let rows = world.deliveries(dead, dead_id).await;
    assert_eq!(rows.len(), 1_000);
    assert!(rows.iter().all(|row| row.status == "pending"));
}

/// More deliveries than a lane keeps in memory, some tried again between the others: all arrive,
/// each as often as it should.
#[tokio::test(start_paused = true)]
async fn what_does_not_fit_in_memory_is_delivered_too() {
    let world = World::new();
    let scope = scope(5);
    let id = world.endpoint(scope, "https://a.example.com/", &["*"]).await;
    let seen = Mutex::new(BTreeMap::<String, usize>::new());
    let (transport, script) = scripted(move |request| {
        let mut seen = seen.lock().expect("no panic before");
        let number = seen.len();
        let times = seen.entry(request.id.clone()).or_insert(0);
        *times += 1;
        // Every seventh fails twice.
        Reply::status(if number.is_multiple_of(7) && *times < 3 && request.attempt < 3 {
            500
        } else {
            200
        })
    });
    let running = world.start(transport);
    for _ in 0..5 {
        world.campaigns(scope, 500).await;
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
    let rows = world.settled(scope, id, 2_500).await;
    running.stop().await;
    assert!(rows.iter().all(|row| row.status == "delivered"));
    let attempts: usize = rows.iter().map(|row| row.attempts.len()).sum();
    assert_eq!(attempts, script.sent().len(), "every attempt is logged, none is made twice");
    assert!(rows.iter().any(|row| row.attempts.len() > 1));
}

#[tokio::test(start_paused = true)]
async fn caps_are_never_exceeded() {
    let mut world = World::new();
    world.config.in_flight_max = 12;
    world.config.endpoint_in_flight_max = 5;
    let scopes = neighbours(4);
    let mut ids = Vec::new();
    for (i, scope) in scopes.iter().enumerate() {
        ids.push(world.endpoint(*scope, &format!("https://h{i}.example.com/"), &["*"]).await);
    }
    let now = Arc::new(AtomicUsize::new(0));
    let most = Arc::new(AtomicUsize::new(0));
    let per_host = Arc::new(Mutex::new(BTreeMap::<String, Vec<tokio::time::Instant>>::new()));
    let (transport, _) = scripted({
        let (now, most, per_host) = (now.clone(), most.clone(), per_host.clone());
        move |request| {
            let started = tokio::time::Instant::now();
            let mut hosts = per_host.lock().expect("no panic before");
            hosts.entry(host(request)).or_default().push(started);
            let under_way: Vec<usize> = hosts
                .values()
                .map(|at| at.iter().filter(|at| started - **at < Duration::from_secs(1)).count())
                .collect();
            assert!(under_way.iter().all(|count| *count <= 5), "{under_way:?}");
            now.store(under_way.iter().sum(), Ordering::Relaxed);
            most.fetch_max(under_way.iter().sum(), Ordering::Relaxed);
            Reply { after: Duration::from_secs(1), ..Reply::status(200) }
        }
    });
    let running = world.start(transport);
    for scope in &scopes {
        world.campaigns(*scope, 40).await;
    }
    for (scope, id) in scopes.iter().zip(&ids) {
        let rows = world.settled(*scope, *id, 40).await;
        assert!(rows.iter().all(|row| row.attempts.len() == 1));
    }
    running.stop().await;
    assert_eq!(most.load(Ordering::Relaxed), 12, "all permits are used, and no more");
}

/// Between the events that matter the owner sleeps, also while every permit is taken and more
/// becomes due.
#[tokio::test(start_paused = true)]
async fn waiting_for_a_permit_costs_nothing() {
    let mut world = World::new();
    world.config.in_flight_max = 1;
    let [slow, other] = neighbours(2)[..] else { panic!("two organizations") };
    world.endpoint(slow, "https://slow.example.com/", &["*"]).await;
    world.endpoint(other, "https://other.example.com/", &["*"]).await;
    let (transport, script) =
        scripted(|_| Reply { after: Duration::from_secs(14), ..Reply::status(200) });
    let running = world.start(transport);
    world.campaigns(slow, 3).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    world.campaigns(other, 3).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let metrics = tokio::runtime::Handle::current().metrics();
    let before = metrics.worker_park_count(0);
    tokio::time::sleep(Duration::from_secs(10)).await;
    let parked = metrics.worker_park_count(0) - before;
    assert_eq!(script.sent().len(), 1, "the one permit is taken");
    assert!(parked < 200, "woke up {parked} times in 10 s");
    running.stop().await;
}

/// More comes in than a receiver that never answers can be asked: what waits for it grows until the
/// oldest is too old, and no further. Its neighbour notices nothing.
#[tokio::test(start_paused = true)]
async fn the_backlog_of_a_dead_receiver_is_bounded_by_age() {
    const HOUR: Duration = Duration::from_secs(3_600);
    const PER_HOUR: usize = 10;
    // Attempts take a quarter of an hour, one at a time.
    const ATTEMPTS_PER_HOUR: usize = 4;
    let limit_h = usize::try_from(AGE_MAX_MS / 3_600_000 + 1).expect("hours");
    let mut world = World::new();
    world.config.endpoint_in_flight_max = 1;
    let [dead, well] = neighbours(2)[..] else { panic!("two organizations") };
    let dead_id = world.endpoint(dead, "https://dead.example.com/", &["*"]).await;
    let well_id = world.endpoint(well, "https://well.example.com/", &["*"]).await;
    let script = Scripted::new(HOUR / 4, |request| {
        let dead = host(request) == "dead.example.com";
        Reply { after: if dead { HOUR } else { Duration::ZERO }, ..Reply::status(200) }
    });
    let running = world.start(Transport::Scripted(script.clone()));
    let mut most = 0;
    for _ in 0..2 * limit_h {
        world.campaigns(dead, PER_HOUR as u64).await;
        world.campaigns(well, 1).await;
        tokio::time::sleep(HOUR).await;
        let rows = world.deliveries(dead, dead_id).await;
        most = most.max(rows.iter().filter(|row| row.status == "pending").count());
    }
    let bound = limit_h * (PER_HOUR + ATTEMPTS_PER_HOUR);
    assert!((limit_h * PER_HOUR / 2..=bound).contains(&most), "{most} waited, {bound} may");
    tokio::time::sleep(HOUR * 3 * limit_h as u32).await;
    running.stop().await;
    let rows = world.deliveries(dead, dead_id).await;
    assert_eq!(rows.len(), 2 * limit_h * PER_HOUR);
    let sent: BTreeSet<_> = script.sent().into_iter().map(|r| (r.delivery, r.attempt)).collect();
    for row in &rows {
        assert_eq!((row.status.as_str(), row.due_at_ms), ("exhausted", 0));
        let id = DeliveryId::from_proto(&row.id).expect("an id");
        for (attempt, number) in row.attempts.iter().zip(1..) {
            assert_eq!(attempt.number, number);
            assert!(sent.contains(&(id, number)), "an attempt on record was made");
            let age_ms = attempt.started_at_ms - row.created_at_ms;
            assert!(age_ms <= AGE_MAX_MS, "an attempt {age_ms} ms late");
        }
    }
    let attempts: usize = rows.iter().map(|row| row.attempts.len()).sum();
    let rows = world.deliveries(well, well_id).await;
    assert_eq!(sent.len(), attempts + rows.len(), "every attempt is on record");
    for row in rows {
        let late_ms = row.attempts[0].started_at_ms - row.created_at_ms;
        assert!(row.status == "delivered" && late_ms < 100, "{late_ms} ms late");
    }
}
