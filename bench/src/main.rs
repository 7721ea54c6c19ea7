//! Load generator, floors and reports: every figure is printed beside the floor it is measured
//! against, from the same run on the same machine.
//!
//! `bench ingest`, `bench evaluator` and `bench decide` measure; `bench replay cdnow` replays real purchases and
//! leaves a manifest for the independent checker; `bench floor` is the bare handler that `ingest`
//! compares with.

mod api;
mod cdnow;
mod claims;
mod connection;
mod decide;
mod evaluator;
mod fill;
mod floor;
mod ingest;
mod replay;
mod server;
mod servers;

use clap::{Parser, Subcommand};

/// The server's own.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
#[command(name = "bench", about = "Measures Aktvator and replays real purchases", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Durable ingest, single events and batches, against a bare hyper handler.
    Ingest(ingest::Ingest),
    /// Evaluator on a filled log, end to end.
    Evaluator(evaluator::Evaluator),
    /// The pure decide loop on one thread, against merely decoding.
    Decide(decide::Decide),
    /// Replays a purchase log through a server that it starts.
    Replay(replay::Replay),
    /// A bare hyper handler that parses the event and stores nothing.
    Floor(floor::Floor),
}

fn main() {
    let result = match Cli::parse().command {
        Command::Ingest(options) => ingest::run(&options),
        Command::Evaluator(options) => evaluator::run(&options),
        Command::Decide(options) => decide::run(&options),
        Command::Replay(options) => replay::run(&options),
        Command::Floor(options) => floor::run(&options),
    };
    if let Err(message) = result {
        eprintln!("bench: {message}");
        std::process::exit(1);
    }
}
