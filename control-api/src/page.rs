//! Lists: `{data, hasMore, nextCursor}`, cursors being ids of listed things.

use schemas::fault::ApiError;
use schemas::partition::Scope;
use serde::Serialize;
use storage::catalog::{FieldFilter, ListFilter, Page};
use utoipa::ToSchema;

use crate::ControlParts;
use crate::error;
use crate::query::{Filter, PageAsked, Query};
use crate::route::{Parameter, parameter};
use crate::stored::{Stored, Within, decode};

/// A page of a list.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Listing<T> {
    /// The things themselves, newest first unless the operation says otherwise.
    pub(crate) data: Vec<T>,
    /// Are there more in the direction asked for?
    pub(crate) has_more: bool,
    /// To be sent as `startingAfter` (or `endingBefore`, where that was sent) for the next page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) next_cursor: Option<String>,
}

impl<T> Listing<T> {
    /// The same page with every item shown as a `U`.
    pub(crate) fn map<U>(self, show: impl FnMut(T) -> U) -> Listing<U> {
        Listing {
            data: self.data.into_iter().map(show).collect(),
            has_more: self.has_more,
            next_cursor: self.next_cursor,
        }
    }
}

impl<T> Listing<T> {
    /// The same page with every item shown as a `U`.
    ///
    /// # Errors
    /// 500 where an item cannot be shown: what is stored is not what this version writes.
    pub(crate) fn try_map<U>(
        self,
        show: impl FnMut(T) -> Option<U>,
    ) -> Result<Listing<U>, ApiError> {
        let data: Option<Vec<U>> = self.data.into_iter().map(show).collect();
        let data = data.ok_or_else(|| {
            tracing::error!("stored rows cannot be read");
            ApiError::internal()
        })?;
        Ok(Listing { data, has_more: self.has_more, next_cursor: self.next_cursor })
    }
}

/// What every list can be asked.
pub(crate) const PAGE: &[Parameter] = &[
    parameter("limit", "Items of a page: 1 to 100, 25 when absent."),
    parameter("startingAfter", "The id after which the page begins."),
    parameter("endingBefore", "The id before which the page ends."),
];

/// A filter by one field of the documents.
pub(crate) fn field<T: ToString>(name: &str, filter: Option<Filter<T>>) -> Option<FieldFilter> {
    filter.map(|filter| FieldFilter {
        field: name.to_owned(),
        values: filter.values.iter().map(ToString::to_string).collect(),
        exclude: filter.exclude,
    })
}

/// Only what was not removed.
pub(crate) fn not_deleted() -> FieldFilter {
    FieldFilter { field: "deleted".to_owned(), values: vec!["true".to_owned()], exclude: true }
}

impl ControlParts {
    /// A page of the documents of type `T` in `scope`, newest first.
    ///
    /// # Errors
    /// 400 where a cursor is the id of no such document.
    pub(crate) async fn page<T: Stored>(
        &self,
        within: Within,
        parent: Option<String>,
        fields: Vec<FieldFilter>,
        asked: PageAsked,
    ) -> Result<Listing<T>, ApiError> {
        let backwards = asked.before.is_some();
        let filter = filter(within, parent, fields);
        let page = Page {
            limit: asked.limit + 1,
            after: asked.after,
            before: asked.before,
            newest_first: true,
        };
        let found = self.catalog.list(T::KIND, filter, page).await;
        let mut documents = found.map_err(|e| match e.kind {
            storage::Kind::Conflict => invalid_cursor(backwards),
            _ => error::storage(&e),
        })?;
        let has_more = documents.len() > asked.limit;
        if has_more && backwards {
            documents.remove(0);
        }
        documents.truncate(asked.limit);
        let end = if backwards { documents.first() } else { documents.last() };
        let next_cursor = end.filter(|_| has_more).map(|document| document.id.clone());
        let data = documents.iter().map(decode).collect::<Result<_, _>>()?;
        Ok(Listing { data, has_more, next_cursor })
    }
}

/// 400 for a cursor that is no id of the list.
pub(crate) fn invalid_cursor(backwards: bool) -> ApiError {
    let name = if backwards { "endingBefore" } else { "startingAfter" };
    ApiError::invalid(name, "invalid_cursor", "is the id of nothing in this list")
}

fn filter(within: Within, parent: Option<String>, fields: Vec<FieldFilter>) -> ListFilter {
    let (organization, mode) = match within {
        Within::Scope(Scope { organization, mode }) => (organization, Some(mode)),
        Within::Organization(organization) => (organization, None),
    };
    ListFilter { organization: Some(organization), mode, parent, fields, ..ListFilter::default() }
}

impl Query {
    /// The page asked for, of things with ids of type `T`, once the query has no faults.
    ///
    /// # Errors
    /// 400 with every fault.
    pub(crate) fn page_of<T>(&mut self) -> Result<PageAsked, ApiError>
    where
        T: std::str::FromStr,
        T::Err: std::fmt::Display,
    {
        let asked = self.page::<T>();
        self.finish().map(|()| asked)
    }
}
