//! Looks into a partition without moving any reader: watermarks, and a few records from an offset.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::{Offset, TopicPartitionList};
use tokio::time::Instant;

use super::cursor::number;
use super::place::Place;
use super::{Quiet, unavailable};
use crate::{Error, Kind};

/// Longest wait for an answer.
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// Until a partition that has no leader is asked for again.
const AGAIN: Duration = Duration::from_millis(50);

/// A client for single looks. All calls block.
pub(super) struct Probe {
    consumer: BaseConsumer<Quiet>,
    /// Held by the one who has it assigned.
    turn: Mutex<()>,
}

/// A record that was looked at.
pub(super) struct Seen {
    /// Kafka's.
    pub(super) offset: u64,
    /// The port's.
    pub(super) number: u64,
    pub(super) bytes: Bytes,
}

impl Probe {
    pub(super) fn new(consumer: BaseConsumer<Quiet>) -> Self {
        Self { consumer, turn: Mutex::default() }
    }

    /// Kafka's offsets of the oldest record and behind the newest.
    pub(super) fn watermarks(&self, place: &Place) -> Result<(u64, u64), Error> {
        let asked = Instant::now();
        loop {
            match self.consumer.fetch_watermarks(&place.name, place.partition(), ANSWER_MAX) {
                Ok((low, high)) => return Ok((low.unsigned_abs(), high.unsigned_abs())),
                Err(e) if is_moving(&e) && asked.elapsed() < ANSWER_MAX => {
                    std::thread::sleep(AGAIN);
                }
                Err(e) => return Err(unavailable("bounds", e)),
            }
        }
    }

    /// The records with Kafka's offsets in `range`, which must be there, until `each` returns false.
    pub(super) fn scan(
        &self,
        place: &Place,
        range: std::ops::Range<u64>,
        mut each: impl FnMut(Seen) -> bool,
    ) -> Result<(), Error> {
        if range.is_empty() {
            return Ok(());
        }
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let from = i64::try_from(range.start).unwrap_or(i64::MAX);
        let mut list = TopicPartitionList::with_capacity(1);
        list.add_partition_offset(&place.name, place.partition(), Offset::Offset(from))
            .map_err(|e| unavailable("read", e))?;
        self.consumer.assign(&list).map_err(|e| unavailable("read", e))?;
        let result = scan(&self.consumer, place, range, &mut each);
        self.consumer.unassign().map_err(|e| unavailable("read", e))?;
        result
    }

    /// One record.
    pub(super) fn one(&self, place: &Place, offset: u64) -> Result<Option<Seen>, Error> {
        let mut found = None;
        self.scan(place, offset..offset.saturating_add(1), |seen| {
            found = Some(seen);
            false
        })?;
        Ok(found)
    }

    /// Serves what the client has to say.
    pub(super) fn serve(&self) {
        // Who has it assigned serves it, and wants the messages himself.
        if let Ok(_turn) = self.turn.try_lock() {
            while self.consumer.poll(Duration::ZERO).is_some() {}
        }
    }
}

/// Whether the partition is new or changes its leader, which takes a moment.
fn is_moving(e: &KafkaError) -> bool {
    matches!(
        e.rdkafka_error_code(),
        Some(
            RDKafkaErrorCode::NotLeaderForPartition
                | RDKafkaErrorCode::LeaderNotAvailable
                | RDKafkaErrorCode::UnknownTopicOrPartition
        )
    )
}

/// Whether it tells of connections, as often as one failed and however long ago: nothing of what was
/// asked for, which comes once there is a connection.
fn is_news(e: &KafkaError) -> bool {
    matches!(
        e.rdkafka_error_code(),
        Some(
            RDKafkaErrorCode::AllBrokersDown
                | RDKafkaErrorCode::BrokerTransportFailure
                | RDKafkaErrorCode::Resolve
        )
    )
}

fn scan(
    consumer: &BaseConsumer<Quiet>,
    place: &Place,
    range: std::ops::Range<u64>,
    each: &mut impl FnMut(Seen) -> bool,
) -> Result<(), Error> {
    let mut heard = Instant::now();
    while heard.elapsed() < ANSWER_MAX {
        let message = match consumer.poll(Duration::from_millis(100)) {
            None => continue,
            Some(Ok(message)) => message,
            Some(Err(e)) if is_news(&e) => continue,
            Some(Err(e)) => return Err(unavailable("read", e)),
        };
        heard = Instant::now();
        let offset = message.offset().unsigned_abs();
        let is_ours = message.topic() == &*place.name && message.partition() == place.partition();
        if !is_ours || offset < range.start {
            continue;
        }
        if offset >= range.end {
            return Ok(());
        }
        let bytes = Bytes::copy_from_slice(message.payload().unwrap_or_default());
        let seen = Seen { offset, number: number(place.topic, &message)?, bytes };
        if !each(seen) || offset + 1 >= range.end {
            return Ok(());
        }
    }
    Err(Error::determinate("read", Kind::Unavailable).because("the brokers do not answer"))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use rdkafka::mocking::MockCluster;
    use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};

    use super::*;
    use crate::Topic;
    use crate::kafka::KafkaOptions;
    use crate::log::kafka::reader;

    /// What a client says of brokers that were away is no answer to a later look.
    #[test]
    fn a_look_sees_what_is_there_once_the_broker_is_back() {
        let cluster = MockCluster::new(1).unwrap();
        cluster.create_topic("topic", 1, 1).unwrap();
        let options =
            KafkaOptions { brokers: cluster.bootstrap_servers(), ..KafkaOptions::default() };
        let producer: BaseProducer = options.client().create().unwrap();
        producer.send(BaseRecord::<(), str>::to("topic").payload("record")).unwrap();
        producer.flush(ANSWER_MAX).unwrap();
        let probe = Probe::new(reader(&options).unwrap());
        let place = Place::new(Topic::Events, Arc::from("topic"), 0);
        let look = || probe.one(&place, 0).map(|seen| seen.map(|seen| seen.bytes));
        assert_eq!(look().unwrap(), Some(Bytes::from_static(b"record")));
        cluster.broker_down(1).unwrap();
        std::thread::sleep(Duration::from_secs(2));
        cluster.broker_up(1).unwrap();
        assert_eq!(look().unwrap(), Some(Bytes::from_static(b"record")));
    }
}
