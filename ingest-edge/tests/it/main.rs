//! The edge and the redirector as a connection sees them, over stores in memory.

mod ingest;
mod redirects;
mod waiting;
mod world;
