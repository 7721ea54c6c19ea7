//! The gate before a real catalog in memory, and admissions against a naive model.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod admission;
mod authenticate;
mod world;
