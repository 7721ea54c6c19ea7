//! Every sum an analytics store holds, in pages, for another one to take in.

use rusqlite::{Connection, Row, params};
use schemas::id::{AktvatorId, CampaignId, GigId, LinkId, OrganizationId};
use schemas::partition::{Mode, Scope};
use schemas::time::Timestamp;

use super::{SqliteAnalytics, bytes};
use crate::analytics::{Fact, rollup};
use crate::error::Error;
use crate::sqlite::failed;

const SQL: &str =
    "SELECT organization, mode, campaign, bucket_ms, gig, aktvator, link, code, event_type,
        clicks, conversions, revenue, rewards, reward_amount
    FROM rollup
    WHERE (organization, mode, campaign, bucket_ms, gig, aktvator, link, code, event_type)
        > (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
    ORDER BY organization, mode, campaign, bucket_ms, gig, aktvator, link, code, event_type
    LIMIT ?10";

impl SqliteAnalytics {
    /// Up to `limit` sums that follow `after`, each as the one fact that would make it, at the begin of
    /// its bucket. Those of a scope stand together, and the order is always the same.
    ///
    /// # Errors
    /// `Unavailable` while the file cannot be read.
    pub async fn export(&self, after: Option<Fact>, limit: usize) -> Result<Vec<Fact>, Error> {
        let job =
            move |c: &Connection| facts(c, after.as_ref(), limit).map_err(|e| failed("export", e));
        self.database.scan("export", job).await
    }
}

fn facts(
    connection: &Connection,
    after: Option<&Fact>,
    limit: usize,
) -> rusqlite::Result<Vec<Fact>> {
    let mut statement = connection.prepare_cached(SQL)?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let after = after.map(rollup::key);
    // An empty organization is before all others.
    let (organization, key) = match &after {
        Some(key) => (&key.organization[..], Some(key)),
        None => (&[][..], None),
    };
    let id =
        |of: fn(&rollup::RollupKey) -> &Option<[u8; 16]>| key.map_or(&[][..], |k| bytes(of(k)));
    let values = params![
        organization,
        key.map_or(0, |k| k.mode),
        key.map_or(&[][..], |k| &k.campaign[..]),
        key.map_or(0, |k| k.bucket_ms),
        id(|k| &k.gig),
        id(|k| &k.aktvator),
        id(|k| &k.link),
        key.map_or("", |k| &k.code),
        key.map_or("", |k| &k.event_type),
        limit,
    ];
    statement.query_map(values, fact)?.collect()
}

fn fact(row: &Row<'_>) -> rusqlite::Result<Fact> {
    let id = |column: usize| -> rusqlite::Result<u128> { row.get(column).map(u128::from_be_bytes) };
    let some = |column: usize| -> rusqlite::Result<Option<u128>> {
        let bytes = row.get_ref(column)?.as_bytes()?;
        Ok(bytes.try_into().ok().map(u128::from_be_bytes))
    };
    let text = |column: usize| -> rusqlite::Result<Option<String>> {
        row.get(column).map(|text: String| Some(text).filter(|text| !text.is_empty()))
    };
    let mode: u8 = row.get(1)?;
    let mode =
        Mode::from_byte(mode).ok_or(rusqlite::Error::IntegralValueOutOfRange(1, mode.into()))?;
    Ok(Fact {
        scope: Scope { organization: OrganizationId::from_u128(id(0)?), mode },
        campaign: CampaignId::from_u128(id(2)?),
        at: Timestamp::from_ms(row.get(3)?),
        gig: some(4)?.map(GigId::from_u128),
        aktvator: some(5)?.map(AktvatorId::from_u128),
        link: some(6)?.map(LinkId::from_u128),
        code: text(7)?,
        event_type: text(8)?,
        clicks: row.get(9)?,
        conversions: row.get(10)?,
        revenue: row.get(11)?,
        rewards: row.get(12)?,
        reward_amount: row.get(13)?,
    })
}
