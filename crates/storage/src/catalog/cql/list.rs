//! Lists of the catalog on CQL: a range of one list's places, filtered as it is read.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use serde_json::Value;

use super::keys::List;
use super::tables::Tables;
use crate::catalog::{Document, FieldFilter, Kind, ListFilter, Page};
use crate::error::{Error, Kind as ErrorKind};
use crate::state::KeyRange;

/// As the port's contract says.
const FIND_FOR: Duration = Duration::from_secs(2);
/// Places read at a time, beyond what is still wanted.
const PLACES_MORE: usize = 32;
const PLACES_MAX: usize = 512;

pub(super) async fn run(
    tables: &Tables,
    kind: Kind,
    filter: ListFilter,
    page: Page,
) -> Result<Vec<Document>, Error> {
    let found = tokio::time::timeout(FIND_FOR, find(tables, kind, &filter, &page)).await;
    found.unwrap_or_else(|_| {
        let why = "the documents were not found in time";
        Err(Error::determinate("list", ErrorKind::Unavailable).because(why))
    })
}

async fn find(
    tables: &Tables,
    kind: Kind,
    filter: &ListFilter,
    page: &Page,
) -> Result<Vec<Document>, Error> {
    for FieldFilter { field, .. } in &filter.fields {
        if field.is_empty() || !field.bytes().all(|c| c.is_ascii_alphabetic()) {
            return Err(refused(format!("the field {field:?} is not letters")));
        }
    }
    let list = list_of(kind, filter);
    let after = position(tables, kind, filter, &list, page.after.as_deref()).await?;
    let before = position(tables, kind, filter, &list, page.before.as_deref()).await?;
    // Before a cursor, the nearest are wanted, so they are read the other way round.
    let backwards = before.is_some() && after.is_none();
    let downwards = page.newest_first != backwards;
    let mut range = range(&list, filter, page.newest_first, after, before);
    let mut found = Vec::new();
    while found.len() < page.limit {
        let wanted = (page.limit - found.len()).saturating_add(PLACES_MORE).min(PLACES_MAX);
        let places = tables.scan(&range, downwards, wanted).await?;
        let ids: Vec<_> = places.iter().filter_map(|(place, _)| list.id_at(place)).collect();
        let documents = tables.documents(kind, &ids).await?;
        let matching = documents.into_iter().flatten().filter(|document| has(filter, document));
        let room = page.limit - found.len();
        found.extend(matching.take(room));
        match places.last() {
            Some((last, _)) if places.len() == wanted && downwards => range.to = last.clone(),
            Some((last, _)) if places.len() == wanted => range.from = behind(last),
            _ => break,
        }
    }
    if backwards {
        found.reverse();
    }
    Ok(found)
}

/// The shortest list that has all of them.
fn list_of(kind: Kind, filter: &ListFilter) -> List {
    match (&filter.parent, filter.organization, filter.mode) {
        (Some(parent), _, _) => List::of_parent(kind, parent),
        (None, Some(organization), Some(mode)) => List::of_mode(kind, organization, mode),
        (None, Some(organization), None) => List::of_owner(kind, organization),
        (None, None, _) => List::of_kind(kind),
    }
}

/// The cursor's place in the list. Only of a document whose owner was asked for: a cursor must
/// not tell what others have.
async fn position(
    tables: &Tables,
    kind: Kind,
    filter: &ListFilter,
    list: &List,
    id: Option<&str>,
) -> Result<Option<Bytes>, Error> {
    let Some(id) = id else { return Ok(None) };
    let document = tables.document("list", kind, id).await?;
    match document.filter(|document| is_owned(filter, document)) {
        Some(document) => Ok(Some(list.place(document.created_at, id))),
        None => Err(refused("the cursor is no document of this list".to_owned())),
    }
}

fn range(
    list: &List,
    filter: &ListFilter,
    newest_first: bool,
    after: Option<Bytes>,
    before: Option<Bytes>,
) -> KeyRange {
    let (above, below) = if newest_first { (before, after) } else { (after, before) };
    let from = [filter.created_from.map(|at| list.from(at)), above.map(|place| behind(&place))];
    let to = [filter.created_to.map(|at| list.from(at)), below];
    KeyRange {
        from: from.into_iter().flatten().max().unwrap_or_else(|| list.start()),
        to: to.into_iter().flatten().min().unwrap_or_else(|| list.end()),
    }
}

/// The first key that may follow.
fn behind(place: &[u8]) -> Bytes {
    let mut next = BytesMut::from(place);
    next.put_u8(0);
    next.freeze()
}

fn is_owned(filter: &ListFilter, document: &Document) -> bool {
    filter.organization.is_none_or(|wanted| document.organization == Some(wanted))
        && filter.mode.is_none_or(|wanted| document.mode == Some(wanted))
}

fn has(filter: &ListFilter, document: &Document) -> bool {
    let parent = filter.parent.as_ref();
    is_owned(filter, document)
        && parent.is_none_or(|wanted| document.parent.as_ref() == Some(wanted))
        && (filter.fields.is_empty() || has_fields(&filter.fields, &document.json))
}

fn has_fields(filters: &[FieldFilter], json: &str) -> bool {
    let value = serde_json::from_str::<Value>(json).unwrap_or_default();
    filters.iter().all(|filter| {
        let text = match value.get(&filter.field) {
            None | Some(Value::Null) => None,
            Some(Value::String(text)) => Some(text.clone()),
            Some(other) => Some(other.to_string()),
        };
        let listed = text.is_some_and(|text| filter.values.contains(&text));
        listed != filter.exclude
    })
}

fn refused(why: String) -> Error {
    Error::determinate("list", ErrorKind::Conflict).because(why)
}
