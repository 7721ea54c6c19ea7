//! Leaves of conditions in a rulebook's JSON: fields, operators, and literals, which are typed while they are
//! read.

use schemas::id::{AktvatorId, LinkId};
use schemas::time::Timestamp;
use serde_json::Value;

use super::LITERALS_MAX;
use crate::condition::{Ends, Range, Set, Test};
use crate::facts::Field;
use crate::metric::Metric;

/// Levels of a metadata path; metadata itself has no more.
const PATH_MAX: usize = 4;
/// Bytes of a text to compare with.
const LITERAL_LEN_MAX: usize = 1_024;

/// What may be asked for, as a fault names it.
const FIELDS: [&str; 25] = [
    "event.eventType",
    "event.amount",
    "event.currency",
    "event.quantity",
    "event.occurredAt",
    "event.externalRef",
    "event.metadata.<path>",
    "customer.id",
    "customer.country",
    "customer.status",
    "aktvator.id",
    "aktvator.country",
    "aktvator.status",
    "aktvator.group",
    "aktvator.tags",
    "aktvator.joinedAt",
    "aktvator.conversions",
    "aktvator.revenue",
    "aktvator.earned",
    "customer.conversions",
    "customer.spend",
    "customer.firstSeenAt",
    "customer.ageDays",
    "link.id",
    "click.ageSeconds",
];
/// What may be asked for of an item.
const ITEM_FIELDS: [&str; 4] = ["item.sku", "item.category", "item.amount", "item.quantity"];
/// What a field may be asked.
const OPERATORS: [&str; 15] = [
    "eq",
    "ne",
    "in",
    "nin",
    "gt",
    "gte",
    "lt",
    "lte",
    "between",
    "starts_with",
    "ends_with",
    "contains",
    "not_contains",
    "exists",
    "not_exists",
];

/// What is wrong with a leaf, and in which member.
pub(super) struct Wrong {
    pub(super) member: &'static str,
    pub(super) code: &'static str,
    pub(super) message: String,
}

impl Wrong {
    fn new(member: &'static str, code: &'static str, message: impl Into<String>) -> Self {
        Self { member, code, message: message.into() }
    }
}

/// A sum is there, as far as it can be told: whether it is is no question.
pub(super) fn sum_test(op: &str, value: Option<&Value>) -> Result<Test, Wrong> {
    if let "exists" | "not_exists" = op {
        return Err(Wrong::new("op", "type_mismatch", format!("`{op}` does not apply to a sum")));
    }
    test(&Field::EventAmount, op, value)
}

pub(super) fn item_field(name: &str) -> Result<Field, Wrong> {
    Ok(match name {
        "item.sku" => Field::ItemSku,
        "item.category" => Field::ItemCategory,
        "item.amount" => Field::ItemAmount,
        "item.quantity" => Field::ItemQuantity,
        _ => {
            let known = ITEM_FIELDS.join(", ");
            let message = format!("of an item there is no field `{name}`, only: {known}");
            return Err(Wrong::new("field", "unknown_field", message));
        }
    })
}

pub(super) fn field(name: &str) -> Result<Field, Wrong> {
    if let Some(metric) = Metric::named(name).filter(|m| *m != Metric::CampaignConversions) {
        return Ok(Field::Past(metric));
    }
    Ok(match name {
        "customer.ageDays" => Field::CustomerAgeDays,
        "link.id" => Field::LinkId,
        "click.ageSeconds" => Field::ClickAgeSeconds,
        "event.eventType" => Field::EventType,
        "event.amount" => Field::EventAmount,
        "event.currency" => Field::EventCurrency,
        "event.quantity" => Field::EventQuantity,
        "event.occurredAt" => Field::EventOccurredAt,
        "event.externalRef" => Field::EventExternalRef,
        "customer.id" => Field::CustomerId,
        "customer.country" => Field::CustomerCountry,
        "customer.status" => Field::CustomerStatus,
        "aktvator.id" => Field::AktvatorId,
        "aktvator.country" => Field::AktvatorCountry,
        "aktvator.status" => Field::AktvatorStatus,
        "aktvator.group" => Field::AktvatorGroup,
        "aktvator.tags" => Field::AktvatorTags,
        "aktvator.joinedAt" => Field::AktvatorJoinedAt,
        _ => match name.strip_prefix("event.metadata.") {
            Some(path) => Field::EventMetadata(metadata_path(path)?),
            None => return Err(unknown_field(name)),
        },
    })
}

fn metadata_path(path: &str) -> Result<Vec<String>, Wrong> {
    let names: Vec<String> = path.split('.').map(str::to_owned).collect();
    if names.len() > PATH_MAX || names.iter().any(String::is_empty) {
        let message = format!("a metadata path has 1 to {PATH_MAX} names");
        return Err(Wrong::new("field", "invalid_format", message));
    }
    Ok(names)
}

/// Fields of `domain.md` 4.4 that are not built yet are refused by name.
fn unknown_field(name: &str) -> Wrong {
    if name == "link.tags" || name.starts_with("click.") {
        return Wrong::new("field", "not_supported", format!("`{name}` is not supported yet"));
    }
    if name.starts_with("item.") || name.starts_with("event.items") {
        let message = "items are asked within `any_item`, `every_item` or `sum_items`";
        return Wrong::new("field", "unknown_field", message);
    }
    let message = format!("there is no field `{name}`, only: {}", FIELDS.join(", "));
    Wrong::new("field", "unknown_field", message)
}

/// The type of a field's values. Metadata takes the type of its literals.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Country,
    Integer,
    Time,
    Aktvator,
    Link,
    Texts,
    Any,
}

fn kind(field: &Field) -> Kind {
    match field {
        Field::EventAmount
        | Field::EventQuantity
        | Field::ItemAmount
        | Field::ItemQuantity
        | Field::ClickAgeSeconds
        | Field::CustomerAgeDays => Kind::Integer,
        Field::Past(Metric::CustomerFirstSeenAt)
        | Field::EventOccurredAt
        | Field::AktvatorJoinedAt => Kind::Time,
        Field::Past(_) => Kind::Integer,
        Field::CustomerCountry | Field::AktvatorCountry => Kind::Country,
        Field::AktvatorId => Kind::Aktvator,
        Field::LinkId => Kind::Link,
        Field::AktvatorTags => Kind::Texts,
        Field::EventMetadata(_) => Kind::Any,
        Field::EventType
        | Field::EventCurrency
        | Field::EventExternalRef
        | Field::CustomerId
        | Field::CustomerStatus
        | Field::ItemSku
        | Field::ItemCategory
        | Field::AktvatorStatus
        | Field::AktvatorGroup => Kind::Text,
    }
}

pub(super) fn test(field: &Field, op: &str, value: Option<&Value>) -> Result<Test, Wrong> {
    let kind = kind(field);
    if let "exists" | "not_exists" = op {
        if value.is_some() {
            return Err(Wrong::new("value", "unknown_field", format!("`{op}` takes no value")));
        }
        return Ok(Test::Exists(op == "exists"));
    }
    let needed = || value.ok_or_else(|| Wrong::new("value", "required", "is required"));
    match op {
        "eq" | "ne" => {
            let set = set(kind, op, std::slice::from_ref(needed()?))?;
            Ok(Test::OneOf { set, negated: op == "ne" })
        }
        "in" | "nin" => {
            let set = set(kind, op, items(needed()?, 1..=LITERALS_MAX)?)?;
            Ok(Test::OneOf { set, negated: op == "nin" })
        }
        "gt" | "gte" | "lt" | "lte" | "between" => range(kind, op, needed()?).map(Test::Within),
        "starts_with" | "ends_with" => {
            let text = piece(kind, op, needed()?)?;
            Ok(Test::Affix { text, at_end: op == "ends_with" })
        }
        "contains" | "not_contains" => {
            let text = piece(kind, op, needed()?)?;
            Ok(Test::Contains { text, negated: op == "not_contains" })
        }
        _ => {
            let message = format!("there is no operator `{op}`, only: {}", OPERATORS.join(", "));
            Err(Wrong::new("op", "invalid_choice", message))
        }
    }
}

fn items(value: &Value, len: std::ops::RangeInclusive<usize>) -> Result<&[Value], Wrong> {
    match value.as_array() {
        Some(items) if len.contains(&items.len()) => Ok(items),
        _ => {
            let message = format!("must be an array of {} to {} items", len.start(), len.end());
            Err(Wrong::new("value", "wrong_type", message))
        }
    }
}

fn set(kind: Kind, op: &str, values: &[Value]) -> Result<Set, Wrong> {
    match kind {
        Kind::Text => each(values, "a string", text).map(Set::Texts),
        Kind::Country => each(values, "a country of ISO 3166-1, like US", country).map(Set::Texts),
        Kind::Integer => each(values, "a whole number", Value::as_i64).map(Set::Integers),
        Kind::Time => each(values, "an RFC 3339 time", time).map(Set::Times),
        Kind::Aktvator => each(values, "an aktvator's id", aktvator).map(Set::Ids),
        Kind::Link => each(values, "a link's id", link).map(Set::Ids),
        Kind::Texts => Err(mismatch(op, "a list of texts")),
        Kind::Any => match values.first() {
            Some(Value::String(_)) => each(values, "a string", text).map(Set::Texts),
            Some(Value::Bool(_)) => each(values, "true or false", Value::as_bool).map(Set::Bools),
            _ => {
                let what = "a string, a whole number, true or false, all of one type";
                each(values, what, Value::as_i64).map(Set::Integers)
            }
        },
    }
}

/// All `values` read by `read`, or none.
fn each<T>(
    values: &[Value],
    what: &str,
    read: impl Fn(&Value) -> Option<T>,
) -> Result<Vec<T>, Wrong> {
    let read: Option<Vec<T>> = values.iter().map(read).collect();
    read.ok_or_else(|| Wrong::new("value", "type_mismatch", format!("must be {what}")))
}

fn text(value: &Value) -> Option<String> {
    value.as_str().filter(|text| text.len() <= LITERAL_LEN_MAX).map(str::to_owned)
}

fn country(value: &Value) -> Option<String> {
    let upper = |text: &String| text.len() == 2 && text.bytes().all(|c| c.is_ascii_uppercase());
    text(value).filter(upper)
}

fn time(value: &Value) -> Option<i64> {
    value.as_str()?.parse::<Timestamp>().ok().map(Timestamp::as_ms)
}

fn aktvator(value: &Value) -> Option<u128> {
    value.as_str()?.parse::<AktvatorId>().ok().map(AktvatorId::to_u128)
}

fn link(value: &Value) -> Option<u128> {
    value.as_str()?.parse::<LinkId>().ok().map(LinkId::to_u128)
}

fn mismatch(op: &str, what: &str) -> Wrong {
    Wrong::new("op", "type_mismatch", format!("`{op}` does not apply to {what}"))
}

fn range(kind: Kind, op: &str, value: &Value) -> Result<Range, Wrong> {
    let bounds = match op {
        "between" => items(value, 2..=2)?,
        _ => std::slice::from_ref(value),
    };
    match kind {
        Kind::Integer => integers(op, bounds),
        Kind::Time => times(op, bounds),
        Kind::Any => match bounds.first() {
            Some(Value::Number(_)) => integers(op, bounds),
            Some(value) if time(value).is_some() => times(op, bounds),
            _ => {
                let read = |value: &Value| value.as_str()?.parse().ok();
                let what = "a whole number, a decimal number as a string, or an RFC 3339 time";
                Ok(Range::Decimals(ends(op, each(bounds, what, read)?)?))
            }
        },
        Kind::Text | Kind::Country => Err(mismatch(op, "text")),
        Kind::Aktvator | Kind::Link => Err(mismatch(op, "an id")),
        Kind::Texts => Err(mismatch(op, "a list of texts")),
    }
}

fn integers(op: &str, bounds: &[Value]) -> Result<Range, Wrong> {
    Ok(Range::Integers(ends(op, each(bounds, "a whole number", Value::as_i64)?)?))
}

fn times(op: &str, bounds: &[Value]) -> Result<Range, Wrong> {
    Ok(Range::Times(ends(op, each(bounds, "an RFC 3339 time", time)?)?))
}

fn ends<T: Ord + Copy>(op: &str, bounds: Vec<T>) -> Result<Ends<T>, Wrong> {
    let ends = match (op, bounds.as_slice()) {
        ("gt", &[low]) => Ends { low: Some((low, false)), high: None },
        ("gte", &[low]) => Ends { low: Some((low, true)), high: None },
        ("lt", &[high]) => Ends { low: None, high: Some((high, false)) },
        ("lte", &[high]) => Ends { low: None, high: Some((high, true)) },
        (_, &[low, high]) if low <= high => {
            Ends { low: Some((low, true)), high: Some((high, true)) }
        }
        _ => {
            let message = "the first bound must not be above the second";
            return Err(Wrong::new("value", "out_of_range", message));
        }
    };
    Ok(ends)
}

fn piece(kind: Kind, op: &str, value: &Value) -> Result<String, Wrong> {
    let applies = match kind {
        Kind::Text | Kind::Country | Kind::Any => true,
        Kind::Texts => matches!(op, "contains" | "not_contains"),
        Kind::Integer | Kind::Time | Kind::Aktvator | Kind::Link => false,
    };
    if !applies {
        return Err(mismatch(op, "this field"));
    }
    text(value)
        .filter(|text| !text.is_empty())
        .ok_or_else(|| Wrong::new("value", "type_mismatch", "must be a string that is not empty"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_fault_names_is_there() {
        for name in FIELDS {
            assert!(field(&name.replace(['<', '>'], "")).is_ok(), "{name}");
        }
        for name in ITEM_FIELDS {
            assert!(item_field(name).is_ok(), "{name}");
        }
        for op in OPERATORS {
            let wrong = test(&Field::EventType, op, None).err();
            assert!(wrong.is_none_or(|wrong| wrong.code != "invalid_choice"), "{op}");
        }
    }
}
