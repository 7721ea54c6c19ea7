//! The engine from outside: case tables as text, properties over random logs, and its speed.

mod cases;
mod properties;
mod rulebooks;
mod script;
mod speed;
mod tenants;
mod torn;
mod world;

/// As the program has it, so that the speed test measures what it would.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
