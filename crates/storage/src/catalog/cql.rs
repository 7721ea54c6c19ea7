//! The catalog on CQL: rows beside the state's, changed by transactions that any process makes.
//!
//! `docs/adr/0006-cql-layout.md` says why.

mod draft;
mod follow;
mod keys;
mod list;
mod tables;
mod writer;

use std::sync::Arc;
use std::time::Duration;

use schemas::time::Timestamp;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::AbortHandle;

use self::follow::Revisions;
use self::tables::{FIRST_ID, Tables};
use self::writer::{Answer, Job, QUEUE_JOBS, Writer};
use super::{CatalogError, Change, Document, Kind, ListFilter, OutboxRow, Page};
use crate::cql::session::corrupt;
use crate::error::{Error, Kind as ErrorKind};
use crate::log::EventLog;
use crate::state::cql::Store;

/// Between looks for commands that other processes have added.
const LOOK: Duration = Duration::from_millis(250);

/// The catalog on a CQL cluster.
#[derive(Clone)]
pub struct CqlCatalog {
    tables: Tables,
    writer: mpsc::Sender<Job>,
    revisions: Arc<Revisions>,
    floor: watch::Sender<u64>,
    _tasks: Arc<Tasks>,
}

/// Ends with the last clone; the writer ends by itself when it has nothing more to do.
struct Tasks(Vec<AbortHandle>);

impl Drop for Tasks {
    fn drop(&mut self) {
        self.0.iter().for_each(AbortHandle::abort);
    }
}

impl CqlCatalog {
    /// On the runtime this is called on.
    pub(crate) async fn start(store: Arc<Store>, log: EventLog) -> Result<Self, Error> {
        let token = store.sources.token("connect")?;
        let tables = Tables { store };
        let revisions = Arc::new(Revisions::new(log));
        let told = revisions.told().await?;
        let floor = watch::Sender::new(FIRST_ID);
        let (writer, inbox) = mpsc::channel(QUEUE_JOBS);
        let writing = Writer {
            tables: tables.clone(),
            revisions: revisions.clone(),
            floor: floor.clone(),
            head: None,
            token: token.cast_unsigned(),
            last_stamp: 0,
        };
        tokio::spawn(writing.run(inbox));
        let tasks = vec![
            tokio::spawn(revisions.clone().follow(told)).abort_handle(),
            tokio::spawn(follow::backstop(revisions.clone(), writer.downgrade())).abort_handle(),
            tokio::spawn(follow::look(tables.clone(), floor.clone())).abort_handle(),
        ];
        // What a dead process has left half done is finished before long.
        let _ = writer.try_send(Job::Repair);
        Ok(Self { tables, writer, revisions, floor, _tasks: Arc::new(Tasks(tasks)) })
    }

    pub(super) async fn apply(&self, changes: Vec<Change>) -> Result<Vec<u64>, CatalogError> {
        let (answer, answered) = oneshot::channel();
        self.send("apply", Job::Apply(changes, answer))?;
        answered.await.map_err(|_| ended("apply"))?
    }

    pub(super) async fn get(&self, kind: Kind, id: &str) -> Result<Option<Document>, Error> {
        self.tables.document("get", kind, id).await
    }

    pub(super) async fn named(&self, unique: &str) -> Result<Option<Document>, Error> {
        let Some(value) = self.tables.value("named", keys::name(unique)).await? else {
            return Ok(None);
        };
        let (kind, id) = keys::holder(&value).ok_or_else(|| corrupt("named", "a name's holder"))?;
        self.tables.document("named", kind, &id).await
    }

    pub(super) async fn list(
        &self,
        kind: Kind,
        filter: ListFilter,
        page: Page,
    ) -> Result<Vec<Document>, Error> {
        list::run(&self.tables, kind, filter, page).await
    }

    pub(super) async fn outbox(&self, limit: usize) -> Result<Vec<OutboxRow>, Error> {
        let floor = self.tables.floor("outbox").await?;
        self.tables.outbox(floor, limit).await
    }

    pub(super) async fn outbox_clear(&self, ids: &[u64]) -> Result<(), Error> {
        if ids.is_empty() {
            return Ok(());
        }
        self.ask("outbox_clear", |answer| Job::Clear(ids.to_vec(), answer)).await
    }

    pub(super) async fn outbox_cleared(&self, ids: &[u64]) -> Result<(), Error> {
        let Some(last) = ids.iter().max() else { return Ok(()) };
        let mut floor = self.floor.subscribe();
        // The sender lives in `self`, so it cannot be gone.
        let _ = floor.wait_for(|floor| floor > last).await;
        Ok(())
    }

    pub(super) async fn outbox_filled(&self) -> Result<(), Error> {
        while self.outbox(1).await?.is_empty() {
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    pub(super) async fn sweep(
        &self,
        created_before: Timestamp,
        limit: usize,
    ) -> Result<usize, Error> {
        self.ask("sweep", |answer| Job::Sweep(created_before.as_ms(), limit, answer)).await
    }

    pub(super) fn revision(&self, kind: Kind) -> u64 {
        self.revisions.of(kind)
    }

    pub(super) async fn setting(
        &self,
        name: &str,
        make: impl FnOnce() -> Vec<u8> + Send,
    ) -> Result<Vec<u8>, Error> {
        if let Some(value) = self.tables.value("setting", keys::setting(name)).await? {
            return Ok(value.to_vec());
        }
        let (name, value) = (name.to_owned(), make());
        self.ask("setting", |answer| Job::Setting(name, value, answer)).await
    }

    async fn ask<T>(
        &self,
        op: &'static str,
        job: impl FnOnce(Answer<T>) -> Job,
    ) -> Result<T, Error> {
        let (answer, answered) = oneshot::channel();
        self.send(op, job(answer))?;
        answered.await.map_err(|_| ended(op))?
    }

    fn send(&self, op: &'static str, job: Job) -> Result<(), Error> {
        self.writer.try_send(job).map_err(|_| Error::determinate(op, ErrorKind::Full))
    }
}

fn ended(op: &'static str) -> Error {
    Error::indeterminate(op, ErrorKind::Unavailable).because("the runtime has ended")
}
