//! Faults on Kafka, CQL and ClickHouse, each under load and with the invariants checked in the end. They
//! stop and break the servers, so one runs at a time: `scripts/faults` runs all, `scripts/test` those
//! that are in no module `whole`.

mod commit_steps;
mod contenders;
mod halts;
mod outages;
