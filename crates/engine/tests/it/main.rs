//! The engine from outside: case tables as text, properties over random logs, and its speed.

mod cases;
mod properties;
mod rulebooks;
mod script;
mod speed;
mod world;
