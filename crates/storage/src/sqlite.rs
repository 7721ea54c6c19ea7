//! One SQLite database: who may touch its connections, and what its errors mean.
//!
//! A file has one thread that writes, one that looks up, and a few that scan, so that a slow report
//! keeps neither a write nor a look-up waiting, and a time limit, so that scans do not keep each
//! other waiting for long; callers hand them closures and await the answer. A database in memory has one
//! connection and runs inline, in the caller's poll: no thread, no timer, the same order every time.

use std::any::Any;
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};
use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::error::{Error, Kind};

/// Threads that scan a file; more scans than this wait for one another, for nothing else.
const SCANNERS: usize = 3;
/// How long a scan may run before it is given up as unavailable.
const SCAN_TIME_MAX: Duration = Duration::from_secs(2);
/// Steps of SQLite's machine between two looks at the clock; well below a millisecond.
const STEPS_PER_LOOK: i32 = 10_000;
/// Jobs that wait for each pool of threads before callers are told it is full.
const QUEUE_JOBS: usize = 1_024;
/// Prepared statements a connection keeps.
const STATEMENTS_KEPT: usize = 128;
/// How long a statement waits for another process that holds the file.
const BUSY_WAIT: Duration = Duration::from_secs(5);
/// Pages a connection caches, in KiB; negative is SQLite's way to say so.
const CACHE_KIB: i64 = -16_384;
/// The write-ahead log is cut back to this after a checkpoint, in bytes.
const WAL_KEPT_BYTES: i64 = 64 << 20;

/// How hard a commit in a file is pushed to the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Durability {
    /// A commit that returned survives a power failure.
    Synced,
    /// A power failure may take the last commits, the newest first; the file stays sound.
    Ordered,
}

/// What one kind of database looks like.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout {
    /// For thread names.
    pub(crate) name: &'static str,
    /// How hard commits are pushed.
    pub(crate) durability: Durability,
    /// Statement batches, one per schema version, the oldest first; append-only.
    pub(crate) migrations: &'static [&'static str],
}

/// A database that closures are run on.
#[derive(Clone)]
pub(crate) struct Database(Arc<Access>);

enum Access {
    Inline(Mutex<Connection>),
    Threads { writer: Pool, looker: Pool, scanners: Pool },
}

impl Database {
    /// Opens or creates the file, readable by its owner alone, and brings its schema up to date.
    pub(crate) fn open(path: &Path, layout: Layout) -> Result<Self, Error> {
        create_private(path)?;
        let mut connection = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        prepare_file(&mut connection, layout).map_err(|e| failed("open", e))?;
        migrate(&mut connection, layout.migrations)?;
        let reader = || connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY);
        let scanners = (0..SCANNERS).map(|_| reader()).collect::<Result<Vec<_>, _>>()?;
        let writer = Pool::start(format!("{}-write", layout.name), vec![connection])?;
        let looker = Pool::start(format!("{}-look", layout.name), vec![reader()?])?;
        let scanners = Pool::start(format!("{}-scan", layout.name), scanners)?;
        Ok(Self(Arc::new(Access::Threads { writer, looker, scanners })))
    }

    /// An empty database that lives as long as a clone of it.
    pub(crate) fn memory(layout: Layout) -> Result<Self, Error> {
        let mut connection = Connection::open_in_memory().map_err(|e| failed("open", e))?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS_KEPT);
        migrate(&mut connection, layout.migrations)?;
        Ok(Self(Arc::new(Access::Inline(Mutex::new(connection)))))
    }

    /// The same, where what was not synced can be forgotten: it is all in one open transaction.
    pub(crate) fn unsynced_memory(layout: Layout) -> Result<Self, Error> {
        let database = Self::memory(layout)?;
        if let Access::Inline(connection) = &*database.0 {
            inline(connection, |connection| {
                connection.execute_batch("BEGIN").map_err(|e| failed("open", e))
            })?;
        }
        Ok(database)
    }

    /// Runs `job` on the one connection that writes. Dropping the future does not stop a job that
    /// was queued.
    pub(crate) async fn write<T, E>(
        &self,
        op: &'static str,
        job: impl FnOnce(&mut Connection) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        match &*self.0 {
            Access::Inline(connection) => inline(connection, job),
            Access::Threads { writer, .. } => {
                writer.run(op, job).await.unwrap_or_else(|lost| Err(lost.of_write(op).into()))
            }
        }
    }

    /// Runs `job`, which looks up a few rows by a key, on a connection that sees everything
    /// committed before this call.
    pub(crate) async fn query<T: Send + 'static>(
        &self,
        op: &'static str,
        job: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Error> {
        let job = move |connection: &mut Connection| job(connection).map_err(|e| failed(op, e));
        match &*self.0 {
            Access::Inline(connection) => inline(connection, job),
            Access::Threads { looker, .. } => {
                looker.run(op, job).await.unwrap_or_else(|lost| Err(lost.of_read(op)))
            }
        }
    }

    /// The same for a job that may read much. In a file it fails as unavailable after
    /// [`SCAN_TIME_MAX`].
    pub(crate) async fn scan<T: Send + 'static>(
        &self,
        op: &'static str,
        job: impl FnOnce(&Connection) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        match &*self.0 {
            Access::Inline(connection) => inline(connection, |connection| job(connection)),
            Access::Threads { scanners, .. } => {
                let job = move |connection: &mut Connection| {
                    limit_time(connection).map_err(|e| failed(op, e))?;
                    job(connection)
                };
                scanners.run(op, job).await.unwrap_or_else(|lost| Err(lost.of_read(op)))
            }
        }
    }

    /// Makes what [`Durability::Ordered`] has committed survive a power failure.
    pub(crate) async fn sync(&self, op: &'static str) -> Result<(), Error> {
        self.write(op, move |connection| sync(connection).map_err(|e| failed(op, e))).await
    }

    /// Forgets what an [`Database::unsynced_memory`] has not synced. A file cannot: conflict.
    pub(crate) async fn crash(&self, op: &'static str) -> Result<(), Error> {
        self.write(op, move |connection| {
            if connection.is_autocommit() {
                return Err(Error::determinate(op, Kind::Conflict));
            }
            connection.execute_batch("ROLLBACK; BEGIN").map_err(|e| failed(op, e))
        })
        .await
    }
}

/// From now on, until it is called again: every statement run on the connection later than
/// [`SCAN_TIME_MAX`] is interrupted.
fn limit_time(connection: &mut Connection) -> rusqlite::Result<()> {
    let end = Instant::now() + SCAN_TIME_MAX;
    connection.progress_handler(STEPS_PER_LOOK, Some(move || Instant::now() >= end))
}

/// In a file a synced commit syncs the whole write-ahead log, earlier commits with it; unlike a
/// checkpoint it does so whatever readers are doing. In memory it ends the open transaction.
fn sync(connection: &Connection) -> rusqlite::Result<()> {
    if !connection.is_autocommit() {
        return connection.execute_batch("COMMIT; BEGIN");
    }
    connection.pragma_update(None, "synchronous", "FULL")?;
    let synced = connection
        .pragma_query_value(None, "user_version", |row| row.get(0))
        .and_then(|version: i64| connection.pragma_update(None, "user_version", version));
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    synced
}

/// One transaction; inside an open one, a savepoint. An error leaves nothing, unless it says it is
/// indeterminate.
pub(crate) fn atomically<T, E: From<Error>>(
    connection: &mut Connection,
    op: &'static str,
    body: impl FnOnce(&Connection) -> Result<T, E>,
) -> Result<T, E> {
    if connection.is_autocommit() {
        let transaction = connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(|e| failed(op, e))?;
        let value = body(&transaction)?;
        transaction.commit().map_err(|e| failed_commit(op, e))?;
        Ok(value)
    } else {
        let savepoint = connection.savepoint().map_err(|e| failed(op, e))?;
        let value = body(&savepoint)?;
        savepoint.commit().map_err(|e| failed(op, e))?;
        Ok(value)
    }
}

/// What an error before the commit means: the transaction rolls back, so nothing happened.
pub(crate) fn failed(op: &'static str, source: rusqlite::Error) -> Error {
    Error::determinate(op, kind(&source)).because(source)
}

/// What an error of the commit itself means.
///
/// A frame that could not be written leaves the transaction without its last frame, which is as if
/// it had not been. But a failed sync may leave all frames on the disk, and a crash before the next
/// write would then bring the transaction back.
fn failed_commit(op: &'static str, source: rusqlite::Error) -> Error {
    match source.sqlite_error().map(|e| e.extended_code) {
        Some(rusqlite::ffi::SQLITE_IOERR_FSYNC | rusqlite::ffi::SQLITE_IOERR_DIR_FSYNC) => {
            Error::indeterminate(op, Kind::Full).because(source)
        }
        _ => failed(op, source),
    }
}

fn kind(error: &rusqlite::Error) -> Kind {
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull | ErrorCode::SystemIoFailure) => Kind::Full,
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Kind::Corrupt,
        Some(ErrorCode::ConstraintViolation) => Kind::Conflict,
        Some(_) => Kind::Unavailable,
        // A value of a type that was never written there.
        None => Kind::Corrupt,
    }
}

/// SQLite would create it readable by all, and its write-ahead log takes the file's permissions.
fn create_private(path: &Path) -> Result<(), Error> {
    OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(path)
        .map(drop)
        .map_err(|e| Error::determinate("open", Kind::Unavailable).because(Unopened::new(path, e)))
}

fn connect(path: &Path, flags: OpenFlags) -> Result<Connection, Error> {
    let flags = flags | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)
        .map_err(|e| Error::determinate("open", kind(&e)).because(Unopened::new(path, e)))?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_KEPT);
    configure(&connection).map_err(|e| failed("open", e))?;
    Ok(connection)
}

fn configure(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(BUSY_WAIT)?;
    connection.pragma_update(None, "cache_size", CACHE_KIB)?;
    // Sorting must not need room on a disk that may be full.
    connection.pragma_update(None, "temp_store", "MEMORY")
}

fn prepare_file(connection: &mut Connection, layout: Layout) -> rusqlite::Result<()> {
    connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
    connection.pragma_update_and_check(None, "journal_size_limit", WAL_KEPT_BYTES, |_| Ok(()))?;
    let synchronous = match layout.durability {
        Durability::Synced => "FULL",
        Durability::Ordered => "NORMAL",
    };
    connection.pragma_update(None, "synchronous", synchronous)
}

fn migrate(connection: &mut Connection, migrations: &[&str]) -> Result<(), Error> {
    atomically(connection, "open", |connection| {
        let known = migrations.len();
        let version: i64 = connection
            .pragma_query_value(None, "user_version", |row| row.get(0))
            .map_err(|e| failed("open", e))?;
        let done = usize::try_from(version).unwrap_or(usize::MAX);
        let Some(pending) = migrations.get(done..) else {
            let source = NewerSchema { found: version, known };
            return Err(Error::determinate("open", Kind::Unavailable).because(source));
        };
        for statements in pending {
            connection.execute_batch(statements).map_err(|e| failed("open", e))?;
        }
        connection.pragma_update(None, "user_version", known as i64).map_err(|e| failed("open", e))
    })
}

/// A newer program wrote the file.
#[derive(Debug, thiserror::Error)]
#[error("the schema is of version {found}, this program knows up to {known}")]
struct NewerSchema {
    found: i64,
    known: usize,
}

/// Which file it was.
#[derive(Debug, thiserror::Error)]
#[error("{}", path.display())]
struct Unopened {
    path: PathBuf,
    source: Box<dyn std::error::Error + Send + Sync>,
}

impl Unopened {
    fn new(path: &Path, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self { path: path.to_owned(), source: source.into() }
    }
}

fn inline<T, E>(
    connection: &Mutex<Connection>,
    job: impl FnOnce(&mut Connection) -> Result<T, E>,
) -> Result<T, E> {
    job(&mut connection.lock().unwrap_or_else(PoisonError::into_inner))
}

type Job = Box<dyn FnOnce(&mut Connection) + Send>;

/// Threads that take jobs from one queue, each with its own connection. Dropping it finishes what
/// is queued and closes the connections.
struct Pool {
    queue: Option<Sender<Job>>,
    threads: Vec<JoinHandle<()>>,
}

/// Why there is no answer.
enum Lost {
    /// The queue is at its bound.
    Full,
    /// The job was taken and did not end.
    Broken,
}

impl Lost {
    fn of_write(self, op: &'static str) -> Error {
        match self {
            Self::Full => Error::determinate(op, Kind::Full),
            Self::Broken => Error::indeterminate(op, Kind::Unavailable),
        }
    }

    fn of_read(self, op: &'static str) -> Error {
        match self {
            Self::Full => Error::determinate(op, Kind::Full),
            Self::Broken => Error::determinate(op, Kind::Unavailable),
        }
    }
}

impl Pool {
    fn start(name: String, connections: Vec<Connection>) -> Result<Self, Error> {
        let (queue, jobs) = crossbeam_channel::bounded(QUEUE_JOBS);
        let mut pool = Self { queue: Some(queue), threads: Vec::new() };
        for connection in connections {
            let jobs = jobs.clone();
            let thread = std::thread::Builder::new()
                .name(name.clone())
                .spawn(move || work(connection, &jobs))
                .map_err(|e| Error::determinate("open", Kind::Unavailable).because(e))?;
            pool.threads.push(thread);
        }
        Ok(pool)
    }

    async fn run<T: Send + 'static>(
        &self,
        op: &'static str,
        job: impl FnOnce(&mut Connection) -> T + Send + 'static,
    ) -> Result<T, Lost> {
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move |connection| {
            if let Ok(value) = caught(op, || job(connection)) {
                // The caller may have left; what was done stays done.
                let _ = answer.send(value);
            }
        });
        let queue = self.queue.as_ref().ok_or(Lost::Full)?;
        queue.try_send(job).map_err(|_| Lost::Full)?;
        answered.await.map_err(|_| Lost::Broken)
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.queue = None;
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn work(mut connection: Connection, jobs: &Receiver<Job>) {
    while let Ok(job) = jobs.recv() {
        job(&mut connection);
    }
}

/// A panic rolls its transaction back and must not take the thread, and every later call, with it.
fn caught<T>(op: &'static str, job: impl FnOnce() -> T) -> Result<T, Box<dyn Any + Send>> {
    let result = catch_unwind(AssertUnwindSafe(job));
    if result.is_err() {
        tracing::error!(op, "a database job panicked");
    }
    result
}

#[cfg(test)]
mod tests;
