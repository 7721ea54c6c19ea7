//! End-to-end tests over public HTTP only, against the real binary, and the repository's own lints.

mod tidy;
