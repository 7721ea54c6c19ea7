//! Active windows, recurring rewards, holding periods and reversals in a rulebook's JSON.

use jiff::civil::{Time, Weekday};
use schemas::fault::Fault;
use schemas::input::Fields;
use schemas::time::Timestamp;
use serde_json::Value;

use super::HOURS_MAX;
use super::cap_syntax::Unique;
use super::syntax::{DAYS_MAX, nested};
use crate::active::{Active, Hours};
use crate::calendar::{DAY_MS, Period};
use crate::cap::{Cap, CapMetric, CapScope};
use crate::life::{Holding, ReversalTerms};
use crate::recurring::Recurring;

/// A hundred years.
const MONTHS_MAX: i64 = 1_200;
/// Days that a reward may wait.
const HOLD_DAYS_MAX: i64 = 365;
const DAYS: [(&str, Weekday); 7] = [
    ("MON", Weekday::Monday),
    ("TUE", Weekday::Tuesday),
    ("WED", Weekday::Wednesday),
    ("THU", Weekday::Thursday),
    ("FRI", Weekday::Friday),
    ("SAT", Weekday::Saturday),
    ("SUN", Weekday::Sunday),
];

/// The `active` window of a rule.
pub(super) fn active(fields: &mut Fields<'_, '_>) -> Active {
    let mut active = Active::default();
    nested(fields, "active", |window| {
        active.from_ms = window.optional_parsed("from").map(Timestamp::as_ms);
        active.until_ms = window.optional_parsed("until").map(Timestamp::as_ms);
        if active.from_ms.zip(active.until_ms).is_some_and(|(from, until)| until <= from) {
            window.fault("until", "contradiction", "must be after `from`");
        }
        let items = window.optional_array("weekly", 0..=HOURS_MAX).unwrap_or_default();
        let read = |(path, value)| hours(path, value, window.faults());
        active.weekly = items.into_iter().filter_map(read).collect();
    });
    active
}

fn hours(path: String, value: &Value, faults: &mut Vec<Fault>) -> Option<Hours> {
    let mut fields = Fields::of(value, path, faults);
    let days = days(&mut fields);
    let start = clock(&mut fields, "start");
    let end = clock(&mut fields, "end");
    if let (Some(start), Some(end)) = (start, end)
        && end.is_some_and(|end| start.is_none_or(|start| end <= start))
    {
        fields.fault("end", "contradiction", "must be after `start`, `24:00` at most");
    }
    if start == Some(None) {
        fields.fault("start", "out_of_range", "must be before `24:00`");
    }
    fields.finish();
    Some(Hours { days: days?, start: start??, end: end? })
}

fn days(fields: &mut Fields<'_, '_>) -> Option<Vec<Weekday>> {
    if fields.optional("days").is_none() {
        fields.fault("days", "required", "is required");
    }
    let texts = fields.optional_texts("days", 1..=7, 1..=16)?;
    let named = |text: &&str| DAYS.iter().find(|(known, _)| known == text).map(|(_, day)| *day);
    let days: Option<Vec<_>> = texts.iter().map(named).collect();
    if days.is_none() {
        let message = "must hold some of: MON, TUE, WED, THU, FRI, SAT, SUN";
        fields.fault("days", "invalid_choice", message);
    }
    days
}

/// `HH:MM`; the inner `None` for `24:00`, the end of the day.
fn clock(fields: &mut Fields<'_, '_>, name: &'static str) -> Option<Option<Time>> {
    let text = fields.text(name, 1..=8)?;
    if text == "24:00" {
        return Some(None);
    }
    let two = |text: &str| match text.len() {
        2 if text.bytes().all(|c| c.is_ascii_digit()) => text.parse::<i8>().ok(),
        _ => None,
    };
    let parts = text.split_once(':').and_then(|(hour, minute)| two(hour).zip(two(minute)));
    let time = parts.and_then(|(hour, minute)| Time::new(hour, minute, 0, 0).ok());
    if time.is_none() {
        fields.fault(name, "invalid_format", "must be a time of day, like 09:00");
    }
    time.map(Some)
}

/// The `recurring` terms of a rule.
pub(super) fn recurring(fields: &mut Fields<'_, '_>) -> Option<Recurring> {
    let mut read = None;
    nested(fields, "recurring", |terms| {
        let months_max = terms.optional_integer("maxMonths", 0..=MONTHS_MAX);
        let count_max = terms.optional_integer("maxCount", 1..=i64::MAX);
        let lock_terms = terms.optional_bool("lockTerms").unwrap_or(false);
        read = Some(Recurring {
            months_max: months_max.and_then(|months| i32::try_from(months).ok()),
            count_max,
            lock_terms,
        });
    });
    read
}

/// How long the rewards of a rule wait. Without a word they wait for someone's approval.
pub(super) fn holding(fields: &mut Fields<'_, '_>) -> Holding {
    let mut holding = Holding { period_ms: 0, from_accepted: false, by_hand: true };
    nested(fields, "hold", |hold| {
        let days = hold.optional_integer("days", 0..=HOLD_DAYS_MAX).unwrap_or(0);
        let basis = hold.optional_choice("basis", &[("occurredAt", false), ("acceptedAt", true)]);
        holding = Holding {
            period_ms: days * DAY_MS,
            from_accepted: basis.unwrap_or(false),
            by_hand: hold.optional_bool("manualApproval").unwrap_or(false),
        };
    });
    holding
}

/// How the rewards of a rule are taken back.
pub(super) fn reversal(fields: &mut Fields<'_, '_>) -> ReversalTerms {
    let mut terms = ReversalTerms::default();
    nested(fields, "reversal", |reversal| {
        let days = reversal.optional_integer("windowDays", 0..=DAYS_MAX);
        let modes = [("proportional", false), ("full", true)];
        let after = [("clawback", false), ("absorb", true)];
        terms = ReversalTerms {
            window_ms: days.map(|days| days * DAY_MS),
            whole: reversal.optional_choice("mode", &modes).unwrap_or(false),
            restore_caps: reversal.optional_bool("restoreCaps").unwrap_or(true),
            absorb: reversal.optional_choice("afterPayout", &after).unwrap_or(false),
        };
    });
    terms
}

/// A rule that recurs must not be stopped after its first reward by something else that it says.
pub(super) fn may_recur(
    fields: &mut Fields<'_, '_>,
    recurring: Recurring,
    unique: Option<&Unique>,
    caps: &[Cap],
) {
    if unique.is_some_and(|unique| !unique.per_event) {
        let message = "a recurring rule needs a `uniqueness` of `event`";
        fields.fault("uniqueness", "contradiction", message);
    }
    let stops = |cap: &&Cap| {
        let per_customer = matches!(cap.scope, CapScope::Customer | CapScope::AktvatorCustomer);
        let too_few = recurring.count_max.is_some_and(|max| cap.limit < max);
        per_customer && cap.metric == CapMetric::Count && cap.period == Period::Lifetime && too_few
    };
    if let Some(cap) = caps.iter().find(stops) {
        let message = format!("the cap `{}` allows fewer rewards than `maxCount`", cap.key);
        fields.fault("recurring", "contradiction", message);
    }
}
