//! The one binary: `aktvator serve` runs everything, `quickstart` and `listen` show it off.

mod api;
mod cli;
mod config;
mod failure;
mod listen;
mod migrate;
mod moving;
mod node;
mod operator;
mod public;
mod quickstart;
mod random;
mod role;
mod stores;

use clap::Parser;

/// Many small values are made on one thread and dropped on another; mimalloc is at home there.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    cli::Cli::parse().run()
}
