//! The settings of all sources laid over each other, each remembering where it came from.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeTable, DeValue, ValueDeserializer};

use super::Fault;

/// Where a setting was made.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// In a file, on a line (from 1).
    File(Arc<PathBuf>, usize),
    /// In an environment variable of this name.
    Env(String),
    /// On the command line.
    Flag,
    /// Nowhere: it is the default.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path, line) => write!(f, "{}:{line}", path.display()),
            Self::Env(name) => write!(f, "environment variable {name}"),
            Self::Flag => f.write_str("command line"),
            Self::Default => f.write_str("defaults"),
        }
    }
}

/// A setting, or a table of them.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) value: Value,
    pub(super) origin: Origin,
}

#[derive(Clone, Debug)]
pub(super) enum Value {
    Table(BTreeMap<String, Node>),
    Array(Vec<Node>),
    /// Neither table nor array; typed as TOML is.
    Scalar(toml::Value),
    /// Text whose type is whatever the setting's is.
    Loose(String),
}

impl Node {
    /// No settings.
    pub(super) fn root() -> Self {
        Self { value: Value::Table(BTreeMap::new()), origin: Origin::Default }
    }

    /// Puts `node` at `path`, over whatever is there.
    fn lay(&mut self, path: &[&str], node: Self) {
        let Some((first, rest)) = path.split_first() else {
            *self = node;
            return;
        };
        if !matches!(self.value, Value::Table(_)) {
            self.value = Value::Table(BTreeMap::new());
            self.origin = node.origin.clone();
        }
        if let Value::Table(table) = &mut self.value {
            let fresh =
                || Self { value: Value::Table(BTreeMap::new()), origin: node.origin.clone() };
            table.entry((*first).to_owned()).or_insert_with(fresh).lay(rest, node);
        }
    }

    /// Takes out what is at `path`; `false` where nothing is.
    pub(super) fn remove(&mut self, path: &[String]) -> bool {
        let Some((first, rest)) = path.split_first() else { return false };
        match &mut self.value {
            Value::Table(table) if rest.is_empty() => table.remove(first).is_some(),
            Value::Table(table) => table.get_mut(first).is_some_and(|node| node.remove(rest)),
            // An element has no name to be taken out by: the whole array goes.
            Value::Array(_) | Value::Scalar(_) | Value::Loose(_) => false,
        }
    }
}

/// Reads the text of `path`; where it is not TOML, every syntax error.
pub(super) fn from_file(path: &Path, text: &str) -> Result<Node, Vec<Fault>> {
    let file = File { path: Arc::new(path.into()), text };
    let (table, errors) = DeTable::parse_recoverable(text);
    if errors.is_empty() {
        return Ok(file.table(table.into_inner(), 0));
    }
    let fault = |error: &toml::de::Error| Fault {
        origin: file.origin(error.span().map_or(0, |span| span.start)),
        key: String::new(),
        problem: format!("not valid TOML: {}", error.message()),
    };
    let mut faults: Vec<Fault> = errors.iter().map(fault).collect();
    faults.sort();
    Err(faults)
}

struct File<'a> {
    path: Arc<PathBuf>,
    text: &'a str,
}

impl File<'_> {
    fn origin(&self, offset: usize) -> Origin {
        let before = &self.text.as_bytes()[..offset.min(self.text.len())];
        Origin::File(Arc::clone(&self.path), 1 + before.iter().filter(|b| **b == b'\n').count())
    }

    fn table(&self, table: DeTable<'_>, offset: usize) -> Node {
        let node = |(key, value): (Spanned<_>, Spanned<_>)| {
            let offset = key.span().start;
            (std::borrow::Cow::into_owned(key.into_inner()), self.value(value, offset))
        };
        let table = table.into_iter().map(node).collect();
        Node { value: Value::Table(table), origin: self.origin(offset) }
    }

    /// `offset` is where the setting begins, which for a table is its key's first mention.
    fn value(&self, value: Spanned<DeValue<'_>>, offset: usize) -> Node {
        let span = value.span();
        let value = match value.into_inner() {
            DeValue::Table(table) => return self.table(table, offset),
            DeValue::Array(array) => {
                let element = |e: Spanned<DeValue<'_>>| {
                    let offset = e.span().start;
                    self.value(e, offset)
                };
                Value::Array(array.into_iter().map(element).collect())
            }
            scalar => {
                let text = || self.text.get(span.clone()).unwrap_or_default().to_owned();
                toml::Value::deserialize(ValueDeserializer::from(Spanned::new(
                    span.clone(),
                    scalar,
                )))
                .map_or_else(|_| Value::Loose(text()), Value::Scalar)
            }
        };
        Node { value, origin: self.origin(offset) }
    }
}

/// Lays the variable `name` over `tree`, if its name begins with `prefix` and two underscores.
pub(super) fn lay_env(tree: &mut Node, prefix: &str, name: String, value: String) {
    let Some(rest) = name.strip_prefix(prefix).and_then(|rest| rest.strip_prefix("__")) else {
        return;
    };
    let key = rest.to_ascii_lowercase();
    let path: Vec<&str> = key.split("__").collect();
    tree.lay(&path, Node { value: Value::Loose(value), origin: Origin::Env(name.clone()) });
}

/// Lays every value of `flags` over `tree`.
pub(super) fn lay_flags(tree: &mut Node, flags: toml::Table) {
    fn walk(tree: &mut Node, path: &mut Vec<String>, value: toml::Value) {
        if let toml::Value::Table(table) = value {
            for (key, value) in table {
                path.push(key);
                walk(tree, path, value);
                path.pop();
            }
            return;
        }
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        tree.lay(&path, typed(value, &Origin::Flag));
    }
    walk(tree, &mut Vec::new(), toml::Value::Table(flags));
}

/// `text` as an array, if it is to be one: TOML's, or parts with commas between.
pub(super) fn loose_array(text: &str, origin: &Origin) -> Node {
    if let Some(array @ toml::Value::Array(_)) = loose_scalar(text) {
        return typed(array, origin);
    }
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    let node = |part: &str| Node { value: Value::Loose(part.to_owned()), origin: origin.clone() };
    Node { value: Value::Array(parts.map(node).collect()), origin: origin.clone() }
}

/// `text` as a TOML value, if it is one.
pub(super) fn loose_scalar(text: &str) -> Option<toml::Value> {
    toml::Value::deserialize(ValueDeserializer::parse(text).ok()?).ok()
}

fn typed(value: toml::Value, origin: &Origin) -> Node {
    let value = match value {
        toml::Value::Array(array) => {
            Value::Array(array.into_iter().map(|element| typed(element, origin)).collect())
        }
        toml::Value::Table(table) => {
            Value::Table(table.into_iter().map(|(k, v)| (k, typed(v, origin))).collect())
        }
        toml::Value::String(text) => Value::Loose(text),
        scalar => Value::Scalar(scalar),
    };
    Node { value, origin: origin.clone() }
}
