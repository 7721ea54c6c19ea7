//! A reader's position in one partition: a queue of its own, filled ahead by the client.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rdkafka::consumer::base_consumer::PartitionQueue;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::{Offset, TopicPartitionList};
use tokio::sync::Notify;

use super::place::Place;
use super::{Quiet, SEQ, unavailable};
use crate::log::{LogRecord, ReadLimit};
use crate::{Error, Kind, Topic};

/// Longest wait for the next record that is known to be there.
pub(super) const NEXT_MAX: Duration = Duration::from_secs(5);
/// Longest wait for the client to move.
const SEEK_MAX: Duration = Duration::from_secs(5);
/// Records taken from the queue before others get their turn on the thread.
const TURN_RECORDS: usize = 1_000;

/// The client of one lane; it reads all partitions.
pub(super) type Lane = Arc<BaseConsumer<Quiet>>;

/// A position.
pub(super) struct Cursor {
    lane: Lane,
    topic: Topic,
    name: Arc<str>,
    partition: i32,
    queue: PartitionQueue<Quiet>,
    /// The queue was empty and is no more.
    filled: Arc<Notify>,
    is_assigned: bool,
    /// Port's offset of the next record, while it is known.
    next: Option<u64>,
    /// The next record, when it was taken from the queue too early.
    carry: Option<Bytes>,
    /// Kafka's offset behind the last record taken from the queue.
    consumed: u64,
}

impl Cursor {
    /// Stands nowhere yet.
    pub(super) fn new(lane: &Lane, place: &Place) -> Result<Self, Error> {
        let queue = lane.split_partition_queue(&place.name, place.partition());
        let mut queue = queue
            .ok_or_else(|| Error::determinate("read", Kind::Unavailable).because("no queue"))?;
        let filled = Arc::new(Notify::new());
        let notify = filled.clone();
        queue.set_nonempty_callback(move || notify.notify_one());
        Ok(Self {
            lane: lane.clone(),
            topic: place.topic,
            name: place.name.clone(),
            partition: place.partition(),
            queue,
            filled,
            is_assigned: false,
            next: None,
            carry: None,
            consumed: 0,
        })
    }

    /// Port's offset of the next record, while it is known.
    pub(super) fn next(&self) -> Option<u64> {
        self.next
    }

    /// Kafka's offset behind the last record taken from the queue.
    pub(super) fn consumed(&self) -> u64 {
        self.consumed
    }

    /// Moves to Kafka's `offset`, to give records from the port's `next` on. Blocks.
    pub(super) fn go(&mut self, offset: u64, next: u64) -> Result<(), Error> {
        self.next = None;
        self.carry = None;
        let offset = i64::try_from(offset).unwrap_or(i64::MAX);
        let result = if self.is_assigned {
            self.lane.seek(&self.name, self.partition, Offset::Offset(offset), SEEK_MAX)
        } else {
            self.assign(offset)
        };
        if let Err(e) = result {
            self.leave();
            return Err(unavailable("read", e));
        }
        self.is_assigned = true;
        self.next = Some(next);
        self.consumed = offset.unsigned_abs();
        Ok(())
    }

    fn assign(&self, offset: i64) -> Result<(), KafkaError> {
        let mut list = TopicPartitionList::with_capacity(1);
        list.add_partition_offset(&self.name, self.partition, Offset::Offset(offset))?;
        self.lane.incremental_assign(&list)
    }

    /// Stands nowhere; the client no longer reads ahead for it.
    fn leave(&mut self) {
        self.next = None;
        self.carry = None;
        if std::mem::take(&mut self.is_assigned) {
            let mut list = TopicPartitionList::with_capacity(1);
            list.add_partition(&self.name, self.partition);
            // When it fails the next assignment does too, and says so.
            let _ = self.lane.incremental_unassign(&list);
        }
    }

    /// Reads on from where it stands. When dropped half way it stands nowhere.
    pub(super) async fn read(
        &mut self,
        place: &Place,
        limit: ReadLimit,
    ) -> Result<Vec<LogRecord>, Error> {
        let Some(from) = self.next.take() else {
            return Err(Error::determinate("read", Kind::Unavailable).because("no position"));
        };
        let mut gather = Gather::new(from, limit);
        let result = self.gather(place, &mut gather).await;
        place.extent.end.raise(gather.next());
        match result {
            Ok(()) => self.next = Some(gather.next()),
            Err(e) => {
                self.leave();
                // What came before is good; the next read meets the error again.
                if gather.records.is_empty() {
                    return Err(e);
                }
            }
        }
        Ok(gather.records)
    }

    async fn gather(&mut self, place: &Place, gather: &mut Gather) -> Result<(), Error> {
        let mut taken = 0;
        loop {
            while !gather.is_full {
                let Some(bytes) = self.take(gather.next())? else { break };
                if let Some(later) = gather.put(bytes) {
                    self.carry = Some(later);
                }
                taken += 1;
                if taken % TURN_RECORDS == 0 {
                    tokio::task::yield_now().await;
                }
            }
            if gather.is_full || gather.next() >= place.extent.end.get() {
                return Ok(());
            }
            if tokio::time::timeout(NEXT_MAX, self.filled.notified()).await.is_err() {
                if gather.records.is_empty() {
                    let why = "the brokers do not send what is there";
                    return Err(Error::determinate("read", Kind::Unavailable).because(why));
                }
                return Ok(());
            }
        }
    }

    /// Returns once the record it stands at is there.
    pub(super) async fn arrival(&mut self) -> Result<(), Error> {
        let Some(next) = self.next else {
            return Err(Error::determinate("wait", Kind::Unavailable).because("no position"));
        };
        loop {
            match self.take(next) {
                Ok(Some(bytes)) => {
                    self.carry = Some(bytes);
                    return Ok(());
                }
                Ok(None) => self.filled.notified().await,
                Err(e) => {
                    self.leave();
                    return Err(e.during("wait"));
                }
            }
        }
    }

    /// The record `next`, if it has come. Lower ones are repeats.
    fn take(&mut self, next: u64) -> Result<Option<Bytes>, Error> {
        if let Some(bytes) = self.carry.take() {
            return Ok(Some(bytes));
        }
        while let Some(message) = self.queue.poll(Duration::ZERO) {
            let message = message.map_err(failed)?;
            let offset = message.offset().unsigned_abs();
            let number = number(self.topic, &message)?;
            self.consumed = offset + 1;
            if number == next {
                return Ok(Some(Bytes::copy_from_slice(message.payload().unwrap_or_default())));
            }
            if number > next {
                let why = format!("{next} is missing before {number} at Kafka's offset {offset}");
                return Err(Error::determinate("read", Kind::Corrupt).because(why));
            }
        }
        Ok(None)
    }
}

impl Drop for Cursor {
    fn drop(&mut self) {
        self.leave();
    }
}

fn failed(e: KafkaError) -> Error {
    let kind = match e.rdkafka_error_code() {
        Some(RDKafkaErrorCode::OffsetOutOfRange | RDKafkaErrorCode::AutoOffsetReset) => {
            Kind::OutOfRange
        }
        _ => Kind::Unavailable,
    };
    Error::determinate("read", kind).because(e)
}

/// The port's offset of a message.
pub(super) fn number(topic: Topic, message: &BorrowedMessage<'_>) -> Result<u64, Error> {
    if topic != Topic::Outcomes {
        return Ok(message.offset().unsigned_abs());
    }
    let seq = message.headers().and_then(|headers| {
        let value = headers.iter().find(|header| header.key == SEQ)?.value?;
        Some(u64::from_be_bytes(value.try_into().ok()?))
    });
    seq.ok_or_else(|| {
        let why = format!("no {SEQ} header at Kafka's offset {}", message.offset());
        Error::determinate("read", Kind::Corrupt).because(why)
    })
}

/// Records of one read.
struct Gather {
    records: Vec<LogRecord>,
    from: u64,
    limit: ReadLimit,
    bytes: usize,
    is_full: bool,
}

impl Gather {
    fn new(from: u64, limit: ReadLimit) -> Self {
        Self { records: Vec::new(), from, limit, bytes: 0, is_full: limit.records == 0 }
    }

    fn next(&self) -> u64 {
        self.from + self.records.len() as u64
    }

    /// Gives the record back if it is beyond the limit.
    fn put(&mut self, bytes: Bytes) -> Option<Bytes> {
        self.bytes = self.bytes.saturating_add(bytes.len());
        if !self.records.is_empty() && self.bytes > self.limit.bytes {
            self.is_full = true;
            return Some(bytes);
        }
        self.records.push(LogRecord { offset: self.next(), bytes });
        self.is_full = self.records.len() >= self.limit.records || self.bytes >= self.limit.bytes;
        None
    }
}
