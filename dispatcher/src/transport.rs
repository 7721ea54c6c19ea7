//! Sends one request to one receiver and brings back what it answered, in bounded time and memory.
//!
//! Closed set of ways: over the network, or as a script says. Neither follows redirects, tries
//! again by itself, or reads more of an answer than it may.

mod connect;
mod hyper;
mod resolve;
mod scripted;

use std::time::Duration;

use bytes::Bytes;
use schemas::id::DeliveryId;
use schemas::target::Target;

pub use self::hyper::HyperTransport;
pub use self::scripted::{Reply, Scripted};
use crate::attempt::{Answer, NoAnswer};
use crate::config::Config;

/// One attempt, signed, ready for the wire.
#[derive(Clone, Debug, PartialEq)]
pub struct WebhookRequest {
    /// Where it goes; already found to be permitted by its spelling.
    pub target: Target,
    /// The notice's id: `webhook-id`.
    pub id: String,
    /// The attempt's time in seconds since the epoch: `webhook-timestamp`.
    pub timestamp_s: i64,
    /// `webhook-signature`.
    pub signature: String,
    /// `aktvator-delivery`; not signed.
    pub delivery: DeliveryId,
    /// `aktvator-attempt`, from 1; not signed.
    pub attempt: u32,
    /// The very bytes that were signed.
    pub body: Bytes,
}

/// How long one attempt may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadlines {
    /// To resolve the name (at most four fifths of it), connect and agree on TLS.
    pub connect: Duration,
    /// For all of it, the answer's body included.
    pub total: Duration,
}

/// The way out. Clones share connections, or the script.
#[derive(Clone)]
pub enum Transport {
    /// HTTP/1.1 over TCP and, for https, TLS.
    Hyper(HyperTransport),
    /// Answers as a function says, and remembers what it was sent.
    Scripted(Scripted),
}

impl Transport {
    /// The network, with the deadlines and permissions of `config`.
    pub fn network(config: &Config) -> Self {
        Self::Hyper(HyperTransport::new(config.deadlines(), config.allow_loopback_targets))
    }

    /// Sends `request` once.
    ///
    /// # Errors
    /// Why there is no answer. What a receiver was sent when there is none is not known, but for
    /// [`NoAnswer::Unsent`].
    pub async fn send(&self, request: WebhookRequest) -> Result<Answer, NoAnswer> {
        match self {
            Self::Hyper(transport) => transport.send(request).await,
            Self::Scripted(script) => script.send(request).await,
        }
    }
}
