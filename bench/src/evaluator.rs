//! `bench evaluator`: fills an event log, then measures how fast the evaluator decides it.

/// Options of `bench evaluator`.
#[derive(clap::Args)]
pub(crate) struct Evaluator {}

/// Measures and prints.
pub(crate) fn run(_options: &Evaluator) -> Result<(), String> {
    Err("being written".to_owned())
}
