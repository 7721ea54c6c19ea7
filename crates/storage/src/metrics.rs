//! What the writers of the embedded databases tell of themselves, once a group.
//!
//! The label `database` is `log` or `state`.

use std::time::Duration;

use ::metrics::{counter, histogram};

/// Histogram: requests that shared one write. Label: `database`.
pub const GROUP_SIZE: &str = "aktvator_storage_group_size";
/// Histogram: writing and syncing one group, in seconds. Label: `database`.
pub const FSYNC_SECONDS: &str = "aktvator_storage_fsync_seconds";
/// Counter: requests refused because the queue is at its bound or the disk short of room. Label:
/// `database`.
pub const REFUSED_FULL: &str = "aktvator_storage_refused_full_total";
/// Counter: times a database was recovered in place after a failed write. Label: `database`.
pub const RECOVERIES: &str = "aktvator_storage_recoveries_total";

/// A group of `requests` is about to be written.
pub(crate) fn grouped(database: &'static str, requests: usize) {
    histogram!(GROUP_SIZE, "database" => database).record(requests as f64);
}

/// One batch was written and synced.
pub(crate) fn synced(database: &'static str, took: Duration) {
    histogram!(FSYNC_SECONDS, "database" => database).record(took.as_secs_f64());
}

/// So many requests were refused for want of room.
pub(crate) fn refused_full(database: &'static str, requests: usize) {
    counter!(REFUSED_FULL, "database" => database).increment(requests as u64);
}

/// A database was recovered.
pub(crate) fn recovered(database: &'static str) {
    counter!(RECOVERIES, "database" => database).increment(1);
}
