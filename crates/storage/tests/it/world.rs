//! The backends under test, and how the same cases run over each of them.

use bytes::Bytes;
use storage::embedded::{self, OpenOptions};
use storage::fault::Faults;
use storage::log::{LogRecord, ReadLimit};
use storage::memory::Memory;
use storage::{EventLog, StateStore, Topic};
use tempfile::TempDir;

/// Partitions of every log under test.
pub(crate) const PARTITIONS: u16 = 4;
/// Identity of every log under test.
pub(crate) const IDENTITY: u64 = 0xabcd_ef01_2345_6789;
/// Reads everything in one go.
pub(crate) const ALL: ReadLimit = ReadLimit { records: usize::MAX, bytes: usize::MAX };

/// One backend with both its ports.
pub(crate) struct World {
    pub(crate) log: EventLog,
    pub(crate) state: StateStore,
    disk: Disk,
}

enum Disk {
    Embedded(TempDir),
    Memory(Memory),
    Fault(Memory),
}

impl World {
    pub(crate) fn embedded() -> Self {
        let dir = TempDir::new().unwrap();
        Self::on(Disk::Embedded(dir))
    }

    pub(crate) fn memory() -> Self {
        Self::on(Disk::Memory(Memory::new(PARTITIONS, IDENTITY)))
    }

    /// Wrapped, with an empty script.
    pub(crate) fn fault() -> Self {
        Self::on(Disk::Fault(Memory::new(PARTITIONS, IDENTITY)))
    }

    fn on(disk: Disk) -> Self {
        let (log, state) = match &disk {
            Disk::Embedded(dir) => embedded::open(dir.path(), &options()).unwrap(),
            Disk::Memory(memory) => memory.open(),
            Disk::Fault(memory) => {
                let (log, state) = memory.open();
                Faults::default().wrap(log, state)
            }
        };
        Self { log, state, disk }
    }

    /// What a new process finds after this one was killed: of the files, a copy made while they
    /// are open.
    pub(crate) fn killed_and_reopened(self) -> Self {
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
                Self::on(Disk::Embedded(copy))
            }
            Disk::Memory(memory) => {
                memory.crash();
                Self::on(Disk::Memory(memory))
            }
            Disk::Fault(memory) => {
                memory.crash();
                Self::on(Disk::Fault(memory))
            }
        }
    }

    /// What a new process finds after this one ended in order.
    pub(crate) fn closed_and_reopened(self) -> Self {
        let Self { log, state, disk } = self;
        drop((log, state));
        Self::on(disk)
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

pub(crate) fn options() -> OpenOptions {
    OpenOptions { partitions: PARTITIONS, min_free_bytes: 0, ..OpenOptions::new(IDENTITY) }
}

pub(crate) fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

/// Runs each case over each backend; a case is an `async fn(World)`.
macro_rules! conformance {
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
                    super::$case($crate::world::World::$backend()).await;
                }
            )+
        }
    };
}
pub(crate) use conformance;
