//! A decision's figures as lines of text. Rows hold numbers; they are rendered where they are read.

use crate::proto::{self, arithmetic::Base};

/// The steps from the event's figures to what was paid, each as a line:
/// `tier from 11: aktvator.conversions 10 to 11 in 2026-01`, `percent 2000 bps of 4900 = 980`,
/// `raised to min 1000`, `clipped to 500`.
pub fn arithmetic(rule: &proto::RuleDecision) -> Vec<String> {
    let Some(arithmetic) = &rule.arithmetic else { return Vec::new() };
    let raw = arithmetic.raw;
    let reached = arithmetic.tier.as_ref().map(tier);
    let first =
        arithmetic.base.as_ref().map_or_else(|| format!("amount {raw}"), |of| base(of, raw));
    let raised = arithmetic.raised_to_min.map(|min| format!("raised to min {min}"));
    let lowered = arithmetic.lowered_to_max.map(|max| format!("lowered to max {max}"));
    let uncapped = arithmetic.lowered_to_max.or(arithmetic.raised_to_min).unwrap_or(raw);
    let clipped = (rule.reward_id.is_some() && rule.amount < uncapped)
        .then(|| format!("clipped to {}", rule.amount));
    [reached, Some(first), raised, lowered, clipped].into_iter().flatten().collect()
}

fn tier(tier: &proto::TierReached) -> String {
    let proto::TierReached { metric, before, after, from, .. } = tier;
    let bucket = bucket(tier.period(), tier.bucket);
    format!("tier from {from}: {metric} {before} to {after} in {bucket}")
}

fn base(base: &Base, raw: i64) -> String {
    match base {
        Base::Flat(proto::Flat { amount, units: Some(units) }) => {
            format!("flat {amount} times {units} units = {raw}")
        }
        Base::Flat(proto::Flat { amount, units: None }) => format!("flat {amount}"),
        Base::Percent(proto::Percent { bps, of }) => format!("percent {bps} bps of {of} = {raw}"),
        Base::Items(proto::ItemsPercent { bps, items, of }) => {
            format!("percent {bps} bps of each of {items} items, {of} in all = {raw}")
        }
        Base::Graduated(graduated) => {
            let part = |proto::Percent { bps, of }: &proto::Percent| format!("{bps} bps of {of}");
            let parts: Vec<_> = graduated.parts.iter().map(part).collect();
            format!("percent {} = {raw}", parts.join(" + "))
        }
        Base::Adjustment(proto::Adjustment { conversions, owed, earned }) => {
            format!("{conversions} conversions before, now worth {owed}, less {earned} = {raw}")
        }
    }
}

/// `amount`, `count` or `units`.
pub fn cap_metric(metric: proto::CapMetric) -> &'static str {
    match metric {
        proto::CapMetric::Amount => "amount",
        proto::CapMetric::Count => "count",
        proto::CapMetric::Units => "units",
        proto::CapMetric::Unspecified => "",
    }
}

/// As rulebooks write it; `group` without its name, which is in the rulebook.
pub fn cap_scope(scope: proto::CapScope) -> &'static str {
    match scope {
        proto::CapScope::Campaign => "campaign",
        proto::CapScope::Rule => "rule",
        proto::CapScope::Gig => "gig",
        proto::CapScope::Link => "link",
        proto::CapScope::Aktvator => "aktvator",
        proto::CapScope::Customer => "customer",
        proto::CapScope::AktvatorCustomer => "aktvator_customer",
        proto::CapScope::Group => "group",
        proto::CapScope::Unspecified => "",
    }
}

/// In the rulebook's zone the day (`2026-01-31`), the week by its Monday (`week of 2026-01-26`), the month
/// (`2026-01`), the quarter (`2026-Q1`) or the year; `7 days`; or `lifetime`.
pub fn cap_bucket(cap: &proto::CapUse) -> String {
    bucket(cap.period(), cap.bucket)
}

fn bucket(period: proto::CapPeriod, index: i32) -> String {
    let index = i64::from(index);
    let year = |parts: i64| 1970 + index.div_euclid(parts);
    match period {
        proto::CapPeriod::Day => day(index),
        proto::CapPeriod::Week => format!("week of {}", day(index * 7 - 3)),
        proto::CapPeriod::Month => format!("{:04}-{:02}", year(12), index.rem_euclid(12) + 1),
        proto::CapPeriod::Quarter => format!("{:04}-Q{}", year(4), index.rem_euclid(4) + 1),
        proto::CapPeriod::Year => format!("{:04}", year(1)),
        proto::CapPeriod::Rolling => format!("{index} days"),
        proto::CapPeriod::Lifetime | proto::CapPeriod::Unspecified => "lifetime".to_owned(),
    }
}

fn day(days_since_1970: i64) -> String {
    jiff::civil::date(1970, 1, 1)
        .checked_add(jiff::Span::new().try_days(days_since_1970).unwrap_or_default())
        .map_or_else(|_| "beyond the calendar".to_owned(), |date| date.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(base: Base, raw: i64, amount: i64) -> proto::RuleDecision {
        proto::RuleDecision {
            reward_id: Some(bytes::Bytes::from_static(&[0; 16])),
            amount,
            arithmetic: Some(proto::Arithmetic { base: Some(base), raw, ..Default::default() }),
            ..Default::default()
        }
    }

    #[test]
    fn steps() {
        let percent = Base::Percent(proto::Percent { bps: 2_000, of: 4_900 });
        assert_eq!(
            arithmetic(&rule(percent.clone(), 980, 980)),
            ["percent 2000 bps of 4900 = 980"]
        );
        let mut raised = rule(percent, 980, 500);
        raised.arithmetic.as_mut().expect("there").raised_to_min = Some(1_000);
        let lines = ["percent 2000 bps of 4900 = 980", "raised to min 1000", "clipped to 500"];
        assert_eq!(arithmetic(&raised), lines);
        let parts = [(1_000, 50), (2_000, 70)].map(|(bps, of)| proto::Percent { bps, of }).to_vec();
        let mut graduated = rule(Base::Graduated(proto::Graduated { parts }), 19, 19);
        graduated.arithmetic.as_mut().expect("there").tier = Some(proto::TierReached {
            metric: "aktvator.revenue".to_owned(),
            period: proto::CapPeriod::Month.into(),
            bucket: 672,
            before: 50,
            after: 170,
            from: 100,
        });
        let lines = [
            "tier from 100: aktvator.revenue 50 to 170 in 2026-01",
            "percent 1000 bps of 50 + 2000 bps of 70 = 19",
        ];
        assert_eq!(arithmetic(&graduated), lines);
        let units = Base::Flat(proto::Flat { amount: 50, units: Some(3) });
        assert_eq!(arithmetic(&rule(units, 150, 150)), ["flat 50 times 3 units = 150"]);
    }

    #[test]
    fn buckets() {
        use proto::CapPeriod;
        let cases = [
            (CapPeriod::Month, 672, "2026-01"),
            (CapPeriod::Month, -1, "1969-12"),
            (CapPeriod::Day, 20_454, "2026-01-01"),
            (CapPeriod::Week, 2_935, "week of 2026-03-30"),
            (CapPeriod::Quarter, 225, "2026-Q2"),
            (CapPeriod::Year, 56, "2026"),
            (CapPeriod::Rolling, 7, "7 days"),
            (CapPeriod::Lifetime, 0, "lifetime"),
        ];
        for (period, bucket, want) in cases {
            let cap = proto::CapUse { period: period.into(), bucket, ..Default::default() };
            assert_eq!(cap_bucket(&cap), want);
        }
    }
}
