//! Caps: limits on what a rulebook pays, all checked together (`domain.md` 4.6).

use schemas::hash::hash128;
use schemas::money::half_even;
use schemas::proto;

use crate::calendar::Period;
use crate::counter;
use crate::facts::Facts;
use crate::key::Key;
use crate::rulebook::Rule;

/// A limit with scope, metric and period.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cap {
    /// Unique in the rulebook. With scope and metric it is the identity of the counter, which so
    /// survives new versions.
    pub(crate) key: String,
    pub(crate) scope: CapScope,
    pub(crate) metric: CapMetric,
    pub(crate) period: Period,
    /// Above zero: minor units of the rulebook's currency, a count, or units.
    pub(crate) limit: i64,
    pub(crate) on_exceed: OnExceed,
    of: u128,
}

/// Within which use is counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum CapScope {
    Campaign,
    Rule,
    Gig,
    Link,
    Aktvator,
    Customer,
    AktvatorCustomer,
    /// All aktvators of this group together; others have no such cap.
    Group(String),
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CapMetric {
    /// Minor units paid.
    Amount,
    /// Rewards.
    Count,
    /// The event's quantity.
    Units,
}

/// What happens to a reward that does not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnExceed {
    /// The rest is paid, unless it is below this (minor units; 1 where the rulebook says nothing).
    Clip { payable_min: i64 },
    /// Nothing is paid.
    Reject,
}

/// Whose use of a cap an event adds to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    /// The cap is not for this event's aktvator.
    Nobody,
    /// The event does not say, and so cannot be counted; what is missing.
    Missing(&'static str),
    Is(u128),
}

/// A cap of a rule, and where its use by an event is counted.
pub(crate) struct Meter<'a> {
    pub(crate) cap: &'a Cap,
    pub(crate) key: Key,
    pub(crate) used: i64,
}

/// What the caps of a rule say of one reward.
pub(crate) struct Capped {
    /// Minor units; `None` where a cap refuses the reward.
    pub(crate) payable: Option<i64>,
    /// The cap that lowered or refused it: index into the meters.
    pub(crate) binding: Option<usize>,
    /// One per meter, in their order.
    pub(crate) uses: Vec<proto::CapUse>,
}

impl Cap {
    pub(crate) fn new(
        key: String,
        scope: CapScope,
        metric: CapMetric,
        period: Period,
        limit: i64,
        on_exceed: OnExceed,
    ) -> Self {
        let of = Self::identity(&key, &scope, metric.to_proto());
        Self { key, scope, metric, period, limit, on_exceed, of }
    }

    /// What names the counter of such a cap, whatever its limit.
    pub(crate) fn identity(key: &str, scope: &CapScope, metric: proto::CapMetric) -> u128 {
        let identity = [scope.to_proto() as u8, metric as u8];
        match scope {
            CapScope::Group(group) => {
                hash128("cap", &[key.as_bytes(), &identity, group.as_bytes()])
            }
            _ => hash128("cap", &[key.as_bytes(), &identity]),
        }
    }

    /// [`Cap::identity`] of this one.
    pub(crate) const fn identity_hash(&self) -> u128 {
        self.of
    }

    /// Whose use a reward of `rule` for `facts` adds to.
    pub(crate) fn subject(&self, rule: &Rule, facts: &Facts<'_>) -> Subject {
        let is_in_group = match &self.scope {
            CapScope::Group(group) => facts.aktvator.group.as_ref() == Some(group),
            _ => true,
        };
        match subject(&self.scope, rule.id, facts, is_in_group) {
            Subject::Is(_) if self.metric == CapMetric::Units && facts.quantity().is_none() => {
                Subject::Missing("quantity_missing")
            }
            subject => subject,
        }
    }

    /// The counter of a subject.
    pub(crate) fn counter(&self, facts: &Facts<'_>, subject: u128) -> Key {
        counter::key(facts, self.of, self.period, subject)
    }
}

/// Within whom a cap of this scope counts `facts`.
pub(crate) fn subject(
    scope: &CapScope,
    rule: u128,
    facts: &Facts<'_>,
    is_in_group: bool,
) -> Subject {
    let customer = || facts.conversion.customer().ok_or("customer_missing");
    let aktvator = facts.aktvator_id.to_u128();
    let subject = match scope {
        CapScope::Campaign => Ok(0),
        CapScope::Rule => Ok(rule),
        CapScope::Gig => Ok(facts.gig.to_u128()),
        CapScope::Link => facts.attribution.link.map(|link| link.to_u128()).ok_or("link_missing"),
        CapScope::Aktvator => Ok(aktvator),
        CapScope::Customer => customer(),
        CapScope::AktvatorCustomer => customer().map(|customer| pair(customer, aktvator)),
        CapScope::Group(_) if is_in_group => Ok(0),
        CapScope::Group(_) => return Subject::Nobody,
    };
    subject.map_or_else(Subject::Missing, Subject::Is)
}

/// What stands for a customer and an aktvator together.
pub(crate) fn pair(customer: u128, aktvator: u128) -> u128 {
    hash128("pair", &[&customer.to_be_bytes(), &aktvator.to_be_bytes()])
}

impl Meter<'_> {
    fn left(&self) -> i64 {
        self.cap.limit.saturating_sub(self.used).max(0)
    }

    fn clips(&self) -> bool {
        matches!(self.cap.on_exceed, OnExceed::Clip { .. })
    }

    /// What is left of a reward of `amount` for `units`.
    fn room(&self, amount: i64, units: i64) -> i64 {
        let left = self.left();
        match self.cap.metric {
            CapMetric::Amount => left,
            CapMetric::Count if left > 0 => i64::MAX,
            CapMetric::Count => 0,
            CapMetric::Units if left >= units => i64::MAX,
            // Below one whole: it cannot overflow.
            CapMetric::Units => {
                half_even(i128::from(amount) * i128::from(left), units.into()).unwrap_or_default()
            }
        }
    }

    fn taken(&self, payable: i64, units: i64) -> i64 {
        match self.cap.metric {
            CapMetric::Amount => payable,
            CapMetric::Count => 1,
            CapMetric::Units => units,
        }
    }
}

/// Checks `amount` (above zero) against all caps together: clipping caps lower it to the least that
/// any leaves, then those that reject must have room for what is left of it. Among equal caps the first
/// binds. A cap on units that clips pays the part of the amount that the units left are of all.
pub(crate) fn check(meters: &[Meter<'_>], amount: i64, facts: &Facts<'_>) -> Capped {
    let units = facts.quantity().unwrap_or(0);
    let rooms: Vec<i64> = meters.iter().map(|meter| meter.room(amount, units)).collect();
    let tightest = (0..meters.len())
        .filter(|&i| meters[i].clips() && rooms[i] < amount)
        .min_by_key(|&i| rooms[i]);
    let clipped = tightest.map_or(amount, |i| rooms[i]);
    let refusing = (0..meters.len()).find(|&i| match meters[i].cap.on_exceed {
        OnExceed::Reject if meters[i].cap.metric == CapMetric::Units => meters[i].left() < units,
        OnExceed::Reject => rooms[i] < clipped,
        OnExceed::Clip { payable_min } => rooms[i] < amount && clipped < payable_min,
    });
    // A clip to nothing is named by the tightest cap, even where another refuses too.
    let binding = if clipped == 0 { tightest } else { refusing.or(tightest) };
    let payable = (refusing.is_none() && clipped > 0).then_some(clipped);
    let counting = meters.iter().filter(|meter| meter.cap.metric == CapMetric::Units);
    let units_paid = counting.map(Meter::left).fold(units, i64::min);
    let uses = meters.iter().enumerate().map(|(i, Meter { cap, used, key: _ })| proto::CapUse {
        key: cap.key.clone(),
        metric: cap.metric.to_proto().into(),
        limit: cap.limit,
        used_before: *used,
        taken: payable.map_or(0, |payable| meters[i].taken(payable, units_paid)),
        period: cap.period.to_proto().into(),
        binding: binding == Some(i),
        scope: cap.scope.to_proto().into(),
        bucket: facts.bucket(cap.period).index,
        group: match &cap.scope {
            CapScope::Group(group) => group.clone(),
            _ => String::new(),
        },
    });
    Capped { payable, binding, uses: uses.collect() }
}

impl CapScope {
    pub(crate) fn of(scope: proto::CapScope, group: &str) -> Option<Self> {
        Some(match scope {
            proto::CapScope::Campaign => Self::Campaign,
            proto::CapScope::Rule => Self::Rule,
            proto::CapScope::Gig => Self::Gig,
            proto::CapScope::Link => Self::Link,
            proto::CapScope::Aktvator => Self::Aktvator,
            proto::CapScope::Customer => Self::Customer,
            proto::CapScope::AktvatorCustomer => Self::AktvatorCustomer,
            proto::CapScope::Group => Self::Group(group.to_owned()),
            proto::CapScope::Unspecified => return None,
        })
    }

    pub(crate) const fn to_proto(&self) -> proto::CapScope {
        match self {
            Self::Campaign => proto::CapScope::Campaign,
            Self::Rule => proto::CapScope::Rule,
            Self::Gig => proto::CapScope::Gig,
            Self::Link => proto::CapScope::Link,
            Self::Aktvator => proto::CapScope::Aktvator,
            Self::Customer => proto::CapScope::Customer,
            Self::AktvatorCustomer => proto::CapScope::AktvatorCustomer,
            Self::Group(_) => proto::CapScope::Group,
        }
    }
}

impl CapMetric {
    pub(crate) const fn to_proto(self) -> proto::CapMetric {
        match self {
            Self::Amount => proto::CapMetric::Amount,
            Self::Count => proto::CapMetric::Count,
            Self::Units => proto::CapMetric::Units,
        }
    }
}
