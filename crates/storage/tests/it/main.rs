//! The conformance suites: every backend of a port keeps the port's contract.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on stops")]

mod analytics;
mod catalog;
mod catalog_outbox;
mod cluster;
mod cql_proxy;
mod embedded;
mod export;
mod fault;
mod kafka;
mod keyspace;
mod log;
mod rivals;
mod speed;
mod state;
mod state_cql;
mod world;
