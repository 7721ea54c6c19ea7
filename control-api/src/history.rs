//! Lists of what the fold decided, newest first, read from index rows.
//!
//! Every thing in a list has a position, counted from the first; it never changes, so pages neither skip
//! nor repeat while new things come in.

use std::future::Future;
use std::ops::Range;

use bytes::Bytes;
use engine::key::{BLOCK_LEN, IndexKind, Key};
use prost::Message;
use schemas::fault::ApiError;
use schemas::partition::Scope;
use schemas::proto;
use storage::state::Group;

use crate::ControlParts;
use crate::fold::read;
use crate::page::{Listing, invalid_cursor};
use crate::query::PageAsked;

/// Index rows of one scan.
const ROWS_PER_SCAN: usize = 64;
/// Things loaded at once.
const LOADED_AT_ONCE: u64 = 32;
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

    /// Those at `places` of `row`, whose first has position `first`, in their order; `None` for what is
    /// there no longer.
    fn load(
        parts: &ControlParts,
        scope: Scope,
        first: u64,
        row: &Self::Row,
        places: Range<usize>,
    ) -> impl Future<Output = Result<Vec<Option<Self>>, ApiError>> + Send;

    /// At which position the thing with this id is, where ids serve as cursors.
    fn find(
        parts: &ControlParts,
        scope: Scope,
        id: &str,
    ) -> impl Future<Output = Result<Option<u64>, ApiError>> + Send;
}

/// A row that an index names by its id.
pub(crate) trait ById: Message + Default {
    /// Which index.
    const INDEX: IndexKind;

    /// Where the row with an id of these bytes stands.
    fn key(scope: Scope, id: &[u8]) -> Option<Key>;

    /// The same for an id as in JSON.
    fn named(scope: Scope, id: &str) -> Option<Key>;

    /// Its place in the index.
    fn position(&self) -> u64;
}

impl<T: ById> Listed for T {
    const INDEX: IndexKind = T::INDEX;
    type Row = proto::IndexRow;

    fn len(row: &proto::IndexRow) -> usize {
        row.ids.len()
    }

    async fn load(
        parts: &ControlParts,
        scope: Scope,
        _: u64,
        row: &proto::IndexRow,
        places: Range<usize>,
    ) -> Result<Vec<Option<Self>>, ApiError> {
        let keys: Option<Vec<Key>> = row.ids[places].iter().map(|id| T::key(scope, id)).collect();
        parts.rows(scope, &keys.ok_or_else(ApiError::internal)?).await
    }

    async fn find(parts: &ControlParts, scope: Scope, id: &str) -> Result<Option<u64>, ApiError> {
        let Some(key) = T::named(scope, id) else { return Ok(None) };
        let row: Option<Self> = parts.row(&key).await?;
        Ok(row.map(|row| row.position()))
    }
}

/// A position as the cursor of pages: hexadecimal after a dot, so that no id looks like one.
fn cursor(position: u64) -> String {
    format!(".{position:x}")
}

fn position(cursor: &str) -> Option<u64> {
    u64::from_str_radix(cursor.strip_prefix('.')?, 16).ok()
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
    let at = match asked.before.as_ref().or(asked.after.as_ref()) {
        Some(text) => Some(place::<T>(parts, scope, text, backwards).await?),
        None => None,
    };
    // Positions that are still to be looked at.
    let mut left = match at {
        None => 0..u64::MAX,
        Some(at) if backwards => at + 1..u64::MAX,
        Some(at) => 0..at,
    };
    let shard = parts.shard(Group::Evaluator, scope);
    let mut found = Found { items: Vec::new(), last: None, scanned: 0, limit: asked.limit };
    loop {
        let rows = parts.scan(shard, range::<T>(scope, &left), !backwards, ROWS_PER_SCAN).await?;
        let is_end = rows.len() < ROWS_PER_SCAN;
        for (key, bytes) in rows {
            let first = Key::index_position(&key).ok_or_else(ApiError::internal)?;
            let row: T::Row = read(bytes)?;
            let end = first + T::len(&row) as u64;
            let mut rest = first.max(left.start)..end.min(left.end);
            while let Some(positions) = take(&mut rest, backwards) {
                let places = (positions.start - first) as usize..(positions.end - first) as usize;
                let items = T::load(parts, scope, first, &row, places).await?;
                found.add(positions, items, backwards, &admits);
                if found.is_enough() {
                    return Ok(found.listing(true, backwards));
                }
            }
            if backwards {
                left.start = end;
            } else {
                left.end = first;
            }
        }
        if is_end || left.is_empty() {
            return Ok(found.listing(false, backwards));
        }
    }
}

async fn place<T: Listed>(
    parts: &ControlParts,
    scope: Scope,
    text: &str,
    backwards: bool,
) -> Result<u64, ApiError> {
    if let Some(position) = position(text).filter(|position| *position < u64::MAX) {
        return Ok(position);
    }
    T::find(parts, scope, text).await?.ok_or_else(|| invalid_cursor(backwards))
}

/// The index rows that hold these positions.
fn range<T: Listed>(scope: Scope, positions: &Range<u64>) -> (Bytes, Bytes) {
    let block = positions.start - positions.start % BLOCK_LEN;
    let (_, end) = Key::index_range(scope, T::INDEX);
    let to = match positions.end {
        u64::MAX => end,
        to => Key::index(T::INDEX, scope, to).encode(),
    };
    (Key::index(T::INDEX, scope, block).encode(), to)
}

/// Takes the next few positions off `rest`, from the side that is looked at first.
fn take(rest: &mut Range<u64>, backwards: bool) -> Option<Range<u64>> {
    if rest.is_empty() {
        return None;
    }
    let few = (rest.end - rest.start).min(LOADED_AT_ONCE);
    let taken = if backwards { rest.start..rest.start + few } else { rest.end - few..rest.end };
    if backwards {
        rest.start = taken.end;
    } else {
        rest.end = taken.start;
    }
    Some(taken)
}

/// What a page has so far.
struct Found<T> {
    items: Vec<(u64, T)>,
    last: Option<u64>,
    scanned: usize,
    limit: usize,
}

impl<T> Found<T> {
    fn add(
        &mut self,
        positions: Range<u64>,
        items: Vec<Option<T>>,
        backwards: bool,
        admits: &impl Fn(&T) -> bool,
    ) {
        let mut placed: Vec<_> = positions.zip(items).collect();
        if !backwards {
            placed.reverse();
        }
        for (position, item) in placed {
            self.last = Some(position);
            self.scanned += 1;
            self.items.extend(item.filter(admits).map(|item| (position, item)));
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
            (true, _) => self.items.last().map(|(position, _)| *position),
            (false, true) => self.last,
            (false, false) => None,
        };
        if backwards {
            self.items.reverse();
        }
        Listing {
            data: self.items.into_iter().map(|(_, item)| item).collect(),
            has_more: next.is_some(),
            next_cursor: next.map(cursor),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_round_trip() {
        assert_eq!(position(&cursor(0xfe17)), Some(0xfe17));
        for text in ["", ".", "1", ".x", ".1ffffffffffffffff", "evt_1"] {
            assert!(position(text).is_none(), "{text}");
        }
    }

    #[test]
    fn slices_cover_what_is_left_once() {
        for backwards in [false, true] {
            let mut rest = 200..300;
            let mut seen: Vec<u64> = Vec::new();
            while let Some(slice) = take(&mut rest, backwards) {
                assert!(slice.end - slice.start <= LOADED_AT_ONCE);
                seen.extend(slice);
            }
            seen.sort_unstable();
            assert_eq!(seen, (200..300).collect::<Vec<_>>());
        }
    }
}
