//! The evaluator over logs and stores in memory.

mod loads;
mod recovery;
mod support;
mod throughput;
