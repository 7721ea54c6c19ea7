//! What is valid in a rulebook and yet hardly meant: rules that nothing reaches, caps that their reward never fits.

use schemas::fault::Fault;

use crate::active::Active;
use crate::amount::Formula;
use crate::cap::{Cap, CapMetric, OnExceed};
use crate::condition::Condition;
use crate::rulebook::{Combine, Price, Rule, Rulebook};

/// Warnings, with the key of the rule or cap as their path.
#[must_use]
pub fn lint(rulebook: &Rulebook) -> Vec<Fault> {
    let mut warnings = unreachable(rulebook);
    for rule in &rulebook.rules {
        warnings.extend(rule.caps.iter().filter_map(|cap| too_small(rule, cap)));
    }
    warnings.dedup();
    warnings
}

/// Where the first rule that matches decides, nothing comes after one that takes everything.
fn unreachable(rulebook: &Rulebook) -> Vec<Fault> {
    if rulebook.combine != Combine::FirstMatch {
        return Vec::new();
    }
    let hidden = |(at, rule): (usize, &Rule)| {
        let by = rulebook.rules[..at].iter().find(|before| hides(before, rule))?;
        let message = format!("rule `{}` takes every event before `{}` is asked", by.key, rule.key);
        Some(Fault::new(&rule.key, "unreachable_rule", message))
    };
    rulebook.rules.iter().enumerate().filter_map(hidden).collect()
}

fn hides(before: &Rule, rule: &Rule) -> bool {
    let Active { from_ms, until_ms, weekly } = &before.active;
    let is_always = from_ms.is_none() && until_ms.is_none() && weekly.is_empty();
    let takes_all = [&before.eligibility, &before.when].into_iter().all(is_true);
    let once = before.uniqueness.is_some() || before.recurring.is_some();
    is_always
        && takes_all
        && !once
        && covers(&before.event_types, &rule.event_types)
        && covers(&before.gigs, &rule.gigs)
}

fn is_true(condition: &Condition) -> bool {
    matches!(condition, Condition::All(parts) if parts.is_empty())
}

/// Nothing named means all.
fn covers<T: PartialEq>(all: &[T], some: &[T]) -> bool {
    all.is_empty() || !some.is_empty() && some.iter().all(|one| all.contains(one))
}

/// A cap on amounts that not even one reward fits into.
fn too_small(rule: &Rule, cap: &Cap) -> Option<Fault> {
    let Price::Plain(Formula::Flat { amount }) = &rule.price else { return None };
    if cap.metric != CapMetric::Amount || cap.limit >= *amount {
        return None;
    }
    let what = match cap.on_exceed {
        OnExceed::Reject => "never paid",
        OnExceed::Clip { .. } => "never paid in full",
    };
    let message = format!(
        "cap `{}` leaves {} for a reward of {amount}: rule `{}` is {what}",
        cap.key, cap.limit, rule.key
    );
    Some(Fault::new(&rule.key, "cap_below_reward", message))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn linted(mut rulebook: Value) -> Vec<(String, String)> {
        rulebook["currency"] = json!("USD");
        rulebook["timezone"] = json!("UTC");
        let compiled = Rulebook::compile(rulebook.to_string().into()).expect("valid");
        let warnings = lint(&compiled).into_iter();
        warnings.map(|warning| (warning.path, warning.code.into_owned())).collect()
    }

    #[test]
    fn warnings() {
        let flat = json!({"type": "flat", "amount": 100});
        let rule = |key: &str, priority: i64| json!({"key": key, "priority": priority, "reward": flat.clone()});
        let with = |mut rule: Value, name: &str, value: Value| {
            rule[name] = value;
            rule
        };
        let cap = |limit: i64| json!([{"key": "c", "scope": "aktvator", "metric": "amount", "limit": limit}]);
        let only = |types: Value| json!({"eventTypes": types});
        let asked = json!({"field": "event.amount", "op": "gt", "value": 1});
        let cases = [
            (json!({"rules": [rule("a", 1), rule("b", 2)]}), vec![("b", "unreachable_rule")]),
            (json!({"combine": "sum", "rules": [rule("a", 1), rule("b", 2)]}), vec![]),
            (json!({"rules": [with(rule("a", 1), "when", asked), rule("b", 2)]}), vec![]),
            (
                json!({"rules": [with(rule("a", 1), "on", only(json!(["x"]))), rule("b", 2)]}),
                vec![],
            ),
            (
                json!({"rules": [rule("a", 1), with(rule("b", 2), "on", only(json!(["x"])))]}),
                vec![("b", "unreachable_rule")],
            ),
            (
                json!({"rules": [with(rule("a", 1), "uniqueness", json!({"scope": ["customer"]})), rule("b", 2)]}),
                vec![],
            ),
            (
                json!({"rules": [with(rule("a", 1), "active", json!({"until": "2027-01-01T00:00:00Z"})), rule("b", 2)]}),
                vec![],
            ),
            (json!({"caps": cap(99), "rules": [rule("a", 1)]}), vec![("a", "cap_below_reward")]),
            (json!({"caps": cap(100), "rules": [rule("a", 1)]}), vec![]),
        ];
        for (rulebook, want) in cases {
            let want: Vec<_> =
                want.into_iter().map(|(path, code)| (path.to_owned(), code.to_owned())).collect();
            assert_eq!(linted(rulebook.clone()), want, "{rulebook}");
        }
    }
}
