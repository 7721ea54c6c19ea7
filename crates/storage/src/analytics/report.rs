//! A report, folded from rollup rows in the order of their buckets.
//!
//! Memory is bounded by the rows asked for, not by the rows read: of each period only the first
//! groups that still fit are kept.

use std::collections::BTreeMap;

use schemas::id::{AktvatorId, GigId, LinkId};
use schemas::time::Timestamp;

use super::period::Period;
use super::{Dimension, Granularity, Metrics, Performance, PerformanceQuery, PerformanceRow};

/// A report in the making.
pub(super) struct Report<'a> {
    query: &'a PerformanceQuery,
    /// Rows of finished periods; one more than the limit says that there are more.
    rows: Vec<PerformanceRow>,
    totals: Metrics,
    period: Option<Period>,
    /// Of the period at hand, by [`GroupKey`].
    groups: BTreeMap<Vec<u8>, Metrics>,
}

impl<'a> Report<'a> {
    pub(super) fn new(query: &'a PerformanceQuery) -> Self {
        Self {
            query,
            rows: Vec::new(),
            totals: Metrics::default(),
            period: None,
            groups: BTreeMap::new(),
        }
    }

    /// Takes in a row. Buckets MUST not fall.
    pub(super) fn add(&mut self, bucket_ms: i64, group: &GroupKey, metrics: &Metrics) {
        self.totals.add(metrics);
        if self.period.is_none_or(|period| bucket_ms >= period.end) {
            self.finish_period();
            self.period = Some(self.period_of(bucket_ms));
        }
        let room = self.room();
        if let Some(sum) = self.groups.get_mut(&group.0[..]) {
            sum.add(metrics);
        } else if room > 0 {
            self.groups.insert(group.0.clone(), *metrics);
            // What is dropped cannot come back: the last that is kept only ever comes earlier.
            if self.groups.len() > room {
                self.groups.pop_last();
            }
        }
    }

    pub(super) fn finish(mut self) -> Performance {
        self.finish_period();
        let whole = self.query.granularity == Granularity::None && self.query.group_by.is_empty();
        if whole && self.rows.is_empty() {
            self.rows.push(PerformanceRow { bucket: None, dims: vec![], metrics: self.totals });
        }
        let has_more = self.rows.len() > self.query.limit;
        self.rows.truncate(self.query.limit);
        Performance { rows: self.rows, totals: self.totals, has_more }
    }

    /// How many groups of the period at hand can still become rows.
    fn room(&self) -> usize {
        self.query.limit.saturating_add(1).saturating_sub(self.rows.len())
    }

    fn period_of(&self, bucket_ms: i64) -> Period {
        Period::of(bucket_ms, self.query.granularity, &self.query.timezone)
            .unwrap_or(Period { start: bucket_ms, end: i64::MAX })
    }

    fn finish_period(&mut self) {
        let Some(period) = self.period.take() else { return };
        let bucket = match self.query.granularity {
            Granularity::None => None,
            _ => Some(Timestamp::from_ms(period.start)),
        };
        for (group, metrics) in std::mem::take(&mut self.groups) {
            let dims = GroupKey(group).decode(&self.query.group_by);
            self.rows.push(PerformanceRow { bucket, dims, metrics });
        }
    }
}

/// The values of a group as bytes that sort as the values do, none first.
#[derive(Default)]
pub(super) struct GroupKey(Vec<u8>);

const ABSENT: u8 = 0;
const PRESENT: u8 = 1;
/// Ends a text; sorts before all that can follow in a longer one.
const END: [u8; 2] = [0, 0];
/// A zero inside a text.
const ZERO: [u8; 2] = [0, 0xff];

impl GroupKey {
    /// Empties it, so that it can be filled for the next row.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// Appends the value of a dimension as it is stored: an id's bytes or a text, none if empty.
    pub(super) fn push(&mut self, dimension: Dimension, value: &[u8]) {
        if value.is_empty() {
            return self.0.push(ABSENT);
        }
        self.0.push(PRESENT);
        match dimension {
            Dimension::Gig | Dimension::Aktvator | Dimension::Link => self.0.extend(value),
            Dimension::Code | Dimension::EventType => {
                for &byte in value {
                    if byte == 0 { self.0.extend(ZERO) } else { self.0.push(byte) }
                }
                self.0.extend(END);
            }
        }
    }

    fn decode(&self, dimensions: &[Dimension]) -> Vec<Option<String>> {
        let mut rest = &self.0[..];
        dimensions.iter().map(|&dimension| take(dimension, &mut rest)).collect()
    }
}

fn take(dimension: Dimension, rest: &mut &[u8]) -> Option<String> {
    let (&tag, after) = rest.split_first()?;
    *rest = after;
    if tag == ABSENT {
        return None;
    }
    match dimension {
        Dimension::Gig => take_id(rest).map(|id| GigId::from_u128(id).to_string()),
        Dimension::Aktvator => take_id(rest).map(|id| AktvatorId::from_u128(id).to_string()),
        Dimension::Link => take_id(rest).map(|id| LinkId::from_u128(id).to_string()),
        Dimension::Code | Dimension::EventType => Some(take_text(rest)),
    }
}

fn take_id(rest: &mut &[u8]) -> Option<u128> {
    let (id, after) = rest.split_first_chunk::<16>()?;
    *rest = after;
    Some(u128::from_be_bytes(*id))
}

fn take_text(rest: &mut &[u8]) -> String {
    let mut text = Vec::new();
    while let Some((&byte, after)) = rest.split_first() {
        *rest = after;
        if byte != 0 {
            text.push(byte);
            continue;
        }
        let Some((&second, after)) = rest.split_first() else { break };
        *rest = after;
        if second == END[1] {
            break;
        }
        text.push(0);
    }
    String::from_utf8_lossy(&text).into_owned()
}
