//! The way in: one idempotent producer, one completion for all records of a call.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use bytes::Bytes;
use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, Message, OwnedHeaders};
use rdkafka::producer::{BaseRecord, DeliveryResult, Producer as _, ProducerContext};
use rdkafka::producer::{NoCustomPartitioner, ThreadedProducer};
use tokio::sync::oneshot;

use super::{Quiet, SEQ, unavailable};
use crate::kafka::{KafkaOptions, RECORD_BYTES_MAX};
use crate::{Error, Kind, metrics};

/// Milliseconds a record waits for others to share its request.
const LINGER_MS: &str = "1";
/// The client's own bound on what is queued, above any of ours, so that ours is the one that holds.
const CLIENT_QUEUE_RECORDS: &str = "10000000";
const CLIENT_QUEUE_KIB: &str = "2000000000";

/// Where each record went: partition and offset, in no order.
pub(super) type Placed = Vec<(i32, i64)>;
/// The same, or why one of them went nowhere.
pub(super) type Answer = Result<Placed, KafkaError>;

/// Sends records and hears of their fate.
pub(super) struct Producer {
    config: ClientConfig,
    client: RwLock<Arc<ThreadedProducer<Deliveries>>>,
    room: Arc<Room>,
}

/// What becomes of records that could not be delivered in time.
#[derive(Clone, Copy)]
pub(super) enum Patience {
    /// They fail after the options' `delivery_timeout_ms`.
    Bounded,
    /// They are tried for ever, and none after one that failed is delivered before it.
    InOrder,
}

impl Producer {
    pub(super) fn new(options: &KafkaOptions, patience: Patience) -> Result<Self, Error> {
        let mut config = options.client();
        config
            .set("acks", "all")
            .set("enable.idempotence", "true")
            .set("linger.ms", LINGER_MS)
            .set("compression.type", "lz4")
            .set("message.max.bytes", RECORD_BYTES_MAX.to_string())
            .set("queue.buffering.max.messages", CLIENT_QUEUE_RECORDS)
            .set("queue.buffering.max.kbytes", CLIENT_QUEUE_KIB);
        match patience {
            Patience::Bounded => {
                config.set("message.timeout.ms", options.delivery_timeout_ms.to_string())
            }
            Patience::InOrder => {
                config.set("message.timeout.ms", "0").set("enable.gapless.guarantee", "true")
            }
        };
        let room = Room {
            records: Bound::new(options.queue_records as usize),
            bytes: Bound::new(usize::try_from(options.queue_bytes).unwrap_or(usize::MAX)),
        };
        let client = RwLock::new(Arc::new(create(&config)?));
        Ok(Self { config, client, room: Arc::new(room) })
    }

    /// Hands records over, in their order, and returns at once. `done` runs when the fate of all of
    /// them is known, on the thread that hears from the brokers.
    ///
    /// # Errors
    /// Determinate: nothing was handed over.
    pub(super) fn send<'a>(
        &self,
        op: &'static str,
        topic: &str,
        records: impl ExactSizeIterator<Item = Outgoing<'a>> + Clone,
        done: impl FnOnce(&Answer) + Send + 'static,
    ) -> Result<oneshot::Receiver<Answer>, Error> {
        if let Some(long) = records.clone().find(|record| record.bytes.len() > RECORD_BYTES_MAX) {
            let why = format!("a record of {} bytes is too long", long.bytes.len());
            return Err(Error::determinate(op, Kind::Conflict).because(why));
        }
        let count = records.len();
        let bytes = records.clone().map(|record| record.bytes.len()).sum();
        let Some(space) = Room::take(&self.room, count, bytes) else {
            metrics::refused_full("log", 1);
            return Err(Error::determinate(op, Kind::Full).because("the queue is at its bound"));
        };
        let (answer, receiver) = oneshot::channel();
        let batch = Arc::new(Batch {
            progress: Mutex::new(Progress {
                left: count,
                placed: Vec::with_capacity(count),
                failure: None,
                finish: Some((answer, Box::new(done), space)),
            }),
        });
        let client = self.client.read().unwrap_or_else(PoisonError::into_inner).clone();
        for (index, record) in records.enumerate() {
            let Err(e) = hand_over(&client, topic, record, &batch) else { continue };
            self.renew_if_fatal(&client);
            if index == 0 {
                let kind = match e.rdkafka_error_code() {
                    Some(RDKafkaErrorCode::QueueFull) => Kind::Full,
                    _ => Kind::Unavailable,
                };
                return Err(Error::determinate(op, kind).because(e));
            }
            batch.settle(count - index, Err(e));
            break;
        }
        Ok(receiver)
    }

    /// Begins anew with a client that has not failed. What the old one still had fails.
    pub(super) fn renew_if_fatal(&self, failed: &Arc<ThreadedProducer<Deliveries>>) {
        if failed.client().fatal_error().is_some() {
            self.renew(failed);
        }
    }

    /// The client in use, to name it when it has failed.
    pub(super) fn client(&self) -> Arc<ThreadedProducer<Deliveries>> {
        self.client.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Puts a new client in the place of this one, unless another has done so.
    pub(super) fn renew(&self, failed: &Arc<ThreadedProducer<Deliveries>>) {
        let mut client = self.client.write().unwrap_or_else(PoisonError::into_inner);
        if !Arc::ptr_eq(&client, failed) {
            return;
        }
        match create(&self.config) {
            Ok(new) => {
                let old = std::mem::replace(&mut *client, Arc::new(new));
                // It waits for its thread and for the brokers.
                std::thread::spawn(move || drop(old));
            }
            Err(e) => tracing::error!(error = %e, "no new producer"),
        }
    }
}

fn create(config: &ClientConfig) -> Result<ThreadedProducer<Deliveries>, Error> {
    config.create_with_context(Deliveries).map_err(|e| unavailable("connect", e))
}

/// A record on its way.
#[derive(Clone, Copy)]
pub(super) struct Outgoing<'a> {
    pub(super) partition: u16,
    pub(super) bytes: &'a Bytes,
    /// Of an outcome.
    pub(super) seq: Option<u64>,
}

/// The client stamps the record with the time now: the caller stamped its bytes in the same request.
fn hand_over(
    client: &ThreadedProducer<Deliveries>,
    topic: &str,
    outgoing: Outgoing<'_>,
    batch: &Arc<Batch>,
) -> Result<(), KafkaError> {
    let mut record = BaseRecord::<(), [u8], _>::with_opaque_to(topic, batch.clone())
        .partition(i32::from(outgoing.partition))
        .payload(&outgoing.bytes[..]);
    if let Some(seq) = outgoing.seq {
        let value = seq.to_be_bytes();
        let header = Header { key: SEQ, value: Some(&value) };
        record = record.headers(OwnedHeaders::new_with_capacity(1).insert(header));
    }
    client.send(record).map_err(|(e, _)| e)
}

type Done = Box<dyn FnOnce(&Answer) + Send>;

/// All records of one call.
pub(super) struct Batch {
    progress: Mutex<Progress>,
}

struct Progress {
    left: usize,
    placed: Placed,
    failure: Option<KafkaError>,
    /// What happens when the last record's fate is known.
    finish: Option<(oneshot::Sender<Answer>, Done, Space)>,
}

impl Batch {
    /// The fate of `count` records is known.
    fn settle(&self, count: usize, fate: Result<(i32, i64), KafkaError>) {
        let mut progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        match fate {
            Ok(place) => progress.placed.push(place),
            Err(e) => progress.failure = Some(e),
        }
        progress.left -= count;
        if progress.left > 0 {
            return;
        }
        let placed = std::mem::take(&mut progress.placed);
        let fate = progress.failure.take().map_or(Ok(placed), Err);
        let finish = progress.finish.take();
        drop(progress);
        if let Some((answer, done, space)) = finish {
            done(&fate);
            // Before the answer: who has it may send again at once.
            drop(space);
            // The caller may have given up waiting.
            let _ = answer.send(fate);
        }
    }
}

/// Hears of every record's fate.
pub(super) struct Deliveries;

impl ClientContext for Deliveries {
    fn log(&self, level: rdkafka::config::RDKafkaLogLevel, fac: &str, message: &str) {
        Quiet.log(level, fac, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        Quiet.error(error, reason);
    }
}

impl ProducerContext<NoCustomPartitioner> for Deliveries {
    type DeliveryOpaque = Arc<Batch>;

    fn delivery(&self, result: &DeliveryResult<'_>, batch: Arc<Batch>) {
        let fate = match result {
            Ok(message) if message.offset() >= 0 => Ok((message.partition(), message.offset())),
            // The brokers had it already and no longer know where.
            Ok(_) => Err(KafkaError::MessageProduction(RDKafkaErrorCode::DuplicateSequenceNumber)),
            Err((e, _)) => Err(e.clone()),
        };
        batch.settle(1, fate);
    }
}

/// What may wait for the brokers at once. Taken for a whole call, so that a call is refused before
/// any of it is on its way.
struct Room {
    records: Bound,
    bytes: Bound,
}

impl Room {
    fn take(room: &Arc<Self>, records: usize, bytes: usize) -> Option<Space> {
        if !room.records.take(records) {
            return None;
        }
        if !room.bytes.take(bytes) {
            room.records.give_back(records);
            return None;
        }
        Some(Space { room: room.clone(), records, bytes })
    }
}

/// A part of the room.
struct Space {
    room: Arc<Room>,
    records: usize,
    bytes: usize,
}

impl Drop for Space {
    fn drop(&mut self) {
        self.room.records.give_back(self.records);
        self.room.bytes.give_back(self.bytes);
    }
}

struct Bound {
    free: AtomicUsize,
}

impl Bound {
    fn new(max: usize) -> Self {
        Self { free: AtomicUsize::new(max) }
    }

    fn take(&self, n: usize) -> bool {
        let less = |free: usize| free.checked_sub(n);
        self.free.fetch_update(Ordering::AcqRel, Ordering::Acquire, less).is_ok()
    }

    fn give_back(&self, n: usize) {
        self.free.fetch_add(n, Ordering::AcqRel);
    }
}

/// The offsets of a call's records, in their order. Within a partition the brokers keep the order in
/// which records were handed over, so sorted offsets are in the records' order.
pub(super) fn offsets(records: &[(u16, Bytes)], mut placed: Placed) -> Vec<u64> {
    placed.sort_unstable();
    let mut next = std::collections::BTreeMap::new();
    let offset = |(partition, _): &(u16, Bytes)| {
        let partition = i32::from(*partition);
        let at = next
            .entry(partition)
            .or_insert_with(|| placed.partition_point(|(other, _)| *other < partition));
        *at += 1;
        placed.get(*at - 1).map_or(0, |(_, offset)| offset.unsigned_abs())
    };
    records.iter().map(offset).collect()
}

#[cfg(test)]
mod tests {
    use rdkafka::mocking::MockCluster;
    use rdkafka::producer::DefaultProducerContext;

    use super::*;
    use crate::Certainty;

    #[test]
    fn offsets_come_in_the_order_of_the_records() {
        let records = [3, 1, 3, 0, 1, 3].map(|partition| (partition, Bytes::new()));
        let placed = vec![(1, 8), (3, 5), (0, 70), (3, 4), (1, 2), (3, 90)];
        assert_eq!(offsets(&records, placed), [4, 2, 5, 70, 8, 90]);
    }

    /// A producer and a broker of the client library's own, which can be away.
    fn mocked(patience: Patience) -> (MockCluster<'static, DefaultProducerContext>, Producer) {
        let cluster = MockCluster::new(1).unwrap();
        cluster.create_topic("topic", 1, 1).unwrap();
        let options = KafkaOptions {
            brokers: cluster.bootstrap_servers(),
            delivery_timeout_ms: 4_000,
            queue_records: 3,
            ..KafkaOptions::default()
        };
        (cluster, Producer::new(&options, patience).unwrap())
    }

    fn send(producer: &Producer, records: usize) -> Result<oneshot::Receiver<Answer>, Error> {
        let bytes = Bytes::from_static(b"record");
        let records = vec![Outgoing { partition: 0, bytes: &bytes, seq: None }; records];
        producer.send("append", "topic", records.into_iter(), |_| {})
    }

    #[tokio::test]
    async fn what_is_not_confirmed_in_time_fails_and_gives_its_room_back() {
        let (cluster, producer) = mocked(Patience::Bounded);
        let placed = send(&producer, 2).unwrap().await.unwrap().unwrap();
        assert_eq!(offsets(&[(0, Bytes::new()), (0, Bytes::new())], placed), [0, 1]);
        cluster.broker_down(1).unwrap();
        let waiting = send(&producer, 2).unwrap();
        let e = send(&producer, 2).unwrap_err();
        assert_eq!((e.kind, e.certainty), (Kind::Full, Certainty::Determinate));
        let e = waiting.await.unwrap().unwrap_err();
        assert_eq!(e.rdkafka_error_code(), Some(RDKafkaErrorCode::MessageTimedOut));
        cluster.broker_up(1).unwrap();
        send(&producer, 3).unwrap().await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn what_must_keep_its_order_waits_for_the_broker() {
        let (cluster, producer) = mocked(Patience::InOrder);
        cluster.broker_down(1).unwrap();
        let (first, second) = (send(&producer, 1).unwrap(), send(&producer, 2).unwrap());
        let longer = tokio::time::timeout(std::time::Duration::from_secs(1), first);
        let Err(_) = longer.await else { panic!("delivered to nobody") };
        cluster.broker_up(1).unwrap();
        let mut placed = second.await.unwrap().unwrap();
        placed.sort_unstable();
        assert_eq!(placed, [(0, 1), (0, 2)]);
    }

    #[test]
    fn room_is_taken_for_all_or_none_and_given_back() {
        let room = Arc::new(Room { records: Bound::new(3), bytes: Bound::new(10) });
        let first = Room::take(&room, 2, 4).unwrap();
        assert!(Room::take(&room, 2, 1).is_none());
        assert!(Room::take(&room, 1, 7).is_none());
        let second = Room::take(&room, 1, 6).unwrap();
        drop((first, second));
        assert!(Room::take(&room, 3, 10).is_some());
    }
}
