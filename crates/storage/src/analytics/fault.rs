//! The analytics store that fails as it is told: for tests of what callers do then.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use super::{Fact, SqliteAnalytics, Step};
use crate::error::{Error, Kind};

/// How the next `apply` fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnalyticsFault {
    /// It does not happen: determinate.
    Before(Kind),
    /// It happens, and the caller is told that it may have: indeterminate.
    After(Kind),
}

/// An SQLite store whose `apply` follows a script; once the script is at its end it succeeds. The
/// rest is not disturbed.
#[derive(Clone)]
pub struct FaultyAnalytics {
    inner: SqliteAnalytics,
    script: Arc<Mutex<VecDeque<Option<AnalyticsFault>>>>,
}

impl FaultyAnalytics {
    /// With an empty script. Clones share the script.
    pub fn new(inner: SqliteAnalytics) -> Self {
        Self { inner, script: Arc::default() }
    }

    /// Appends one entry for each of the next calls; `None` lets one through.
    pub fn script(&self, faults: impl IntoIterator<Item = Option<AnalyticsFault>>) {
        self.script.lock().unwrap_or_else(PoisonError::into_inner).extend(faults);
    }

    pub(super) fn inner(&self) -> &SqliteAnalytics {
        &self.inner
    }

    pub(super) async fn apply(&self, step: Step, facts: &[Fact]) -> Result<(), Error> {
        let fault = self.script.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        if let Some(Some(AnalyticsFault::Before(kind))) = fault {
            return Err(Error::determinate("apply", kind));
        }
        self.inner.apply(step, facts).await?;
        match fault.flatten() {
            Some(AnalyticsFault::After(kind)) => Err(Error::indeterminate("apply", kind)),
            _ => Ok(()),
        }
    }
}
