//! Caps, uniqueness and their periods in a rulebook's JSON.

use schemas::fault::Fault;
use schemas::input::Fields;
use serde_json::Value;

use super::syntax::{key, nested};
use super::{CAPS_MAX, ROLLING_DAYS_MAX, Uniqueness};
use crate::calendar::Period;
use crate::cap::{Cap, CapMetric, CapScope, OnExceed};

const PERIODS: [(&str, Period); 6] = [
    ("lifetime", Period::Lifetime),
    ("day", Period::Day),
    ("week", Period::Week),
    ("month", Period::Month),
    ("quarter", Period::Quarter),
    ("year", Period::Year),
];

/// A `uniqueness` block as written. With `per_event` the claim on the idempotency key is enough.
pub(super) struct Unique {
    rule: bool,
    customer: bool,
    aktvator: bool,
    pub(super) per_event: bool,
    window: Period,
}

pub(super) fn uniqueness(fields: &mut Fields<'_, '_>) -> Option<Unique> {
    let mut read = None;
    nested(fields, "uniqueness", |unique| {
        if unique.optional("scope").is_none() {
            unique.fault("scope", "required", "is required");
        }
        let names = unique.optional_texts("scope", 1..=8, 1..=32).unwrap_or_default();
        for name in &names {
            match *name {
                "event" | "customer" | "aktvator" | "rule" => {}
                _ => unique.fault(
                    "scope",
                    "invalid_choice",
                    "must hold some of: event, customer, aktvator, rule",
                ),
            }
        }
        let window = period(unique, "window");
        let has = |wanted| names.contains(&wanted);
        read = Some(Unique {
            rule: has("rule"),
            customer: has("customer"),
            aktvator: has("aktvator"),
            per_event: has("event"),
            window,
        });
    });
    read
}

impl Unique {
    pub(super) fn of_rule(&self, key: &str) -> Option<Uniqueness> {
        let rule_key = if self.rule { key } else { "" };
        (!self.per_event)
            .then(|| Uniqueness::new(rule_key, self.customer, self.aktvator, self.window))
    }
}

/// A period; lifetime where it is absent, or where a fault was noted.
pub(super) fn period(fields: &mut Fields<'_, '_>, name: &'static str) -> Period {
    let Some(value) = fields.optional(name) else { return Period::Lifetime };
    let days = |text: &str| text.strip_prefix("rolling:")?.strip_suffix('d')?.parse().ok();
    let text = value.as_str().unwrap_or_default();
    if let Some(period) = PERIODS.iter().find(|(known, _)| *known == text) {
        return period.1;
    }
    match days(text) {
        Some(days @ 1..=ROLLING_DAYS_MAX) => return Period::Rolling(days),
        Some(_) => {
            let message = format!("a rolling window has 1 to {ROLLING_DAYS_MAX} days");
            fields.fault(name, "out_of_range", message);
        }
        None => {
            let names: Vec<_> = PERIODS.iter().map(|(known, _)| *known).collect();
            let message = format!("must be one of: {}, rolling:<days>d", names.join(", "));
            fields.fault(name, "invalid_choice", message);
        }
    }
    Period::Lifetime
}

pub(super) fn caps(fields: &mut Fields<'_, '_>) -> Vec<Cap> {
    let items = fields.optional_array("caps", 0..=CAPS_MAX).unwrap_or_default();
    items.into_iter().filter_map(|(path, value)| cap(path, value, fields.faults())).collect()
}

fn cap(path: String, value: &Value, faults: &mut Vec<Fault>) -> Option<Cap> {
    let mut fields = Fields::of(value, path, faults);
    let key = key(&mut fields);
    let scope = cap_scope(&mut fields);
    let metric = cap_metric(&mut fields);
    let period = period(&mut fields, "period");
    let limit = fields.integer("limit", 1..=i64::MAX);
    let on_exceed = on_exceed(&mut fields, metric);
    fields.finish();
    Some(Cap::new(key?, scope?, metric?, period, limit?, on_exceed))
}

const SCOPES: [(&str, CapScope); 7] = [
    ("campaign", CapScope::Campaign),
    ("rule", CapScope::Rule),
    ("gig", CapScope::Gig),
    ("link", CapScope::Link),
    ("aktvator", CapScope::Aktvator),
    ("customer", CapScope::Customer),
    ("aktvator_customer", CapScope::AktvatorCustomer),
];

fn cap_scope(fields: &mut Fields<'_, '_>) -> Option<CapScope> {
    let text = fields.required("scope")?.as_str().unwrap_or_default();
    if let Some((_, scope)) = SCOPES.iter().find(|(known, _)| *known == text) {
        return Some(scope.clone());
    }
    if let Some(group) = text.strip_prefix("group:").filter(|group| !group.is_empty()) {
        return Some(CapScope::Group(group.to_owned()));
    }
    let names: Vec<_> = SCOPES.iter().map(|(known, _)| *known).collect();
    let message = format!("must be one of: {}, group:<group>", names.join(", "));
    fields.fault("scope", "invalid_choice", message);
    None
}

const METRICS: [(&str, CapMetric); 3] =
    [("amount", CapMetric::Amount), ("count", CapMetric::Count), ("units", CapMetric::Units)];

fn cap_metric(fields: &mut Fields<'_, '_>) -> Option<CapMetric> {
    fields.required("metric")?;
    fields.optional_choice("metric", &METRICS)
}

fn on_exceed(fields: &mut Fields<'_, '_>, metric: Option<CapMetric>) -> OnExceed {
    let payable_min = fields.optional_integer("minPayable", 1..=i64::MAX);
    let clips = match fields.optional("onExceed").map(Value::as_str) {
        None | Some(Some("clip")) => true,
        Some(Some("reject")) => false,
        Some(Some("defer")) => {
            fields.fault("onExceed", "not_supported", "`defer` is not supported yet");
            false
        }
        Some(_) => {
            fields.fault("onExceed", "invalid_choice", "must be one of: clip, reject");
            false
        }
    };
    if payable_min.is_some() && (!clips || metric.is_some_and(|metric| metric != CapMetric::Amount))
    {
        let message = "is for caps on amounts that clip";
        fields.fault("minPayable", "contradiction", message);
    }
    match clips {
        true => OnExceed::Clip { payable_min: payable_min.unwrap_or(1) },
        false => OnExceed::Reject,
    }
}
