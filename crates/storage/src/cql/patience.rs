//! How long and how often something is tried again.

use std::time::Duration;

use tokio::time::{Instant, sleep};

const PAUSE_MIN: Duration = Duration::from_millis(10);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// Growing pauses until a deadline.
pub(crate) struct Patience {
    until: Instant,
    pause: Duration,
}

impl Patience {
    /// Ends after this long.
    pub(crate) fn new(lasting: Duration) -> Self {
        Self { until: Instant::now() + lasting, pause: PAUSE_MIN }
    }

    /// Waits before another try; `false`, at once, when it is at its end.
    pub(crate) async fn pause(&mut self) -> bool {
        if Instant::now() + self.pause > self.until {
            return false;
        }
        sleep(self.pause).await;
        self.pause = (self.pause * 2).min(PAUSE_MAX);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_ends() {
        let started = Instant::now();
        let mut patience = Patience::new(Duration::from_secs(10));
        let mut tries = 0;
        while patience.pause().await {
            tries += 1;
        }
        assert!((10..=20).contains(&tries), "{tries}");
        let took = started.elapsed();
        assert!((Duration::from_secs(8)..=Duration::from_secs(10)).contains(&took), "{took:?}");
    }
}
