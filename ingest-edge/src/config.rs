//! What an operator can set. The limits of the public contract (sizes of bodies and batches, the
//! longest wait) are constants, because clients are written against them.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serve::config::Span;

/// Settings of ingest and redirects. What lies outside its bounds is moved to the nearest one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// How long a request's body may take to arrive: 1 s to 5 min, 15 s unless set.
    pub body_timeout: Span,
    /// Clicks waiting to be written: 16 to 1,048,576, 65,536 unless set (about 200 bytes each). Beyond it
    /// they are dropped and counted, for a redirect never waits.
    pub click_queue: usize,
    /// Codes whose target is kept in memory: 16 to 10,000,000, 100,000 unless set.
    pub link_cache: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self { body_timeout: Span::from_secs(15), click_queue: 65_536, link_cache: 100_000 }
    }
}

impl Config {
    pub(crate) fn body_timeout(&self) -> Duration {
        self.body_timeout.0.clamp(Duration::from_secs(1), Duration::from_secs(300))
    }

    pub(crate) fn click_queue(&self) -> usize {
        self.click_queue.clamp(16, 1 << 20)
    }

    pub(crate) fn link_cache(&self) -> u64 {
        self.link_cache.clamp(16, 10_000_000)
    }
}
