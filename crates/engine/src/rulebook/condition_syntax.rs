//! Condition trees in a rulebook's JSON.

use schemas::input::Fields;
use serde_json::Value;

use super::syntax::nested;
use super::test_syntax::{Wrong, field, item_field, sum_test, test};
use super::{CONDITION_DEPTH_MAX, CONDITION_LEAVES_MAX};
use crate::condition::{Condition, Summand};

/// What makes a node, instead of a field.
const NODES: [&str; 6] = ["all", "any", "not", "any_item", "every_item", "sum_items"];
/// Reads the conditions of one rule, which share a number of leaves.
pub(super) struct Conditions {
    leaves: usize,
    /// Fields are those of an item.
    of_items: bool,
}

impl Conditions {
    pub(super) fn new() -> Self {
        Self { leaves: 0, of_items: false }
    }

    /// The condition on items under `name`.
    pub(super) fn read_of_items(
        &mut self,
        fields: &mut Fields<'_, '_>,
        name: &'static str,
    ) -> Option<Condition> {
        self.of_items = true;
        let condition = self.read(fields, name);
        self.of_items = false;
        condition
    }

    /// The condition under `name`; always true where it is absent, `None` where a fault was noted.
    pub(super) fn read(
        &mut self,
        fields: &mut Fields<'_, '_>,
        name: &'static str,
    ) -> Option<Condition> {
        let Some(value) = fields.optional(name) else { return Some(Condition::All(Vec::new())) };
        let leaves_before = self.leaves;
        let path = fields.pointer(name);
        let condition = self.node(&mut Fields::of(value, path, fields.faults()), value, 1);
        if self.leaves > CONDITION_LEAVES_MAX && leaves_before <= CONDITION_LEAVES_MAX {
            let message = format!("a rule may have at most {CONDITION_LEAVES_MAX} leaves");
            fields.fault(name, "too_many", message);
        }
        condition
    }

    fn node(
        &mut self,
        fields: &mut Fields<'_, '_>,
        value: &Value,
        depth: usize,
    ) -> Option<Condition> {
        let members = value.as_object()?;
        let kind = NODES.into_iter().find(|kind| members.contains_key(*kind));
        if depth > CONDITION_DEPTH_MAX || (kind.is_some() && depth == CONDITION_DEPTH_MAX) {
            let message = format!("conditions may have at most {CONDITION_DEPTH_MAX} levels");
            fields.fault(kind.unwrap_or("field"), "too_deep", message);
            return None;
        }
        for name in members.keys() {
            if kind.is_some_and(|kind| kind != name) {
                let nodes = NODES.join(", ");
                let message =
                    format!("one of: {nodes}; or field, op and value; alone in its object");
                fields.fault(name, "unknown_field", message);
            }
        }
        match kind {
            Some("all") => self.parts(fields, "all", 0, depth).map(Condition::All),
            Some("any") => self.parts(fields, "any", 1, depth).map(Condition::Any),
            Some("not") => self.within(fields, "not", depth).map(Condition::Not),
            Some(items) if self.of_items => {
                fields.fault(items, "contradiction", "is not for what is asked of an item");
                None
            }
            Some("any_item") => self.item(fields, "any_item", depth).map(Condition::AnyItem),
            Some("every_item") => self.item(fields, "every_item", depth).map(Condition::EveryItem),
            Some(_) => self.sum(fields),
            None => self.leaf(fields, members),
        }
    }

    fn parts(
        &mut self,
        fields: &mut Fields<'_, '_>,
        name: &'static str,
        least: usize,
        depth: usize,
    ) -> Option<Vec<Condition>> {
        if fields.optional(name).is_none() {
            fields.fault(name, "required", "is required");
        }
        let items = fields.optional_array(name, least..=CONDITION_LEAVES_MAX)?;
        // Every part is read, so that all faults are noted.
        let parts: Vec<_> = items
            .into_iter()
            .map(|(path, value)| {
                let mut part = Fields::of(value, path, fields.faults());
                self.node(&mut part, value, depth + 1)
            })
            .collect();
        parts.into_iter().collect()
    }

    fn within(
        &mut self,
        fields: &mut Fields<'_, '_>,
        name: &'static str,
        depth: usize,
    ) -> Option<Box<Condition>> {
        let value = fields.required(name)?;
        let path = fields.pointer(name);
        let mut part = Fields::of(value, path, fields.faults());
        self.node(&mut part, value, depth + 1).map(Box::new)
    }

    fn item(
        &mut self,
        fields: &mut Fields<'_, '_>,
        name: &'static str,
        depth: usize,
    ) -> Option<Box<Condition>> {
        self.of_items = true;
        let condition = self.within(fields, name, depth);
        self.of_items = false;
        condition
    }

    /// `{"of", "where", "op", "value"}`.
    fn sum(&mut self, fields: &mut Fields<'_, '_>) -> Option<Condition> {
        self.leaves += 1;
        let (mut of, mut filter, mut read) = (None, None, None);
        nested(fields, "sum_items", |sum| {
            sum.required("of");
            of = sum.optional_choice("of", &SUMMANDS);
            filter = self.read_of_items(sum, "where");
            let op = sum.text("op", 1..=32);
            let value = sum.optional("value");
            read = match op.map(|op| sum_test(op, value)) {
                Some(Err(wrong)) => {
                    sum.fault(wrong.member, wrong.code, wrong.message);
                    None
                }
                Some(Ok(test)) => Some(test),
                None => None,
            };
        });
        Some(Condition::SumItems { of: of?, filter: Box::new(filter?), test: read? })
    }

    fn leaf(
        &mut self,
        fields: &mut Fields<'_, '_>,
        members: &serde_json::Map<String, Value>,
    ) -> Option<Condition> {
        self.leaves += 1;
        for name in members.keys().filter(|name| !["field", "op", "value"].contains(&name.as_str()))
        {
            fields.fault(name, "unknown_field", "is not a known field");
        }
        let read = if self.of_items { item_field } else { field };
        let field = fields.text("field", 1..=512).map(read);
        let op = fields.text("op", 1..=32);
        let value = fields.optional("value");
        let field = match field? {
            Ok(field) => field,
            Err(wrong) => return refuse(fields, wrong),
        };
        match test(&field, op?, value) {
            Ok(test) => Some(Condition::Leaf(field, test)),
            Err(wrong) => refuse(fields, wrong),
        }
    }
}

fn refuse(fields: &mut Fields<'_, '_>, wrong: Wrong) -> Option<Condition> {
    fields.fault(wrong.member, wrong.code, wrong.message);
    None
}

const SUMMANDS: [(&str, Summand); 2] =
    [("item.amount", Summand::Amount), ("item.quantity", Summand::Quantity)];
