//! End-to-end tests over public HTTP only, against the real binary, and the repository's own lints.

mod bad_input;
mod cluster;
mod composition;
#[allow(
    clippy::unwrap_used,
    dead_code,
    reason = "the storage crate's own, of which not all is needed here"
)]
#[path = "../../../crates/storage/tests/it/cql_proxy.rs"]
mod cql_proxy;
mod crash;
mod disk;
mod faults;
mod installation;
mod invariants;
mod main_path;
mod moving;
mod node;
mod operating;
mod paying_out;
mod proof_of_work;
mod receiver;
mod roles;
mod servers;
mod taking_back;
mod tidy;
mod workload;
