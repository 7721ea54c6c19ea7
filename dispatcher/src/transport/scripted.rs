//! Receivers that do as a function says, for tests and the simulator.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::WebhookRequest;
use crate::attempt::{Answer, NoAnswer};

/// What a scripted receiver does with a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Before it answers.
    pub after: Duration,
    /// What comes back.
    pub answer: Result<Answer, NoAnswer>,
}

impl Reply {
    /// Answers with `status` and nothing else, at once.
    pub fn status(status: u16) -> Self {
        let answer = Answer { status, retry_after: None, body: Vec::new() };
        Self { after: Duration::ZERO, answer: Ok(answer) }
    }
}

type Respond = dyn Fn(&WebhookRequest) -> Reply + Send + Sync;

/// A script and what was sent to it. Clones share both.
#[derive(Clone)]
pub struct Scripted {
    respond: Arc<Respond>,
    sent: Arc<Mutex<Vec<WebhookRequest>>>,
    total: Duration,
}

impl Scripted {
    /// Receivers that do what `respond` says. A reply later than `total` is a timeout.
    pub fn new(
        total: Duration,
        respond: impl Fn(&WebhookRequest) -> Reply + Send + Sync + 'static,
    ) -> Self {
        Self { respond: Arc::new(respond), sent: Arc::default(), total }
    }

    /// Every request so far, in the order they were sent.
    pub fn sent(&self) -> Vec<WebhookRequest> {
        self.sent.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) async fn send(&self, request: WebhookRequest) -> Result<Answer, NoAnswer> {
        let reply = (self.respond)(&request);
        self.sent.lock().unwrap_or_else(PoisonError::into_inner).push(request);
        tokio::time::sleep(reply.after.min(self.total)).await;
        if reply.after < self.total { reply.answer } else { Err(NoAnswer::Timeout) }
    }
}
