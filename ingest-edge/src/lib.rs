//! The way in: conversion events over HTTP, and redirects that count clicks.
//!
//! [`Edge`] answers `POST /events/ingest` and `/events/ingest/batch`: authenticate, admit, append,
//! answer. [`Redirector`] answers `GET /CODE`: the redirect first, the click after.
//!
//! What it is not: nothing here judges an event by a rule, resolves whose it is, or looks anything up
//! about it. What it cannot read it refuses with every fault at once; what it accepts it hands to the
//! log as it came, less the plain e-mail address, of which only a hash is kept.
//!
//! Invariants: 202 is answered only after the log has the event durably; the same event has the
//! same id and fingerprint however often and in whatever company it is sent; a 4xx stores nothing;
//! a redirect never waits for the log. Start reading at `edge.rs`, then `event.rs`.

mod answer;
mod batch;
mod click;
mod clicks;
mod config;
mod edge;
mod event;
mod fields;
mod metadata;
pub mod metrics;
mod redirect;
mod request;
mod tape;
mod target;
mod wait;

pub use batch::BATCH_EVENTS_MAX;
pub use click::{CLICK_ID_LEN, Click, ClickKey};
pub use clicks::ClickWriter;
pub use config::Config;
pub use edge::{Edge, EdgeParts};
pub use event::{AMOUNT_MAX, EVENT_TYPE_MAX, FUTURE_MAX_MS, IDEMPOTENCY_KEY_MAX, ITEMS_MAX};
pub use redirect::{RedirectParts, Redirector};
pub use request::{BATCH_BODY_MAX, SINGLE_BODY_MAX, WAIT_MAX_MS};
