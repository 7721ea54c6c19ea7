//! Servers that are killed, stand still and come back, under load.

use std::process::Command;
use std::thread;
use std::time::Duration;

use tokio::time::Instant;

use crate::installation::Installation;
use crate::invariants;
use crate::node::eventually;
use crate::workload::Workload;

/// Of a sender, between its batches.
const PAUSE: Duration = Duration::from_secs(2);

/// Does to one of the servers what `scripts/services` can.
fn server(action: &str, name: &str) {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/services");
    println!("{action} {name}");
    let done = Command::new(script).args([action, name]).output().expect("scripts/services runs");
    let said = String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).into_owned();
    assert!(done.status.success(), "{action} {name}: {said}");
}

/// It runs again whatever happens in the test.
struct Away(&'static str);

impl Away {
    fn killed(name: &'static str) -> Self {
        server("kill", name);
        Self(name)
    }
}

impl Drop for Away {
    fn drop(&mut self) {
        server("up", self.0);
    }
}

fn frozen(name: &str, lasting: Duration) {
    server("freeze", name);
    thread::sleep(lasting);
    server("thaw", name);
}

/// Without its log an edge takes nothing in, and says so.
fn assert_refused(workload: &Workload) {
    eventually("503", || (workload.try_one() == 503).then_some(()));
}

/// Decisions go on without analytics, which says that it is away.
fn assert_only_reports_are_away(workload: &Workload, lasting: Duration) {
    let begun = Instant::now();
    let path = format!("/campaigns/{}/performance", workload.shop.name("campaignId"));
    loop {
        workload.decide_one();
        let (status, body) = workload.shop.call(ureq::http::Method::GET, &path, None);
        assert_eq!(status, 503, "{body}");
        if begun.elapsed() > lasting {
            return;
        }
        thread::sleep(Duration::from_secs(1));
    }
}

#[test]
#[ignore = "needs servers of its own: scripts/faults"]
fn every_server_goes_away_and_comes_back() {
    let all = Installation::start();
    let workload = all.workload();
    workload.during(PAUSE, || {
        workload.decide_one();
        let clickhouse = Away::killed("clickhouse");
        assert_only_reports_are_away(&workload, Duration::from_secs(3));
        frozen("kafka", Duration::from_secs(8));
        workload.decide_one();
        let kafka = Away::killed("kafka");
        assert_refused(&workload);
        drop(kafka);
        workload.decide_one();
        drop(Away::killed("cassandra"));
        workload.decide_one();
        drop(clickhouse);
    });
    invariants::check(&workload);
    all.assert_few_series();
}

mod whole {
    use super::*;

    #[test]
    #[ignore = "needs servers of its own: scripts/faults"]
    fn the_broker_is_frozen_for_half_a_minute_killed_and_restarted() {
        let all = Installation::start();
        let workload = all.workload();
        workload.during(PAUSE, || {
            workload.decide_one();
            frozen("kafka", Duration::from_secs(30));
            workload.decide_one();
            for _ in 0..3 {
                let kafka = Away::killed("kafka");
                assert_refused(&workload);
                drop(kafka);
                workload.decide_one();
            }
            server("down", "kafka");
            server("up", "kafka");
            workload.decide_one();
        });
        invariants::check(&workload);
    }

    #[test]
    #[ignore = "needs servers of its own: scripts/faults"]
    fn the_cql_server_is_killed_in_the_middle_of_batches() {
        let all = Installation::start();
        let workload = all.workload();
        workload.during(Duration::from_millis(200), || {
            for _ in 0..3 {
                workload.decide_one();
                drop(Away::killed("cassandra"));
            }
            workload.decide_one();
            frozen("cassandra", Duration::from_secs(40));
            workload.decide_one();
        });
        invariants::check(&workload);
    }

    #[test]
    #[ignore = "needs servers of its own: scripts/faults"]
    fn clickhouse_is_away_for_two_minutes() {
        let all = Installation::start();
        let workload = all.workload();
        workload.during(PAUSE, || {
            workload.decide_one();
            let clickhouse = Away::killed("clickhouse");
            assert_only_reports_are_away(&workload, Duration::from_secs(120));
            drop(clickhouse);
        });
        invariants::check(&workload);
    }
}
