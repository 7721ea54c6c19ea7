//! The log on Kafka; see [`crate::kafka`].
//!
//! Appends go through [`producer`], outcomes through [`publish`]. Readers keep their positions in
//! [`cursor`]s, which the client fills ahead; single looks go through [`probe`]. Whether the topics
//! are still the same ones is asked of the brokers through [`metadata`].

mod cursor;
mod member;
pub(crate) mod metadata;
mod outcomes;
mod place;
mod probe;
mod producer;
mod publish;
#[cfg(test)]
mod tests;
mod topics;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use rdkafka::TopicPartitionList;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, ConsumerContext};
use rdkafka::error::KafkaError;

use self::cursor::{Cursor, Lane};
use self::place::{Held, LANES, Place};
use self::probe::Probe;
use self::producer::{Outgoing, Patience, Producer};
use self::publish::Lineup;
use self::topics::Topics;
use super::assignments::Assignments;
use super::{Bounds, LogRecord, ReadLimit, Topic};
use crate::error::no_partition;
use crate::kafka::KafkaOptions;
use crate::{Error, Kind};

/// Name of the header that carries an outcome's number, 8 bytes big endian.
const SEQ: &str = "seq";
/// Most kilobytes a client reads ahead of one position.
const AHEAD_KIB: &str = "1024";
/// Milliseconds after which a position that has all it may read ahead is looked at again.
const AHEAD_AGAIN_MS: &str = "20";
/// Longest the brokers keep a fetch without records; a new position waits for the one under way.
const FETCH_WAIT_MS: &str = "100";
/// Longest the brokers may take for an administrative request.
const ADMIN_MAX: Duration = Duration::from_secs(10);
/// Until the brokers are asked again by one who waits and has nothing to listen to.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// The event log on Kafka.
#[derive(Clone)]
pub struct KafkaLog {
    shared: Arc<Shared>,
}

/// By topic and partition.
struct Places(Vec<Vec<Arc<Place>>>);

impl Places {
    fn get(&self, topic: Topic, partition: i32) -> Option<&Arc<Place>> {
        self.0.get(topics::index(topic))?.get(usize::try_from(partition).ok()?)
    }

    fn rest(&self) {
        self.0.iter().flatten().for_each(|place| place.rest());
    }
}

/// One process's clients, and what they have learned.
struct Shared {
    options: KafkaOptions,
    topics: Topics,
    /// Outlives the rest while records are on their way.
    places: Arc<Places>,
    lanes: Vec<Lane>,
    probe: Probe,
    admin: AdminClient<Quiet>,
    producer: Producer,
    outcomes: Mutex<Option<Arc<Producer>>>,
    lineups: Vec<Arc<Lineup>>,
}

impl KafkaLog {
    pub(crate) async fn connect(options: &KafkaOptions) -> Result<Self, Error> {
        options.check()?;
        let topics = Topics::connect(options).await?;
        let options = options.clone();
        let shared = blocking("connect", move || Shared::new(options, topics)).await?;
        let shared = Arc::new(shared);
        topics::watch(&shared);
        Ok(Self { shared })
    }

    pub(crate) fn partitions(&self) -> u16 {
        self.shared.options.partitions
    }

    pub(crate) async fn append(
        &self,
        topic: Topic,
        records: Vec<(u16, Bytes)>,
    ) -> Result<Vec<u64>, Error> {
        super::check_append(topic, &records, self.partitions())?;
        if records.is_empty() {
            return Ok(Vec::new());
        }
        self.shared.topics.check("append", topic, Kind::Unavailable)?;
        let outgoing = records.iter().map(|(partition, bytes)| Outgoing {
            partition: *partition,
            bytes,
            seq: None,
        });
        let places = self.shared.places.clone();
        let done = move |fate: &producer::Answer| {
            for (partition, offset) in fate.as_ref().into_iter().flatten() {
                if let Some(place) = places.get(topic, *partition) {
                    place.extent.end.raise(offset.unsigned_abs() + 1);
                }
            }
        };
        let name = self.shared.options.topic(topic);
        let answer = self.shared.producer.send("append", &name, outgoing, done)?;
        let unknown = Error::indeterminate("append", Kind::Unavailable);
        match answer.await {
            Ok(Ok(placed)) => Ok(producer::offsets(&records, placed)),
            Ok(Err(e)) => Err(unknown.because(e)),
            Err(e) => Err(unknown.because(e)),
        }
    }

    pub(crate) async fn publish(
        &self,
        partition: u16,
        first_seq: u64,
        outcomes: Vec<Bytes>,
    ) -> Result<(), Error> {
        let place = self.shared.place("publish", Topic::Outcomes, partition)?;
        self.shared.topics.check("publish", Topic::Outcomes, Kind::Unavailable)?;
        if outcomes.is_empty() {
            return Ok(());
        }
        self.shared.publish(place, first_seq, &outcomes).await
    }

    pub(crate) async fn read(
        &self,
        topic: Topic,
        partition: u16,
        from: u64,
        limit: ReadLimit,
    ) -> Result<Vec<LogRecord>, Error> {
        let place = self.shared.place("read", topic, partition)?;
        self.shared.topics.check("read", topic, Kind::OutOfRange)?;
        if from < place.extent.start.get() {
            return Err(Error::determinate("read", Kind::OutOfRange));
        }
        if limit.records == 1 && topic != Topic::Outcomes && !place.stands_at(from) {
            return self.shared.read_one(place, from).await;
        }
        let mut held = self.shared.at(place, from).await?;
        let result = read_on(&mut held, limit).await;
        match result {
            // A repeat that came late may have misled the search: once more from the oldest on.
            Err(e) if e.kind == Kind::Corrupt && topic == Topic::Outcomes => {
                let mut held = self.shared.clone().at_oldest(held, from).await?;
                read_on(&mut held, limit).await
            }
            result => result,
        }
    }

    pub(crate) async fn wait(&self, topic: Topic, partition: u16, from: u64) {
        let Ok(place) = self.shared.place("wait", topic, partition) else {
            return std::future::pending().await;
        };
        let end = &place.extent.end;
        while end.get() <= from && !self.shared.topics.is_recreated(topic) {
            tokio::select! {
                biased;
                () = end.reaches(from.saturating_add(1)) => {}
                () = self.shared.topics.changed() => {}
                is_over = self.listen(place, from) => if is_over { return },
            }
        }
    }

    /// Returns when there may be something new; true when a read tells more than waiting does.
    async fn listen(&self, place: &Arc<Place>, from: u64) -> bool {
        let end = &place.extent.end;
        let heard = if from == end.get() {
            self.arrival(place, from).await
        } else {
            self.bounds(place.topic, place.number).await.map(drop)
        };
        if heard.as_ref().is_err_and(|e| e.kind != Kind::Unavailable) {
            return true;
        }
        if end.get() < from || heard.is_err() {
            tokio::time::sleep(ASK_AGAIN).await;
        }
        false
    }

    /// Returns once there is a record at `from`, the end that is known.
    async fn arrival(&self, place: &Arc<Place>, from: u64) -> Result<(), Error> {
        let mut held = self.shared.at(place, from).await?;
        if let Some(cursor) = &mut held.cursor {
            cursor.arrival().await?;
            place.extent.end.raise(from + 1);
        }
        Ok(())
    }

    pub(crate) async fn bounds(&self, topic: Topic, partition: u16) -> Result<Bounds, Error> {
        let place = self.shared.place("bounds", topic, partition)?.clone();
        let identity = self.shared.topics.identity(topic).await?;
        let shared = self.shared.clone();
        blocking("bounds", move || shared.bounds_of(&place, identity)).await
    }

    pub(crate) async fn trim(
        &self,
        topic: Topic,
        partition: u16,
        before: u64,
    ) -> Result<(), Error> {
        let place = self.shared.place("trim", topic, partition)?.clone();
        self.shared.topics.check("trim", topic, Kind::Unavailable)?;
        let shared = self.shared.clone();
        let trimmed = {
            let place = place.clone();
            blocking("trim", move || shared.trim_to(&place, before)).await?
        };
        let Some((before, offset)) = trimmed else { return Ok(()) };
        let mut list = TopicPartitionList::with_capacity(1);
        let offset = i64::try_from(offset).unwrap_or(i64::MAX);
        list.add_partition_offset(&place.name, place.partition(), rdkafka::Offset::Offset(offset))
            .map_err(|e| unavailable("trim", e))?;
        let options =
            AdminOptions::new().request_timeout(Some(ADMIN_MAX)).operation_timeout(Some(ADMIN_MAX));
        let done = self.shared.admin.delete_records(&list, &options).await;
        let done = done.map_err(|e| unavailable("trim", e))?;
        for element in done.elements() {
            element.error().map_err(|e| unavailable("trim", e))?;
        }
        place.extent.start.raise(before);
        Ok(())
    }

    pub(crate) fn assignments(&self, group: &'static str) -> Assignments {
        member::join(&self.shared.options, group)
    }
}

async fn read_on(held: &mut Held, limit: ReadLimit) -> Result<Vec<LogRecord>, Error> {
    let place = held.place.clone();
    let Some(cursor) = &mut held.cursor else {
        return Err(Error::determinate("read", Kind::Unavailable).because("no position"));
    };
    let records = cursor.read(&place, limit).await?;
    if place.topic == Topic::Outcomes {
        let mut surveyed = place.surveyed();
        surveyed.to = surveyed.to.max(cursor.consumed());
    }
    Ok(records)
}

impl Shared {
    fn new(options: KafkaOptions, topics: Topics) -> Result<Self, Error> {
        let places = Topic::ALL.map(|topic| {
            let name: Arc<str> = options.topic(topic).into();
            let place = |number| Arc::new(Place::new(topic, name.clone(), number));
            (0..options.partitions).map(place).collect::<Vec<_>>()
        });
        let lanes = (0..LANES).map(|_| reader(&options).map(Arc::new));
        let admin = options.client().create_with_context(Quiet);
        Ok(Self {
            places: Arc::new(Places(places.into())),
            lanes: lanes.collect::<Result<_, _>>()?,
            probe: Probe::new(reader(&options)?),
            admin: admin.map_err(|e| unavailable("connect", e))?,
            producer: Producer::new(&options, Patience::Bounded)?,
            outcomes: Mutex::default(),
            lineups: (0..options.partitions).map(|_| Arc::default()).collect(),
            topics,
            options,
        })
    }

    fn place(&self, op: &'static str, topic: Topic, partition: u16) -> Result<&Arc<Place>, Error> {
        self.places.get(topic, i32::from(partition)).ok_or_else(|| no_partition(op))
    }

    /// A cursor at `from`.
    async fn at(self: &Arc<Self>, place: &Arc<Place>, from: u64) -> Result<Held, Error> {
        let held = place.hold(from).await;
        if held.cursor.as_ref().is_some_and(|cursor| cursor.next() == Some(from)) {
            return Ok(held);
        }
        let shared = self.clone();
        blocking("read", move || {
            let offset = shared.start_of(&held.place, from)?;
            shared.go(held, offset, from)
        })
        .await
    }

    /// The same cursor, at the oldest record.
    async fn at_oldest(self: Arc<Self>, held: Held, from: u64) -> Result<Held, Error> {
        blocking("read", move || {
            let (low, _) = self.probe.watermarks(&held.place)?;
            self.go(held, low, from)
        })
        .await
    }

    /// Kafka's offset to read `from` at. Blocks.
    fn start_of(&self, place: &Place, from: u64) -> Result<u64, Error> {
        if place.topic == Topic::Outcomes {
            return self.locate(place, from);
        }
        let (low, high) = self.probe.watermarks(place)?;
        place.extent.start.raise(low);
        place.extent.end.raise(high);
        if from < low || from > high {
            return Err(Error::determinate("read", Kind::OutOfRange));
        }
        Ok(from)
    }

    /// Moves the cursor. Blocks.
    fn go(&self, mut held: Held, offset: u64, from: u64) -> Result<Held, Error> {
        let mut cursor = match held.cursor.take() {
            Some(cursor) => cursor,
            None => Cursor::new(&self.lanes[held.lane], &held.place)?,
        };
        let gone = cursor.go(offset, from);
        held.cursor = Some(cursor);
        gone.map(|()| held)
    }

    /// A single record somewhere, without moving any reader.
    async fn read_one(
        self: &Arc<Self>,
        place: &Arc<Place>,
        from: u64,
    ) -> Result<Vec<LogRecord>, Error> {
        let (shared, place) = (self.clone(), place.clone());
        blocking("read", move || {
            let offset = shared.start_of(&place, from)?;
            if offset >= place.extent.end.get() {
                return Ok(Vec::new());
            }
            let seen = shared.probe.one(&place, offset)?;
            let record = |seen: probe::Seen| LogRecord { offset: from, bytes: seen.bytes };
            Ok(seen.into_iter().map(record).collect())
        })
        .await
    }

    /// What is to be let go of: the port's offset and Kafka's to trim to. Blocks.
    fn trim_to(&self, place: &Place, before: u64) -> Result<Option<(u64, u64)>, Error> {
        let bounds = self.bounds_of(place, 0)?;
        // The newest record stays.
        let before = before.min(bounds.end.saturating_sub(1));
        if before <= bounds.start {
            return Ok(None);
        }
        let offset = match place.topic {
            Topic::Outcomes => self.offset_of(place, before)?,
            _ => Some(before),
        };
        Ok(offset.map(|offset| (before, offset)))
    }

    /// Serves what the clients have to say that nobody else hears.
    fn serve(&self) {
        for lane in &self.lanes {
            while lane.poll(Duration::ZERO).is_some() {}
        }
        self.probe.serve();
    }
}

/// A client that reads where it is told to.
fn reader(options: &KafkaOptions) -> Result<BaseConsumer<Quiet>, Error> {
    let mut config = options.client();
    config
        // Never joined: assigning partitions by hand wants a name all the same.
        .set("group.id", format!("{}reader", options.topic_prefix))
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("auto.offset.reset", "error")
        .set("fetch.wait.max.ms", FETCH_WAIT_MS)
        .set("queued.max.messages.kbytes", AHEAD_KIB)
        .set("fetch.queue.backoff.ms", AHEAD_AGAIN_MS);
    config.create_with_context(Quiet).map_err(|e| unavailable("connect", e))
}

/// Runs what blocks where nobody waits for the thread.
async fn blocking<T: Send + 'static>(
    op: &'static str,
    run: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let result = tokio::task::spawn_blocking(run).await;
    result
        .unwrap_or_else(|e| Err(Error::determinate(op, Kind::Unavailable).because(e)))
        .map_err(|e| e.during(op))
}

fn unavailable(op: &'static str, e: KafkaError) -> Error {
    Error::determinate(op, Kind::Unavailable).because(e)
}

/// The client's own log goes to ours; its errors are told by the calls that fail.
#[derive(Clone, Copy)]
pub(crate) struct Quiet;

impl ClientContext for Quiet {
    fn log(&self, level: RDKafkaLogLevel, fac: &str, message: &str) {
        if level as i32 <= RDKafkaLogLevel::Error as i32 {
            tracing::warn!(fac, "{message}");
        } else {
            tracing::debug!(fac, "{message}");
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "kafka client");
    }
}

impl ConsumerContext for Quiet {}
