//! Draws rulebooks, as the JSON an organization would put.

use rand::RngExt;
use rand::rngs::StdRng;
use serde_json::{Value, json};

/// A rulebook of one to three rules with some caps. Cap keys are from a small set, so that counters live
/// on from version to version.
pub(crate) fn draw(rng: &mut StdRng) -> Value {
    let mut rules = vec![rule(rng, "purchase", "purchase", 10)];
    if rng.random_bool(0.4) {
        rules.push(rule(rng, "signup", "signup", 20));
    }
    if rng.random_bool(0.4) {
        let priority = if rng.random_bool(0.5) { 5 } else { 30 };
        rules.push(rule(rng, "bonus", "purchase", priority));
    }
    let mut caps = Vec::new();
    if rng.random_bool(0.6) {
        let limit = rng.random_range(20_000..200_000);
        let period = pick(rng, &["lifetime", "quarter", "year"]);
        caps.push(cap("total", "campaign", "amount", period, limit, on_exceed(rng)));
    }
    if rng.random_bool(0.3) {
        let (scope, period) = (pick(rng, &["campaign", "rule"]), pick(rng, &["day", "rolling:2d"]));
        caps.push(cap("per_day", scope, "count", period, rng.random_range(3..40), "reject"));
    }
    json!({
        "currency": "USD",
        "timezone": "UTC",
        "combine": pick(rng, &["first_match", "first_match", "sum", "best"]),
        "attribution": { "lookbackDays": 30, "codeBeatsClick": true, "lateEventMaxDays": 30 },
        "caps": caps,
        "rules": rules,
    })
}

fn pick<'a>(rng: &mut StdRng, of: &[&'a str]) -> &'a str {
    of[rng.random_range(0..of.len())]
}

fn rule(rng: &mut StdRng, name: &str, event_type: &str, priority: u32) -> Value {
    let mut caps = Vec::new();
    if rng.random_bool(0.5) {
        let limit = rng.random_range(5_000..60_000);
        let key = format!("per_aktvator_{name}");
        let period = pick(rng, &["month", "week", "rolling:3d"]);
        caps.push(cap(&key, "aktvator", "amount", period, limit, on_exceed(rng)));
    }
    if rng.random_bool(0.3) {
        let limit = rng.random_range(1..6);
        let key = format!("per_customer_{name}");
        let scope = pick(rng, &["customer", "aktvator_customer"]);
        caps.push(cap(&key, scope, "count", "lifetime", limit, "reject"));
    }
    let mut rule = json!({
        "key": format!("{name}_rule"),
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
        let window = pick(rng, &["lifetime", "day", "week"]);
        rule["uniqueness"] = json!({ "scope": ["customer", "rule"], "window": window });
    }
    if rng.random_bool(0.5) {
        rule["hold"] = json!({ "days": rng.random_range(0..2) });
    }
    if rng.random_bool(0.2) {
        rule["reversal"] = json!({ "mode": "full" });
    }
    rule
}

fn reward(rng: &mut StdRng) -> Value {
    match rng.random_range(0..4) {
        0 => tiered(rng),
        1 => graduated(rng),
        _ => plain(rng),
    }
}

fn plain(rng: &mut StdRng) -> Value {
    if rng.random_bool(0.4) {
        return json!({ "type": "flat", "amount": rng.random_range(0..3_000) });
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

fn tiered(rng: &mut StdRng) -> Value {
    let (metric, first, step) = match rng.random_bool(0.5) {
        true => ("aktvator.conversions", 1, 5),
        false => ("aktvator.revenue", 0, 40_000),
    };
    let mut tiers = vec![json!({ "from": first, "reward": plain(rng) })];
    let mut from = first;
    for _ in 0..rng.random_range(0..3) {
        from += rng.random_range(1..=step);
        tiers.push(json!({ "from": from, "reward": plain(rng) }));
    }
    let period = pick(rng, &["lifetime", "day", "month", "rolling:3d"]);
    json!({ "type": "tiered", "mode": "volume", "metric": metric, "period": period, "tiers": tiers })
}

fn graduated(rng: &mut StdRng) -> Value {
    let mut from = 0;
    let mut tiers = Vec::new();
    for _ in 0..rng.random_range(1..4) {
        let bps = rng.random_range(0..4_000);
        tiers.push(json!({ "from": from, "reward": { "type": "percent", "bps": bps } }));
        from += rng.random_range(1..40_000);
    }
    json!({
        "type": "tiered", "mode": "graduated", "metric": "aktvator.revenue",
        "period": pick(rng, &["lifetime", "day", "week"]), "tiers": tiers,
    })
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
