//! Caps: limits on what a rulebook pays, all checked together (`domain.md` 4.6).

use schemas::hash::hash128;
use schemas::proto;

use crate::calendar::Period;
use crate::facts::Facts;
use crate::key::{Key, Slot};

/// A limit with scope, metric and period.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cap {
    /// Unique in the rulebook. With scope and metric it is the identity of the counter, which so
    /// survives new versions.
    pub(crate) key: String,
    pub(crate) scope: CapScope,
    pub(crate) metric: CapMetric,
    pub(crate) period: Period,
    /// Above zero: minor units of the rulebook's currency, or a count.
    pub(crate) limit: i64,
    pub(crate) on_exceed: OnExceed,
    of: u128,
}

/// Within which use is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CapScope {
    Campaign,
    Aktvator,
    Customer,
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CapMetric {
    /// Minor units paid.
    Amount,
    /// Rewards.
    Count,
}

/// What happens to a reward that does not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnExceed {
    /// The rest is paid, unless it is below this (minor units; 1 where the rulebook says nothing).
    Clip { payable_min: i64 },
    /// Nothing is paid.
    Reject,
}

/// What the caps of a rule say of one reward.
pub(crate) struct Capped {
    /// Minor units; `None` where a cap refuses the reward.
    pub(crate) payable: Option<i64>,
    /// The cap that lowered or refused it: index into the caps.
    pub(crate) binding: Option<usize>,
    /// One per cap, in their order.
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
        let identity = [scope.to_proto() as u8, metric.to_proto() as u8];
        let of = hash128("cap", &[key.as_bytes(), &identity]);
        Self { key, scope, metric, period, limit, on_exceed, of }
    }

    pub(crate) fn is_per_customer(&self) -> bool {
        self.scope == CapScope::Customer
    }

    /// The counter that a reward for `facts` debits. `None` for a cap per customer where the event
    /// names none.
    pub(crate) fn counter(&self, facts: &Facts<'_>) -> Option<Key> {
        let subject = match self.scope {
            CapScope::Campaign => 0,
            CapScope::Aktvator => facts.aktvator_id.to_u128(),
            CapScope::Customer => facts.conversion.customer()?,
        };
        let bucket = facts.bucket(self.period);
        Some(Key::Counter(
            facts.scope,
            Slot { campaign: facts.campaign, of: self.of, bucket, subject },
        ))
    }

    /// What is left of an amount; for a count `i64::MAX` while there is room.
    fn room(&self, used: i64) -> i64 {
        let left = self.limit.saturating_sub(used).max(0);
        match self.metric {
            CapMetric::Amount => left,
            CapMetric::Count if left > 0 => i64::MAX,
            CapMetric::Count => 0,
        }
    }

    fn taken(&self, payable: i64) -> i64 {
        match self.metric {
            CapMetric::Amount => payable,
            CapMetric::Count => 1,
        }
    }
}

/// Checks `amount` (above zero) against all `caps` together: clipping caps lower it to the least that
/// any leaves, then those that reject must have room for what is left of it. `used` are their
/// counters, in the same order. Among equal caps the first binds.
pub(crate) fn check(caps: &[Cap], used: &[i64], amount: i64, facts: &Facts<'_>) -> Capped {
    let rooms: Vec<i64> = caps.iter().zip(used).map(|(cap, used)| cap.room(*used)).collect();
    let clip = |cap: &Cap| matches!(cap.on_exceed, OnExceed::Clip { .. });
    let tightest =
        (0..caps.len()).filter(|&i| clip(&caps[i]) && rooms[i] < amount).min_by_key(|&i| rooms[i]);
    let clipped = tightest.map_or(amount, |i| rooms[i]);
    let refusing = (0..caps.len()).find(|&i| match caps[i].on_exceed {
        OnExceed::Reject => rooms[i] < clipped,
        OnExceed::Clip { payable_min } => rooms[i] < amount && clipped < payable_min,
    });
    // A clip to nothing is named by the tightest cap, even where another refuses too.
    let binding = if clipped == 0 { tightest } else { refusing.or(tightest) };
    let payable = (refusing.is_none() && clipped > 0).then_some(clipped);
    let uses = caps
        .iter()
        .zip(used)
        .enumerate()
        .map(|(i, (cap, used))| proto::CapUse {
            key: cap.key.clone(),
            metric: cap.metric.to_proto().into(),
            limit: cap.limit,
            used_before: *used,
            taken: payable.map_or(0, |payable| cap.taken(payable)),
            period: cap.period.to_proto().into(),
            binding: binding == Some(i),
            scope: cap.scope.to_proto().into(),
            bucket: facts.bucket(cap.period).index,
        })
        .collect();
    Capped { payable, binding, uses }
}

impl CapScope {
    const fn to_proto(self) -> proto::CapScope {
        match self {
            Self::Campaign => proto::CapScope::Campaign,
            Self::Aktvator => proto::CapScope::Aktvator,
            Self::Customer => proto::CapScope::Customer,
        }
    }
}

impl CapMetric {
    const fn to_proto(self) -> proto::CapMetric {
        match self {
            Self::Amount => proto::CapMetric::Amount,
            Self::Count => proto::CapMetric::Count,
        }
    }
}
