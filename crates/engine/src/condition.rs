//! Conditions: a small tree, in the strict three-valued logic of `domain.md` 4.4.
//!
//! A leaf whose field is missing or of another type is *unknown*, for every operator but `exists` and
//! `not_exists`. `not` unknown is unknown; `all` is false if any is false; `any` is true if any is
//! true (Kleene's strong logic). At the top, unknown is no match: money fails closed, even under
//! `not`.

use schemas::proto;

use crate::decimal::Decimal;
use crate::facts::{Facts, Field, Value};
use crate::metric::Metric;

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
    /// True if the condition is true of an item; false if it is false of all, of which there must be one.
    AnyItem(Box<Condition>),
    /// True if the condition is true of all items, of which there must be one.
    EveryItem(Box<Condition>),
    /// What is asked of a sum over the items of which `filter` is true.
    SumItems {
        of: Summand,
        filter: Box<Condition>,
        test: Test,
    },
}

/// What of an item is summed up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Summand {
    Amount,
    Quantity,
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
        self.truth(facts, None) == Some(true)
    }

    /// Does it hold of this item?
    pub(crate) fn holds_of(&self, facts: &Facts<'_>, item: &proto::Item) -> bool {
        self.truth(facts, Some(item)) == Some(true)
    }

    /// Adds what it asks for of the past, each once.
    pub(crate) fn asks(&self, asked: &mut Vec<Metric>) {
        let metric = match self {
            Self::All(parts) | Self::Any(parts) => {
                parts.iter().for_each(|part| part.asks(asked));
                return;
            }
            Self::Not(part) => return part.asks(asked),
            Self::Leaf(Field::Past(metric), _) => *metric,
            Self::Leaf(Field::CustomerAgeDays, _) => Metric::CustomerFirstSeenAt,
            // Of items nothing of the past is asked.
            Self::Leaf(..) | Self::AnyItem(_) | Self::EveryItem(_) | Self::SumItems { .. } => {
                return;
            }
        };
        if !asked.contains(&metric) {
            asked.push(metric);
        }
    }

    fn truth(&self, facts: &Facts<'_>, item: Option<&proto::Item>) -> Truth {
        let items = &facts.conversion.event.items;
        let of_items = |part: &Self, decisive: bool| {
            let truths = items.iter().map(|item| part.truth(facts, Some(item)));
            if items.is_empty() { None } else { fold(truths, decisive) }
        };
        match self {
            Self::All(parts) => fold(parts.iter().map(|part| part.truth(facts, item)), false),
            Self::Any(parts) => fold(parts.iter().map(|part| part.truth(facts, item)), true),
            Self::Not(part) => part.truth(facts, item).map(|truth| !truth),
            Self::Leaf(field, test) => test.truth(facts.value(field, item)),
            Self::AnyItem(part) => of_items(part, true),
            Self::EveryItem(part) => of_items(part, false),
            Self::SumItems { of, filter, test } => {
                test.truth(Some(Value::Integer(sum(items, *of, facts, filter)?)))
            }
        }
    }
}

/// `decisive` if any is, else unknown if any is, else the opposite.
fn fold(truths: impl Iterator<Item = Truth>, decisive: bool) -> Truth {
    let mut truth = Some(!decisive);
    for found in truths {
        match found {
            Some(found) if found == decisive => return Some(decisive),
            Some(_) => {}
            None => truth = None,
        }
    }
    truth
}

/// Unknown where the event has no items, where one that counts lacks the figure, or where it is unknown
/// whether one counts.
fn sum(items: &[proto::Item], of: Summand, facts: &Facts<'_>, filter: &Condition) -> Option<i64> {
    let figure = |item: &proto::Item| match of {
        Summand::Amount => item.amount,
        Summand::Quantity => item.quantity,
    };
    let add = |sum: i64, item| match filter.truth(facts, Some(item))? {
        true => sum.checked_add(figure(item)?),
        false => Some(sum),
    };
    (!items.is_empty()).then(|| items.iter().try_fold(0, add)).flatten()
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
