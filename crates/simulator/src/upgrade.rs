//! A rolling upgrade: records of a kind that the older program does not know, and what it must do
//! about them, which is to halt.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use bytes::Bytes;
use prost::Message;
use rand::RngExt;
use rand::rngs::StdRng;
use schemas::proto::{Record, record::Body};
use storage::EventLog;
use storage::error::Error;
use storage::log::{ReadLimit, Topic};

/// Which program a process runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Version {
    /// Does not know the new kind of record.
    Older,
    /// Knows all kinds.
    Newer,
}

/// What is new in the newer program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum News {
    Conversion,
    Campaign,
    Rulebook,
    Aktvator,
    WalletCredit,
}

/// How far the upgrade is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Every process runs the older program, and every record is known to it.
    Before,
    /// There are records of the new kind.
    Begun,
    /// There are processes that run the newer program.
    Joined,
}

/// The upgrade of one run. Clones share its beginning.
#[derive(Clone, Debug)]
pub(crate) struct Upgrade {
    news: News,
    /// Records accepted from then on are of the new kind, in milliseconds.
    since_ms: Arc<AtomicI64>,
    pub(crate) stage: Stage,
    /// Begins and is joined when so many actions are left.
    pub(crate) begins_at: u32,
    pub(crate) joined_at: u32,
}

impl Upgrade {
    pub(crate) fn draw(rng: &mut StdRng, actions: u32) -> Self {
        let news =
            [News::Conversion, News::Campaign, News::Rulebook, News::Aktvator, News::WalletCredit];
        let begins_at = rng.random_range(actions / 4..=actions);
        Self {
            news: news[rng.random_range(0..news.len())],
            since_ms: Arc::new(AtomicI64::new(i64::MAX)),
            stage: Stage::Before,
            begins_at,
            joined_at: begins_at - rng.random_range(0..=actions / 4).min(begins_at),
        }
    }

    /// After this moment records of the new kind are written.
    pub(crate) fn begin(&mut self, now_ms: i64) {
        self.since_ms.store(now_ms + 1, Ordering::SeqCst);
        self.stage = Stage::Begun;
    }

    /// Is this a record that the older program does not know?
    pub(crate) fn is_news(&self, bytes: &Bytes) -> bool {
        let Ok(record) = Record::decode(bytes.clone()) else { return false };
        let Some(body) = &record.body else { return false };
        record.accepted_at_ms >= self.since_ms.load(Ordering::SeqCst) && self.news.matches(body)
    }

    /// The log as the older program sees it: of what it does not know it has a record without a body,
    /// as Protobuf has it.
    pub(crate) fn seen_by_older(&self, log: EventLog) -> EventLog {
        let upgrade = self.clone();
        log.seen_as(move |topic, bytes| {
            if topic != Topic::Events || !upgrade.is_news(&bytes) {
                return bytes;
            }
            let record = Record::decode(bytes).unwrap_or_default();
            Record { body: None, ..record }.encode_to_vec().into()
        })
    }

    /// The first record in `offsets` that the older program does not know.
    pub(crate) async fn first_news(
        &self,
        log: &EventLog,
        partition: u16,
        offsets: std::ops::Range<u64>,
    ) -> Result<Option<u64>, Error> {
        let records = usize::try_from(offsets.end - offsets.start).unwrap_or(usize::MAX);
        let limit = ReadLimit { records, bytes: usize::MAX };
        let read = log.read(Topic::Events, partition, offsets.start, limit).await?;
        let mut news = read.iter().filter(|record| self.is_news(&record.bytes));
        Ok(news.next().map(|record| record.offset))
    }
}

impl News {
    fn matches(self, body: &Body) -> bool {
        match body {
            Body::Conversion(_) => self == Self::Conversion,
            Body::Campaign(_) => self == Self::Campaign,
            Body::Rulebook(_) => self == Self::Rulebook,
            Body::Aktvator(_) => self == Self::Aktvator,
            Body::WalletCredit(_) => self == Self::WalletCredit,
            _ => false,
        }
    }
}
