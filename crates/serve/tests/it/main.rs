//! The shell from outside: sockets, files, and nothing private.

mod admin;
mod config;
mod http;
mod tls;
