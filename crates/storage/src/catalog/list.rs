//! Lists of the catalog as SQL: keyset pages by (created at, id), every value bound.

use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, params_from_iter};

use super::sqlite::{COLUMNS, document};
use super::{Document, FieldFilter, Kind, ListFilter, Page};
use crate::error::{Error, Kind as ErrorKind};
use crate::sqlite::failed;

/// Where a page starts or ends: what the order compares.
type Position = (i64, String);

pub(super) fn run(
    connection: &Connection,
    kind: Kind,
    filter: ListFilter,
    page: Page,
) -> Result<Vec<Document>, Error> {
    let mut query = Query::of(kind, &filter);
    let after = position(connection, &query, page.after.as_deref())?;
    let before = position(connection, &query, page.before.as_deref())?;
    query.narrow(&filter)?;
    query.bounds(page.newest_first, after.as_ref(), before.as_ref());
    // Before a cursor, the nearest are wanted, so they are read the other way round.
    let backwards = before.is_some() && after.is_none();
    query.order(page.newest_first != backwards, page.limit);
    let mut found = query.documents(connection).map_err(|e| failed("list", e))?;
    if backwards {
        found.reverse();
    }
    Ok(found)
}

/// The cursor's place in the order. Only of a document whose owner was asked for: a cursor must
/// not tell what others have.
fn position(
    connection: &Connection,
    owner: &Query,
    id: Option<&str>,
) -> Result<Option<Position>, Error> {
    let Some(id) = id else { return Ok(None) };
    let found = owner.position(connection, id).map_err(|e| failed("list", e))?;
    match found {
        Some(created_at) => Ok(Some((created_at, id.to_owned()))),
        None => Err(refused("the cursor is no document of this list".to_owned())),
    }
}

fn refused(why: String) -> Error {
    Error::determinate("list", ErrorKind::Conflict).because(why)
}

/// Conditions and the values they are bound to, in order.
struct Query {
    conditions: String,
    values: Vec<Value>,
    tail: String,
}

impl Query {
    /// By kind and owner, which is what a cursor must match too.
    fn of(kind: Kind, filter: &ListFilter) -> Self {
        let mut query = Self { conditions: "d.kind = ?".into(), values: vec![], tail: "".into() };
        query.values.push(Value::Integer(kind as i64));
        if let Some(organization) = filter.organization {
            query.and("d.organization = ?", [Value::Blob(organization.to_bytes().to_vec())]);
        }
        if let Some(mode) = filter.mode {
            query.and("d.mode = ?", [Value::Integer(mode.byte().into())]);
        }
        query
    }

    fn narrow(&mut self, filter: &ListFilter) -> Result<(), Error> {
        if let Some(parent) = &filter.parent {
            self.and("d.parent = ?", [Value::Text(parent.clone())]);
        }
        if let Some(from) = filter.created_from {
            self.and("d.created_at_ms >= ?", [Value::Integer(from.as_ms())]);
        }
        if let Some(to) = filter.created_to {
            self.and("d.created_at_ms < ?", [Value::Integer(to.as_ms())]);
        }
        filter.fields.iter().try_for_each(|field| self.field(field))
    }

    fn field(&mut self, filter: &FieldFilter) -> Result<(), Error> {
        let name = &filter.field;
        if name.is_empty() || !name.bytes().all(|c| c.is_ascii_alphabetic()) {
            return Err(refused(format!("the field {name:?} is not letters")));
        }
        // JSON's booleans are 1 and 0 to `->>`, as numbers are.
        let text = format!(
            "CASE json_type(d.json, '$.{name}') WHEN 'true' THEN 'true' WHEN 'false' THEN 'false'
             ELSE CAST(d.json ->> '$.{name}' AS TEXT) END"
        );
        let values = vec!["?"; filter.values.len()].join(", ");
        let condition = match filter.exclude {
            false => format!("{text} IN ({values})"),
            true => format!("COALESCE({text} NOT IN ({values}), TRUE)"),
        };
        self.and(&condition, filter.values.iter().cloned().map(Value::Text));
        Ok(())
    }

    fn bounds(&mut self, newest_first: bool, after: Option<&Position>, before: Option<&Position>) {
        let (follows, precedes) = if newest_first { ("<", ">") } else { (">", "<") };
        for (position, compare) in [(after, follows), (before, precedes)] {
            if let Some((created_at, id)) = position {
                let values = [Value::Integer(*created_at), Value::Text(id.clone())];
                self.and(&format!("(d.created_at_ms, d.id) {compare} (?, ?)"), values);
            }
        }
    }

    fn order(&mut self, descending: bool, limit: usize) {
        let way = if descending { "DESC" } else { "ASC" };
        self.tail = format!("ORDER BY d.created_at_ms {way}, d.id {way} LIMIT ?");
        self.values.push(Value::Integer(i64::try_from(limit).unwrap_or(i64::MAX)));
    }

    fn and(&mut self, condition: &str, values: impl IntoIterator<Item = Value>) {
        self.conditions.push_str(" AND ");
        self.conditions.push_str(condition);
        self.values.extend(values);
    }

    fn position(&self, connection: &Connection, id: &str) -> rusqlite::Result<Option<i64>> {
        let sql = format!(
            "SELECT d.created_at_ms FROM documents d WHERE {} AND d.id = ?",
            self.conditions
        );
        let values = self.values.iter().cloned().chain([Value::Text(id.to_owned())]);
        connection
            .prepare_cached(&sql)?
            .query_row(params_from_iter(values), |row| row.get(0))
            .optional()
    }

    fn documents(&self, connection: &Connection) -> rusqlite::Result<Vec<Document>> {
        let mut statement = connection.prepare_cached(&self.documents_sql())?;
        statement.query_map(params_from_iter(&self.values), document)?.collect()
    }

    fn documents_sql(&self) -> String {
        format!("SELECT {COLUMNS} FROM documents d WHERE {} {}", self.conditions, self.tail)
    }
}

#[cfg(test)]
mod tests {
    use schemas::id::OrganizationId;
    use schemas::partition::Mode;
    use schemas::time::Timestamp;

    use super::*;
    use crate::catalog::sqlite::TABLES;

    /// A page of a large organization must not sort or read the whole of it.
    #[test]
    fn pages_are_ranges_of_an_index() {
        let owner = ListFilter {
            organization: Some(OrganizationId::from_u128(1)),
            mode: Some(Mode::Live),
            ..ListFilter::default()
        };
        let parent = ListFilter { parent: Some("camp_1".into()), ..owner.clone() };
        let made = ListFilter { created_from: Some(Timestamp::from_ms(5)), ..owner.clone() };
        let cases = [
            (owner, "documents_by_owner"),
            (parent, "documents_by_parent"),
            (made, "documents_by_owner"),
        ];
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(TABLES).unwrap();
        for (filter, index) in cases {
            for newest_first in [false, true] {
                let mut query = Query::of(Kind::Link, &filter);
                query.narrow(&filter).unwrap();
                query.bounds(newest_first, Some(&(7, "l".into())), None);
                query.order(newest_first, 26);
                let plan = plan(&connection, &query);
                assert!(plan.contains(index), "{plan}");
                assert!(!plan.contains("SCAN") && !plan.contains("TEMP"), "{plan}");
            }
        }
    }

    fn plan(connection: &Connection, query: &Query) -> String {
        let sql = format!("EXPLAIN QUERY PLAN {}", query.documents_sql());
        let mut statement = connection.prepare(&sql).unwrap();
        let steps = statement.query_map(params_from_iter(&query.values), |row| row.get(3));
        steps.unwrap().collect::<Result<Vec<String>, _>>().unwrap().join("; ")
    }
}
