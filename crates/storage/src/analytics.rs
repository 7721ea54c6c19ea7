//! The analytics port: facts summed into 15-minute buckets, and how far each source was taken in.
//!
//! Contract: facts and the position of their source move together, so that taking the source in again
//! from [`Analytics::position`] neither doubles nor loses a fact, whatever crashed. (SQLite: one
//! transaction. ClickHouse has none over two stores: there the position moves after the facts, and
//! what is in between is finished by the next apply.) What was applied may be forgotten in a power
//! failure, positions with it, until [`Analytics::sync`].

mod clickhouse;
mod fault;
mod period;
mod report;
mod rollup;
mod sqlite;

use std::path::Path;
use std::time::Duration;

use jiff::tz::TimeZone;
use schemas::id::{AktvatorId, CampaignId, GigId, LinkId};
use schemas::partition::Scope;
use schemas::time::Timestamp;

pub use self::clickhouse::ClickHouseAnalytics;
pub(crate) use self::clickhouse::Server;
pub use fault::{AnalyticsFault, FaultyAnalytics};
pub use rollup::Metrics;
pub use sqlite::SqliteAnalytics;

use crate::error::{Error, Kind};

/// Width of a bucket in milliseconds: 15 minutes of UTC, on which every time zone in use today
/// begins its hours and days.
pub const BUCKET_MS: i64 = 15 * 60 * 1_000;

/// Most facts of one [`Analytics::apply`].
pub const FACTS_MAX: usize = 65_536;

/// Most dimensions a report groups by.
pub const GROUP_BY_MAX: usize = 5;

/// Where facts come from. Stored as its number: append-only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Source {
    /// The `outcomes` topic.
    Outcomes = 0,
    /// The `clicks` topic.
    Clicks = 1,
    /// Sums of another store, which this one goes on from; offsets count them.
    Moved = 2,
}

/// Something to count, with what it is counted by. A reversal is a fact with negative figures. An id of
/// all zeroes, which is never given out, counts as none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fact {
    /// Whose.
    pub scope: Scope,
    /// Of which campaign.
    pub campaign: CampaignId,
    /// Of which gig, where it is known.
    pub gig: Option<GigId>,
    /// Whose doing, where it is known.
    pub aktvator: Option<AktvatorId>,
    /// Through which link.
    pub link: Option<LinkId>,
    /// Through which code; an empty one counts as none.
    pub code: Option<String>,
    /// The event's type; an empty one counts as none.
    pub event_type: Option<String>,
    /// When it happened: `occurredAt`, or the time of the click.
    pub at: Timestamp,
    /// Clicks.
    pub clicks: i64,
    /// Conversion events that were evaluated.
    pub conversions: i64,
    /// Value of the conversions, minor units.
    pub revenue: i64,
    /// Rewards created.
    pub rewards: i64,
    /// Sum of the rewards, minor units.
    pub reward_amount: i64,
}

/// What makes one [`Analytics::apply`] worth its cost: so many facts, or what came in so long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// With that many, at once.
    pub facts: usize,
    /// With fewer, that long after the first.
    pub linger: Duration,
}

/// How far a source was taken in. The default is: nothing yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// The next offset to take in.
    pub next: u64,
    /// What the source's figures are as of, milliseconds since the epoch; 0 before the first.
    pub as_of_ms: i64,
}

/// What one row of a report covers. The calendar is that of the report's time zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Granularity {
    /// The whole range.
    None,
    /// From one full hour on the clock, or change of the clock, to the next.
    Hour,
    /// From midnight, or the first instant of a day that has none.
    Day,
    /// From Monday (ISO 8601).
    Week,
    /// From the first of the month.
    Month,
}

/// What a report groups by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dimension {
    /// The gig's id.
    Gig,
    /// The aktvator's id.
    Aktvator,
    /// The link's id.
    Link,
    /// The code.
    Code,
    /// The event's type.
    EventType,
}

/// A report on one campaign.
#[derive(Clone, Debug)]
pub struct PerformanceQuery {
    /// Whose.
    pub scope: Scope,
    /// Of which campaign.
    pub campaign: CampaignId,
    /// From this instant on; MUST be [`aligned`].
    pub from: Timestamp,
    /// Until before this instant; MUST be [`aligned`].
    pub to: Timestamp,
    /// What one row covers.
    pub granularity: Granularity,
    /// Whose calendar.
    pub timezone: TimeZone,
    /// At most [`GROUP_BY_MAX`], none twice.
    pub group_by: Vec<Dimension>,
    /// Most rows in the answer.
    pub limit: usize,
}

/// One row of a report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PerformanceRow {
    /// When its hour, day, week or month begins, which may be before the report does; `None`
    /// without granularity.
    pub bucket: Option<Timestamp>,
    /// The values of `group_by`, in its order; ids as text.
    pub dims: Vec<Option<String>>,
    /// The sums.
    pub metrics: Metrics,
}

/// A report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Performance {
    /// By bucket, then by dimensions (none before any). Without granularity and dimensions there is
    /// always one row; otherwise only those with a fact.
    pub rows: Vec<PerformanceRow>,
    /// Sums over the whole range, also over rows beyond the limit.
    pub totals: Metrics,
    /// Whether there are rows beyond the limit.
    pub has_more: bool,
}

/// Whether a report may begin or end there: facts are known by their 15-minute bucket only.
pub fn aligned(at: Timestamp) -> bool {
    at.as_ms().rem_euclid(BUCKET_MS) == 0
}

/// The analytics store. Cheap to clone; clones are the same store.
#[derive(Clone)]
pub enum Analytics {
    /// SQLite, in a file or in memory.
    Sqlite(SqliteAnalytics),
    /// ClickHouse; [`crate::clickhouse::connect`] opens it.
    ClickHouse(ClickHouseAnalytics),
    /// SQLite that fails as it is told.
    Fault(FaultyAnalytics),
}

impl Analytics {
    /// Opens or creates the file at `path`, readable by its owner alone.
    pub fn open(path: &Path) -> Result<Self, Error> {
        SqliteAnalytics::open(path).map(Self::Sqlite)
    }

    /// An empty store in memory. It runs inline, on any runtime, and lives as long as a clone of it.
    pub fn memory() -> Result<Self, Error> {
        SqliteAnalytics::memory().map(Self::Sqlite)
    }

    /// How far a partition of a source was taken in. Whoever shows it with a report reads it first:
    /// the report then has at least that much.
    pub async fn position(&self, source: Source, partition: u16) -> Result<Applied, Error> {
        match self {
            Self::Sqlite(analytics) => analytics.position(source, partition).await,
            Self::ClickHouse(analytics) => analytics.position(source, partition).await,
            Self::Fault(analytics) => analytics.inner().position(source, partition).await,
        }
    }

    /// Takes in the facts of the records from `from` to before `next`, at most [`FACTS_MAX`], and moves
    /// the position to `next`. Sums that do not fit 64 bits stay at the end of the range.
    ///
    /// # Errors
    /// [`crate::Kind::Conflict`], with nothing of this call applied, unless `from` is the position and
    /// not after `next`. A call that failed as indeterminate may be finished by the next, which then
    /// finds itself behind the position: read it again and go on from there.
    /// `Fenced`, where several processes share the store, when another one has taken the partition
    /// over: the next call takes it back.
    pub async fn apply(
        &self,
        source: Source,
        partition: u16,
        from: u64,
        next: u64,
        as_of_ms: i64,
        facts: &[Fact],
    ) -> Result<(), Error> {
        let step = Step { source, partition, from, next, as_of_ms };
        if facts.len() > FACTS_MAX {
            let why = format!("{} facts are too many at once", facts.len());
            return Err(Error::determinate("apply", Kind::Conflict).because(why));
        }
        match self {
            Self::Sqlite(analytics) => analytics.apply(step, facts).await,
            Self::ClickHouse(analytics) => analytics.apply(step, facts).await,
            Self::Fault(analytics) => analytics.apply(step, facts).await,
        }
    }

    /// Makes everything applied so far durable. The records below a position MUST NOT be trimmed
    /// from their log before a sync that came after it.
    pub async fn sync(&self) -> Result<(), Error> {
        match self {
            Self::Sqlite(analytics) => analytics.sync().await,
            Self::ClickHouse(_) => Ok(()),
            Self::Fault(analytics) => analytics.inner().sync().await,
        }
    }

    /// Sums over one campaign. [`crate::Kind::Conflict`] if the query breaks its own rules,
    /// `Unavailable` if reading them takes more than two seconds.
    pub async fn performance(&self, query: &PerformanceQuery) -> Result<Performance, Error> {
        match self {
            Self::Sqlite(analytics) => analytics.performance(query).await,
            Self::ClickHouse(analytics) => analytics.performance(query).await,
            Self::Fault(analytics) => analytics.inner().performance(query).await,
        }
    }

    /// Forgets everything since the last [`Analytics::sync`], as a power failure would. Of a file or
    /// a server there is no such thing, and it is [`crate::Kind::Conflict`].
    pub async fn crash(&self) -> Result<(), Error> {
        match self {
            Self::Sqlite(analytics) => analytics.crash().await,
            Self::ClickHouse(_) => {
                let why = "what ClickHouse has answered is durable";
                Err(Error::determinate("crash", Kind::Conflict).because(why))
            }
            Self::Fault(analytics) => analytics.inner().crash().await,
        }
    }

    /// How much to gather for one [`Analytics::apply`].
    pub fn pace(&self) -> Pace {
        match self {
            Self::Sqlite(_) | Self::Fault(_) => Pace { facts: 1, linger: Duration::ZERO },
            Self::ClickHouse(_) => Pace { facts: 1_000, linger: Duration::from_secs(1) },
        }
    }
}

/// The rules of a report.
fn check(query: &PerformanceQuery) -> Result<(), Error> {
    let dimensions = &query.group_by;
    let twice = dimensions.iter().enumerate().any(|(i, d)| dimensions[..i].contains(d));
    let why = if !aligned(query.from) || !aligned(query.to) {
        "a report begins and ends on a quarter of an hour"
    } else if query.group_by.len() > GROUP_BY_MAX || twice {
        "a report groups by at most five dimensions, none twice"
    } else {
        return Ok(());
    };
    Err(Error::determinate("performance", Kind::Conflict).because(why))
}

/// How a position moves.
#[derive(Clone, Copy, Debug)]
struct Step {
    source: Source,
    partition: u16,
    from: u64,
    next: u64,
    as_of_ms: i64,
}
