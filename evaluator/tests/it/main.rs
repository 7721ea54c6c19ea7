//! The evaluator over logs and stores in memory.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod loads;
mod moving;
mod recovery;
mod support;
mod throughput;

/// As the binary has it, so that what is measured is what runs.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
