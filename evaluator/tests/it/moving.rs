//! Partitions that move between evaluators while events come in.

use std::time::Duration;

use storage::memory::Memory;
use tokio::sync::watch;

use crate::support::{PERCENT, Running, Shop, append, codes, decided, quiet};

const PARTITIONS: u16 = 2;
/// More than any pause before a partition is taken over again.
const SOON: Duration = Duration::from_secs(10);

/// An evaluator, and what it is told to work on.
struct Member {
    assigned: watch::Sender<Vec<u16>>,
    running: Running,
}

impl Member {
    fn start(disk: &Memory, partitions: &[u16]) -> Self {
        let (assigned, following) = watch::channel(partitions.to_vec());
        let (log, state) = disk.open_assigned(following);
        Self { assigned, running: Running::start(&log, &state, quiet()) }
    }

    fn assign(&self, partitions: &[u16]) {
        self.assigned.send_replace(partitions.to_vec());
    }
}

#[tokio::test(start_paused = true)]
async fn events_are_decided_once_while_partitions_move() {
    let disk = Memory::new(PARTITIONS, 7);
    let (log, state) = disk.open();
    let shops = [0, 1].map(|partition| Shop::within(partition, PARTITIONS));
    for (partition, shop) in (0..).zip(&shops) {
        append(&log, partition, shop.opening(PERCENT)).await;
    }
    let (one, two) = (Member::start(&disk, &[0, 1]), Member::start(&disk, &[]));
    let splits: [(&[u16], &[u16]); 6] =
        [(&[0], &[1]), (&[], &[0, 1]), (&[1], &[0]), (&[0], &[1]), (&[0, 1], &[]), (&[1], &[0])];
    for (round, (of_one, of_two)) in splits.into_iter().enumerate() {
        for (partition, shop) in (0..).zip(&shops) {
            let events = (0..200).map(|n| shop.purchase(&format!("{round}-{n}"), 1_000, "c"));
            append(&log, partition, events.collect()).await;
        }
        // In the middle of what it decides, and for a moment nobody's or both's.
        tokio::time::sleep(Duration::from_millis(1)).await;
        let (first, second) = if round % 2 == 0 { (&one, &two) } else { (&two, &one) };
        let (to_first, to_second) =
            if round % 2 == 0 { (of_one, of_two) } else { (of_two, of_one) };
        first.assign(to_first);
        tokio::time::sleep(Duration::from_millis(1)).await;
        second.assign(to_second);
    }
    for partition in 0..PARTITIONS {
        decided(&log, &state, partition).await;
        let codes = codes(&log, partition).await;
        assert_eq!(codes.len(), 1_200);
        assert!(!codes.iter().any(|code| code == "duplicate"));
    }
    assert!(one.running.health.is_ready() && two.running.health.is_ready());
    one.running.stop().await;
    two.running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn who_still_has_a_partition_takes_it_back_from_who_had_it_no_more() {
    let disk = Memory::new(PARTITIONS, 7);
    let (log, state) = disk.open();
    let shop = Shop::within(0, PARTITIONS);
    append(&log, 0, shop.opening(PERCENT)).await;
    let owner = Member::start(&disk, &[0]);
    decided(&log, &state, 0).await;
    // It has not heard yet that the partition is another's.
    let late = Member::start(&disk, &[0]);
    tokio::time::sleep(Duration::from_millis(100)).await;
    append(&log, 0, vec![shop.purchase("a", 1_000, "c")]).await;
    decided(&log, &state, 0).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!owner.running.health.is_ready(), "it was fenced");
    late.assign(&[]);
    tokio::time::sleep(SOON).await;
    assert!(owner.running.health.is_ready() && late.running.health.is_ready());
    append(&log, 0, vec![shop.purchase("b", 1_000, "c")]).await;
    decided(&log, &state, 0).await;
    assert_eq!(codes(&log, 0).await.len(), 2);
    owner.running.stop().await;
    late.running.stop().await;
}
