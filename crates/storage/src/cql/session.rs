//! The connection to a CQL cluster, and what its failures mean.

use std::error::Error as StdError;
use std::sync::Arc;
use std::time::Duration;

use scylla::client::execution_profile::ExecutionProfile;
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use scylla::policies::load_balancing::DefaultPolicy;
use scylla::policies::retry::FallthroughRetryPolicy;
use scylla::response::query_result::{QueryResult, QueryRowsResult};
use scylla::statement::prepared::PreparedStatement;
use scylla::statement::{Consistency, SerialConsistency, Statement};
use scylla::value::{CqlValue, Row};

use super::CqlOptions;
use crate::{Certainty, Error, Kind};

/// Longer than the servers' own limits (2 s for a write, 1.8 s for contention), so that mostly
/// they say what has become of it.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(5);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// What both servers take as a name.
const KEYSPACE_LEN_MAX: usize = 48;

/// Connected, in the keyspace.
pub(crate) async fn open(options: &CqlOptions) -> Result<Arc<Session>, Error> {
    check(options)?;
    let session = builder(options).use_keyspace(&options.keyspace, true).build().await;
    let why = "is the cluster up, and was `aktvator migrate` run?";
    session.map(Arc::new).map_err(|e| failed("connect", Explained { why, source: e.into() }))
}

/// Connected, in no keyspace.
pub(super) async fn open_outside(options: &CqlOptions) -> Result<Session, Error> {
    check(options)?;
    builder(options).build().await.map_err(|e| failed("connect", e))
}

fn check(options: &CqlOptions) -> Result<(), Error> {
    let refused = |why: &str| Err(Error::determinate("connect", Kind::Conflict).because(why));
    let name = &options.keyspace;
    let plain = |c: u8| c.is_ascii_alphanumeric() || c == b'_';
    if name.is_empty() || name.len() > KEYSPACE_LEN_MAX || !name.bytes().all(plain) {
        return refused("a keyspace's name is letters, digits and underscores, at most 48");
    }
    if options.nodes.is_empty() || options.replication == 0 || options.buckets == 0 {
        return refused("there must be a node, a copy and a bucket at least");
    }
    if options.user.is_some() != options.password.is_some() {
        return refused("user and password go together");
    }
    Ok(())
}

fn builder(options: &CqlOptions) -> SessionBuilder {
    let mut nodes = DefaultPolicy::builder();
    if let Some(datacenter) = &options.local_datacenter {
        nodes = nodes.prefer_datacenter(datacenter.clone()).permit_dc_failover(true);
    }
    let profile = ExecutionProfile::builder()
        .consistency(Consistency::Quorum)
        .serial_consistency(Some(SerialConsistency::Serial))
        .request_timeout(Some(STATEMENT_TIMEOUT))
        .load_balancing_policy(nodes.build())
        .build();
    let builder = SessionBuilder::new()
        .known_nodes(&options.nodes)
        .connection_timeout(CONNECT_TIMEOUT)
        .keyspaces_to_fetch([&options.keyspace])
        .default_execution_profile_handle(profile.into_handle());
    match (&options.user, &options.password) {
        (Some(user), Some(password)) => builder.user(user, password),
        _ => builder,
    }
}

/// A statement that may be sent again whatever became of it.
pub(crate) async fn prepare(session: &Session, cql: &str) -> Result<PreparedStatement, Error> {
    let prepared = session.prepare(Statement::new(cql)).await;
    let mut prepared = prepared.map_err(|e| failed("connect", e))?;
    prepared.set_is_idempotent(true);
    Ok(prepared)
}

/// A conditional update, which only the caller can send again: he knows how to tell what became of it.
pub(crate) async fn prepare_conditional(
    session: &Session,
    cql: &str,
) -> Result<PreparedStatement, Error> {
    let mut prepared = prepare(session, cql).await?;
    prepared.set_is_idempotent(false);
    prepared.set_retry_policy(Some(Arc::new(FallthroughRetryPolicy)));
    Ok(prepared)
}

/// A read that sees every conditional update, also one whose answer was lost.
pub(crate) async fn prepare_serial(
    session: &Session,
    cql: &str,
) -> Result<PreparedStatement, Error> {
    let mut prepared = prepare(session, cql).await?;
    prepared.set_consistency(Consistency::Serial);
    Ok(prepared)
}

/// Whether a conditional update was applied. The column is found by name: what else is in the
/// answer differs between servers.
pub(crate) fn applied(op: &'static str, result: QueryResult) -> Result<bool, Error> {
    let unknown = |e| Error::indeterminate(op, Kind::Unavailable).because(e);
    let rows = result.into_rows_result().map_err(|e| unknown(e.to_string()))?;
    let column = rows.column_specs().get_by_name("[applied]");
    let (index, _) = column.ok_or_else(|| unknown("no answer to a condition".to_owned()))?;
    let row: Row = rows.first_row().map_err(|e| unknown(e.to_string()))?;
    let value = row.columns.into_iter().nth(index).flatten();
    value.as_ref().and_then(CqlValue::as_boolean).ok_or_else(|| unknown("no boolean".to_owned()))
}

/// The rows of a read.
pub(crate) fn rows(op: &'static str, result: QueryResult) -> Result<QueryRowsResult, Error> {
    result.into_rows_result().map_err(|e| corrupt(op, e))
}

/// Not done: a read, or what was not sent.
pub(crate) fn failed(op: &'static str, e: impl StdError + Send + Sync + 'static) -> Error {
    Error::determinate(op, Kind::Unavailable).because(e)
}

/// A write of which nobody knows.
pub(crate) fn unknown(op: &'static str, e: impl StdError + Send + Sync + 'static) -> Error {
    failed(op, e).with(Certainty::Indeterminate)
}

/// What was read is not what was written.
pub(crate) fn corrupt(op: &'static str, e: impl Into<Box<dyn StdError + Send + Sync>>) -> Error {
    Error::determinate(op, Kind::Corrupt).because(e)
}

/// An error with what to do about it.
#[derive(Debug, thiserror::Error)]
#[error("{why}")]
pub(super) struct Explained {
    pub(super) why: &'static str,
    pub(super) source: Box<dyn StdError + Send + Sync>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_is_refused_before_anything_is_asked() {
        let good = CqlOptions::default;
        let names = ["", "a-b", "a\"b", "ä", &"a".repeat(49)];
        let mut bad: Vec<_> =
            names.map(|name| CqlOptions { keyspace: name.to_owned(), ..good() }).into();
        bad.extend([
            CqlOptions { nodes: vec![], ..good() },
            CqlOptions { replication: 0, ..good() },
            CqlOptions { buckets: 0, ..good() },
            CqlOptions { user: Some("u".to_owned()), ..good() },
        ]);
        for options in bad {
            assert_eq!(check(&options).unwrap_err().kind, Kind::Conflict, "{options:?}");
        }
        assert!(check(&good()).is_ok());
    }

    #[test]
    fn a_password_is_not_printed() {
        let options = CqlOptions { password: Some("hunter2".to_owned()), ..CqlOptions::default() };
        assert!(!format!("{options:?}").contains("hunter2"));
    }
}
