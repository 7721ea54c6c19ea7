//! Token-bucket arithmetic, by the generic cell rate algorithm (ITU-T I.371, annex A).
//!
//! A bucket is one number, its theoretical arrival time (TAT): the instant at which it is full
//! again. Nothing here reads a clock or stores anything.

/// Nanoseconds of a second.
const SECOND_NS: u64 = 1_000_000_000;
/// The longest a bucket can be empty ahead of time. A clock that was set back must not lock a caller
/// out for longer; a charge above the burst is forgiven as far as it goes beyond this.
const DEBT_MAX_NS: u64 = 3_600 * SECOND_NS;

/// How fast a bucket fills, and how much it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Tokens per second; 0 counts as 1.
    pub per_second: u32,
    /// Tokens at most; 0 counts as 1.
    pub burst: u32,
}

/// What became of an attempt to take tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Whether they were taken.
    pub allowed: bool,
    /// The bucket's TAT from now on, in nanoseconds; unchanged where nothing was taken.
    pub tat_ns: u64,
    /// Whole tokens left.
    pub remaining: u32,
    /// Nanoseconds until there is one token more, 0 where the bucket is full; where nothing was
    /// taken, until it would be.
    pub wait_ns: u64,
}

impl Rate {
    /// Seconds in which an empty bucket fills, rounded up; at least 1.
    pub fn window_s(self) -> u32 {
        self.burst().div_ceil(self.per_second())
    }

    fn per_second(self) -> u32 {
        self.per_second.max(1)
    }

    fn burst(self) -> u32 {
        self.burst.max(1)
    }

    /// The time in which `tokens` drip, rounded down.
    fn time_ns(self, tokens: u32) -> u64 {
        u64::from(tokens) * SECOND_NS / u64::from(self.per_second())
    }

    /// The same, rounded up: in this time there are certainly `tokens`.
    fn full_time_ns(self, tokens: u32) -> u64 {
        (u64::from(tokens) * SECOND_NS).div_ceil(u64::from(self.per_second()))
    }

    /// Whole tokens that drip in `time_ns`, at most the burst.
    fn tokens(self, time_ns: u64) -> u32 {
        let tokens = u128::from(time_ns) * u128::from(self.per_second()) / u128::from(SECOND_NS);
        u32::try_from(tokens).unwrap_or(u32::MAX).min(self.burst())
    }
}

/// Takes `cost` tokens at `now_ns` from the bucket whose TAT is `tat_ns` (0: full), if they are there.
///
/// A cost above the burst is let through by a full bucket and charged in full, so that it is neither
/// impossible nor cheaper than the same in small portions. A `cost` of 0 only looks.
pub fn take(tat_ns: u64, now_ns: u64, rate: Rate, cost: u32) -> Taken {
    let capacity = rate.full_time_ns(rate.burst());
    let used = tat_ns.saturating_sub(now_ns).min(capacity.max(DEBT_MAX_NS));
    let needed = rate.time_ns(cost.min(rate.burst()));
    if used + needed > capacity {
        let remaining = rate.tokens(capacity.saturating_sub(used));
        return Taken { allowed: false, tat_ns, remaining, wait_ns: used + needed - capacity };
    }
    let used = used + rate.time_ns(cost);
    let left = capacity.saturating_sub(used);
    let remaining = rate.tokens(left);
    let wait_ns = if remaining == rate.burst() {
        0
    } else {
        (rate.full_time_ns(remaining + 1) + used).saturating_sub(capacity)
    };
    Taken { allowed: true, tat_ns: now_ns + used, remaining, wait_ns }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const RATE: Rate = Rate { per_second: 10, burst: 5 };
    const NOW: u64 = 1_000 * SECOND_NS;

    #[test]
    fn a_bucket_empties_and_fills() {
        let mut tat = 0;
        for left in (0..5).rev() {
            let taken = take(tat, NOW, RATE, 1);
            assert_eq!((taken.allowed, taken.remaining), (true, left));
            assert_eq!(taken.wait_ns, SECOND_NS / 10, "the next token");
            tat = taken.tat_ns;
        }
        let refused = take(tat, NOW, RATE, 2);
        assert_eq!((refused.allowed, refused.remaining, refused.tat_ns), (false, 0, tat));
        assert_eq!(refused.wait_ns, SECOND_NS / 5, "two tokens");
        assert!(!take(tat, NOW + refused.wait_ns - 1, RATE, 2).allowed);
        assert!(take(tat, NOW + refused.wait_ns, RATE, 2).allowed);
        let full = take(tat, NOW + SECOND_NS, RATE, 0);
        assert_eq!((full.remaining, full.wait_ns), (5, 0));
    }

    #[test]
    fn more_than_the_burst_goes_once_and_is_paid_in_full() {
        let first = take(0, NOW, RATE, 20);
        assert_eq!((first.allowed, first.remaining), (true, 0));
        let again = take(first.tat_ns, NOW, RATE, 1);
        assert_eq!(again.wait_ns, 16 * SECOND_NS / 10, "fifteen in debt, and one");
        assert!(!take(first.tat_ns, NOW + SECOND_NS, RATE, 20).allowed);
        assert!(take(first.tat_ns, NOW + 2 * SECOND_NS, RATE, 20).allowed);
    }

    #[test]
    fn a_clock_that_was_set_back_does_not_lock_out_for_long() {
        let day = 86_400 * SECOND_NS;
        let refused = take(NOW + day, NOW, RATE, 1);
        assert!(!refused.allowed && refused.wait_ns <= DEBT_MAX_NS);
    }

    #[test]
    fn windows() {
        for (per_second, burst, window) in [(1_000, 2_000, 2), (100, 200, 2), (10, 5, 1), (0, 0, 1)]
        {
            assert_eq!(Rate { per_second, burst }.window_s(), window);
        }
    }

    proptest! {
        /// Against a bucket that counts fractions of tokens exactly (in units of a nanosecond's drip).
        #[test]
        fn agrees_with_a_counting_bucket(
            per_second in 1u32..5_000,
            burst in 1u32..5_000,
            steps in prop::collection::vec((0u64..3_000, 0u32..40), 1..60),
        ) {
            let rate = Rate { per_second, burst };
            let unit = u128::from(SECOND_NS);
            let full = u128::from(burst) * unit;
            let (mut tat, mut now, mut held) = (0, NOW, full);
            for (pause_ms, cost) in steps {
                now += pause_ms * 1_000_000;
                held = full.min(held + u128::from(pause_ms) * 1_000_000 * u128::from(per_second));
                let cost = cost.min(burst);
                let price = u128::from(cost) * unit;
                let taken = take(tat, now, rate, cost);
                // A charge is cut to whole nanoseconds: what is within that of a token may go either way.
                let slack = 60 * 2 * u128::from(per_second);
                if held >= price + slack { prop_assert!(taken.allowed); }
                if held + slack < price { prop_assert!(!taken.allowed); }
                if taken.allowed { held = held.saturating_sub(price); }
                tat = taken.tat_ns;
                let low = (held.saturating_sub(slack) / unit) as u32;
                let high = ((held + slack) / unit) as u32;
                prop_assert!((low..=high).contains(&taken.remaining), "{taken:?} {held}");
                if !taken.allowed {
                    prop_assert!(take(tat, now + taken.wait_ns, rate, cost).allowed);
                    prop_assert!(taken.wait_ns > 0);
                }
            }
        }
    }
}
