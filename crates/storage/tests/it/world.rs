//! The backends under test, and how the same cases run over each of them.

use bytes::Bytes;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use storage::embedded::{self, OpenOptions};
use storage::fault::Faults;
use storage::kafka::{self, KafkaOptions};
use storage::log::{LogRecord, ReadLimit};
use storage::memory::{Cluster, Memory, Own};
use storage::state::Group;
use storage::{EventLog, Shard, StateStore, Topic};
use tempfile::TempDir;

use crate::keyspace;

/// Partitions of every log under test.
pub(crate) const PARTITIONS: u16 = 4;
/// Identity of every log under test.
pub(crate) const IDENTITY: u64 = 0xabcd_ef01_2345_6789;
/// Reads everything in one go.
pub(crate) const ALL: ReadLimit = ReadLimit { records: usize::MAX, bytes: usize::MAX };

/// One backend with both its ports.
pub(crate) struct World {
    pub(crate) log: EventLog,
    /// Of a broker, which keeps none, one in memory.
    pub(crate) state: StateStore,
    /// Before the partitions under test: cases over one server use different ones.
    pub(crate) first: u16,
    disk: Disk,
}

enum Disk {
    Embedded(TempDir),
    Memory(Memory),
    Fault(Memory),
    Kafka(Box<Topics>),
    /// The log in memory, which outlives processes; the state on the server.
    Cql(Memory, u16),
    /// Both in memory, as servers are: they outlive processes. And the number of the process.
    Cluster(Memory, Cluster, u64),
}

impl World {
    pub(crate) async fn embedded() -> Self {
        let dir = TempDir::new().unwrap();
        Self::on(Disk::Embedded(dir)).await
    }

    pub(crate) async fn memory() -> Self {
        Self::on(Disk::Memory(Memory::new(PARTITIONS, IDENTITY))).await
    }

    /// Wrapped, with an empty script.
    pub(crate) async fn fault() -> Self {
        Self::on(Disk::Fault(Memory::new(PARTITIONS, IDENTITY))).await
    }

    /// New topics on a running broker.
    pub(crate) async fn kafka() -> Self {
        Self::on(Disk::Kafka(Box::new(Topics::new()))).await
    }

    /// On partitions that no other case of this process uses.
    pub(crate) async fn cql() -> Self {
        let first = keyspace::fresh_partitions(PARTITIONS);
        Self::on(Disk::Cql(Memory::new(first + PARTITIONS, IDENTITY), first)).await
    }

    pub(crate) async fn cluster() -> Self {
        let memory = Memory::new(PARTITIONS, IDENTITY);
        Self::on(Disk::Cluster(memory, Cluster::new(3), 0)).await
    }

    async fn on(disk: Disk) -> Self {
        let mut first = 0;
        let (log, state) = match &disk {
            Disk::Cql(memory, start) => {
                first = *start;
                let (log, _) = memory.open();
                let state = storage::cql::connect(keyspace::options().await, log.clone()).await;
                (log, state.unwrap().0)
            }
            Disk::Embedded(dir) => embedded::open(dir.path(), &options()).unwrap(),
            Disk::Memory(memory) => memory.open(),
            Disk::Cluster(memory, cluster, process) => cluster.open(memory.broker(), own(*process)),
            Disk::Fault(memory) => {
                let (log, state) = memory.open();
                Faults::default().wrap(log, state)
            }
            Disk::Kafka(topics) => {
                let state = Memory::new(PARTITIONS, IDENTITY).open().1;
                (kafka::connect(&topics.options).await.unwrap(), state)
            }
        };
        Self { log, state, first, disk }
    }

    /// The evaluator's shard of the n-th partition under test; from [`PARTITIONS`] on there is none.
    pub(crate) fn shard(&self, n: u16) -> Shard {
        Shard { group: Group::Evaluator, partition: self.first + n }
    }

    /// What a new process finds after this one was killed: of the files, a copy made while they
    /// are open.
    pub(crate) async fn killed_and_reopened(self) -> Self {
        match self.disk {
            Disk::Embedded(dir) => {
                let copy = TempDir::new().unwrap();
                let status = std::process::Command::new("cp")
                    .args(["-r", "--sparse=always"])
                    .arg(dir.path().join("."))
                    .arg(copy.path())
                    .status();
                assert!(status.unwrap().success());
                drop((self.log, self.state));
                Self::on(Disk::Embedded(copy)).await
            }
            Disk::Memory(memory) => {
                memory.crash();
                Self::on(Disk::Memory(memory)).await
            }
            Disk::Fault(memory) => {
                memory.crash();
                Self::on(Disk::Fault(memory)).await
            }
            Disk::Cql(memory, first) => {
                memory.crash();
                drop((self.log, self.state));
                Self::on(Disk::Cql(memory, first)).await
            }
            Disk::Cluster(memory, cluster, process) => {
                drop((self.log, self.state));
                Self::on(Disk::Cluster(memory, cluster, process + 1)).await
            }
            Disk::Kafka(topics) => {
                // What the process had in its queues goes with it.
                std::mem::forget((self.log, self.state));
                Self::on(Disk::Kafka(topics)).await
            }
        }
    }

    /// What a new process finds after this one ended in order.
    pub(crate) async fn closed_and_reopened(self) -> Self {
        let Self { log, state, disk, .. } = self;
        drop((log, state));
        let disk = match disk {
            Disk::Cluster(memory, cluster, process) => Disk::Cluster(memory, cluster, process + 1),
            disk => disk,
        };
        Self::on(disk).await
    }

    pub(crate) async fn append(&self, partition: u16, records: &[&str]) -> Vec<u64> {
        let records = records.iter().map(|r| (partition, bytes(r))).collect();
        self.log.append(Topic::Events, records).await.unwrap()
    }

    pub(crate) async fn read(&self, topic: Topic, partition: u16, from: u64) -> Vec<LogRecord> {
        self.log.read(topic, partition, from, ALL).await.unwrap()
    }

    /// All records of a partition, as text, with the check that offsets are dense from `start`.
    pub(crate) async fn texts(&self, topic: Topic, partition: u16) -> Vec<String> {
        let bounds = self.log.bounds(topic, partition).await.unwrap();
        let records = self.read(topic, partition, bounds.start).await;
        let offsets: Vec<_> = records.iter().map(|r| r.offset).collect();
        assert_eq!(offsets, (bounds.start..bounds.end).collect::<Vec<_>>());
        records.iter().map(|r| String::from_utf8(r.bytes.to_vec()).unwrap()).collect()
    }
}

/// Topics of a prefix of their own, gone when dropped.
pub(crate) struct Topics {
    pub(crate) options: KafkaOptions,
}

impl Topics {
    pub(crate) fn new() -> Self {
        #[allow(clippy::disallowed_methods, reason = "a test finds its servers so")]
        let brokers = std::env::var("AKTVATOR_TEST_KAFKA").unwrap();
        let name = tempfile::Builder::new().prefix("aktvator-test-").tempfile().unwrap();
        let name = name.path().file_name().unwrap().to_str().unwrap().to_owned();
        let options = KafkaOptions {
            brokers,
            topic_prefix: format!("{name}."),
            partitions: PARTITIONS,
            replication: 1,
            min_insync: 1,
            ..KafkaOptions::default()
        };
        let topics = Self { options };
        let report = wait_for(kafka::migrate(&topics.options)).unwrap();
        assert_eq!(report.created.len(), Topic::ALL.len());
        topics
    }

    pub(crate) fn admin(&self) -> AdminClient<DefaultClientContext> {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.options.brokers).create().unwrap()
    }

    pub(crate) fn name(&self, topic: Topic) -> String {
        format!("{}{}", self.options.topic_prefix, topic.as_str())
    }
}

impl Drop for Topics {
    fn drop(&mut self) {
        let names = Topic::ALL.map(|topic| self.name(topic));
        let names = names.each_ref().map(String::as_str);
        let gone = wait_for(self.admin().delete_topics(&names, &AdminOptions::new()));
        assert!(gone.is_ok() || std::thread::panicking(), "{gone:?}");
    }
}

/// Waits in the middle of a test on several threads.
pub(crate) fn wait_for<T>(future: impl Future<Output = T>) -> T {
    tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(future))
}

pub(crate) fn options() -> OpenOptions {
    OpenOptions { partitions: PARTITIONS, min_free_bytes: 0, ..OpenOptions::new(IDENTITY) }
}

/// Of a process that nothing happens to.
pub(crate) fn own(process: u64) -> Own {
    Own { faults: Faults::default(), now_us: 1_790_000_000_000_000, seed: process }
}

pub(crate) fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

/// Runs each case over each backend; a case is an `async fn(World)`.
macro_rules! conformance {
    (with kafka: $($case:ident),+ $(,)?) => {
        conformance!($($case),+);
        mod kafka {
            $(
                #[tokio::test(flavor = "multi_thread")]
                #[ignore = "set AKTVATOR_TEST_KAFKA to a broker's host:port"]
                async fn $case() {
                    super::$case($crate::world::World::kafka().await).await;
                }
            )+
        }
    };
    ($($case:ident),+ $(,)?) => {
        conformance!(@over embedded: $($case),+);
        conformance!(@over memory: $($case),+);
        conformance!(@over fault: $($case),+);
    };
    (@over $backend:ident: $($case:ident),+) => {
        mod $backend {
            $(
                #[tokio::test]
                async fn $case() {
                    super::$case($crate::world::World::$backend().await).await;
                }
            )+
        }
    };
    (@server $backend:ident, $reason:literal: $($case:ident),+) => {
        mod $backend {
            $(
                #[tokio::test]
                #[ignore = $reason]
                async fn $case() {
                    super::$case($crate::world::World::$backend().await).await;
                }
            )+
        }
    };
}
pub(crate) use conformance;
