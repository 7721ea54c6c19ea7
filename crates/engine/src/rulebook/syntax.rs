//! The rulebook's JSON (`domain.md` 4.2), read strictly. What the grammar has and is not built yet is
//! refused by name.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use bytes::Bytes;
use jiff::tz::TimeZone;
use schemas::fault::Fault;
use schemas::id::GigId;
use schemas::input::Fields;
use schemas::money::Currency;
use serde_json::Value;

use super::condition_syntax::Conditions;
use super::{AttributionTerms, CAPS_MAX, RULES_MAX, Rule, Rulebook, Uniqueness};
use crate::amount::Formula;
use crate::calendar::Period;
use crate::cap::{Cap, CapMetric, CapScope, OnExceed};

const DAY_MS: i64 = 86_400_000;
/// Bytes of a rule's or cap's key.
const KEY_LEN: RangeInclusive<usize> = 1..=64;
/// Days of look-back where the rulebook says nothing.
const LOOKBACK_DAYS_DEFAULT: i64 = 30;
/// Days an event may be late where the rulebook says nothing.
const LATE_EVENT_DAYS_DEFAULT: i64 = 30;
/// A hundred years: `lookbackDays` and `lateEventMaxDays` go up to here.
const DAYS_MAX: i64 = 36_500;
/// The priority of a rule that names none; lower is tried first.
const PRIORITY_DEFAULT: i64 = 100;
const PRIORITY: RangeInclusive<i64> = -1_000_000..=1_000_000;
const BPS: RangeInclusive<i64> = 0..=50_000;
const MINOR_UNITS: RangeInclusive<i64> = 0..=i64::MAX;

/// Reads the whole rulebook. `None` for `expected` takes any currency.
pub(super) fn rulebook(value: &Value, expected: Option<Currency>) -> Result<Rulebook, Vec<Fault>> {
    let mut faults = Vec::new();
    let read = read(value, expected, &mut faults);
    match read {
        Some(rulebook) if faults.is_empty() => Ok(rulebook),
        _ => Err(faults),
    }
}

/// `None` only where a fault was noted.
fn read(value: &Value, expected: Option<Currency>, faults: &mut Vec<Fault>) -> Option<Rulebook> {
    let mut fields = Fields::of(value, "", faults);
    let currency = currency(&mut fields, expected);
    let zone = zone(&mut fields);
    only(&mut fields, "combine", "first_match", &["best", "sum"]);
    let (attribution, late_event_max_ms) = attribution(&mut fields);
    fx(&mut fields);
    funding(&mut fields);
    let shared = Shared { uniqueness: uniqueness(&mut fields), caps: caps(&mut fields) };
    let rules = rules(&mut fields, &shared);
    fields.finish();
    let (currency, zone) = (currency?, zone?);
    let source = Bytes::from(serde_json::to_vec(value).ok()?);
    Some(Rulebook { currency, zone, attribution, late_event_max_ms, rules, source })
}

/// What the rulebook says for all of its rules.
struct Shared {
    uniqueness: Option<Unique>,
    caps: Vec<Cap>,
}

fn currency(fields: &mut Fields<'_, '_>, expected: Option<Currency>) -> Option<Currency> {
    let currency = fields.parsed::<Currency>("currency")?;
    match expected {
        Some(expected) if expected != currency => {
            let message = format!("must be {expected}, the organization's currency");
            fields.fault("currency", "currency_mismatch", message);
            None
        }
        _ => Some(currency),
    }
}

fn zone(fields: &mut Fields<'_, '_>) -> Option<TimeZone> {
    let name = fields.text("timezone", 1..=64)?;
    let zone = TimeZone::get(name);
    if zone.is_err() {
        let message = "must be an IANA time zone, like America/New_York";
        fields.fault("timezone", "invalid_format", message);
    }
    zone.ok()
}

/// Member `name` may be absent or `built`; `planned` choices are refused by name.
fn only(fields: &mut Fields<'_, '_>, name: &'static str, built: &str, planned: &[&str]) {
    let Some(value) = fields.optional(name) else { return };
    match value.as_str() {
        Some(text) if text == built => {}
        Some(text) if planned.contains(&text) => {
            fields.fault(name, "not_supported", format!("`{text}` is not supported yet"));
        }
        _ => fields.fault(name, "invalid_choice", format!("must be `{built}`")),
    }
}

fn attribution(fields: &mut Fields<'_, '_>) -> (AttributionTerms, i64) {
    let (mut lookback, mut code_beats_click, mut late) = (None, None, None);
    nested(fields, "attribution", |terms| {
        only(terms, "model", "last_click", &["first_click"]);
        only(terms, "customerBinding", "none", &["first_conversion", "last_touch"]);
        zero(terms, "minSeconds");
        lookback = terms.optional_integer("lookbackDays", 0..=DAYS_MAX);
        code_beats_click = terms.optional_bool("codeBeatsClick");
        late = terms.optional_integer("lateEventMaxDays", 0..=DAYS_MAX);
    });
    let terms = AttributionTerms {
        lookback_ms: lookback.unwrap_or(LOOKBACK_DAYS_DEFAULT) * DAY_MS,
        code_beats_click: code_beats_click.unwrap_or(true),
    };
    (terms, late.unwrap_or(LATE_EVENT_DAYS_DEFAULT) * DAY_MS)
}

/// Reads the object under `name`, if it is there, with `body`; then nothing else may be in it.
fn nested(fields: &mut Fields<'_, '_>, name: &'static str, body: impl FnOnce(&mut Fields<'_, '_>)) {
    let Some(value) = fields.optional(name) else { return };
    let path = fields.pointer(name);
    let mut inner = Fields::of(value, path, fields.faults());
    body(&mut inner);
    inner.finish();
}

/// Member `name` may be absent or 0; other numbers are for later.
fn zero(fields: &mut Fields<'_, '_>, name: &'static str) {
    if fields.optional_integer(name, 0..=i64::MAX).is_some_and(|number| number != 0) {
        fields.fault(name, "not_supported", format!("`{name}` is not supported yet"));
    }
}

fn fx(fields: &mut Fields<'_, '_>) {
    nested(fields, "fx", |fx| {
        only(fx, "policy", "reject", &["convert"]);
        fx.unsupported("source");
        fx.unsupported("onMissing");
    });
}

fn funding(fields: &mut Fields<'_, '_>) {
    nested(fields, "funding", |funding| {
        only(funding, "reserveAt", "created", &["approved"]);
        only(funding, "onInsufficient", "hold", &["reject"]);
    });
}

/// A `uniqueness` block as written. With `per_event` the claim on the idempotency key is enough.
struct Unique {
    rule: bool,
    customer: bool,
    aktvator: bool,
    per_event: bool,
    window: Period,
}

fn uniqueness(fields: &mut Fields<'_, '_>) -> Option<Unique> {
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
    fn of_rule(&self, key: &str) -> Option<Uniqueness> {
        let rule_key = if self.rule { key } else { "" };
        (!self.per_event)
            .then(|| Uniqueness::new(rule_key, self.customer, self.aktvator, self.window))
    }
}

/// A period; lifetime where it is absent, or where a fault was noted.
fn period(fields: &mut Fields<'_, '_>, name: &'static str) -> Period {
    let Some(value) = fields.optional(name) else { return Period::Lifetime };
    match value.as_str() {
        Some("lifetime") => return Period::Lifetime,
        Some("day") => return Period::Day,
        Some("month") => return Period::Month,
        Some(later @ ("week" | "quarter" | "year")) => {
            fields.fault(name, "not_supported", format!("`{later}` is not supported yet"));
        }
        Some(rolling) if rolling.starts_with("rolling:") => {
            fields.fault(name, "not_supported", "rolling windows are not supported yet");
        }
        _ => fields.fault(name, "invalid_choice", "must be one of: lifetime, day, month"),
    }
    Period::Lifetime
}

fn caps(fields: &mut Fields<'_, '_>) -> Vec<Cap> {
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

/// Letters, digits, `_`, `-` and `.`: keys stand in codes, rows and URLs.
fn key(fields: &mut Fields<'_, '_>) -> Option<String> {
    let text = fields.text("key", KEY_LEN)?;
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    if !text.chars().all(plain) {
        fields.fault("key", "invalid_format", "may hold letters, digits, `_`, `-` and `.`");
        return None;
    }
    Some(text.to_owned())
}

fn cap_scope(fields: &mut Fields<'_, '_>) -> Option<CapScope> {
    let value = fields.required("scope")?;
    match value.as_str() {
        Some("campaign") => return Some(CapScope::Campaign),
        Some("aktvator") => return Some(CapScope::Aktvator),
        Some("customer") => return Some(CapScope::Customer),
        Some(later @ ("rule" | "gig" | "link" | "aktvator_customer")) => {
            fields.fault("scope", "not_supported", format!("`{later}` is not supported yet"));
        }
        Some(group) if group.starts_with("group:") => {
            fields.fault("scope", "not_supported", "caps per group are not supported yet");
        }
        _ => {
            let message = "must be one of: campaign, aktvator, customer";
            fields.fault("scope", "invalid_choice", message);
        }
    }
    None
}

fn cap_metric(fields: &mut Fields<'_, '_>) -> Option<CapMetric> {
    let value = fields.required("metric")?;
    match value.as_str() {
        Some("amount") => return Some(CapMetric::Amount),
        Some("count") => return Some(CapMetric::Count),
        Some("units") => fields.fault("metric", "not_supported", "`units` is not supported yet"),
        _ => fields.fault("metric", "invalid_choice", "must be one of: amount, count"),
    }
    None
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
    if payable_min.is_some() && (!clips || metric == Some(CapMetric::Count)) {
        let message = "is for caps on amounts that clip";
        fields.fault("minPayable", "contradiction", message);
    }
    match clips {
        true => OnExceed::Clip { payable_min: payable_min.unwrap_or(1) },
        false => OnExceed::Reject,
    }
}

fn rules(fields: &mut Fields<'_, '_>, shared: &Shared) -> Vec<Rule> {
    if fields.optional("rules").is_none() {
        fields.fault("rules", "required", "is required");
    }
    let items = fields.optional_array("rules", 1..=RULES_MAX).unwrap_or_default();
    let mut keys = BTreeSet::new();
    let mut cap_keys: BTreeSet<String> = BTreeSet::new();
    twice(&mut cap_keys, &shared.caps, "/caps", fields.faults());
    let mut rules = Vec::new();
    for (path, value) in items {
        let Some(read) = rule(path.clone(), value, shared, fields.faults()) else { continue };
        if !keys.insert(read.rule.key.clone()) {
            let fault =
                Fault::new(format!("{path}/key"), "duplicate_key", "another rule has this key");
            fields.faults().push(fault);
        }
        twice(&mut cap_keys, &read.own_caps, &format!("{path}/caps"), fields.faults());
        rules.push(read);
    }
    rules.retain(|read| read.enabled);
    rules.sort_by(|a, b| (a.priority, &a.rule.key).cmp(&(b.priority, &b.rule.key)));
    rules.into_iter().map(|read| read.rule).collect()
}

/// Cap keys are unique in the whole rulebook: they name counters.
fn twice(seen: &mut BTreeSet<String>, caps: &[Cap], path: &str, faults: &mut Vec<Fault>) {
    for cap in caps {
        if !seen.insert(cap.key.clone()) {
            let message = format!("another cap has the key `{}`", cap.key);
            faults.push(Fault::new(path, "duplicate_key", message));
        }
    }
}

/// A rule as read, with what places it among the others.
struct ReadRule {
    rule: Rule,
    own_caps: Vec<Cap>,
    enabled: bool,
    priority: i64,
}

fn rule(path: String, value: &Value, shared: &Shared, faults: &mut Vec<Fault>) -> Option<ReadRule> {
    let mut fields = Fields::of(value, path, faults);
    let key = key(&mut fields);
    fields.optional_text("name", 1..=200);
    let enabled = fields.optional_bool("enabled").unwrap_or(true);
    let priority = fields.optional_integer("priority", PRIORITY).unwrap_or(PRIORITY_DEFAULT);
    let (event_types, gigs) = on(&mut fields);
    fields.unsupported("active");
    let mut conditions = Conditions::new();
    let eligibility = conditions.read(&mut fields, "eligibility");
    let when = conditions.read(&mut fields, "when");
    let reward = reward(&mut fields);
    let own = uniqueness(&mut fields);
    fields.unsupported("recurring");
    let own_caps = caps(&mut fields);
    hold(&mut fields);
    fields.unsupported("reversal");
    fields.finish();
    let key = key?;
    let uniqueness = own.as_ref().or(shared.uniqueness.as_ref()).and_then(|u| u.of_rule(&key));
    let mut caps: Vec<Cap> = own_caps.iter().chain(&shared.caps).cloned().collect();
    caps.sort_by(|a, b| a.key.cmp(&b.key));
    let (eligibility, when, reward) = (eligibility?, when?, reward?);
    let rule = Rule { key, event_types, gigs, eligibility, when, reward, uniqueness, caps };
    Some(ReadRule { rule, own_caps, enabled, priority })
}

fn on(fields: &mut Fields<'_, '_>) -> (Vec<String>, Vec<GigId>) {
    let (mut event_types, mut gigs) = (Vec::new(), Vec::new());
    nested(fields, "on", |on| {
        let texts = on.optional_texts("eventTypes", 0..=100, 1..=255).unwrap_or_default();
        event_types = texts.into_iter().map(str::to_owned).collect();
        for (path, value) in on.optional_array("gigIds", 0..=100).unwrap_or_default() {
            match value.as_str().and_then(|text| text.parse().ok()) {
                Some(gig) => gigs.push(gig),
                None => on.faults().push(Fault::new(path, "invalid_format", "must be a gig's id")),
            }
        }
    });
    (event_types, gigs)
}

fn reward(fields: &mut Fields<'_, '_>) -> Option<Formula> {
    let value = fields.required("reward")?;
    let path = fields.pointer("reward");
    let mut reward = Fields::of(value, path, fields.faults());
    let kind = reward.required("type")?;
    let formula = match kind.as_str() {
        Some("flat") => flat(&mut reward),
        Some("percent") => percent(&mut reward),
        Some("tiered") => {
            reward.fault("type", "not_supported", "`tiered` is not supported yet");
            // What else it has cannot be judged.
            return None;
        }
        _ => {
            reward.fault("type", "invalid_choice", "must be one of: flat, percent");
            return None;
        }
    };
    reward.finish();
    formula
}

fn flat(reward: &mut Fields<'_, '_>) -> Option<Formula> {
    let amount = reward.integer("amount", MINOR_UNITS);
    let per_unit = reward.optional_bool("perUnit").unwrap_or(false);
    let units_max = reward.optional_integer("maxUnits", 1..=i64::MAX);
    if units_max.is_some() && !per_unit {
        reward.fault("maxUnits", "contradiction", "is for rewards with `perUnit`");
    }
    let amount = amount?;
    Some(match per_unit {
        true => Formula::PerUnit { amount, units_max },
        false => Formula::Flat { amount },
    })
}

fn percent(reward: &mut Fields<'_, '_>) -> Option<Formula> {
    let bps = reward.integer("bps", BPS);
    only(reward, "of", "event.amount", &["items"]);
    reward.unsupported("itemFilter");
    let min = reward.optional_integer("min", MINOR_UNITS);
    let max = reward.optional_integer("max", MINOR_UNITS);
    if let (Some(min), Some(max)) = (min, max)
        && min > max
    {
        reward.fault("max", "contradiction", "must not be below `min`");
    }
    Some(Formula::Percent { bps: bps?, min, max })
}

fn hold(fields: &mut Fields<'_, '_>) {
    nested(fields, "hold", |hold| {
        zero(hold, "days");
        only(hold, "basis", "occurredAt", &["acceptedAt"]);
        if hold.optional_bool("manualApproval") == Some(true) {
            let message = "`manualApproval` is not supported yet";
            hold.fault("manualApproval", "not_supported", message);
        }
    });
}
