//! The members of one JSON object on the tape: known names only, every fault noted, none twice.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use schemas::fault::Fault;

use crate::tape::{Children, Kind, Value};

/// Faults reported for one event; a body of nothing but faults must not be answered by megabytes.
const FAULTS_MAX: usize = 100;
/// Bytes of a member's name that a fault repeats.
const NAME_SHOWN: usize = 100;

/// Where a value stands in the body; displays as a JSON pointer (RFC 6901).
#[derive(Clone, Copy)]
pub(crate) enum At<'a> {
    Root,
    Member(&'a At<'a>, &'a str),
    Element(&'a At<'a>, usize),
}

impl fmt::Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => Ok(()),
            Self::Member(parent, name) => {
                let end = name.floor_char_boundary(NAME_SHOWN);
                write!(f, "{parent}/{}", name[..end].replace('~', "~0").replace('/', "~1"))
            }
            Self::Element(parent, index) => write!(f, "{parent}/{index}"),
        }
    }
}

/// What is wrong with one event.
#[derive(Default)]
pub(crate) struct Faults(Vec<Fault>);

impl Faults {
    /// Notes a fault at `at`.
    #[cold]
    pub(crate) fn note(&mut self, at: At<'_>, code: &'static str, message: impl Into<String>) {
        if self.0.len() < FAULTS_MAX {
            self.0.push(Fault::new(at.to_string(), code, message));
        }
    }

    /// Is there none?
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All of them, in the order found.
    pub(crate) fn into_vec(self) -> Vec<Fault> {
        self.0
    }
}

/// The members of an object whose names are known. A `null` counts as absent.
pub(crate) struct Fields<'t, 'i, 'a, const N: usize> {
    names: &'static [&'static str; N],
    values: [Option<Value<'t, 'i>>; N],
    at: At<'a>,
}

impl<'t, 'i, 'a, const N: usize> Fields<'t, 'i, 'a, N> {
    /// Reads the object `value` at `at`; notes `wrong_type` unless it is one, and each
    /// `unknown_field` and `duplicate_key`.
    pub(crate) fn of(
        value: Value<'t, 'i>,
        names: &'static [&'static str; N],
        at: At<'a>,
        faults: &mut Faults,
    ) -> Self {
        let mut fields = Self { names, values: [None; N], at };
        match value.kind() {
            Kind::Object(children) => fields.sort(children, faults),
            _ => faults.note(at, "wrong_type", "must be an object"),
        }
        fields
    }

    fn sort(&mut self, children: Children<'t, 'i>, faults: &mut Faults) {
        for (key, value) in children.members() {
            let at = At::Member(&self.at, key);
            match self.names.iter().position(|name| *name == key) {
                None => faults.note(at, "unknown_field", "is not a known field"),
                Some(slot) if self.values[slot].is_some() => {
                    faults.note(at, "duplicate_key", "stands more than once");
                }
                Some(slot) => self.values[slot] = Some(value),
            }
        }
    }

    /// The member `name`, unless absent or null.
    pub(crate) fn get(&self, name: &'static str) -> Option<Value<'t, 'i>> {
        let slot = self.names.iter().position(|known| *known == name);
        debug_assert!(slot.is_some(), "{name} is not a field of this object");
        self.values[slot?].filter(|value| !value.is_null())
    }

    /// Notes `required` where member `name` is absent.
    pub(crate) fn require(&self, name: &'static str, faults: &mut Faults) {
        if self.get(name).is_none() {
            faults.note(At::Member(&self.at, name), "required", "is required");
        }
    }

    /// A string of `len` bytes without U+0000.
    pub(crate) fn text(
        &self,
        name: &'static str,
        len: RangeInclusive<usize>,
        faults: &mut Faults,
    ) -> Option<&'i str> {
        let at = At::Member(&self.at, name);
        let Some(text) = self.get(name)?.text() else {
            faults.note(at, "wrong_type", "must be a string");
            return None;
        };
        if !len.contains(&text.len()) {
            let message = format!("must have {} to {} bytes", len.start(), len.end());
            faults.note(at, "out_of_range", message);
            return None;
        }
        if text.contains('\0') {
            faults.note(at, "nul_character", "holds U+0000");
            return None;
        }
        Some(text)
    }

    /// A whole number within `range`.
    pub(crate) fn integer(
        &self,
        name: &'static str,
        range: RangeInclusive<i64>,
        faults: &mut Faults,
    ) -> Option<i64> {
        let at = At::Member(&self.at, name);
        let out_of_range = match self.get(name)?.kind() {
            Kind::Integer(n) if range.contains(&n) => return Some(n),
            Kind::Integer(_) | Kind::Large => true,
            Kind::Float(n) => n.abs() >= TWO_POW_63,
            _ => false,
        };
        if out_of_range {
            let message = format!("must be from {} to {}", range.start(), range.end());
            faults.note(at, "out_of_range", message);
        } else {
            faults.note(at, "wrong_type", "must be a whole number");
        }
        None
    }

    /// A string that reads as a `T`.
    pub(crate) fn parsed<T>(&self, name: &'static str, faults: &mut Faults) -> Option<T>
    where
        T: FromStr,
        T::Err: fmt::Display,
    {
        let text = self.text(name, 1..=PARSED_BYTES_MAX, faults)?;
        match text.parse() {
            Ok(parsed) => Some(parsed),
            Err(error) => {
                let error: T::Err = error;
                faults.note(At::Member(&self.at, name), "invalid_format", error.to_string());
                None
            }
        }
    }

    /// Appends what was given, in the order of the known names and not of the source: name's place,
    /// type, length and bytes of each string and number. Objects and arrays are the caller's.
    pub(crate) fn canonical(&self, out: &mut Vec<u8>) {
        for (place, value) in (0u8..).zip(&self.values) {
            match value.map(Value::kind) {
                Some(Kind::Text(text)) => {
                    out.extend_from_slice(&[place, b's']);
                    out.extend_from_slice(&(text.len() as u64).to_le_bytes());
                    out.extend_from_slice(text.as_bytes());
                }
                Some(Kind::Integer(n)) => {
                    out.extend_from_slice(&[place, b'i']);
                    out.extend_from_slice(&n.to_le_bytes());
                }
                _ => {}
            }
        }
    }
}

/// From here on a float cannot hold a whole number of 64 bits.
pub(crate) const TWO_POW_63: f64 = 9_223_372_036_854_775_808.0;
/// Bytes of a string that is parsed: ids, times and currencies are far shorter.
const PARSED_BYTES_MAX: usize = 100;
