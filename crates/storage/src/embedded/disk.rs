//! One fjall database that lives through full disks and its own poison.
//!
//! Facts of fjall 3.1 this relies on: a batch reaches the memtables only after its journal write
//! and sync succeeded, so a reader sees synced data alone; any failed write, and a background
//! worker that fails, poisons the database for good, while reads go on; a commit sleeps without
//! end while 4 memtables wait for a worker, even if the worker is dead; dropping all handles frees
//! the directory. So: never commit into a stall, and after poison drop everything and recover in
//! place.
//!
//! What a journal's replay shows is in the page cache, which is more than the disk may have. So a
//! replay is synced before anyone sees it, and after a failed sync the journals are first written
//! anew, see [`journals`]. Limits: a file system that runs out of room only when it syncs (NFS) is
//! taken for one that refused the write; and a process that is ended between a failed sync and its recovery,
//! and started again on a machine that went on, replays without writing anew; what was not
//! acknowledged may then be seen, and be gone after a power failure.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use fjall::{
    AbstractTree, CompressionType, Database, Keyspace, KeyspaceCreateOptions, OwnedWriteBatch,
    PersistMode,
};
use tokio::time::Instant;

use super::journals;
use crate::{Certainty, Error, Kind, metrics};

/// Memtables in line for flushing at which writes wait; fjall's own limit is 4.
const SEALED_MEMTABLES_MAX: usize = 3;
/// Unmerged runs at which writes wait; fjall's own limit is 30.
const UNMERGED_RUNS_MAX: usize = 24;
/// Between two looks at a stall.
const STALL_PAUSE: Duration = Duration::from_millis(2);
/// fjall's workers let go of the journal file an instant after they are counted out.
const CLOSE_PAUSE: Duration = Duration::from_millis(20);
/// Between two tries to reopen a database that does not come back.
const REOPEN_PAUSE: Duration = Duration::from_millis(100);
/// A journal longer than this is due; also the size a new one is given in advance.
const JOURNAL_BYTES: u64 = 64 * 1024 * 1024;

/// A keyspace's name and the options it is created with.
pub(crate) type NamedKeyspace = (&'static str, fn() -> KeyspaceCreateOptions);

/// How one database is laid out.
pub(crate) struct Layout {
    /// What metrics call it.
    pub(crate) name: &'static str,
    /// Keyspaces by name, in the order of [`Open::keyspaces`].
    pub(crate) keyspaces: &'static [NamedKeyspace],
    /// Bytes of blocks kept in memory.
    pub(crate) cache_bytes: u64,
    /// Free bytes of the file system below which writes are refused.
    pub(crate) min_free_bytes: u64,
}

/// The handles of an open database.
pub(crate) struct Open {
    pub(crate) database: Database,
    pub(crate) keyspaces: Vec<Keyspace>,
}

impl Open {
    fn at(path: &Path, layout: &Layout) -> Result<Self, fjall::Error> {
        let database = Database::builder(path)
            .journal_compression(CompressionType::None)
            .manual_journal_persist(true)
            .max_journaling_size(JOURNAL_BYTES)
            .worker_threads(1)
            .cache_size(layout.cache_bytes)
            .open()?;
        let keyspaces = layout
            .keyspaces
            .iter()
            .map(|(name, options)| database.keyspace(name, options))
            .collect::<Result<_, _>>()?;
        // What was replayed may never have been synced.
        database.persist(PersistMode::SyncAll)?;
        Ok(Self { database, keyspaces })
    }

    /// fjall says so only through a call that fails; this one writes nothing.
    fn is_poisoned(&self) -> bool {
        self.database.persist(PersistMode::Buffer).is_err()
    }

    /// Flushes everything once the journal is long enough for fjall to seal it (64 MB, which it
    /// looks at only when it flushes): the sealed journal can then go at once, so that a start
    /// replays about one journal. Left alone, keyspaces that grow slowly keep several alive.
    fn turn_over(&self) -> Result<(), fjall::Error> {
        let is_idle = self.database.journal_count() == 1
            && self.keyspaces.iter().all(|k| k.sealed_memtable_count() == 0);
        if is_idle && self.database.journal_disk_space()? > JOURNAL_BYTES {
            for keyspace in &self.keyspaces {
                keyspace.rotate_memtable()?;
            }
        }
        Ok(())
    }

    fn is_stalled(&self) -> bool {
        self.keyspaces.iter().any(|k| {
            k.sealed_memtable_count() >= SEALED_MEMTABLES_MAX
                || k.tree.l0_run_count() >= UNMERGED_RUNS_MAX
        })
    }
}

/// The database. Only its one writer thread calls [`Disk::prepare`] and [`Disk::write`].
pub(crate) struct Disk {
    path: PathBuf,
    layout: Layout,
    /// `None` while it could not be recovered.
    open: RwLock<Option<Open>>,
    /// How often it was closed to be recovered, the first opening included.
    closed: AtomicU64,
    /// [`Disk::closed`] when what is kept in memory about it was last loaded.
    loaded: AtomicU64,
    /// A sync failed: the journals are not to be trusted until they are written anew.
    is_unsynced: AtomicBool,
    /// The next write is stored and answered as a failed sync.
    #[cfg(test)]
    pub(crate) fails_next: AtomicBool,
}

impl Disk {
    /// Opens or creates the database.
    ///
    /// # Errors
    /// `Unavailable` when another process has it open or the file system refuses, `Corrupt`.
    pub(crate) fn open(path: &Path, layout: Layout) -> Result<Self, Error> {
        let open = Open::at(path, &layout).map_err(|e| match e {
            fjall::Error::Locked => {
                let why = format!("another process has {} open", path.display());
                Error::determinate("open", Kind::Unavailable).because(why)
            }
            e => Error::from(e).during("open"),
        })?;
        Ok(Self {
            path: path.to_owned(),
            layout,
            open: RwLock::new(Some(open)),
            closed: AtomicU64::new(1),
            loaded: AtomicU64::new(0),
            is_unsynced: AtomicBool::new(false),
            #[cfg(test)]
            fails_next: AtomicBool::new(false),
        })
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Runs `load`, which makes what is kept in memory about the database true again, if the
    /// database was closed since that was last done.
    ///
    /// # Errors
    /// As [`Disk::read`]; what is kept stays stale then.
    pub(crate) fn reload(
        &self,
        op: &'static str,
        load: impl FnOnce(&Open) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let closed = self.closed.load(Ordering::Acquire);
        if self.loaded.load(Ordering::Acquire) != closed {
            self.read(op, load)?;
            self.loaded.store(closed, Ordering::Release);
        }
        Ok(())
    }

    /// That what is kept in memory about the database is true.
    ///
    /// # Errors
    /// `Unavailable` from a failed write on until [`Disk::reload`] has succeeded.
    pub(crate) fn check_loaded(&self, op: &'static str) -> Result<(), Error> {
        let closed = self.closed.load(Ordering::Acquire);
        if self.loaded.load(Ordering::Acquire) == closed {
            return Ok(());
        }
        Err(Error::determinate(op, Kind::Unavailable).because("the database is being recovered"))
    }

    /// Reads. `f` must not keep iterators or handles.
    ///
    /// # Errors
    /// What `f` fails with, or `Unavailable` while the database could not be recovered.
    pub(crate) fn read<T>(
        &self,
        op: &'static str,
        f: impl FnOnce(&Open) -> Result<T, Error>,
    ) -> Result<T, Error> {
        match &*self.shared() {
            Some(open) => f(open).map_err(|e| e.during(op)),
            None => Err(Error::determinate(op, Kind::Unavailable)),
        }
    }

    /// Writes what `fill` puts into the batch, atomically and synced.
    ///
    /// # Errors
    /// Determinate `Unavailable` while the database could not be recovered; indeterminate when the
    /// write failed: the database was then recovered in place, and [`Disk::reload`] is due.
    pub(crate) fn write(
        &self,
        op: &'static str,
        fill: impl FnOnce(&Open, &mut OwnedWriteBatch),
    ) -> Result<(), Error> {
        let result = match &*self.shared() {
            None => return Err(Error::determinate(op, Kind::Unavailable)),
            Some(open) => {
                let mut batch = open.database.batch().durability(Some(PersistMode::SyncData));
                fill(open, &mut batch);
                self.commit(batch)
            }
        };
        let Err(cause) = result else {
            self.turn_over();
            return Ok(());
        };
        tracing::error!(path = %self.path.display(), error = %cause, "database write failed");
        // fjall looks for poison before it writes anything.
        let certainty = match cause {
            fjall::Error::Poisoned => Certainty::Determinate,
            _ => Certainty::Indeterminate,
        };
        self.distrust(&cause);
        self.recover();
        Err(Error::from(cause).during(op).with(certainty))
    }

    fn commit(&self, batch: OwnedWriteBatch) -> Result<(), fjall::Error> {
        let started = Instant::now();
        batch.commit()?;
        metrics::synced(self.layout.name, started.elapsed());
        #[cfg(test)]
        if self.fails_next.swap(false, Ordering::AcqRel) {
            return Err(fjall::Error::Io(rustix::io::Errno::IO.into()));
        }
        Ok(())
    }

    /// Makes sure that a write for so many requests would neither run out of room nor hang; to be
    /// called before each.
    ///
    /// # Errors
    /// Determinate with `short` as its kind when the disk is short of room; determinate
    /// `Unavailable` while the database could not be recovered.
    pub(crate) fn prepare(
        &self,
        op: &'static str,
        short: Kind,
        requests: usize,
    ) -> Result<(), Error> {
        if !self.has_room() {
            metrics::refused_full(self.layout.name, requests);
            return Err(Error::determinate(op, short).because("the disk is short of room"));
        }
        if self.shared().as_ref().is_none_or(Open::is_poisoned) && !self.recover() {
            std::thread::sleep(REOPEN_PAUSE);
            return Err(Error::determinate(op, Kind::Unavailable));
        }
        while let Some(stalled) = self.shared().as_ref().map(Open::is_stalled) {
            if !stalled {
                return Ok(());
            }
            std::thread::sleep(STALL_PAUSE);
            if self.shared().as_ref().is_some_and(Open::is_poisoned) {
                break;
            }
        }
        Err(Error::determinate(op, Kind::Unavailable).because("a background worker has failed"))
    }

    /// What fails here poisons the database, which the next [`Disk::prepare`] sees to.
    fn turn_over(&self) {
        if let Some(Err(e)) = self.shared().as_ref().map(Open::turn_over) {
            tracing::error!(path = %self.path.display(), error = %e, "journal not turned over");
            self.distrust(&e);
        }
    }

    fn has_room(&self) -> bool {
        match rustix::fs::statvfs(&self.path) {
            Ok(fs) => fs.f_bavail.saturating_mul(fs.f_frsize) >= self.layout.min_free_bytes,
            Err(_) => true,
        }
    }

    /// A disk that is full says so when it is written to, before there is anything to sync; and
    /// poison is found before anything is written. After anything else the journals are in doubt.
    fn distrust(&self, cause: &fjall::Error) {
        let is_before_any_sync = match cause {
            fjall::Error::Poisoned => true,
            fjall::Error::Io(e) => e.kind() == ErrorKind::StorageFull,
            _ => false,
        };
        if !is_before_any_sync {
            self.is_unsynced.store(true, Ordering::Release);
        }
    }

    /// Drops the database and opens it again; true if that worked. Readers fail at once meanwhile:
    /// the lock is not held while the journal is replayed.
    fn recover(&self) -> bool {
        self.closed.fetch_add(1, Ordering::AcqRel);
        let dropped = self.exclusive().take();
        drop(dropped);
        std::thread::sleep(CLOSE_PAUSE);
        match self.reopen() {
            Ok(recovered) => {
                *self.exclusive() = Some(recovered);
                metrics::recovered(self.layout.name);
                tracing::warn!(path = %self.path.display(), "database recovered in place");
                true
            }
            Err(e) => {
                tracing::error!(path = %self.path.display(), error = %e, "database not recovered");
                false
            }
        }
    }

    fn reopen(&self) -> Result<Open, fjall::Error> {
        if self.is_unsynced.load(Ordering::Acquire) {
            journals::write_anew(&self.path)?;
        }
        let open = Open::at(&self.path, &self.layout)?;
        self.is_unsynced.store(false, Ordering::Release);
        Ok(open)
    }

    fn shared(&self) -> RwLockReadGuard<'_, Option<Open>> {
        self.open.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn exclusive(&self) -> RwLockWriteGuard<'_, Option<Open>> {
        self.open.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl From<fjall::Error> for Error {
    fn from(e: fjall::Error) -> Self {
        let kind = match &e {
            fjall::Error::Io(_)
            | fjall::Error::Storage(fjall::LsmError::Io(_))
            | fjall::Error::Poisoned
            | fjall::Error::Locked => Kind::Unavailable,
            _ => Kind::Corrupt,
        };
        Error::determinate("fjall", kind).because(e)
    }
}

impl From<fjall::LsmError> for Error {
    fn from(e: fjall::LsmError) -> Self {
        fjall::Error::Storage(e).into()
    }
}

#[cfg(test)]
mod tests;
