//! The process shell: configuration, clock, TLS, accept loop and drain, health, telemetry.
//!
//! What it is not: no domain noun appears here, and nothing here knows what a request is about. A
//! program hands [`http::serve`] a function from request to response, and gets time from [`Clock`],
//! its settings from [`config::load`], and its end from [`Shutdown`].
//!
//! Invariants: every wait is bounded ([`http::Limits`]); a handler that panics costs its client a
//! 500 and nobody else anything; a request that was accepted before a shutdown is answered within
//! the drain deadline. Start reading at [`http`].

pub mod admin;
pub mod body;
mod clock;
pub mod config;
mod crew;
mod health;
pub mod http;
pub mod metrics;
pub mod process;
mod shutdown;
mod task;
pub mod telemetry;
pub mod tls;

pub use body::Body;
pub use clock::Clock;
pub use crew::Crew;
pub use health::{Check, Health};
pub use shutdown::{Shutdown, listen_for_signals};
pub use task::spawn;

/// An error of any kind, as bodies carry it.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
