//! Merges the buckets of a shard into one range in key order.

use bytes::{BufMut, Bytes, BytesMut};

use crate::state::KeyRange;

/// Rows of one page of one bucket, at most.
const PAGE_ROWS_MAX: usize = 512;
/// Rows of a page beyond a bucket's even share, so that mostly one page is enough.
const PAGE_ROWS_MORE: usize = 8;

/// Which end of the range comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Up,
    Down,
}

impl Way {
    fn precedes(self, a: &Bytes, b: &Bytes) -> bool {
        match self {
            Self::Up => a < b,
            Self::Down => a > b,
        }
    }
}

/// Rows to read next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Page {
    pub(super) bucket: u16,
    pub(super) range: KeyRange,
    pub(super) rows: usize,
}

/// What was read so far, and what is still to be read.
pub(super) struct Buckets {
    way: Way,
    limit: usize,
    page_rows: usize,
    parts: Vec<Part>,
}

/// One bucket's rows in the order of the scan.
struct Part {
    rows: Vec<(Bytes, Bytes)>,
    /// What is left to read; `None` when all is read.
    left: Option<KeyRange>,
}

impl Part {
    /// How many of its rows do not come after `horizon`.
    fn up_to(&self, way: Way, horizon: &Bytes) -> usize {
        self.rows.partition_point(|(key, _)| !way.precedes(horizon, key))
    }
}

impl Buckets {
    pub(super) fn new(buckets: u16, range: &KeyRange, way: Way, limit: usize) -> Self {
        let left = (range.from < range.to && limit > 0).then(|| range.clone());
        let part = || Part { rows: Vec::new(), left: left.clone() };
        let share = limit.div_ceil(buckets.into()).saturating_mul(2);
        let page_rows = share.saturating_add(PAGE_ROWS_MORE).min(PAGE_ROWS_MAX).min(limit);
        let parts = (0..buckets).map(|_| part()).collect();
        Self { way, limit, page_rows, parts }
    }

    /// Pages without which the first `limit` rows are not known; `None` when they are.
    pub(super) fn wanted(&self) -> Option<Vec<Page>> {
        if self.parts.iter().all(|part| part.left.is_none()) {
            return None;
        }
        let horizon = self.horizon();
        let known = |part: &Part| horizon.map_or(0, |key| part.up_to(self.way, key));
        if horizon.is_some() && self.parts.iter().map(known).sum::<usize>() >= self.limit {
            return None;
        }
        // The bucket at the horizon, and in the same round those that are soon to follow.
        let soon = |part: &&Part| part.rows.len() - known(part) <= self.page_rows / 2;
        let page = |(bucket, part): (u16, &Part)| {
            let range = Some(part).filter(soon)?.left.clone()?;
            Some(Page { bucket, range, rows: self.page_rows })
        };
        Some((0..).zip(&self.parts).filter_map(page).collect())
    }

    /// The nearest end of what was read of a bucket that has more: nothing is missing before it.
    fn horizon(&self) -> Option<&Bytes> {
        let mut nearest = None;
        for part in self.parts.iter().filter(|part| part.left.is_some()) {
            let (last, _) = part.rows.last()?;
            let nearer = nearest.is_none_or(|nearest| self.way.precedes(last, nearest));
            nearest = if nearer { Some(last) } else { nearest };
        }
        nearest
    }

    /// What was found for a page.
    pub(super) fn take(&mut self, page: &Page, found: Vec<(Bytes, Bytes)>) {
        let Some(part) = self.parts.get_mut(usize::from(page.bucket)) else { return };
        part.left = match found.last() {
            Some((last, _)) if found.len() >= page.rows => Some(match self.way {
                Way::Up => KeyRange { from: after(last), to: page.range.to.clone() },
                Way::Down => KeyRange { from: page.range.from.clone(), to: last.clone() },
            }),
            _ => None,
        };
        part.rows.extend(found);
    }

    /// The first `limit` rows, once nothing more is wanted.
    pub(super) fn merged(self) -> Vec<(Bytes, Bytes)> {
        let mut rows: Vec<_> = self.parts.into_iter().flat_map(|part| part.rows).collect();
        rows.sort_unstable_by(|(a, _), (b, _)| match self.way {
            Way::Up => a.cmp(b),
            Way::Down => b.cmp(a),
        });
        rows.truncate(self.limit);
        rows
    }
}

/// The key that follows: none stands between them.
fn after(key: &Bytes) -> Bytes {
    let mut next = BytesMut::with_capacity(key.len() + 1);
    next.put_slice(key);
    next.put_u8(0);
    next.freeze()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// Answers pages from rows in memory; says how many rows were read.
    fn scan(
        stored: &[BTreeMap<Bytes, Bytes>],
        range: &KeyRange,
        way: Way,
        limit: usize,
    ) -> (Vec<(Bytes, Bytes)>, usize) {
        let mut read = 0;
        let mut buckets = Buckets::new(stored.len() as u16, range, way, limit);
        while let Some(pages) = buckets.wanted() {
            assert!(!pages.is_empty(), "it would never end");
            for page in pages {
                let rows = stored[usize::from(page.bucket)].range(page.range.from.clone()..);
                let rows = rows.take_while(|(key, _)| **key < page.range.to);
                let mut rows: Vec<_> = rows.map(|(k, v)| (k.clone(), v.clone())).collect();
                if way == Way::Down {
                    rows.reverse();
                }
                rows.truncate(page.rows);
                read += rows.len();
                buckets.take(&page, rows);
            }
        }
        (buckets.merged(), read)
    }

    fn spread(keys: impl Iterator<Item = u32>, buckets: u32) -> Vec<BTreeMap<Bytes, Bytes>> {
        let mut stored = vec![BTreeMap::new(); buckets as usize];
        for key in keys {
            let bytes = Bytes::copy_from_slice(&key.to_be_bytes());
            // Uneven on purpose.
            let bucket = key.wrapping_mul(2_654_435_761).leading_zeros() % buckets;
            stored[bucket as usize].insert(bytes.clone(), bytes);
        }
        stored
    }

    fn key(key: u32) -> Bytes {
        Bytes::copy_from_slice(&key.to_be_bytes())
    }

    proptest! {
        #[test]
        fn buckets_merge_into_the_range_as_one_map_has_it(
            keys in proptest::collection::btree_set(0..3_000_u32, 0..2_000),
            (from, to) in (0..3_000_u32, 0..3_100_u32),
            down: bool,
            limit in prop_oneof![0..40_usize, Just(1_000), Just(usize::MAX)],
            buckets in 1..9_u32,
        ) {
            let range = KeyRange { from: key(from), to: key(to) };
            let way = if down { Way::Down } else { Way::Up };
            let (found, _) = scan(&spread(keys.iter().copied(), buckets), &range, way, limit);
            let mut expected: Vec<_> =
                keys.into_iter().filter(|k| (from..to).contains(k)).map(key).collect();
            if down {
                expected.reverse();
            }
            expected.truncate(limit);
            prop_assert_eq!(found.into_iter().map(|(k, _)| k).collect::<Vec<_>>(), expected);
        }
    }

    #[test]
    fn a_short_scan_of_many_rows_reads_few() {
        let mut stored = vec![BTreeMap::new(); 32];
        for n in 0..100_000_u32 {
            let bucket = crc32fast::hash(&n.to_be_bytes()) % 32;
            stored[bucket as usize].insert(key(n), key(n));
        }
        let range = KeyRange { from: key(5), to: key(u32::MAX) };
        for way in [Way::Up, Way::Down] {
            let (found, read) = scan(&stored, &range, way, 1_000);
            assert_eq!(found.len(), 1_000);
            assert!(read < 4_000, "read {read}");
        }
    }
}
