//! Ever longer pauses while a store or log is away.

use std::time::Duration;

/// The first pause.
const FIRST: Duration = Duration::from_millis(50);
/// No pause is longer.
const LONGEST: Duration = Duration::from_secs(10);

/// Doubles with each failure in a row.
#[derive(Debug)]
pub(crate) struct Backoff {
    next: Duration,
}

impl Backoff {
    /// Before the first failure.
    pub(crate) const fn new() -> Self {
        Self { next: FIRST }
    }

    /// After a success.
    pub(crate) const fn reset(&mut self) {
        self.next = FIRST;
    }

    /// Waits, each time twice as long, at most 10 s.
    pub(crate) async fn wait(&mut self) {
        let pause = self.next;
        self.next = (pause * 2).min(LONGEST);
        tokio::time::sleep(pause).await;
    }
}
