//! Runs seeds: `--seed N` for one with its trace, `--seeds N` for the first N.

use clap::Parser;
use simulator::{Failure, Options};

/// Runs the whole pipeline from seeds and checks its invariants.
#[derive(Parser)]
struct Arguments {
    /// Run this seed alone, and print what happens.
    #[arg(long)]
    seed: Option<u64>,
    /// Run so many seeds, from `--from` on.
    #[arg(long, default_value_t = 200)]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Things that happen in a run.
    #[arg(long, default_value_t = Options::of(0).actions)]
    actions: u32,
}

fn main() -> std::process::ExitCode {
    let arguments = Arguments::parse();
    let options = |seed| Options { actions: arguments.actions, ..Options::of(seed) };
    let result = match arguments.seed {
        Some(seed) => simulator::run(options(seed)).map(|report| print(&report.trace)),
        None => (arguments.from..arguments.from + arguments.seeds)
            .try_for_each(|seed| simulator::run(options(seed)).map(drop)),
    };
    match result {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(failure) => {
            tell(&failure);
            std::process::ExitCode::FAILURE
        }
    }
}

fn print(trace: &[String]) {
    trace.iter().for_each(|line| println!("{line}"));
}

fn tell(failure: &Failure) {
    print(&failure.trace);
    eprintln!("{failure}");
}
