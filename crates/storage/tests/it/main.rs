//! The conformance suites: every backend of a port keeps the port's contract.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on stops")]

mod analytics;
mod catalog;
mod catalog_outbox;
mod embedded;
mod fault;
mod log;
mod speed;
mod state;
mod world;
