//! Lists of what the fold decided, newest first, read from index rows.
//!
//! An index row names what one batch brought, under the log offset of the batch's first record. A
//! place in such a list is (offset, position in the row); it never changes, so pages neither skip
//! nor repeat while new things come in.

use std::fmt;
use std::future::Future;
use std::ops::Range;
use std::str::FromStr;

use bytes::Bytes;
use engine::key::{IndexKind, Key};
use prost::Message;
use schemas::fault::ApiError;
use schemas::partition::Scope;
use storage::state::Group;

use crate::ControlParts;
use crate::fold::read;
use crate::page::{Listing, invalid_cursor};
use crate::query::PageAsked;

/// Index rows of one scan.
const ROWS_PER_SCAN: usize = 64;
/// Things loaded at once.
const LOADED_AT_ONCE: usize = 128;
/// Things looked at for one page; where few pass the filters, the page may be short or empty and
/// still have a cursor.
const SCANNED_MAX: usize = 5_000;

/// Something an index lists.
pub(crate) trait Listed: Sized + Send {
    /// Which index.
    const INDEX: IndexKind;
    /// What its rows hold.
    type Row: Message + Default + Sync;

    /// How many things `row` names.
    fn len(row: &Self::Row) -> usize;

    /// Those in `range`, in their order; `None` for what is there no longer.
    fn load(
        parts: &ControlParts,
        scope: Scope,
        row: &Self::Row,
        range: Range<usize>,
    ) -> impl Future<Output = Result<Vec<Option<Self>>, ApiError>> + Send;

    /// Where the thing with this id is, where ids serve as cursors.
    fn find(
        parts: &ControlParts,
        scope: Scope,
        id: &str,
    ) -> impl Future<Output = Result<Option<Place>, ApiError>> + Send;
}

/// A place in a list: the cursor of pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    offset: u64,
    position: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}.{:x}", self.offset, self.position)
    }
}

impl FromStr for Place {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts = text.split_once('.').and_then(|(offset, position)| {
            let offset = u64::from_str_radix(offset, 16).ok().filter(|o| *o < u64::MAX)?;
            Some(Self { offset, position: usize::from_str_radix(position, 16).ok()? })
        });
        parts.ok_or("must be a cursor of this list")
    }
}

/// A page of what `admits` lets pass.
///
/// # Errors
/// 400 for a cursor that is no place in the list.
pub(crate) async fn page<T: Listed>(
    parts: &ControlParts,
    scope: Scope,
    asked: &PageAsked,
    admits: impl Fn(&T) -> bool + Send,
) -> Result<Listing<T>, ApiError> {
    let backwards = asked.before.is_some();
    let mut at = match asked.before.as_ref().or(asked.after.as_ref()) {
        Some(cursor) => Some(place::<T>(parts, scope, cursor, backwards).await?),
        None => None,
    };
    let shard = parts.shard(Group::Evaluator, scope);
    let mut found = Found { items: Vec::new(), last: None, scanned: 0, limit: asked.limit };
    loop {
        let range = range::<T>(scope, at, backwards);
        let rows = parts.scan(shard, range, !backwards, ROWS_PER_SCAN).await?;
        let is_end = rows.len() < ROWS_PER_SCAN;
        for (key, bytes) in rows {
            let offset = Key::index_offset(&key).ok_or_else(ApiError::internal)?;
            let row: T::Row = read(bytes)?;
            let mut rest = rest(T::len(&row), offset, at, backwards);
            while let Some(slice) = take(&mut rest, backwards) {
                let items = T::load(parts, scope, &row, slice.clone()).await?;
                found.add(offset, slice, items, backwards, &admits);
                if found.is_enough() {
                    return Ok(found.listing(true, backwards));
                }
            }
            let position = if backwards { usize::MAX } else { 0 };
            at = Some(Place { offset, position });
        }
        if is_end {
            return Ok(found.listing(false, backwards));
        }
    }
}

async fn place<T: Listed>(
    parts: &ControlParts,
    scope: Scope,
    cursor: &str,
    backwards: bool,
) -> Result<Place, ApiError> {
    if let Ok(place) = cursor.parse() {
        return Ok(place);
    }
    T::find(parts, scope, cursor).await?.ok_or_else(|| invalid_cursor(backwards))
}

/// The index rows that lie in the direction asked for, that of `at` among them.
fn range<T: Listed>(scope: Scope, at: Option<Place>, backwards: bool) -> (Bytes, Bytes) {
    let (from, to) = Key::index_range(scope, T::INDEX);
    let key = |offset| index_key(T::INDEX, scope, offset);
    match at {
        None => (from, to),
        Some(place) if backwards => (key(place.offset), to),
        Some(place) => (from, key(place.offset + 1)),
    }
}

fn index_key(kind: IndexKind, scope: Scope, offset: u64) -> Bytes {
    match kind {
        IndexKind::Events => Key::EventIndex(scope, offset),
        IndexKind::Rewards => Key::RewardIndex(scope, offset),
        IndexKind::Ledger => Key::Ledger(scope, offset),
    }
    .encode()
}

/// The positions of a row that lie beyond `at`.
fn rest(len: usize, offset: u64, at: Option<Place>, backwards: bool) -> Range<usize> {
    match at.filter(|place| place.offset == offset) {
        None => 0..len,
        Some(place) if backwards => place.position.saturating_add(1).min(len)..len,
        Some(place) => 0..place.position.min(len),
    }
}

/// Takes the next few positions off `rest`, from the side that is looked at first.
fn take(rest: &mut Range<usize>, backwards: bool) -> Option<Range<usize>> {
    if rest.start >= rest.end {
        return None;
    }
    let few = rest.len().min(LOADED_AT_ONCE);
    let taken = if backwards { rest.start..rest.start + few } else { rest.end - few..rest.end };
    if backwards {
        rest.start = taken.end;
    } else {
        rest.end = taken.start;
    }
    Some(taken)
}

/// Where the id is in the row that a record of `offset` went into.
pub(crate) async fn find_id<T: Listed<Row = schemas::proto::IndexRow>>(
    parts: &ControlParts,
    scope: Scope,
    offset: u64,
    id: &[u8],
) -> Result<Option<Place>, ApiError> {
    let (from, _) = Key::index_range(scope, T::INDEX);
    let range = (from, index_key(T::INDEX, scope, offset.saturating_add(1)));
    let rows = parts.scan(parts.shard(Group::Evaluator, scope), range, true, 1).await?;
    let Some((key, bytes)) = rows.into_iter().next() else { return Ok(None) };
    let row: schemas::proto::IndexRow = read(bytes)?;
    let position = row.ids.iter().position(|listed| listed.as_ref() == id);
    Ok(Key::index_offset(&key).zip(position).map(|(offset, position)| Place { offset, position }))
}

/// What a page has so far.
struct Found<T> {
    items: Vec<(Place, T)>,
    last: Option<Place>,
    scanned: usize,
    limit: usize,
}

impl<T> Found<T> {
    fn add(
        &mut self,
        offset: u64,
        slice: Range<usize>,
        items: Vec<Option<T>>,
        backwards: bool,
        admits: &impl Fn(&T) -> bool,
    ) {
        let mut placed: Vec<_> = slice.zip(items).collect();
        if !backwards {
            placed.reverse();
        }
        for (position, item) in placed {
            let place = Place { offset, position };
            self.last = Some(place);
            self.scanned += 1;
            self.items.extend(item.filter(admits).map(|item| (place, item)));
        }
    }

    /// One more than the page holds shows that there are more.
    fn is_enough(&self) -> bool {
        self.items.len() > self.limit || self.scanned >= SCANNED_MAX
    }

    fn listing(mut self, may_have_more: bool, backwards: bool) -> Listing<T> {
        let is_full = self.items.len() > self.limit;
        self.items.truncate(self.limit);
        let next = match (is_full, may_have_more) {
            (true, _) => self.items.last().map(|(place, _)| *place),
            (false, true) => self.last,
            (false, false) => None,
        };
        if backwards {
            self.items.reverse();
        }
        Listing {
            data: self.items.into_iter().map(|(_, item)| item).collect(),
            has_more: next.is_some(),
            next_cursor: next.map(|place| place.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_round_trip() {
        let place = Place { offset: 0xfe, position: 17 };
        assert_eq!(place.to_string().parse(), Ok(place));
        for text in ["", ".", "1", "1.", "x.1", "ffffffffffffffff.0", "1.2.3"] {
            assert!(text.parse::<Place>().is_err(), "{text}");
        }
    }

    #[test]
    fn slices_cover_a_row_once() {
        for backwards in [false, true] {
            let mut rest = rest(300, 7, Some(Place { offset: 7, position: 200 }), backwards);
            let mut seen: Vec<usize> = Vec::new();
            while let Some(slice) = take(&mut rest, backwards) {
                assert!(slice.len() <= LOADED_AT_ONCE);
                seen.extend(slice);
            }
            seen.sort_unstable();
            let want: Vec<usize> =
                if backwards { (201..300).collect() } else { (0..200).collect() };
            assert_eq!(seen, want);
        }
    }
}
