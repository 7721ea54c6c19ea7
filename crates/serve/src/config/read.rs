//! From the tree of settings to a typed configuration, collecting every fault.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::collections::btree_map;
use std::fmt;

use serde::de::value::StrDeserializer;
use serde::de::{
    self, DeserializeOwned, DeserializeSeed, Deserializer, IntoDeserializer, MapAccess, SeqAccess,
    Visitor,
};
use serde::forward_to_deserialize_any;

use super::tree::{self, Node, Origin, Value};
use super::{Fault, suggest};

/// Reads `T` out of `tree`.
///
/// Serde stops at the first wrong value. So what it stopped at is noted and taken out of the tree,
/// and the rest is read again with that setting's default, until nothing is wrong any more.
pub(super) fn read<T: DeserializeOwned>(mut tree: Node) -> Result<T, Vec<Fault>> {
    let faults = RefCell::new(BTreeSet::new());
    loop {
        let result = T::deserialize(Reader { node: &tree, path: Vec::new(), faults: &faults });
        match result {
            Ok(settings) if faults.borrow().is_empty() => return Ok(settings),
            Ok(_) => break,
            Err(stop) => {
                faults.borrow_mut().insert(stop.fault());
                if !tree.remove(&stop.path) {
                    break;
                }
            }
        }
    }
    Err(faults.into_inner().into_iter().collect())
}

/// What serde stopped at. The place is filled in by the innermost table.
#[derive(Debug)]
struct Stop {
    problem: String,
    path: Vec<String>,
    origin: Option<Origin>,
}

impl Stop {
    fn at(mut self, path: &[String], origin: &Origin) -> Self {
        if self.origin.is_none() {
            self.path = path.to_vec();
            self.origin = Some(origin.clone());
        }
        self
    }

    fn fault(&self) -> Fault {
        Fault {
            origin: self.origin.clone().unwrap_or(Origin::Default),
            key: self.path.join("."),
            problem: self.problem.clone(),
        }
    }
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.problem)
    }
}

impl std::error::Error for Stop {}

impl de::Error for Stop {
    fn custom<M: fmt::Display>(message: M) -> Self {
        Self { problem: message.to_string(), path: Vec::new(), origin: None }
    }
}

/// Serde's view of a node.
struct Reader<'a> {
    node: &'a Node,
    path: Vec<String>,
    faults: &'a RefCell<BTreeSet<Fault>>,
}

impl Reader<'_> {
    fn fields(&self, known: &[&str]) {
        let Value::Table(table) = &self.node.value else { return };
        for (key, node) in table.iter().filter(|(key, _)| !known.contains(&key.as_str())) {
            let key_path = [&self.path[..], std::slice::from_ref(key)].concat().join(".");
            let problem = suggest::unknown_key(key, known);
            let origin = node.origin.clone();
            self.faults.borrow_mut().insert(Fault { origin, key: key_path, problem });
        }
    }

    fn read_scalar<'de, V: Visitor<'de>>(value: toml::Value, visitor: V) -> Result<V::Value, Stop> {
        value.deserialize_any(visitor).map_err(|error| de::Error::custom(error.message()))
    }
}

impl<'de> Deserializer<'de> for Reader<'_> {
    type Error = Stop;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        match &self.node.value {
            Value::Table(table) => visitor.visit_map(Entries::new(&self, table, None)),
            Value::Array(array) => {
                visitor.visit_seq(Elements { reader: &self, rest: array.iter() })
            }
            Value::Scalar(value) => Self::read_scalar(value.clone(), visitor),
            Value::Loose(text) => match tree::loose_scalar(text) {
                Some(value) => Self::read_scalar(value, visitor),
                None => visitor.visit_str(text),
            },
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        match &self.node.value {
            Value::Loose(text) => visitor.visit_str(text),
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Stop> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        match &self.node.value {
            Value::Loose(text) => {
                let node = tree::loose_array(text, &self.node.origin);
                Reader { node: &node, ..self }.deserialize_any(visitor)
            }
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Stop> {
        self.fields(fields);
        match &self.node.value {
            Value::Table(table) => visitor.visit_map(Entries::new(&self, table, Some(fields))),
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Stop> {
        match &self.node.value {
            Value::Loose(text) | Value::Scalar(toml::Value::String(text)) => {
                let variant: StrDeserializer<'_, Stop> = text.as_str().into_deserializer();
                visitor.visit_enum(variant)
            }
            _ => self.deserialize_any(visitor),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char bytes byte_buf unit unit_struct
        tuple tuple_struct map identifier ignored_any
    }
}

/// The entries of a table, of a struct only those it knows.
struct Entries<'a> {
    reader: &'a Reader<'a>,
    rest: btree_map::Iter<'a, String, Node>,
    known: Option<&'static [&'static str]>,
    value: Option<(&'a String, &'a Node)>,
}

impl<'a> Entries<'a> {
    fn new(
        reader: &'a Reader<'a>,
        table: &'a std::collections::BTreeMap<String, Node>,
        known: Option<&'static [&'static str]>,
    ) -> Self {
        Self { reader, rest: table.iter(), known, value: None }
    }
}

impl<'de> MapAccess<'de> for Entries<'_> {
    type Error = Stop;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Stop> {
        let known = self.known;
        self.value = self.rest.find(|(key, _)| known.is_none_or(|k| k.contains(&key.as_str())));
        let Some((key, _)) = self.value else { return Ok(None) };
        let key: StrDeserializer<'_, Stop> = key.as_str().into_deserializer();
        seed.deserialize(key).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Stop> {
        let Some((key, node)) = self.value.take() else {
            return Err(de::Error::custom("a value was asked for before its key"));
        };
        let mut path = self.reader.path.clone();
        path.push(key.clone());
        let reader = Reader { node, path: path.clone(), faults: self.reader.faults };
        seed.deserialize(reader).map_err(|stop| stop.at(&path, &node.origin))
    }
}

/// The elements of an array. What is wrong in one is told of the array.
struct Elements<'a> {
    reader: &'a Reader<'a>,
    rest: std::slice::Iter<'a, Node>,
}

impl<'de> SeqAccess<'de> for Elements<'_> {
    type Error = Stop;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Stop> {
        let Some(node) = self.rest.next() else { return Ok(None) };
        let path = self.reader.path.clone();
        let reader = Reader { node, path: path.clone(), faults: self.reader.faults };
        seed.deserialize(reader).map(Some).map_err(|stop| Stop {
            path,
            origin: Some(stop.origin.unwrap_or_else(|| node.origin.clone())),
            problem: stop.problem,
        })
    }
}
