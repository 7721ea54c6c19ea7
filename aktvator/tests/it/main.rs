//! End-to-end tests over public HTTP only, against the real binary, and the repository's own lints.

mod bad_input;
mod cluster;
mod composition;
mod crash;
mod disk;
mod main_path;
mod moving;
mod node;
mod operating;
mod receiver;
mod roles;
mod servers;
mod tidy;
