//! What a port fails with: what was tried, whether it may have happened, and what to do about it.

use std::error::Error as StdError;
use std::fmt;

/// Whether a failed write may have happened all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Certainty {
    /// It did not happen: trying again cannot double it.
    Determinate,
    /// It may have happened: read before going on.
    Indeterminate,
}

/// What the caller can do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// No room, or a queue is at its bound: shed load and try later.
    Full,
    /// Out of reach for now: try later.
    Unavailable,
    /// Another owner has taken over, or the sequence number is not the next: step down.
    Fenced,
    /// The offset asked for is not in the log: halt, never skip.
    OutOfRange,
    /// The precondition does not hold.
    Conflict,
    /// Stored bytes are not what was written: halt.
    Corrupt,
}

/// A failed operation of a port.
#[derive(Debug)]
pub struct Error {
    /// The operation, like `append`.
    pub op: &'static str,
    /// What the caller can do about it.
    pub kind: Kind,
    /// Whether it may have happened.
    pub certainty: Certainty,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// An operation that certainly did not happen.
    pub fn determinate(op: &'static str, kind: Kind) -> Self {
        Self { op, kind, certainty: Certainty::Determinate, source: None }
    }

    /// An operation that may have happened.
    pub fn indeterminate(op: &'static str, kind: Kind) -> Self {
        Self { op, kind, certainty: Certainty::Indeterminate, source: None }
    }

    /// The same, with the vendor's error as its source.
    #[must_use]
    pub fn because(self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self { source: Some(source.into()), ..self }
    }

    /// The same, as a failure of this operation.
    #[must_use]
    pub fn during(self, op: &'static str) -> Self {
        Self { op, ..self }
    }

    /// The same with another certainty.
    pub(crate) fn with(self, certainty: Certainty) -> Self {
        Self { certainty, ..self }
    }

    /// The same for another caller that shared the operation; of the source only its text.
    pub(crate) fn again(&self) -> Self {
        let same = Self { source: None, ..*self };
        match &self.source {
            Some(source) => same.because(source.to_string()),
            None => same,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            Kind::Full => "there is no room",
            Kind::Unavailable => "the store is out of reach",
            Kind::Fenced => "another owner has taken over",
            Kind::OutOfRange => "the offset is not in the log",
            Kind::Conflict => "the precondition does not hold",
            Kind::Corrupt => "stored bytes are damaged",
        };
        let certainty = match self.certainty {
            Certainty::Determinate => "",
            Certainty::Indeterminate => " (it may have happened)",
        };
        write!(f, "{}: {kind}{certainty}", self.op)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|e| e as &(dyn StdError + 'static))
    }
}

/// The partition named does not exist.
pub(crate) fn no_partition(op: &'static str) -> Error {
    Error::determinate(op, Kind::OutOfRange).because("there is no such partition")
}
