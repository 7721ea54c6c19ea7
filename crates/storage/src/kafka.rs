//! The event log on Apache Kafka 2.8 or later: options, [`migrate`], [`connect`].
//!
//! Each [`Topic`] is a Kafka topic named prefix + topic. Offsets are Kafka's; those of
//! [`Topic::Outcomes`] are the sequence numbers that records carry in the header `seq` (8 bytes, big
//! endian), because outcomes may be published twice. What identifies a log is the topic id that
//! Kafka draws when it creates a topic (`docs/adr/0005-log-identity-on-kafka.md`).
//!
//! Connections are plain text: TLS and SASL would bring a second TLS stack. Options that ask for
//! them are refused as unknown; brokers belong on a private network or behind a local TLS proxy.

mod migration;

use rdkafka::ClientConfig;
use serde::{Deserialize, Serialize};

use crate::log::KafkaLog;
use crate::{Error, EventLog, Kind, Topic};

/// Longest record that is taken, in bytes, and `max.message.bytes` of the topics.
pub const RECORD_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Most partitions a topic may have.
pub const PARTITIONS_MAX: u16 = 4096;
/// Longest prefix of topic names; Kafka takes 249 characters with what follows.
const PREFIX_LEN_MAX: usize = 200;

/// How to reach the brokers, and what the topics must be like.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KafkaOptions {
    /// Brokers to begin with, `host:port` separated by commas.
    pub brokers: String,
    /// What names of topics and consumer groups begin with; one installation has one prefix.
    pub topic_prefix: String,
    /// Partitions of every topic; cannot be changed later, because it says where a record goes.
    pub partitions: u16,
    /// Copies of every record.
    pub replication: i16,
    /// Copies that must have a record before it counts as stored.
    pub min_insync: i16,
    /// Milliseconds for which Kafka keeps events, clicks and catalog changes, by the records' own
    /// times. At least as long as claims are kept, so that whatever is undecided is still there.
    /// Outcomes and dead letters are kept until they are trimmed.
    pub retention_ms: i64,
    /// Milliseconds after which an append that the brokers have not confirmed fails, as one that may
    /// have happened.
    pub delivery_timeout_ms: u32,
    /// Most records waiting for the brokers' confirmation; appends beyond it fail as `Full`.
    pub queue_records: u32,
    /// Most bytes of records waiting for the brokers' confirmation.
    pub queue_bytes: u64,
}

impl Default for KafkaOptions {
    fn default() -> Self {
        Self {
            brokers: "127.0.0.1:9092".into(),
            topic_prefix: "aktvator.".into(),
            partitions: 64,
            replication: 3,
            min_insync: 2,
            retention_ms: 100 * 24 * 60 * 60 * 1000,
            delivery_timeout_ms: 10_000,
            queue_records: 100_000,
            queue_bytes: 128 * 1024 * 1024,
        }
    }
}

impl KafkaOptions {
    /// All that cannot be, at once.
    ///
    /// # Errors
    /// `Conflict`, with every fault as its reason.
    pub fn check(&self) -> Result<(), Error> {
        let mut faults = Vec::new();
        let mut must = |holds: bool, fault: &str| {
            if !holds {
                faults.push(fault.to_owned());
            }
        };
        let is_address = |broker: &str| {
            let (host, port) = broker.trim().rsplit_once(':').unwrap_or_default();
            !host.is_empty() && port.parse::<u16>().is_ok()
        };
        must(self.brokers.split(',').all(is_address), "brokers must be host:port, ...");
        let is_name = |c: char| c.is_ascii_alphanumeric() || ".-_".contains(c);
        must(
            !self.topic_prefix.is_empty()
                && self.topic_prefix.len() <= PREFIX_LEN_MAX
                && self.topic_prefix.chars().all(is_name),
            "topic_prefix must be 1 to 200 of the characters a-z A-Z 0-9 . - _",
        );
        must((1..=PARTITIONS_MAX).contains(&self.partitions), "partitions must be 1 to 4096");
        must(self.replication >= 1, "replication must be at least 1");
        must(
            (1..=self.replication.max(1)).contains(&self.min_insync),
            "min_insync must be 1 to replication",
        );
        must(self.retention_ms > 0, "retention_ms must be positive");
        must(
            (1..=3_600_000).contains(&self.delivery_timeout_ms),
            "delivery_timeout_ms must be 1 to 3600000",
        );
        must((1..=5_000_000).contains(&self.queue_records), "queue_records must be 1 to 5000000");
        must((1..=1 << 40).contains(&self.queue_bytes), "queue_bytes must be 1 to 1099511627776");
        if faults.is_empty() {
            return Ok(());
        }
        Err(Error::determinate("options", Kind::Conflict).because(faults.join("; ")))
    }

    /// The Kafka topic's name.
    pub(crate) fn topic(&self, topic: Topic) -> String {
        format!("{}{}", self.topic_prefix, topic.as_str())
    }

    /// What every client of this process begins with.
    pub(crate) fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &self.brokers)
            .set("client.id", "aktvator")
            .set("socket.keepalive.enable", "true")
            // A broker that comes back is found within a second.
            .set("reconnect.backoff.ms", "50")
            .set("reconnect.backoff.max.ms", "1000")
            .set("log_level", "4");
        config
    }
}

/// What [`migrate`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Topics that were missing and are there now.
    pub created: Vec<String>,
    /// Topics that were there and are as they must be.
    pub found: Vec<String>,
}

/// Creates the topics that are missing and checks those that are there. Nothing that is there
/// changes; repeating it is harmless.
///
/// # Errors
/// `Conflict` for options that cannot be, or topics that differ from what they must be: the reason
/// has a line for each difference, with what to do. `Unavailable` when the brokers are out of reach
/// or refuse.
pub async fn migrate(options: &KafkaOptions) -> Result<Report, Error> {
    migration::run(options).await
}

/// Connects to the topics, which [`migrate`] has made.
///
/// # Errors
/// `Conflict` for options that cannot be, a topic that is missing, or one with another number of
/// partitions; `Unavailable` when the brokers are out of reach.
pub async fn connect(options: &KafkaOptions) -> Result<EventLog, Error> {
    Ok(EventLog::Kafka(KafkaLog::connect(options).await?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_is_told_at_once() {
        KafkaOptions::default().check().unwrap();
        let wrong = KafkaOptions {
            brokers: "one:9092,two".into(),
            topic_prefix: "a b".into(),
            partitions: 0,
            replication: 0,
            min_insync: 2,
            retention_ms: 0,
            delivery_timeout_ms: 0,
            queue_records: 0,
            queue_bytes: 0,
        };
        let e = wrong.check().unwrap_err();
        let why = std::error::Error::source(&e).unwrap().to_string();
        assert_eq!(why.split("; ").count(), 9, "{why}");
    }
}
