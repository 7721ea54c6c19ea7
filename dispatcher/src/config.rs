//! The dispatcher's settings; their defaults are the product's.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serve::config::{Size, Span};

use crate::transport::Deadlines;

/// Every setting, with its bound.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Also deliver to http and https receivers on this machine. Not an operator's choice: it follows from
    /// where the process listens.
    #[serde(skip)]
    pub allow_loopback_targets: bool,
    /// To resolve a receiver's name, connect and agree on TLS.
    pub connect_timeout: Span,
    /// For a whole attempt, the answer's body included.
    pub attempt_timeout: Span,
    /// Attempts at once over all endpoints.
    pub in_flight_max: usize,
    /// Attempts at once to one endpoint; a slow one gets fewer.
    pub endpoint_in_flight_max: usize,
    /// How long deliveries are kept after they are done with.
    pub delivery_retention: Span,
    /// How long outcomes and clicks stay on their logs after they were followed.
    pub log_retention: Span,
    /// Outcomes or clicks read at once.
    pub batch_records: usize,
    /// Bytes of outcomes or clicks read at once.
    pub batch_bytes: Size,
    /// How long analytics waits for more to count at once; at least as long as its store wants.
    pub analytics_linger: Span,
    /// After how long a position that moved without deliveries is stored.
    pub position_linger: Span,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            allow_loopback_targets: false,
            connect_timeout: Span::from_secs(5),
            attempt_timeout: Span::from_secs(15),
            in_flight_max: 1_024,
            endpoint_in_flight_max: 10,
            delivery_retention: Span(Duration::from_secs(30 * 86_400)),
            log_retention: Span(Duration::from_secs(7 * 86_400)),
            batch_records: 4_096,
            batch_bytes: Size(4 << 20),
            analytics_linger: Span::from_ms(50),
            position_linger: Span::from_secs(1),
        }
    }
}

impl Config {
    /// How long one attempt may take.
    pub const fn deadlines(&self) -> Deadlines {
        Deadlines { connect: self.connect_timeout.0, total: self.attempt_timeout.0 }
    }

    /// How much of a log is read at once: at least something.
    pub(crate) fn read_limit(&self) -> storage::log::ReadLimit {
        let bytes = usize::try_from(self.batch_bytes.0).unwrap_or(usize::MAX);
        storage::log::ReadLimit { records: self.batch_records.max(1), bytes: bytes.max(1) }
    }
}
