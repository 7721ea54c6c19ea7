//! A campaign's rules, validated and compiled: what `domain.md` 4.2 writes, as far as it is built.

mod cap_syntax;
mod condition_syntax;
mod price_syntax;
mod syntax;
mod test_syntax;
mod time_syntax;

use bytes::Bytes;
use jiff::tz::TimeZone;
use schemas::fault::Fault;
use schemas::hash::hash128;
use schemas::id::GigId;
use schemas::money::Currency;

use crate::active::Active;
use crate::amount::Formula;
use crate::calendar::{LocalDate, Period};
use crate::cap::{Cap, pair};
use crate::condition::Condition;
use crate::counter;
use crate::facts::Facts;
use crate::key::{Key, Slot};
use crate::life::{Holding, ReversalTerms};
use crate::metric::Metric;
use crate::recurring::Recurring;
use crate::tier::Tiers;

/// Rules per rulebook.
pub const RULES_MAX: usize = 100;
/// Caps on the rulebook itself, and on each rule.
pub const CAPS_MAX: usize = 20;
/// Levels of `all`, `any` and `not` in one condition, the leaf included.
pub const CONDITION_DEPTH_MAX: usize = 4;
/// Leaves of a rule's `eligibility` and `when` together.
pub const CONDITION_LEAVES_MAX: usize = 50;
/// Items of a list to compare with.
pub const LITERALS_MAX: usize = 1_000;
/// Tiers of one reward.
pub const TIERS_MAX: usize = 50;
/// Weekly windows of one rule.
pub const HOURS_MAX: usize = 50;
/// Days of a rolling window.
pub const ROLLING_DAYS_MAX: u16 = 366;

/// One version of a campaign's rules. Two are equal where their JSON is.
#[derive(Clone, Debug)]
pub struct Rulebook {
    pub(crate) currency: Currency,
    pub(crate) zone: TimeZone,
    pub(crate) attribution: AttributionTerms,
    pub(crate) late_event_max_ms: i64,
    pub(crate) combine: Combine,
    /// A reward that finds no funds is held until there are some, not refused.
    pub(crate) may_wait: bool,
    /// What conditions ask for of the past, each once.
    pub(crate) asked: Vec<Metric>,
    /// In the order they are tried: by priority, then key.
    pub(crate) rules: Vec<Rule>,
    /// The JSON it was compiled from.
    source: Bytes,
}

/// How a conversion finds its aktvator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AttributionTerms {
    pub(crate) lookback_ms: i64,
    pub(crate) code_beats_click: bool,
    pub(crate) binding: Binding,
}

/// Whether a customer stays with the aktvator that brought it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Binding {
    /// Every event stands alone.
    None,
    /// The first rewarded event binds for good.
    FirstConversion,
    /// Every event that names somebody binds anew.
    LastTouch,
}

/// What is made of several rules that match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Combine {
    /// The first decides.
    FirstMatch,
    /// The one that gives the most for the event, before caps.
    Best,
    /// Each gives its reward.
    Sum,
}

/// How a rule comes to its amount.
#[derive(Clone, Debug)]
pub(crate) enum Price {
    /// From the event alone.
    Plain(Formula),
    /// By how much went before.
    Tiered(Tiers),
}

/// One rule. Disabled rules are not compiled.
#[derive(Clone, Debug)]
pub(crate) struct Rule {
    pub(crate) key: String,
    /// Hash of the key.
    pub(crate) id: u128,
    /// Empty means any.
    pub(crate) event_types: Vec<String>,
    /// Empty means any.
    pub(crate) gigs: Vec<GigId>,
    pub(crate) active: Active,
    pub(crate) eligibility: Condition,
    pub(crate) when: Condition,
    pub(crate) price: Price,
    pub(crate) uniqueness: Option<Uniqueness>,
    pub(crate) recurring: Option<Recurring>,
    pub(crate) holding: Holding,
    pub(crate) reversal: ReversalTerms,
    /// The rule's own and the rulebook's, by key.
    pub(crate) caps: Vec<Cap>,
}

/// Within what a rule rewards once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Uniqueness {
    /// Hash of what is unique: the rule or the rulebook, and per whom.
    of: u128,
    customer: bool,
    aktvator: bool,
    window: Period,
}

impl Rulebook {
    /// Validates and compiles `json`, the rulebook object itself.
    ///
    /// # Errors
    /// Every fault at once, with JSON pointers from the rulebook object: what is missing, wrong,
    /// unknown, out of bounds, or (`not_supported`) in the grammar and not built yet; and a currency
    /// other than the organization's (`currency_mismatch`).
    pub fn parse(
        json: &serde_json::Value,
        organization_currency: Currency,
    ) -> Result<Self, Vec<Fault>> {
        syntax::rulebook(json, Some(organization_currency))
    }

    /// Compiles the JSON of a rulebook that was validated before.
    ///
    /// # Errors
    /// As [`Rulebook::parse`]: then another version of this program validated it.
    pub fn compile(json: Bytes) -> Result<Self, Vec<Fault>> {
        let value = schemas::input::parse(&json).map_err(|fault| vec![fault])?;
        Ok(Self { source: json, ..syntax::rulebook(&value, None)? })
    }

    /// What rewards are paid in.
    pub fn currency(&self) -> Currency {
        self.currency
    }

    /// Keys of all caps of enabled rules, sorted, each once.
    pub fn cap_keys(&self) -> Vec<&str> {
        let mut keys: Vec<_> =
            self.rules.iter().flat_map(|rule| &rule.caps).map(|cap| cap.key.as_str()).collect();
        keys.sort_unstable();
        keys.dedup();
        keys
    }

    /// Keys of the enabled rules, in the order they are tried.
    pub fn rule_keys(&self) -> impl Iterator<Item = &str> {
        self.rules.iter().map(|rule| rule.key.as_str())
    }

    /// The JSON it was compiled from.
    pub fn source(&self) -> Bytes {
        self.source.clone()
    }

    /// The local date in the rulebook's zone at `at_ms`, milliseconds since the epoch.
    pub(crate) fn local_date(&self, at_ms: i64) -> LocalDate {
        LocalDate::of(&self.zone, at_ms)
    }
}

impl PartialEq for Rulebook {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

impl Rule {
    /// Does the rule take events of this type and gig at all?
    pub(crate) fn takes(&self, facts: &Facts<'_>) -> bool {
        let event_type = &facts.conversion.event.event_type;
        (self.event_types.is_empty() || self.event_types.contains(event_type))
            && (self.gigs.is_empty() || self.gigs.contains(&facts.gig))
    }

    pub(crate) fn tiers(&self) -> Option<&Tiers> {
        match &self.price {
            Price::Plain(_) => None,
            Price::Tiered(tiers) => Some(tiers),
        }
    }
}

impl Uniqueness {
    /// `rule_key` is empty where all rules share the slot.
    pub(crate) fn new(rule_key: &str, customer: bool, aktvator: bool, window: Period) -> Self {
        let whose = [u8::from(customer), u8::from(aktvator)];
        let of = hash128("unique", &[rule_key.as_bytes(), &whose]);
        Self { of, customer, aktvator, window }
    }

    /// The slot that a reward for `facts` takes. `None` where it is per customer and the event names
    /// none: then the idempotency key alone makes it unique.
    pub(crate) fn key(&self, facts: &Facts<'_>) -> Option<Key> {
        let aktvator = facts.aktvator_id.to_u128();
        let subject = match (self.customer, self.aktvator) {
            (false, false) => 0,
            (false, true) => aktvator,
            (true, false) => facts.conversion.customer()?,
            (true, true) => pair(facts.conversion.customer()?, aktvator),
        };
        if let Period::Rolling(_) = self.window {
            return Some(counter::key(facts, self.of, self.window, subject));
        }
        let bucket = facts.bucket(self.window);
        let slot = Slot { campaign: facts.campaign, of: self.of, bucket, subject };
        Some(Key::Unique(facts.scope, slot))
    }
}
