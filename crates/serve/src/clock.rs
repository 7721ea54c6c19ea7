//! The one source of wall-clock time, which tests and the simulator can steer.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use tokio::time::Instant;

/// Tells the time in milliseconds since the Unix epoch. Clones share their source.
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    System,
    Manual(Arc<AtomicI64>),
    Tokio { start_ms: i64, started: Instant },
}

impl Clock {
    /// The machine's clock. It may step back when the machine is adjusted.
    pub const fn system() -> Self {
        Self(Source::System)
    }

    /// A clock that stands at `start_ms` until [`Clock::advance`] or [`Clock::set`].
    pub fn manual(start_ms: i64) -> Self {
        Self(Source::Manual(Arc::new(AtomicI64::new(start_ms))))
    }

    /// A clock that shows `start_ms` now and runs with tokio's time, paused or not.
    pub fn tokio(start_ms: i64) -> Self {
        Self(Source::Tokio { start_ms, started: Instant::now() })
    }

    /// Milliseconds since the Unix epoch.
    pub fn now_ms(&self) -> i64 {
        match &self.0 {
            Source::System => system_ms(),
            Source::Manual(ms) => ms.load(Ordering::SeqCst),
            Source::Tokio { start_ms, started } => {
                let elapsed = i64::try_from(started.elapsed().as_millis()).unwrap_or(i64::MAX);
                start_ms.saturating_add(elapsed)
            }
        }
    }

    /// Moves a manual clock on by `ms` (back, where negative).
    ///
    /// # Panics
    /// On any other clock: nothing but a test's own clock can be moved.
    pub fn advance(&self, ms: i64) {
        self.steered().fetch_add(ms, Ordering::SeqCst);
    }

    /// Puts a manual clock to `ms` since the epoch.
    ///
    /// # Panics
    /// On any other clock.
    pub fn set(&self, ms: i64) {
        self.steered().store(ms, Ordering::SeqCst);
    }

    fn steered(&self) -> &AtomicI64 {
        match &self.0 {
            Source::Manual(ms) => ms,
            Source::System | Source::Tokio { .. } => panic!("only a manual clock can be moved"),
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "this is where the clock is read")]
fn system_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_manual_clock_moves_when_told_and_its_clones_with_it() {
        let clock = Clock::manual(1_000);
        let other = clock.clone();
        clock.advance(5);
        assert_eq!(other.now_ms(), 1_005);
        other.set(7);
        assert_eq!(clock.now_ms(), 7);
    }

    #[tokio::test(start_paused = true)]
    async fn a_tokio_clock_follows_paused_time() {
        let clock = Clock::tokio(1_000);
        tokio::time::advance(Duration::from_secs(3)).await;
        assert_eq!(clock.now_ms(), 4_000);
    }

    #[test]
    fn the_system_clock_is_in_this_century() {
        assert!(Clock::system().now_ms() > 1_700_000_000_000);
    }
}
