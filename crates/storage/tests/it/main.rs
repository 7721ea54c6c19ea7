//! The conformance suites: every backend of a port keeps the port's contract.

mod analytics;
mod catalog;
mod embedded;
mod fault;
mod log;
mod speed;
mod state;
mod world;
