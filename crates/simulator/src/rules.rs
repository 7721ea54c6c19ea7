//! Draws rulebooks, as the JSON an organization would put.

use rand::RngExt;
use rand::rngs::StdRng;
use serde_json::{Value, json};

/// A rulebook of one or two rules with some caps. Cap keys are from a small set, so that counters live
/// on from version to version.
pub(crate) fn draw(rng: &mut StdRng) -> Value {
    let mut rules = vec![rule(rng, "purchase", 10)];
    if rng.random_bool(0.4) {
        rules.push(rule(rng, "signup", 20));
    }
    let mut caps = Vec::new();
    if rng.random_bool(0.6) {
        let limit = rng.random_range(20_000..200_000);
        caps.push(cap("total", "campaign", "amount", "lifetime", limit, on_exceed(rng)));
    }
    if rng.random_bool(0.3) {
        caps.push(cap("per_day", "campaign", "count", "day", rng.random_range(3..40), "reject"));
    }
    json!({
        "currency": "USD",
        "timezone": "UTC",
        "combine": "first_match",
        "attribution": { "lookbackDays": 30, "codeBeatsClick": true, "lateEventMaxDays": 30 },
        "caps": caps,
        "rules": rules,
    })
}

fn rule(rng: &mut StdRng, event_type: &str, priority: u32) -> Value {
    let mut caps = Vec::new();
    if rng.random_bool(0.5) {
        let limit = rng.random_range(5_000..60_000);
        let key = format!("per_aktvator_{event_type}");
        caps.push(cap(&key, "aktvator", "amount", "month", limit, on_exceed(rng)));
    }
    if rng.random_bool(0.3) {
        let limit = rng.random_range(1..6);
        let key = format!("per_customer_{event_type}");
        caps.push(cap(&key, "customer", "count", "lifetime", limit, "reject"));
    }
    let mut rule = json!({
        "key": format!("{event_type}_rule"),
        "priority": priority,
        "on": { "eventTypes": [event_type] },
        "reward": reward(rng),
        "caps": caps,
    });
    if rng.random_bool(0.4) {
        let least = rng.random_range(100..3_000);
        rule["when"] = json!({ "field": "event.amount", "op": "gte", "value": least });
    }
    if rng.random_bool(0.2) {
        rule["uniqueness"] = json!({ "scope": ["customer", "rule"], "window": "lifetime" });
    }
    rule
}

fn reward(rng: &mut StdRng) -> Value {
    if rng.random_bool(0.4) {
        return json!({ "type": "flat", "amount": rng.random_range(50..3_000) });
    }
    let mut percent = json!({
        "type": "percent", "bps": rng.random_range(1..4_000), "of": "event.amount",
    });
    if rng.random_bool(0.3) {
        percent["min"] = json!(rng.random_range(1..200));
    }
    if rng.random_bool(0.3) {
        percent["max"] = json!(rng.random_range(200..2_000));
    }
    percent
}

fn on_exceed(rng: &mut StdRng) -> &'static str {
    if rng.random_bool(0.5) { "clip" } else { "reject" }
}

fn cap(key: &str, scope: &str, metric: &str, period: &str, limit: i64, on_exceed: &str) -> Value {
    json!({
        "key": key, "scope": scope, "metric": metric, "limit": limit, "period": period,
        "onExceed": on_exceed,
    })
}
