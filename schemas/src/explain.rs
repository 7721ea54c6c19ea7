//! A decision's figures as lines of text. Rows hold numbers; they are rendered where they are read.

use crate::proto::{self, arithmetic::Base};

/// The steps from the event's figures to what was paid, each as a line:
/// `percent 2000 bps of 4900 = 980`, `raised to min 1000`, `clipped to 500`.
pub fn arithmetic(rule: &proto::RuleDecision) -> Vec<String> {
    let Some(arithmetic) = &rule.arithmetic else { return Vec::new() };
    let raw = arithmetic.raw;
    let first = match &arithmetic.base {
        Some(Base::Flat(flat)) => match flat.units {
            Some(units) => format!("flat {} times {units} units = {raw}", flat.amount),
            None => format!("flat {}", flat.amount),
        },
        Some(Base::Percent(percent)) => {
            format!("percent {} bps of {} = {raw}", percent.bps, percent.of)
        }
        None => format!("amount {raw}"),
    };
    let raised = arithmetic.raised_to_min.map(|min| format!("raised to min {min}"));
    let lowered = arithmetic.lowered_to_max.map(|max| format!("lowered to max {max}"));
    let uncapped = arithmetic.lowered_to_max.or(arithmetic.raised_to_min).unwrap_or(raw);
    let clipped = (rule.reward_id.is_some() && rule.amount < uncapped)
        .then(|| format!("clipped to {}", rule.amount));
    [Some(first), raised, lowered, clipped].into_iter().flatten().collect()
}

/// `amount` or `count`.
pub fn cap_metric(cap: &proto::CapUse) -> &'static str {
    match cap.metric() {
        proto::CapMetric::Amount => "amount",
        proto::CapMetric::Count => "count",
        proto::CapMetric::Unspecified => "",
    }
}

/// `campaign`, `aktvator` or `customer`.
pub fn cap_scope(cap: &proto::CapUse) -> &'static str {
    match cap.scope() {
        proto::CapScope::Campaign => "campaign",
        proto::CapScope::Aktvator => "aktvator",
        proto::CapScope::Customer => "customer",
        proto::CapScope::Unspecified => "",
    }
}

/// The day (`2026-01-31`) or month (`2026-01`) of the rulebook's zone, or `lifetime`.
pub fn cap_bucket(cap: &proto::CapUse) -> String {
    let bucket = i64::from(cap.bucket);
    match cap.period() {
        proto::CapPeriod::Day => day(bucket),
        proto::CapPeriod::Month => {
            format!("{:04}-{:02}", 1970 + bucket.div_euclid(12), bucket.rem_euclid(12) + 1)
        }
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
        assert_eq!(arithmetic(&rule(percent, 980, 980)), ["percent 2000 bps of 4900 = 980"]);
        let mut raised = rule(percent, 980, 500);
        raised.arithmetic.as_mut().expect("there").raised_to_min = Some(1_000);
        let lines = ["percent 2000 bps of 4900 = 980", "raised to min 1000", "clipped to 500"];
        assert_eq!(arithmetic(&raised), lines);
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
            (CapPeriod::Lifetime, 0, "lifetime"),
        ];
        for (period, bucket, want) in cases {
            let cap = proto::CapUse { period: period.into(), bucket, ..Default::default() };
            assert_eq!(cap_bucket(&cap), want);
        }
    }
}
