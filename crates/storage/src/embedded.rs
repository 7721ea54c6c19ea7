//! The backends that need nothing installed: two fjall databases under one data directory.
//!
//! `log/` holds the topics that are appended to, `state/` the rows, heads and outcomes, because a
//! commit puts those three in one fsynced batch. Each has one writer thread, which takes every
//! request waiting, writes them as one batch, syncs once and answers them all.
//!
//! Invariant: ends and heads in memory are raised only after the fsync that covers them.

pub(crate) mod batch;
pub(crate) mod disk;
pub(crate) mod extents;
pub(crate) mod format;
pub(crate) mod inbox;
pub(crate) mod journals;
pub(crate) mod segments;
pub(crate) mod writer;

use std::path::Path;

use self::format::Format;
use crate::log::EmbeddedLog;
use crate::state::EmbeddedState;
use crate::{Error, EventLog, Kind, StateStore};

/// Free bytes below which writes are refused, so that memtables can still be flushed.
pub const MIN_FREE_BYTES: u64 = 256 * 1024 * 1024;

/// How to open the data directory.
#[derive(Clone, Debug)]
pub struct OpenOptions {
    /// Partitions of every topic; must be what the directory was created with.
    pub partitions: u16,
    /// A random number; becomes the log's identity if the directory is new, else ignored.
    pub identity: u64,
    /// Free bytes of the file system below which writes are refused; see [`MIN_FREE_BYTES`].
    pub min_free_bytes: u64,
    /// Bytes of state blocks kept in memory.
    pub state_cache_bytes: u64,
}

impl OpenOptions {
    /// 16 partitions, 256 MiB kept free, 64 MiB of state cache.
    pub fn new(identity: u64) -> Self {
        Self {
            partitions: 16,
            identity,
            min_free_bytes: MIN_FREE_BYTES,
            state_cache_bytes: 64 * 1024 * 1024,
        }
    }

    pub(crate) fn format(&self) -> Format {
        Format { partitions: self.partitions, identity: self.identity }
    }
}

/// Opens both databases under `dir`, creating them if they are not there, and starts their writer
/// threads. The directory is locked until the last clone of both handles is dropped; that drop
/// waits for the threads.
///
/// # Errors
/// `Unavailable` when another process has the directory open or the file system refuses;
/// `Conflict` when it was created with another number of partitions or one of the two databases is
/// missing; `Corrupt` when stored bytes are damaged.
pub fn open(dir: &Path, options: &OpenOptions) -> Result<(EventLog, StateStore), Error> {
    let (log, state) = open_both(dir, options)?;
    Ok((EventLog::Embedded(log), StateStore::Embedded(state)))
}

/// Opens what is there, with as many partitions as it was created with; else as [`open`].
///
/// # Errors
/// As [`open`], and `Conflict` when `dir` does not have both databases.
pub fn reopen(dir: &Path, min_free_bytes: u64) -> Result<(EventLog, StateStore), Error> {
    if let Some(name) = ["log", "state"].into_iter().find(|name| !dir.join(name).is_dir()) {
        let why = format!("there is no {name} in {}", dir.display());
        return Err(Error::determinate("open", Kind::Conflict).because(why));
    }
    let (log, state) =
        open_at(dir, &OpenOptions { partitions: 0, min_free_bytes, ..OpenOptions::new(0) })?;
    Ok((EventLog::Embedded(log), StateStore::Embedded(state)))
}

/// The same, as what they are.
pub(crate) fn open_both(
    dir: &Path,
    options: &OpenOptions,
) -> Result<(EmbeddedLog, EmbeddedState), Error> {
    if options.partitions == 0 {
        return Err(Error::determinate("open", Kind::Conflict).because("0 partitions"));
    }
    open_at(dir, options)
}

fn open_at(dir: &Path, options: &OpenOptions) -> Result<(EmbeddedLog, EmbeddedState), Error> {
    let (log_dir, state_dir) = (dir.join("log"), dir.join("state"));
    if state_dir.exists() && !log_dir.exists() {
        let why = format!("{} is there but log is missing beside it", state_dir.display());
        return Err(Error::determinate("open", Kind::Conflict).because(why));
    }
    let log = EmbeddedLog::open(&log_dir, options)?;
    if !state_dir.exists() && !log.is_empty() {
        let why = format!("{} is missing beside a log with records", state_dir.display());
        return Err(Error::determinate("open", Kind::Conflict).because(why));
    }
    let state = giving_way(|| EmbeddedState::open(&state_dir, options, log.format()))?;
    let log = log.start(state.clone())?;
    Ok((log, state))
}

/// Nice value of the state's threads: under load they get about a tenth of a processor that an
/// ordinary thread wants too (sched(7)).
const STATE_NICE: i32 = 10;

/// Runs `open` so that the threads it starts leave the processor to others: what is acknowledged is
/// in the log, and the state follows. On Linux a thread has the priority of the one that starts it.
fn giving_way<T: Send>(open: impl FnOnce() -> Result<T, Error> + Send) -> Result<T, Error> {
    let opening = || {
        if let Err(error) = rustix::process::setpriority_process(None, STATE_NICE) {
            tracing::debug!(%error, "state threads keep their priority");
        }
        open()
    };
    std::thread::scope(|scope| scope.spawn(opening).join()).unwrap_or_else(|_| {
        Err(Error::determinate("open", Kind::Unavailable).because("opening panicked"))
    })
}
