//! Why a partition is no longer worked on, and what to do about it.

use storage::error::{Error, Kind};

/// Why an ownership term ended.
#[derive(Debug)]
pub(crate) enum Stop {
    /// Asked to: everything decided is committed.
    Drained,
    /// Another owner has taken over: leave it to them.
    SteppedDown,
    /// Going on would skip or corrupt something: an operator must look.
    Halted(Halt),
    /// Rows do not fit together: another owner wrote some of them, or they are damaged. Take over again;
    /// then it shows.
    Torn,
    /// A store failed: take over again after a while and go on from the head.
    Failed(Error),
}

/// Why going on would skip or corrupt something.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Halt {
    /// The log was recreated since the last commit.
    #[error("the events log is not the one the head was committed against")]
    OtherLog { head: u64, log: u64 },
    /// What comes next is not in the log: it was truncated or trimmed.
    #[error("the events log holds {start}..{end}, the head wants {next}")]
    OutOfRange { next: u64, start: u64, end: u64 },
    /// Written by a newer binary.
    #[error("the record at {offset} is of a kind or version this binary does not know")]
    UnknownRecord { offset: u64 },
    /// Also to an owner that has just begun.
    #[error("a record does not get the rows it needs")]
    Torn,
    /// Stored bytes are damaged, or an offset is not in the log.
    #[error("stored bytes are not what was written")]
    Damaged(#[source] Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        match error.kind {
            Kind::Fenced => Self::SteppedDown,
            Kind::OutOfRange | Kind::Corrupt => Self::Halted(Halt::Damaged(error)),
            Kind::Full | Kind::Unavailable | Kind::Conflict => Self::Failed(error),
        }
    }
}
