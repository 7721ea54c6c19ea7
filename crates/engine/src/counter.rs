//! Counters: how much was used in a calendar bucket, or in the days that a rolling window reaches back.
//!
//! [`Tab`] is what one event adds to them. It is put when the event is decided, and read meanwhile, so that
//! two rewards of one event see each other.

use schemas::partition::Scope;
use schemas::proto;

use crate::calendar::Period;
use crate::facts::Facts;
use crate::key::{Key, Slot};
use crate::lookup::{Lookup, Unfetched};
use crate::row::Row;

/// The key under which `of` is counted for `subject` in the bucket of `period` that the event is in.
pub(crate) fn key(facts: &Facts<'_>, of: u128, period: Period, subject: u128) -> Key {
    let slot = Slot { campaign: facts.campaign, of, bucket: facts.bucket(period), subject };
    key_of(facts.scope, slot)
}

/// The key of a slot: what is counted by the day, or in one figure.
pub(crate) const fn key_of(scope: Scope, slot: Slot) -> Key {
    match slot.bucket.period {
        Period::Rolling(_) => Key::Days(scope, slot),
        _ => Key::Counter(scope, slot),
    }
}

/// Rows as one event leaves them.
#[derive(Default)]
pub(crate) struct Tab {
    /// `None` is deleted.
    rows: Vec<(Key, Option<Row>)>,
}

impl Tab {
    /// What stands at `key`: of a bucket its count, of a rolling window the days up to the event's own.
    pub(crate) fn used(
        &self,
        look: &mut Lookup<'_, '_>,
        facts: &Facts<'_>,
        key: &Key,
    ) -> Result<i64, Unfetched> {
        self.read(look, key, |days, len| sum(days, facts.day(), len))
    }

    /// The same, but of a rolling window the most in any that has the event's day in it: a late event must
    /// not break a limit that later ones have kept.
    pub(crate) fn most_used(
        &self,
        look: &mut Lookup<'_, '_>,
        facts: &Facts<'_>,
        key: &Key,
    ) -> Result<i64, Unfetched> {
        self.read(look, key, |days, len| most(days, facts.day(), len))
    }

    fn read(
        &self,
        look: &mut Lookup<'_, '_>,
        key: &Key,
        window: impl Fn(&[proto::DayUse], i32) -> i64,
    ) -> Result<i64, Unfetched> {
        let row = self.row(look, key)?;
        Ok(match (row, key) {
            (Some(Row::Counter(value)), _) => *value,
            (Some(Row::Days(days)), Key::Days(_, slot)) => window(&days.days, slot.bucket.index),
            _ => 0,
        })
    }

    /// Adds `value`, which may be below zero, to what stands at `key`.
    pub(crate) fn add(
        &mut self,
        look: &mut Lookup<'_, '_>,
        facts: &Facts<'_>,
        key: Key,
        value: i64,
    ) -> Result<(), Unfetched> {
        let before = self.row(look, &key)?;
        let row = match (&key, before) {
            (Key::Days(_, slot), before) => {
                let mut days = match before {
                    Some(Row::Days(days)) => days.clone(),
                    _ => proto::DaysRow::default(),
                };
                let oldest = facts.oldest_day().saturating_sub(slot.bucket.index);
                days.days.retain(|used| used.day >= oldest);
                add_day(&mut days.days, facts.day(), value);
                Row::Days(days)
            }
            (_, Some(Row::Counter(before))) => Row::Counter(before.saturating_add(value)),
            _ => Row::Counter(value),
        };
        self.put(key, row);
        Ok(())
    }

    /// The row at `key`, as this event has left it so far.
    pub(crate) fn row<'r, 'a: 'r>(
        &'r self,
        look: &mut Lookup<'a, '_>,
        key: &Key,
    ) -> Result<Option<&'r Row>, Unfetched> {
        match self.rows.iter().find(|(known, _)| known == key) {
            Some((_, row)) => Ok(row.as_ref()),
            None => look.row(key.clone()),
        }
    }

    pub(crate) fn put(&mut self, key: Key, row: Row) {
        self.set(key, Some(row));
    }

    pub(crate) fn delete(&mut self, key: Key) {
        self.set(key, None);
    }

    fn set(&mut self, key: Key, row: Option<Row>) {
        match self.rows.iter_mut().find(|(known, _)| *known == key) {
            Some((_, known)) => *known = row,
            None => self.rows.push((key, row)),
        }
    }

    /// All rows that have changed.
    pub(crate) fn into_rows(self) -> Vec<(Key, Option<Row>)> {
        self.rows
    }
}

fn add_day(days: &mut Vec<proto::DayUse>, day: i32, value: i64) {
    match days.binary_search_by_key(&day, |used| used.day) {
        Ok(at) => days[at].value = days[at].value.saturating_add(value),
        Err(at) => days.insert(at, proto::DayUse { day, value }),
    }
}

/// The sum over the `len` days that end with `day`.
pub(crate) fn sum(days: &[proto::DayUse], day: i32, len: i32) -> i64 {
    let within = |used: &&proto::DayUse| used.day > day.saturating_sub(len) && used.day <= day;
    days.iter().filter(within).fold(0, |sum, used| sum.saturating_add(used.value))
}

/// The largest sum over any `len` days in a row that include `day`: it ends with `day`, or with a later one
/// that was used.
fn most(days: &[proto::DayUse], day: i32, len: i32) -> i64 {
    let later =
        days.iter().map(|used| used.day).filter(|end| *end > day && end.saturating_sub(len) < day);
    later.fold(sum(days, day, len), |most, end| most.max(sum(days, end, len)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows() {
        let mut days = Vec::new();
        for (day, value) in [(5, 1), (3, 10), (9, 100), (5, 2), (20, 1_000)] {
            add_day(&mut days, day, value);
        }
        // Day, length, the sum that ends with the day, the most with the day in it.
        let cases = [
            (5, 1, 3, 3),
            (5, 3, 13, 13),
            (4, 3, 10, 13),
            (6, 4, 13, 100),
            (9, 7, 113, 113),
            (2, 30, 0, 1_113),
            (14, 7, 100, 1_000),
            (13, 7, 100, 100),
            (i32::MIN, 366, 0, 0),
            (i32::MAX, 366, 0, 0),
        ];
        for (day, len, want_sum, want_most) in cases {
            assert_eq!(sum(&days, day, len), want_sum, "sum of {len} to {day}");
            assert_eq!(most(&days, day, len), want_most, "most of {len} with {day}");
        }
    }
}
