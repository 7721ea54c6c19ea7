//! Reads client JSON strictly, and reports every fault at once.
//!
//! [`parse`] turns bytes into a value: UTF-8, no duplicate keys, no NUL, bounded depth. [`Fields`] walks an
//! object: each accessor notes what is missing or wrong and goes on, and [`Fields::finish`] notes what
//! nobody asked for. A `null` counts as absent.
//!
//! ```
//! use schemas::input::{Fields, parse};
//! let value = parse(br#"{"name": "", "extra": 1}"#).expect("well-formed");
//! let mut faults = Vec::new();
//! let mut fields = Fields::of(&value, "", &mut faults);
//! let name = fields.text("name", 1..=200);
//! fields.finish();
//! assert_eq!(name, None);
//! assert_eq!(faults.len(), 2);
//! ```

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use serde::de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use crate::fault::Fault;

/// Levels of nesting that [`parse`] takes; the rulebook, the deepest input, needs ten.
pub const DEPTH_MAX: usize = 32;

/// A JSON value from `bytes`.
///
/// # Errors
/// One fault, at the path of the body, where the bytes are not JSON in UTF-8, nest deeper than
/// [`DEPTH_MAX`], repeat a key or hold a NUL character.
pub fn parse(bytes: &[u8]) -> Result<Value, Fault> {
    let malformed = |e: serde_json::Error| {
        let text = e.to_string();
        let (code, text) = match text.split_once("::") {
            Some((code @ ("duplicate_key" | "too_deep" | "nul_character"), rest)) => (
                match code {
                    "duplicate_key" => "duplicate_key",
                    "too_deep" => "too_deep",
                    _ => "nul_character",
                },
                rest.to_owned(),
            ),
            _ => ("malformed_json", text),
        };
        Fault::new("", code, text)
    };
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = Strict { depth: 0 }.deserialize(&mut reader).map_err(malformed)?;
    reader.end().map_err(malformed)?;
    Ok(value)
}

/// Builds a [`Value`], refusing what `serde_json` lets pass.
struct Strict {
    depth: usize,
}

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: serde::Deserializer<'de>>(self, d: D) -> Result<Value, D::Error> {
        if self.depth > DEPTH_MAX {
            return Err(D::Error::custom(format_args!(
                "too_deep::more than {DEPTH_MAX} levels of nesting"
            )));
        }
        d.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, v: bool) -> Result<Value, E> {
        Ok(Value::Bool(v))
    }

    fn visit_i64<E>(self, v: i64) -> Result<Value, E> {
        Ok(Value::Number(v.into()))
    }

    fn visit_u64<E>(self, v: u64) -> Result<Value, E> {
        Ok(Value::Number(v.into()))
    }

    fn visit_f64<E>(self, v: f64) -> Result<Value, E> {
        Ok(Number::from_f64(v).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E: serde::de::Error>(self, v: &str) -> Result<Value, E> {
        no_nul(v)?;
        Ok(Value::String(v.to_owned()))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element_seed(Strict { depth: self.depth + 1 })? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut members = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            no_nul(&key)?;
            let value = map.next_value_seed(Strict { depth: self.depth + 1 })?;
            if members.contains_key(&key) {
                return Err(A::Error::custom(format_args!("duplicate_key::{key:?} stands twice")));
            }
            members.insert(key, value);
        }
        Ok(Value::Object(members))
    }
}

fn no_nul<E: serde::de::Error>(text: &str) -> Result<(), E> {
    if text.contains('\0') {
        return Err(E::custom("nul_character::a string holds U+0000"));
    }
    Ok(())
}

/// The members of one JSON object, each to be asked for once.
pub struct Fields<'v, 'f> {
    members: Option<&'v Map<String, Value>>,
    path: String,
    asked: Vec<&'static str>,
    faults: &'f mut Vec<Fault>,
}

impl<'v, 'f> Fields<'v, 'f> {
    /// The members of `value`, which stands at JSON pointer `path`. Where it is not an object that is
    /// noted, and every accessor then answers `None` without a further fault.
    pub fn of(value: &'v Value, path: impl Into<String>, faults: &'f mut Vec<Fault>) -> Self {
        let path = path.into();
        let members = value.as_object();
        if members.is_none() {
            faults.push(Fault::new(&path, "wrong_type", "must be an object"));
        }
        Self { members, path, asked: Vec::new(), faults }
    }

    /// The JSON pointer of member `name`.
    pub fn pointer(&self, name: &str) -> String {
        format!("{}/{}", self.path, name.replace('~', "~0").replace('/', "~1"))
    }

    /// Notes a fault of member `name`.
    pub fn fault(&mut self, name: &str, code: &'static str, message: impl Into<String>) {
        let fault = Fault::new(self.pointer(name), code, message);
        self.faults.push(fault);
    }

    /// Where faults go, for nested values.
    pub fn faults(&mut self) -> &mut Vec<Fault> {
        self.faults
    }

    /// Does member `name` stand there as `null`? Counts as asking for it.
    pub fn is_null(&mut self, name: &'static str) -> bool {
        self.asked.push(name);
        self.members.and_then(|members| members.get(name)).is_some_and(Value::is_null)
    }

    /// Has a fault of member `name` been noted?
    pub fn has_faults_at(&self, name: &str) -> bool {
        let pointer = self.pointer(name);
        self.faults.iter().any(|fault| fault.path == pointer)
    }

    /// Member `name` as it stands; `None` when absent or null.
    pub fn optional(&mut self, name: &'static str) -> Option<&'v Value> {
        self.asked.push(name);
        self.members?.get(name).filter(|v| !v.is_null())
    }

    /// Member `name`, which must be there.
    pub fn required(&mut self, name: &'static str) -> Option<&'v Value> {
        let value = self.optional(name);
        if value.is_none() && self.members.is_some() {
            self.fault(name, "required", "is required");
        }
        value
    }

    /// A string of `len` bytes; required.
    pub fn text(&mut self, name: &'static str, len: RangeInclusive<usize>) -> Option<&'v str> {
        let value = self.required(name)?;
        self.as_text(name, value, len)
    }

    /// A string of `len` bytes, or none.
    pub fn optional_text(
        &mut self,
        name: &'static str,
        len: RangeInclusive<usize>,
    ) -> Option<&'v str> {
        let value = self.optional(name)?;
        self.as_text(name, value, len)
    }

    fn as_text(
        &mut self,
        name: &'static str,
        value: &'v Value,
        len: RangeInclusive<usize>,
    ) -> Option<&'v str> {
        let Some(text) = value.as_str() else {
            self.fault(name, "wrong_type", "must be a string");
            return None;
        };
        if !len.contains(&text.len()) {
            let message = format!("must have {} to {} bytes", len.start(), len.end());
            self.fault(name, "out_of_range", message);
            return None;
        }
        Some(text)
    }

    /// An integer within `range`; required.
    pub fn integer(&mut self, name: &'static str, range: RangeInclusive<i64>) -> Option<i64> {
        let value = self.required(name)?;
        self.as_integer(name, value, range)
    }

    /// An integer within `range`, or none.
    pub fn optional_integer(
        &mut self,
        name: &'static str,
        range: RangeInclusive<i64>,
    ) -> Option<i64> {
        let value = self.optional(name)?;
        self.as_integer(name, value, range)
    }

    fn as_integer(
        &mut self,
        name: &'static str,
        value: &Value,
        range: RangeInclusive<i64>,
    ) -> Option<i64> {
        let Some(number) = value.as_i64() else {
            self.fault(name, "wrong_type", "must be a whole number that fits 64 bits");
            return None;
        };
        if !range.contains(&number) {
            let message = format!("must be from {} to {}", range.start(), range.end());
            self.fault(name, "out_of_range", message);
            return None;
        }
        Some(number)
    }

    /// `true` or `false`, or none.
    pub fn optional_bool(&mut self, name: &'static str) -> Option<bool> {
        let value = self.optional(name)?;
        let read = value.as_bool();
        if read.is_none() {
            self.fault(name, "wrong_type", "must be true or false");
        }
        read
    }

    /// A string that reads as a `T` (an id, a time, a currency); required.
    pub fn parsed<T>(&mut self, name: &'static str) -> Option<T>
    where
        T: FromStr,
        T::Err: fmt::Display,
    {
        let value = self.required(name)?;
        self.as_parsed(name, value)
    }

    /// A string that reads as a `T`, or none.
    pub fn optional_parsed<T>(&mut self, name: &'static str) -> Option<T>
    where
        T: FromStr,
        T::Err: fmt::Display,
    {
        let value = self.optional(name)?;
        self.as_parsed(name, value)
    }

    fn as_parsed<T>(&mut self, name: &'static str, value: &'v Value) -> Option<T>
    where
        T: FromStr,
        T::Err: fmt::Display,
    {
        let text = self.as_text(name, value, 0..=4096)?;
        match text.parse() {
            Ok(parsed) => Some(parsed),
            Err(error) => {
                self.fault(name, "invalid_format", error.to_string());
                None
            }
        }
    }

    /// One of `choices`, or none.
    pub fn optional_choice<T: Copy>(
        &mut self,
        name: &'static str,
        choices: &[(&'static str, T)],
    ) -> Option<T> {
        let value = self.optional(name)?;
        let found = choices.iter().find(|(text, _)| value.as_str() == Some(text));
        if found.is_none() {
            let names: Vec<_> = choices.iter().map(|(text, _)| *text).collect();
            self.fault(name, "invalid_choice", format!("must be one of: {}", names.join(", ")));
        }
        found.map(|(_, choice)| *choice)
    }

    /// An array of `len` items with the pointer of each, or none.
    pub fn optional_array(
        &mut self,
        name: &'static str,
        len: RangeInclusive<usize>,
    ) -> Option<Vec<(String, &'v Value)>> {
        let value = self.optional(name)?;
        let Some(items) = value.as_array() else {
            self.fault(name, "wrong_type", "must be an array");
            return None;
        };
        if !len.contains(&items.len()) {
            let message = format!("must have {} to {} items", len.start(), len.end());
            self.fault(name, "out_of_range", message);
            return None;
        }
        let pointer = self.pointer(name);
        Some(items.iter().enumerate().map(|(i, v)| (format!("{pointer}/{i}"), v)).collect())
    }

    /// An array of strings of `each` bytes, or none.
    pub fn optional_texts(
        &mut self,
        name: &'static str,
        len: RangeInclusive<usize>,
        each: RangeInclusive<usize>,
    ) -> Option<Vec<&'v str>> {
        let items = self.optional_array(name, len)?;
        let mut texts = Vec::with_capacity(items.len());
        for (path, value) in items {
            match value.as_str().filter(|text| each.contains(&text.len())) {
                Some(text) => texts.push(text),
                None => {
                    let message =
                        format!("must be a string of {} to {} bytes", each.start(), each.end());
                    self.faults.push(Fault::new(path, "wrong_type", message));
                }
            }
        }
        Some(texts)
    }

    /// Refuses member `name` by name, when it is there and not null: the grammar has it, this version
    /// has not.
    pub fn unsupported(&mut self, name: &'static str) {
        if self.optional(name).is_some() {
            self.fault(name, "not_supported", format!("`{name}` is not supported yet"));
        }
    }

    /// Notes every member that nobody asked for.
    pub fn finish(self) {
        let Some(members) = self.members else { return };
        for name in members.keys().filter(|name| !self.asked.contains(&name.as_str())) {
            let path = format!("{}/{}", self.path, name.replace('~', "~0").replace('/', "~1"));
            self.faults.push(Fault::new(path, "unknown_field", "is not a known field"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_parse_refuses() {
        let deep = "[".repeat(50_000) + &"]".repeat(50_000);
        let cases: [(&[u8], &str); 9] = [
            (b"", "malformed_json"),
            (b"{", "malformed_json"),
            (b"{} {}", "malformed_json"),
            (b"01", "malformed_json"),
            (b"1e999", "malformed_json"),
            (b"\"\xff\"", "malformed_json"),
            (br#"{"a":1,"a":2}"#, "duplicate_key"),
            (br#"{"a":"\u0000"}"#, "nul_character"),
            (deep.as_bytes(), "too_deep"),
        ];
        for (bytes, code) in cases {
            let fault = parse(bytes).expect_err("must be refused");
            assert_eq!(
                fault.code,
                code,
                "{}",
                String::from_utf8_lossy(&bytes[..bytes.len().min(40)])
            );
        }
    }

    #[test]
    fn every_fault_at_once() {
        let value = parse(br#"{"a":"x","b":"7","c":null,"d":11,"e~/":1}"#).expect("well-formed");
        let mut faults = Vec::new();
        let mut fields = Fields::of(&value, "/in", &mut faults);
        assert_eq!(fields.text("a", 1..=5), Some("x"));
        assert_eq!(fields.optional_integer("b", 0..=9), None);
        assert_eq!(fields.text("c", 1..=5), None);
        assert_eq!(fields.integer("d", 0..=9), None);
        fields.finish();
        let seen: Vec<_> = faults.iter().map(|f| (f.path.as_str(), f.code.as_ref())).collect();
        assert_eq!(
            seen,
            [
                ("/in/b", "wrong_type"),
                ("/in/c", "required"),
                ("/in/d", "out_of_range"),
                ("/in/e~0~1", "unknown_field"),
            ]
        );
    }
}
