//! The rulebook's JSON (`domain.md` 4.2), read strictly. What the grammar has and is not built yet is
//! refused by name.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use bytes::Bytes;
use jiff::tz::TimeZone;
use schemas::fault::Fault;
use schemas::hash::hash128;
use schemas::id::GigId;
use schemas::input::Fields;
use schemas::money::Currency;
use serde_json::Value;

use super::cap_syntax::{Unique, caps, uniqueness};
use super::condition_syntax::Conditions;
use super::price_syntax::price;
use super::time_syntax::{active, holding, may_recur, recurring, reversal};
use super::{AttributionTerms, Binding, Combine, RULES_MAX, Rule, Rulebook};
use crate::cap::Cap;
use crate::metric::Metric;

const DAY_MS: i64 = 86_400_000;
/// Bytes of a rule's or cap's key.
const KEY_LEN: RangeInclusive<usize> = 1..=64;
/// Days of look-back where the rulebook says nothing.
const LOOKBACK_DAYS_DEFAULT: i64 = 30;
/// Days an event may be late where the rulebook says nothing.
const LATE_EVENT_DAYS_DEFAULT: i64 = 30;
/// A hundred years: `lookbackDays` and `lateEventMaxDays` go up to here.
pub(super) const DAYS_MAX: i64 = 36_500;
/// The priority of a rule that names none; lower is tried first.
const PRIORITY_DEFAULT: i64 = 100;
const PRIORITY: RangeInclusive<i64> = -1_000_000..=1_000_000;

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
    let combine = fields.optional_choice("combine", &COMBINE).unwrap_or(Combine::FirstMatch);
    let (attribution, late_event_max_ms) = attribution(&mut fields);
    fx(&mut fields);
    let may_wait = funding(&mut fields);
    let shared = Shared { uniqueness: uniqueness(&mut fields), caps: caps(&mut fields) };
    let rules = rules(&mut fields, &shared);
    fields.finish();
    let (currency, zone) = (currency?, zone?);
    let source = Bytes::from(serde_json::to_vec(value).ok()?);
    let asked = asked(&rules);
    Some(Rulebook {
        currency,
        zone,
        attribution,
        late_event_max_ms,
        combine,
        may_wait,
        asked,
        rules,
        source,
    })
}

/// What the conditions of all rules ask for of the past.
fn asked(rules: &[Rule]) -> Vec<Metric> {
    let mut asked = Vec::new();
    for rule in rules {
        rule.eligibility.asks(&mut asked);
        rule.when.asks(&mut asked);
    }
    asked
}

/// What the rulebook says for all of its rules.
struct Shared {
    uniqueness: Option<Unique>,
    caps: Vec<Cap>,
}

const COMBINE: [(&str, Combine); 3] =
    [("first_match", Combine::FirstMatch), ("best", Combine::Best), ("sum", Combine::Sum)];
const BINDING: [(&str, Binding); 3] = [
    ("none", Binding::None),
    ("first_conversion", Binding::FirstConversion),
    ("last_touch", Binding::LastTouch),
];

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
pub(super) fn only(fields: &mut Fields<'_, '_>, name: &'static str, built: &str, planned: &[&str]) {
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
    let mut binding = None;
    nested(fields, "attribution", |terms| {
        only(terms, "model", "last_click", &["first_click"]);
        binding = terms.optional_choice("customerBinding", &BINDING);
        zero(terms, "minSeconds");
        lookback = terms.optional_integer("lookbackDays", 0..=DAYS_MAX);
        code_beats_click = terms.optional_bool("codeBeatsClick");
        late = terms.optional_integer("lateEventMaxDays", 0..=DAYS_MAX);
    });
    let terms = AttributionTerms {
        lookback_ms: lookback.unwrap_or(LOOKBACK_DAYS_DEFAULT) * DAY_MS,
        code_beats_click: code_beats_click.unwrap_or(true),
        binding: binding.unwrap_or(Binding::None),
    };
    (terms, late.unwrap_or(LATE_EVENT_DAYS_DEFAULT) * DAY_MS)
}

/// Reads the object under `name`, if it is there, with `body`; then nothing else may be in it.
pub(super) fn nested<'v>(
    fields: &mut Fields<'v, '_>,
    name: &'static str,
    body: impl FnOnce(&mut Fields<'v, '_>),
) {
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

/// May a reward that finds no funds wait for them?
fn funding(fields: &mut Fields<'_, '_>) -> bool {
    let mut may_wait = None;
    nested(fields, "funding", |funding| {
        only(funding, "reserveAt", "created", &["approved"]);
        may_wait = funding.optional_choice("onInsufficient", &[("hold", true), ("reject", false)]);
    });
    may_wait.unwrap_or(true)
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
    let active = active(&mut fields);
    let mut conditions = Conditions::new();
    let eligibility = conditions.read(&mut fields, "eligibility");
    let when = conditions.read(&mut fields, "when");
    let price = price(&mut fields, &mut conditions);
    let own = uniqueness(&mut fields);
    let recurring = recurring(&mut fields);
    let own_caps = caps(&mut fields);
    let holding = holding(&mut fields);
    let reversal = reversal(&mut fields);
    let unique = own.as_ref().or(shared.uniqueness.as_ref());
    let mut caps: Vec<Cap> = own_caps.iter().chain(&shared.caps).cloned().collect();
    caps.sort_by(|a, b| a.key.cmp(&b.key));
    if let Some(recurring) = recurring {
        may_recur(&mut fields, recurring, unique, &caps);
    }
    fields.finish();
    let key = key?;
    let uniqueness = unique.and_then(|unique| unique.of_rule(&key));
    let (eligibility, when, price) = (eligibility?, when?, price?);
    let id = hash128("rule", &[key.as_bytes()]);
    let rule = Rule {
        key,
        id,
        event_types,
        gigs,
        active,
        eligibility,
        when,
        price,
        uniqueness,
        recurring,
        holding,
        reversal,
        caps,
    };
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

/// Letters, digits, `_`, `-` and `.`: keys stand in codes, rows and URLs.
pub(super) fn key(fields: &mut Fields<'_, '_>) -> Option<String> {
    let text = fields.text("key", KEY_LEN)?;
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    if !text.chars().all(plain) {
        fields.fault("key", "invalid_format", "may hold letters, digits, `_`, `-` and `.`");
        return None;
    }
    Some(text.to_owned())
}
