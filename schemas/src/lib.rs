//! Names and bytes: what things are called, and how they look on the logs, in the stores and as
//! public JSON.
//!
//! It is not a place for behaviour: nothing here decides, waits or stores. Ids, money and time are
//! the words every other crate speaks; [`proto`] holds the log records and state rows (the source is
//! `proto/aktvator/v1.proto`); [`entity`] the documents of the catalog; [`fault`] the one error
//! shape; [`input`] reads JSON strictly and reports every fault at once; [`partition`] says which
//! partition an organization lives in.
//!
//! Invariant: no clock, no randomness, no I/O; the same value always has the same bytes.

pub mod delivery_key;
pub mod entity;
pub mod explain;
pub mod fault;
pub mod hash;
pub mod id;
pub mod ingest;
pub mod input;
pub mod money;
pub mod notice;
pub mod partition;
pub mod proto;
pub mod target;
pub mod time;
pub mod view;
