//! What the grammar takes and refuses: `PATCH => POINTER CODE, ...` over a valid rulebook.

use schemas::money::Currency;
use serde_json::{Value, json};

use crate::script::with_defaults;

fn faults(rulebook: &Value) -> String {
    match engine::Rulebook::parse(rulebook, Currency::USD) {
        Ok(_) => "ok".to_owned(),
        Err(faults) => {
            let shown = faults.iter().map(|fault| format!("{} {}", fault.path, fault.code));
            shown.collect::<Vec<_>>().join(", ")
        }
    }
}

/// `{"/pointer": value}` members of the patch replace, or (`"-"`) remove, what stands there.
#[test]
fn grammar() {
    crate::cases::check("grammar", include_str!("../cases/grammar.txt"), 60, |patch| {
        let patch: Value = serde_json::from_str(patch).unwrap_or_else(|e| panic!("{patch}: {e}"));
        let mut rulebook = whole();
        for (pointer, value) in patch.as_object().expect("an object") {
            let (parent, name) = pointer.rsplit_once('/').expect("a pointer");
            let parent = rulebook.pointer_mut(parent).unwrap_or_else(|| panic!("{pointer}"));
            match (parent, value.as_str()) {
                (Value::Object(members), Some("-")) => drop(members.remove(name)),
                (Value::Object(members), _) => drop(members.insert(name.into(), value.clone())),
                (Value::Array(items), _) => items.push(value.clone()),
                _ => panic!("{pointer} is in no object"),
            }
        }
        faults(&rulebook)
    });
}

/// What people copy from the documentation compiles.
#[test]
fn the_documented_rulebook_is_one() {
    let text = include_str!("../../../../docs/rules.md");
    let (_, rest) = text.split_once("```json\n").expect("an example");
    let (example, _) = rest.split_once("```").expect("its end");
    assert_eq!(faults(&serde_json::from_str(example).expect("JSON")), "ok");
}

/// Everything that is built, at once.
fn whole() -> Value {
    json!({
        "currency": "USD", "timezone": "America/New_York", "combine": "first_match",
        "attribution": {"model": "last_click", "lookbackDays": 30, "minSeconds": 0,
            "codeBeatsClick": true, "customerBinding": "none", "lateEventMaxDays": 36500},
        "fx": {"policy": "reject"},
        "funding": {"reserveAt": "created", "onInsufficient": "hold"},
        "uniqueness": {"scope": ["customer", "rule"], "window": "lifetime"},
        "caps": [{"key": "total", "scope": "campaign", "metric": "amount", "limit": 5_000_000,
            "period": "lifetime", "onExceed": "clip", "minPayable": 5}],
        "rules": [{
            "key": "pro", "name": "Pro sign-up", "enabled": true, "priority": 10,
            "on": {"eventTypes": ["customer.signup"], "gigIds": ["gig_0000000000000000000000000m"]},
            "eligibility": {"all": [{"field": "aktvator.status", "op": "eq", "value": "approved"}]},
            "when": {"any": [{"not": {"field": "customer.status", "op": "eq", "value": "old"}}]},
            "reward": {"type": "percent", "bps": 2_000, "of": "event.amount", "min": 1, "max": 2},
            "uniqueness": null, "recurring": null, "active": null, "reversal": null,
            "caps": [{"key": "mine", "scope": "aktvator", "metric": "count", "limit": 1,
                "period": "month", "onExceed": "reject"}],
            "hold": {"days": 0, "basis": "occurredAt", "manualApproval": false}
        }]
    })
}

#[test]
fn every_fault_at_once() {
    let rulebook = json!({"currency": "EUR", "timezone": "Mars/Base", "combine": "worst", "x": 1,
        "rules": [{"key": "a b", "reward": {"type": "flat"}, "hold": {"days": 400}}, 7]});
    assert_eq!(
        faults(&rulebook),
        "/currency currency_mismatch, /timezone invalid_format, /combine invalid_choice, \
         /rules/0/key invalid_format, /rules/0/reward/amount required, \
         /rules/0/hold/days out_of_range, /rules/1 wrong_type, /x unknown_field"
    );
}

#[test]
fn bounds() {
    let leaf = json!({"field": "event.amount", "op": "gt", "value": 1});
    let leaves = |count: usize| json!({"all": vec![leaf.clone(); count]});
    let rules = |count: usize| {
        let rules: Vec<Value> = (0..count).map(|i| json!({"key": format!("r{i}")})).collect();
        json!({ "rules": rules })
    };
    let caps = |count: usize| {
        let cap =
            |i| json!({"key": format!("c{i}"), "scope": "campaign", "metric": "count", "limit": 1});
        json!({"caps": (0..count).map(cap).collect::<Vec<_>>()})
    };
    let deep = |levels: usize| (1..levels).fold(leaf.clone(), |inner, _| json!({"not": inner}));
    let when = |condition: Value| json!({"rules": [{"when": condition}]});
    let both = json!({"rules": [{"when": leaves(30), "eligibility": leaves(21)}]});
    let cases = [
        (rules(100), "ok"),
        (rules(101), "/rules out_of_range"),
        (rules(0), "/rules out_of_range"),
        (caps(20), "ok"),
        (caps(21), "/caps out_of_range"),
        (when(leaves(50)), "ok"),
        (when(leaves(51)), "/rules/0/when/all out_of_range"),
        (both, "/rules/0/when too_many"),
        (when(deep(4)), "ok"),
        (when(deep(5)), "/rules/0/when/not/not/not/not too_deep"),
    ];
    for (rulebook, want) in cases {
        assert_eq!(faults(&with_defaults(rulebook.clone())), want, "{rulebook}");
    }
}

#[test]
fn a_rulebook_survives_its_row() {
    let rulebook = engine::Rulebook::parse(&whole(), Currency::USD).expect("valid");
    let again = engine::Rulebook::compile(rulebook.source()).expect("valid");
    assert_eq!(rulebook, again);
    assert_eq!(again.cap_keys(), ["mine", "total"]);
    assert_eq!(again.rule_keys().collect::<Vec<_>>(), ["pro"]);
    assert_eq!(again.currency(), Currency::USD);
}
