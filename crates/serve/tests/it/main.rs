//! The shell from outside: sockets, files, and nothing private.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod admin;
mod config;
mod http;
mod tls;
