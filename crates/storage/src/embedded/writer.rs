//! The one thread that writes to a database, and its handle.

use std::thread::JoinHandle;

use tokio::sync::oneshot;

use super::inbox::{self, Inbox, Job, Outbox};
use crate::{Error, Kind};

/// Where a request's result goes.
pub(crate) type Answer<T> = oneshot::Sender<Result<T, Error>>;

/// Handle of a writer thread. Dropping it closes the queue and waits for what is in it.
pub(crate) struct Writer<J> {
    outbox: Option<Outbox<J>>,
    thread: Option<JoinHandle<()>>,
}

impl<J: Job> Writer<J> {
    /// Starts the thread of a database; `run` ends when the inbox has nothing more to give.
    ///
    /// # Errors
    /// `Unavailable` if the system has no thread to give.
    pub(crate) fn start(
        database: &'static str,
        run: impl FnOnce(Inbox<J>) + Send + 'static,
    ) -> Result<Self, Error> {
        let (outbox, inbox) = inbox::channel(database);
        let thread = std::thread::Builder::new()
            .name(format!("{database}-writer"))
            .spawn(move || run(inbox))
            .map_err(|e| Error::determinate("open", Kind::Unavailable).because(e))?;
        Ok(Self { outbox: Some(outbox), thread: Some(thread) })
    }

    /// Queues the request made around an answer channel, and waits for the answer.
    ///
    /// # Errors
    /// As [`Outbox::send`], and what is answered; indeterminate if the thread ends with it in hand.
    pub(crate) async fn ask<T>(
        &self,
        op: &'static str,
        request: impl FnOnce(Answer<T>) -> J,
    ) -> Result<T, Error> {
        let (answer, answered) = oneshot::channel();
        match &self.outbox {
            Some(outbox) => outbox.send(op, request(answer))?,
            None => return Err(Error::determinate(op, Kind::Unavailable)),
        }
        answered.await.unwrap_or_else(|_| {
            Err(Error::indeterminate(op, Kind::Unavailable).because("the writer thread is gone"))
        })
    }
}

impl<J> Drop for Writer<J> {
    fn drop(&mut self) {
        self.outbox = None;
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("writer thread panicked");
        }
    }
}

/// Answers; the caller may have stopped waiting, which withdraws nothing.
pub(crate) fn reply<T>(answer: Answer<T>, result: Result<T, Error>) {
    let _ = answer.send(result);
}
