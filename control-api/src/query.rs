//! Query strings, read as strictly as bodies: every fault at once, unknown names refused.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use schemas::fault::{ApiError, Fault};

use crate::route::Parameter;

/// Items of a page when the caller does not say.
const LIMIT_DEFAULT: usize = 25;
/// Items of a page.
const LIMIT_MAX: usize = 100;
/// Values of one filter.
const FILTER_VALUES_MAX: usize = 50;

/// The parameters of one request, and what is wrong with them.
#[derive(Debug, Default)]
pub(crate) struct Query {
    values: BTreeMap<String, String>,
    faults: Vec<Fault>,
}

/// A filter: the values wanted, or with `-` in front the values not wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Filter<T> {
    pub(crate) values: Vec<T>,
    pub(crate) exclude: bool,
}

impl<T: PartialEq> Filter<T> {
    /// Does something with `value` pass?
    pub(crate) fn admits(&self, value: &T) -> bool {
        self.values.contains(value) != self.exclude
    }
}

/// Which page of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PageAsked {
    pub(crate) limit: usize,
    pub(crate) after: Option<String>,
    pub(crate) before: Option<String>,
}

impl Query {
    /// The parameters in `raw`, of which only those in `known` may be there.
    pub(crate) fn parse(raw: &str, known: &[Parameter]) -> Self {
        let mut query = Self::default();
        for pair in raw.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            match (unescape(name), unescape(value)) {
                (Some(name), Some(value)) => query.add(name, value, known),
                _ => query.fault(name, "invalid_format", "must be percent-encoded UTF-8"),
            }
        }
        query
    }

    fn add(&mut self, name: String, value: String, known: &[Parameter]) {
        if !known.iter().any(|parameter| parameter.name == name) {
            self.fault(&name, "unknown_field", "is not a known parameter");
        } else if value.contains('\0') {
            self.fault(&name, "nul_character", "holds U+0000");
        } else if self.values.insert(name.clone(), value).is_some() {
            self.fault(&name, "duplicate_key", "stands twice; separate values by commas");
        }
    }

    /// Notes a fault of a parameter.
    pub(crate) fn fault(&mut self, name: &str, code: &'static str, message: impl Into<String>) {
        self.faults.push(Fault::new(name, code, message));
    }

    /// The text of a parameter; `None` when absent or empty.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str).filter(|text| !text.is_empty())
    }

    /// A parameter that reads as a `T`.
    pub(crate) fn parsed<T>(&mut self, name: &str) -> Option<T>
    where
        T: FromStr,
        T::Err: fmt::Display,
    {
        match self.text(name)?.parse() {
            Ok(value) => Some(value),
            Err(error) => {
                self.fault(name, "invalid_format", error.to_string());
                None
            }
        }
    }

    /// A whole number within `range`.
    pub(crate) fn integer(&mut self, name: &str, range: RangeInclusive<usize>) -> Option<usize> {
        let value = self.text(name)?.parse().ok().filter(|value| range.contains(value));
        if value.is_none() {
            let message =
                format!("must be a whole number from {} to {}", range.start(), range.end());
            self.fault(name, "out_of_range", message);
        }
        value
    }

    /// `true` or `false`; absent is `false`.
    pub(crate) fn flag(&mut self, name: &str) -> bool {
        match self.text(name) {
            None | Some("false") => false,
            Some("true") => true,
            Some(_) => {
                self.fault(name, "invalid_choice", "must be true or false");
                false
            }
        }
    }

    /// One of `choices`.
    pub(crate) fn choice<T: Copy>(&mut self, name: &str, choices: &[(&str, T)]) -> Option<T> {
        let text = self.text(name)?;
        let found = choices.iter().find(|(choice, _)| *choice == text).map(|(_, value)| *value);
        if found.is_none() {
            let names: Vec<_> = choices.iter().map(|(choice, _)| *choice).collect();
            self.fault(name, "invalid_choice", format!("must be one of: {}", names.join(", ")));
        }
        found
    }

    /// Values separated by commas; with `-` in front of the first, what is not wanted.
    pub(crate) fn filter<T>(&mut self, name: &str) -> Option<Filter<T>>
    where
        T: FromStr,
        T::Err: fmt::Display,
    {
        let text = self.text(name)?.to_owned();
        let (text, exclude) = match text.strip_prefix('-') {
            Some(rest) => (rest, true),
            None => (text.as_str(), false),
        };
        if text.split(',').count() > FILTER_VALUES_MAX {
            self.fault(name, "out_of_range", format!("may have {FILTER_VALUES_MAX} values"));
            return None;
        }
        let mut values = Vec::new();
        for value in text.split(',') {
            match value.parse::<T>() {
                Ok(value) => values.push(value),
                Err(error) => self.fault(name, "invalid_format", error.to_string()),
            }
        }
        Some(Filter { values, exclude })
    }

    /// `limit`, `startingAfter` and `endingBefore`, the two being ids of listed things.
    pub(crate) fn page<T>(&mut self) -> PageAsked
    where
        T: FromStr,
        T::Err: fmt::Display,
    {
        let limit = self.integer("limit", 1..=LIMIT_MAX).unwrap_or(LIMIT_DEFAULT);
        let _: (Option<T>, Option<T>) = (self.parsed("startingAfter"), self.parsed("endingBefore"));
        let id = |name| self.text(name).map(str::to_owned);
        let (after, before) = (id("startingAfter"), id("endingBefore"));
        if after.is_some() && before.is_some() {
            self.fault("endingBefore", "invalid_choice", "cannot stand beside startingAfter");
        }
        PageAsked { limit, after, before }
    }

    /// # Errors
    /// 400 with every fault that was noted.
    pub(crate) fn finish(&mut self) -> Result<(), ApiError> {
        if self.faults.is_empty() {
            return Ok(());
        }
        Err(ApiError::validation(std::mem::take(&mut self.faults)))
    }
}

/// Undoes `application/x-www-form-urlencoded`: `%XX` and `+`.
fn unescape(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'+' => out.push(b' '),
            b'%' => {
                let hex = |i: usize| char::from(*bytes.get(i)?).to_digit(16);
                out.push((hex(at + 1)? * 16 + hex(at + 2)?) as u8);
                at += 2;
            }
            byte => out.push(byte),
        }
        at += 1;
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::parameter;

    const KNOWN: &[Parameter] = &[
        parameter("limit", ""),
        parameter("status", ""),
        parameter("startingAfter", ""),
        parameter("endingBefore", ""),
    ];

    #[test]
    fn every_fault_at_once() {
        let mut query = Query::parse("limit=0&what=1&status=a&status=b&startingAfter=%zz", KNOWN);
        query.page::<String>();
        let error = query.finish().expect_err("has faults");
        let mut seen: Vec<_> =
            error.errors.iter().map(|f| (f.path.as_str(), f.code.as_ref())).collect();
        seen.sort_unstable();
        assert_eq!(
            seen,
            [
                ("limit", "out_of_range"),
                ("startingAfter", "invalid_format"),
                ("status", "duplicate_key"),
                ("what", "unknown_field"),
            ]
        );
    }

    #[test]
    fn filters() {
        let mut query = Query::parse("status=-a%2Cb,c+d", KNOWN);
        let filter: Filter<String> = query.filter("status").expect("a filter");
        assert_eq!(filter.values, ["a", "b", "c d"]);
        assert!(!filter.admits(&"a".to_owned()) && filter.admits(&"x".to_owned()));
    }
}
