//! `kill -9` and SIGTERM under load: what was acknowledged is there, once.

use std::thread;
use std::time::Duration;

use crate::invariants;
use crate::node::Node;
use crate::workload::Workload;

/// Of a sender, between its batches.
const PAUSE: Duration = Duration::from_millis(50);

#[test]
fn nothing_acknowledged_is_lost_or_doubled_under_kill_9() {
    let mut node = Node::start();
    let workload = Workload::new(&node, vec![node.url("")]);
    workload.during(PAUSE, || {
        for _ in 0..3 {
            thread::sleep(Duration::from_millis(300));
            node.crash_and_restart();
        }
        thread::sleep(Duration::from_millis(300));
    });
    invariants::check(&workload);
}

#[test]
fn sigterm_drains_and_exits_cleanly() {
    let mut node = Node::start();
    let workload = Workload::new(&node, vec![node.url("")]);
    workload.during(PAUSE, || {
        thread::sleep(Duration::from_millis(500));
        assert!(node.terminate().success(), "{}", node.log());
    });
    node.restart();
    invariants::check(&workload);
}
