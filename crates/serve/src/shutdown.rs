//! The end of the process: asked for once, seen everywhere.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Notify;

/// Exit status of a process that was told twice to stop: 128 and SIGTERM's number.
const EXIT_IMPATIENT: i32 = 143;

/// A request to stop that is made once and stays made. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Shutdown(Arc<State>);

#[derive(Debug, Default)]
struct State {
    requested: AtomicBool,
    changed: Notify,
}

impl Shutdown {
    /// Not requested yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks everything that holds a clone to stop.
    pub fn request(&self) {
        self.0.requested.store(true, Ordering::SeqCst);
        self.0.changed.notify_waiters();
    }

    /// Whether it was asked for.
    pub fn is_requested(&self) -> bool {
        self.0.requested.load(Ordering::SeqCst)
    }

    /// Returns once it is asked for; at once if it was.
    pub async fn requested(&self) {
        let changed = self.0.changed.notified();
        tokio::pin!(changed);
        // Enrolled before the flag is read, so that a request in between is not missed.
        changed.as_mut().enable();
        if !self.is_requested() {
            changed.await;
        }
    }
}

/// Requests `shutdown` on SIGTERM or SIGINT; a second signal ends the process at once.
///
/// # Errors
/// Where the handlers cannot be installed.
pub fn listen_for_signals(shutdown: &Shutdown) -> io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let shutdown = shutdown.clone();
    crate::spawn("signals", async move {
        next(&mut terminate, &mut interrupt).await;
        tracing::info!("stopping; a second signal stops at once");
        shutdown.request();
        next(&mut terminate, &mut interrupt).await;
        tracing::warn!("stopped at once by a second signal");
        std::process::exit(EXIT_IMPATIENT);
    });
    Ok(())
}

async fn next(terminate: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        biased;
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_clone_sees_it_before_and_after() {
        let shutdown = Shutdown::new();
        let early = tokio::spawn({
            let shutdown = shutdown.clone();
            async move { shutdown.requested().await }
        });
        tokio::task::yield_now().await;
        assert!(!early.is_finished());
        shutdown.request();
        early.await.unwrap();
        shutdown.clone().requested().await;
        assert!(shutdown.is_requested());
    }
}
