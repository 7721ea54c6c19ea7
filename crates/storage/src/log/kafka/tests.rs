//! Outcomes on a running broker: numbers of their own, whatever is repeated.

use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::{Offset, TopicPartitionList};

use super::*;
use crate::Certainty;
use crate::kafka::migrate;

const ALL: ReadLimit = ReadLimit { records: usize::MAX, bytes: usize::MAX };

/// Topics of a prefix of their own, gone when dropped.
struct Rig {
    options: KafkaOptions,
}

impl Rig {
    async fn new() -> Self {
        #[allow(clippy::disallowed_methods, reason = "a test finds its servers so")]
        let brokers = std::env::var("AKTVATOR_TEST_KAFKA").unwrap();
        let name = tempfile::Builder::new().prefix("aktvator-test-").tempfile().unwrap();
        let name = name.path().file_name().unwrap().to_str().unwrap().to_owned();
        let options = KafkaOptions {
            brokers,
            topic_prefix: format!("{name}."),
            partitions: 2,
            replication: 1,
            min_insync: 1,
            ..KafkaOptions::default()
        };
        migrate(&options).await.unwrap();
        Self { options }
    }

    async fn connect(&self) -> KafkaLog {
        KafkaLog::connect(&self.options).await.unwrap()
    }

    /// Records of these numbers as they may come from several owners, whatever their order.
    async fn write(&self, numbers: &[u64]) {
        let log = self.connect().await;
        let texts: Vec<_> = numbers.iter().map(|seq| outcome(*seq)).collect();
        let records = texts.iter().zip(numbers);
        let records = records.map(|(bytes, seq)| Outgoing { partition: 1, bytes, seq: Some(*seq) });
        let name = self.options.topic(Topic::Outcomes);
        let sent = log.shared.producer.send("test", &name, records, |_| {}).unwrap();
        sent.await.unwrap().unwrap();
    }

    async fn forget(&self, offset: i64) {
        let log = self.connect().await;
        let mut list = TopicPartitionList::new();
        let name = self.options.topic(Topic::Outcomes);
        list.add_partition_offset(&name, 1, Offset::Offset(offset)).unwrap();
        log.shared.admin.delete_records(&list, &AdminOptions::new()).await.unwrap();
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        let options = self.options.clone();
        let delete = move || {
            let admin: AdminClient<Quiet> = options.client().create_with_context(Quiet).unwrap();
            let names = Topic::ALL.map(|topic| options.topic(topic));
            let names = names.each_ref().map(String::as_str);
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(admin.delete_topics(&names, &AdminOptions::new())).unwrap();
        };
        let deleted = std::thread::spawn(delete).join();
        assert!(deleted.is_ok() || std::thread::panicking());
    }
}

fn outcome(seq: u64) -> Bytes {
    Bytes::from(format!("outcome {seq}"))
}

fn outcomes(from: u64, to: u64) -> Vec<Bytes> {
    (from..to).map(outcome).collect()
}

/// Reads from `from` to the end, with the check that numbers and bytes fit.
async fn read(log: &KafkaLog, from: u64) -> Result<u64, Kind> {
    let records = log.read(Topic::Outcomes, 1, from, ALL).await.map_err(|e| e.kind)?;
    for (record, seq) in records.iter().zip(from..) {
        assert_eq!((record.offset, &record.bytes), (seq, &outcome(seq)));
    }
    Ok(from + records.len() as u64)
}

async fn bounds(log: &KafkaLog) -> (u64, u64) {
    let bounds = log.bounds(Topic::Outcomes, 1).await.unwrap();
    (bounds.start, bounds.end)
}

#[tokio::test]
#[ignore = "set AKTVATOR_TEST_KAFKA to a broker's host:port"]
async fn published_outcomes_continue_the_end_whatever_is_repeated() {
    let rig = Rig::new().await;
    let log = rig.connect().await;
    assert_eq!(bounds(&log).await, (0, 0));
    let e = log.publish(1, 1, outcomes(1, 2)).await.unwrap_err();
    assert_eq!((e.kind, e.certainty), (Kind::Conflict, Certainty::Determinate));
    log.publish(1, 0, outcomes(0, 3)).await.unwrap();
    log.publish(1, 1, outcomes(1, 5)).await.unwrap();
    log.publish(1, 0, outcomes(0, 2)).await.unwrap();
    assert_eq!(read(&log, 0).await, Ok(5));
    // A successor begins anywhere up to the end, not behind it.
    let other = rig.connect().await;
    let e = other.publish(1, 6, outcomes(6, 7)).await.unwrap_err();
    assert_eq!(e.kind, Kind::Conflict);
    other.publish(1, 3, outcomes(3, 8)).await.unwrap();
    assert_eq!(bounds(&log).await, (0, 8));
    assert_eq!(read(&log, 5).await, Ok(8));
    // And the first one goes on behind what the other has published.
    log.publish(1, 8, outcomes(8, 2_000)).await.unwrap();
    for log in [log, other, rig.connect().await] {
        assert_eq!(bounds(&log).await, (0, 2_000));
        assert_eq!(read(&log, 0).await, Ok(2_000));
        assert_eq!(read(&log, 1_500).await, Ok(2_000));
        assert_eq!(read(&log, 2_001).await, Err(Kind::OutOfRange));
        assert_eq!(log.publish(2, 0, outcomes(0, 1)).await.unwrap_err().kind, Kind::OutOfRange);
    }
}

#[tokio::test]
#[ignore = "set AKTVATOR_TEST_KAFKA to a broker's host:port"]
async fn repeats_are_read_once_wherever_they_stand() {
    let rig = Rig::new().await;
    rig.write(&[0, 0, 1, 2, 1, 2, 3, 4, 0, 1, 5, 3, 4]).await;
    let log = rig.connect().await;
    for from in (0..=6).chain((0..6).rev()) {
        assert_eq!(read(&log, from).await, Ok(6), "from {from}");
        let fresh = rig.connect().await;
        assert_eq!(read(&fresh, from).await, Ok(6), "from {from}, first");
    }
    assert_eq!(bounds(&rig.connect().await).await, (0, 6));
    // A late repeat wakes nobody; what is new does.
    let waiting = {
        let log = log.clone();
        tokio::spawn(async move { log.wait(Topic::Outcomes, 1, 6).await })
    };
    rig.write(&[2, 3]).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!waiting.is_finished());
    rig.write(&[5, 6]).await;
    waiting.await.unwrap();
    assert_eq!(read(&log, 6).await, Ok(7));
}

#[tokio::test]
#[ignore = "set AKTVATOR_TEST_KAFKA to a broker's host:port"]
async fn a_gap_is_never_skipped() {
    let rig = Rig::new().await;
    rig.write(&[0, 1, 3, 4]).await;
    let log = rig.connect().await;
    // What stands before it is read.
    assert_eq!(read(&log, 0).await, Ok(2));
    for log in [log, rig.connect().await] {
        assert_eq!(read(&log, 2).await, Err(Kind::Corrupt));
        assert_eq!(read(&log, 2).await, Err(Kind::Corrupt));
    }
}

#[tokio::test]
#[ignore = "set AKTVATOR_TEST_KAFKA to a broker's host:port"]
async fn trimmed_outcomes_keep_their_numbers() {
    let rig = Rig::new().await;
    rig.write(&[0, 1, 2, 3, 4, 1, 2, 5, 6, 7]).await;
    let log = rig.connect().await;
    log.trim(Topic::Outcomes, 1, 5).await.unwrap();
    for log in [log.clone(), rig.connect().await] {
        assert_eq!(bounds(&log).await, (5, 8));
        assert_eq!(read(&log, 4).await, Err(Kind::OutOfRange));
        for from in 5..=8 {
            assert_eq!(read(&log, from).await, Ok(8));
        }
    }
    log.trim(Topic::Outcomes, 1, u64::MAX).await.unwrap();
    let log = rig.connect().await;
    assert_eq!(bounds(&log).await, (7, 8));
    log.publish(1, 8, outcomes(8, 9)).await.unwrap();
    assert_eq!(read(&log, 7).await, Ok(9));
}

#[tokio::test]
#[ignore = "set AKTVATOR_TEST_KAFKA to a broker's host:port"]
async fn a_search_that_a_late_repeat_misleads_is_made_again_from_the_oldest() {
    let rig = Rig::new().await;
    rig.write(&[0, 1, 2, 3, 4, 5, 2, 3, 6, 7, 8, 9, 10, 11, 12]).await;
    // As the broker's own retention may cut: the oldest record is the repeat of 2.
    rig.forget(6).await;
    for from in 6..=13 {
        let log = rig.connect().await;
        assert_eq!(read(&log, from).await, Ok(13), "from {from}");
    }
}

#[tokio::test]
#[ignore = "set AKTVATOR_TEST_KAFKA to a broker's host:port"]
async fn a_record_without_a_number_stops_the_reader() {
    let rig = Rig::new().await;
    let log = rig.connect().await;
    log.publish(1, 0, outcomes(0, 2)).await.unwrap();
    let (name, bytes) = (rig.options.topic(Topic::Outcomes), outcome(2));
    let record = [Outgoing { partition: 1, bytes: &bytes, seq: None }];
    let sent = log.shared.producer.send("test", &name, record.into_iter(), |_| {}).unwrap();
    sent.await.unwrap().unwrap();
    for log in [log, rig.connect().await] {
        assert_eq!(log.bounds(Topic::Outcomes, 1).await.unwrap_err().kind, Kind::Corrupt);
        assert_eq!(read(&log, 0).await, Err(Kind::Corrupt));
    }
}
