//! Conditions: a small tree, in the strict three-valued logic of `domain.md` 4.4.
//!
//! A leaf whose field is missing or of another type is *unknown*, for every operator but `exists` and
//! `not_exists`. `not` unknown is unknown; `all` is false if any is false; `any` is true if any is
//! true (Kleene's strong logic). At the top, unknown is no match: money fails closed, even under
//! `not`.

use crate::decimal::Decimal;
use crate::facts::{Facts, Field, Value};

/// True, false, or (`None`) unknown.
pub(crate) type Truth = Option<bool>;

/// A condition over [`Facts`].
#[derive(Clone, Debug)]
pub(crate) enum Condition {
    /// True if there is nothing in it.
    All(Vec<Condition>),
    Any(Vec<Condition>),
    Not(Box<Condition>),
    Leaf(Field, Test),
}

/// What is asked of a field, with its literals already typed.
#[derive(Clone, Debug)]
pub(crate) enum Test {
    /// `exists`, or (`false`) `not_exists`. An empty list is there, and holds nothing.
    Exists(bool),
    /// `eq`, `in` and, negated, `ne`, `nin`.
    OneOf { set: Set, negated: bool },
    /// `gt gte lt lte between`: both ends inclusive where present and not marked otherwise.
    Within(Range),
    /// `starts_with`, `ends_with`.
    Affix { text: String, at_end: bool },
    /// `contains` and, negated, `not_contains`: a piece of a text, or an item of a list.
    Contains { text: String, negated: bool },
}

/// Literals of one type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Set {
    Texts(Vec<String>),
    Integers(Vec<i64>),
    Times(Vec<i64>),
    Bools(Vec<bool>),
    Ids(Vec<u128>),
}

/// A range of one type.
#[derive(Clone, Debug)]
pub(crate) enum Range {
    Integers(Ends<i64>),
    /// Milliseconds since the epoch.
    Times(Ends<i64>),
    /// Texts of digits, in order of what they stand for.
    Decimals(Ends<Decimal>),
}

/// The ends of a range, each with whether it is itself inside.
#[derive(Clone, Debug)]
pub(crate) struct Ends<T> {
    pub(crate) low: Option<(T, bool)>,
    pub(crate) high: Option<(T, bool)>,
}

impl Condition {
    /// Does the condition hold? Unknown is no.
    pub(crate) fn holds(&self, facts: &Facts<'_>) -> bool {
        self.truth(facts) == Some(true)
    }

    fn truth(&self, facts: &Facts<'_>) -> Truth {
        match self {
            Self::All(parts) => fold(parts, facts, false),
            Self::Any(parts) => fold(parts, facts, true),
            Self::Not(part) => part.truth(facts).map(|truth| !truth),
            Self::Leaf(field, test) => test.truth(facts.value(field)),
        }
    }
}

/// `decisive` if any part is, else unknown if any is, else the opposite.
fn fold(parts: &[Condition], facts: &Facts<'_>, decisive: bool) -> Truth {
    let mut truth = Some(!decisive);
    for part in parts {
        match part.truth(facts) {
            Some(found) if found == decisive => return Some(decisive),
            Some(_) => {}
            None => truth = None,
        }
    }
    truth
}

impl Test {
    pub(crate) fn truth(&self, value: Option<Value<'_>>) -> Truth {
        if let Self::Exists(wanted) = self {
            return Some(value.is_some() == *wanted);
        }
        let value = value?;
        match self {
            Self::Exists(_) => None,
            Self::OneOf { set, negated } => set.has(value).map(|found| found != *negated),
            Self::Within(range) => range.has(value),
            Self::Affix { text, at_end: false } => {
                as_text(value).map(|whole| whole.starts_with(text))
            }
            Self::Affix { text, at_end: true } => as_text(value).map(|whole| whole.ends_with(text)),
            Self::Contains { text, negated } => {
                contains(value, text).map(|found| found != *negated)
            }
        }
    }
}

fn as_text(value: Value<'_>) -> Option<&str> {
    match value {
        Value::Text(text) => Some(text),
        _ => None,
    }
}

/// Of a list whose items are not all texts nothing is known.
fn contains(value: Value<'_>, wanted: &str) -> Truth {
    match value {
        Value::Text(text) => Some(text.contains(wanted)),
        Value::Texts(texts) => Some(texts.iter().any(|text| text == wanted)),
        Value::Other(json) => {
            let items = json.as_array()?;
            let texts: Option<Vec<_>> = items.iter().map(|item| item.as_str()).collect();
            Some(texts?.contains(&wanted))
        }
        _ => None,
    }
}

impl Set {
    fn has(&self, value: Value<'_>) -> Truth {
        match (self, value) {
            (Self::Texts(set), Value::Text(value)) => Some(set.iter().any(|text| text == value)),
            (Self::Integers(set), Value::Integer(value)) => Some(set.contains(&value)),
            (Self::Times(set), Value::Time(value)) => Some(set.contains(&value)),
            (Self::Bools(set), Value::Bool(value)) => Some(set.contains(&value)),
            (Self::Ids(set), Value::Id(value)) => Some(set.contains(&value)),
            _ => None,
        }
    }
}

impl Range {
    /// Texts of the metadata count as times or decimals where the range is of those.
    fn has(&self, value: Value<'_>) -> Truth {
        match (self, value) {
            (Self::Integers(ends), Value::Integer(value)) => Some(ends.has(value)),
            (Self::Times(ends), Value::Time(value)) => Some(ends.has(value)),
            (Self::Times(ends), Value::Text(text)) => {
                let time: schemas::time::Timestamp = text.parse().ok()?;
                Some(ends.has(time.as_ms()))
            }
            (Self::Decimals(ends), Value::Text(text)) => Some(ends.has(text.parse().ok()?)),
            _ => None,
        }
    }
}

impl<T: Ord + Copy> Ends<T> {
    fn has(&self, value: T) -> bool {
        let above = |(low, inside): (T, bool)| value > low || (inside && value == low);
        let below = |(high, inside): (T, bool)| value < high || (inside && value == high);
        self.low.is_none_or(above) && self.high.is_none_or(below)
    }
}
