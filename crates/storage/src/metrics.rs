//! What the writers of the databases tell of themselves, once a group or cut.
//!
//! The label `database` is `log` or `state`.

use std::time::Duration;

use ::metrics::{counter, histogram};
use tokio::time::Instant;

/// Histogram: requests that shared one write. Label: `database`.
pub const GROUP_SIZE: &str = "aktvator_storage_group_size";
/// Histogram: writing and syncing one group, in seconds. Label: `database`.
pub const FSYNC_SECONDS: &str = "aktvator_storage_fsync_seconds";
/// Counter: requests refused because the queue is at its bound or the disk short of room. Label:
/// `database`.
pub const REFUSED_FULL: &str = "aktvator_storage_refused_full_total";
/// Counter: times a database was recovered in place after a failed write. Label: `database`.
pub const RECOVERIES: &str = "aktvator_storage_recoveries_total";
/// Histogram: inserting one cut of facts into ClickHouse, in seconds.
pub const CUT_INSERT_SECONDS: &str = "aktvator_storage_cut_insert_seconds";
/// Counter: cuts that were fixed by a writer that did not come to their end, and inserted by the next.
pub const RESUMED_CUTS: &str = "aktvator_storage_resumed_cuts_total";

/// Histogram: one step of a commit on servers, in seconds. Label `step`: `write` (the write set),
/// `decide` (the conditional update), `finish` (applying and publishing).
pub const COMMIT_SECONDS: &str = "aktvator_storage_commit_seconds";
/// Counter: conditional updates whose answer did not come; the row was read to find out. Label
/// `operation`: `acquire` or `commit`.
pub const UNKNOWN_RESULTS: &str = "aktvator_storage_unknown_results_total";
/// Counter: commits refused because another owner has the shard.
pub const FENCED: &str = "aktvator_storage_fenced_total";
/// Counter: write sets applied and published again by who took a shard.
pub const REDONE: &str = "aktvator_storage_redone_total";
/// Counter: stored write sets that could not be deleted and take room.
pub const BLOBS_LEFT: &str = "aktvator_storage_blobs_left_total";

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

/// Measures one step of a commit, if it succeeds.
pub(crate) struct CommitStep {
    step: &'static str,
    since: Instant,
}

pub(crate) fn commit_step(step: &'static str) -> CommitStep {
    CommitStep { step, since: Instant::now() }
}

impl CommitStep {
    pub(crate) fn done(self) {
        histogram!(COMMIT_SECONDS, "step" => self.step).record(self.since.elapsed().as_secs_f64());
    }
}

pub(crate) fn unknown_result(operation: &'static str) {
    counter!(UNKNOWN_RESULTS, "operation" => operation).increment(1);
}

pub(crate) fn fenced() {
    counter!(FENCED).increment(1);
}

pub(crate) fn redone() {
    counter!(REDONE).increment(1);
}

pub(crate) fn blob_left() {
    counter!(BLOBS_LEFT).increment(1);
}

/// A cut was inserted.
pub(crate) fn inserted(took: Duration) {
    histogram!(CUT_INSERT_SECONDS).record(took.as_secs_f64());
}

/// A cut of an earlier writer was inserted.
pub(crate) fn resumed_cut() {
    counter!(RESUMED_CUTS).increment(1);
}
