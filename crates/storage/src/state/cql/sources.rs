//! Where a process has its write times and its tokens from.

use std::sync::atomic::{AtomicU64, Ordering};

use schemas::hash::hash128;
use tokio::time::Instant;

use crate::{Error, Kind};

/// The machine's, or a test's own: then nothing in a run depends on anything but its seed.
pub(crate) enum Sources {
    /// The machine's clock and randomness.
    System,
    /// Of a test.
    Seeded(Seeded),
}

/// A clock that runs with tokio's time, and numbers drawn from a seed.
pub(crate) struct Seeded {
    from_us: i64,
    since: Instant,
    seed: u64,
    drawn: AtomicU64,
}

impl Sources {
    /// Shows `from_us` microseconds since 1970 now.
    pub(crate) fn seeded(from_us: i64, seed: u64) -> Self {
        let (since, drawn) = (Instant::now(), AtomicU64::new(0));
        Self::Seeded(Seeded { from_us, since, seed, drawn })
    }

    /// Orders writes of different owners of a shard, in microseconds since 1970; nothing that is decided
    /// sees it.
    pub(crate) fn now_us(&self) -> i64 {
        match self {
            Self::System => system_us(),
            Self::Seeded(Seeded { from_us, since, .. }) => {
                let passed = i64::try_from(since.elapsed().as_micros()).unwrap_or(i64::MAX);
                from_us.saturating_add(passed)
            }
        }
    }

    /// A number that no one else draws, to know one's own doing again.
    pub(crate) fn token(&self, op: &'static str) -> Result<i64, Error> {
        match self {
            Self::System => getrandom::u64()
                .map(u64::cast_signed)
                .map_err(|e| Error::determinate(op, Kind::Unavailable).because(e.to_string())),
            Self::Seeded(Seeded { seed, drawn, .. }) => {
                let nth = drawn.fetch_add(1, Ordering::Relaxed);
                let token = hash128("token", &[&seed.to_be_bytes(), &nth.to_be_bytes()]);
                Ok((token as u64).cast_signed())
            }
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a write time of the database, not a time of the product"
)]
fn system_us() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_seeded_runs_with_tokios_time_and_draws_the_same_again() {
        let draw = |seed| {
            let sources = Sources::seeded(5, seed);
            [sources.token("test").unwrap(), sources.token("test").unwrap()]
        };
        assert_eq!(draw(1), draw(1));
        let [first, second] = draw(1);
        assert!(first != second && draw(2) != draw(1));
        let sources = Sources::seeded(5, 1);
        tokio::time::advance(Duration::from_millis(3)).await;
        assert_eq!(sources.now_us(), 3_005);
    }
}
