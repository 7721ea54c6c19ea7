//! The control API in process: its router over stores in memory, with a small fold beside it.

mod attribution;
mod authoring;
mod fold;
mod lists;
mod money;
mod outage;
mod performance;
mod replay;
mod routes;
mod statuses;
mod tenants;
mod validation;
mod webhooks;
mod world;
