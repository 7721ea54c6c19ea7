//! An error with its causes, for the one place that logs it.

use std::error::Error;
use std::fmt::Write;

/// `error: cause: cause of the cause`.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        // Writing to a string cannot fail.
        write!(text, ": {inner}").ok();
        cause = inner.source();
    }
    text
}
