//! The catalog that fails as it is told: for tests of what callers do then.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use super::{CatalogError, Change, SqliteCatalog};
use crate::error::{Error, Kind};

/// How the next write fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CatalogFault {
    /// It does not happen: determinate.
    Before(Kind),
    /// It happens, and the caller is told that it may have: indeterminate.
    After(Kind),
}

/// An SQLite catalog whose writes (`apply`, `outbox_clear`) follow a script; once the script is at
/// its end they succeed. Reads are not disturbed.
#[derive(Clone)]
pub struct FaultyCatalog {
    inner: SqliteCatalog,
    script: Arc<Mutex<VecDeque<Option<CatalogFault>>>>,
}

impl FaultyCatalog {
    /// With an empty script. Clones share the script.
    pub fn new(inner: SqliteCatalog) -> Self {
        Self { inner, script: Arc::default() }
    }

    /// Appends one entry for each of the next writes; `None` lets one through.
    pub fn script(&self, faults: impl IntoIterator<Item = Option<CatalogFault>>) {
        self.script.lock().unwrap_or_else(PoisonError::into_inner).extend(faults);
    }

    pub(super) fn inner(&self) -> &SqliteCatalog {
        &self.inner
    }

    pub(super) async fn apply(&self, changes: Vec<Change>) -> Result<Vec<u64>, CatalogError> {
        let fault = self.next();
        before("apply", fault)?;
        let applied = self.inner.apply(changes).await?;
        after("apply", fault)?;
        Ok(applied)
    }

    pub(super) async fn outbox_clear(&self, ids: &[u64]) -> Result<(), Error> {
        let fault = self.next();
        before("outbox_clear", fault)?;
        self.inner.outbox_clear(ids).await?;
        after("outbox_clear", fault)
    }

    fn next(&self) -> Option<CatalogFault> {
        self.script.lock().unwrap_or_else(PoisonError::into_inner).pop_front().flatten()
    }
}

fn before(op: &'static str, fault: Option<CatalogFault>) -> Result<(), Error> {
    match fault {
        Some(CatalogFault::Before(kind)) => Err(Error::determinate(op, kind)),
        _ => Ok(()),
    }
}

fn after(op: &'static str, fault: Option<CatalogFault>) -> Result<(), Error> {
    match fault {
        Some(CatalogFault::After(kind)) => Err(Error::indeterminate(op, kind)),
        _ => Ok(()),
    }
}
