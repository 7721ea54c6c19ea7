//! Named background tasks whose panics do not go unseen.

use std::future::Future;
use std::panic::{AssertUnwindSafe, resume_unwind};

use futures_util::FutureExt;
use tokio::task::JoinHandle;

use crate::{health, metrics};

/// Runs `future` as a task of its own. If it panics, that is logged and counted, the [`crate::Health`]
/// that adopted the process's tasks goes bad, and the handle gives the panic as its error.
pub fn spawn<F>(name: &'static str, future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    tokio::spawn(async move {
        match AssertUnwindSafe(future).catch_unwind().await {
            Ok(output) => output,
            Err(panic) => {
                let message = panic_message(panic.as_ref());
                tracing::error!(task = name, message, "task panicked");
                ::metrics::counter!(metrics::PANICS, "place" => "task").increment(1);
                health::task_died(name);
                resume_unwind(panic)
            }
        }
    })
}

/// What a panic said, where it said it in text.
pub(crate) fn panic_message(panic: &(dyn std::any::Any + Send)) -> &str {
    match panic.downcast_ref::<String>() {
        Some(text) => text,
        None => panic.downcast_ref::<&str>().copied().unwrap_or("no message"),
    }
}
