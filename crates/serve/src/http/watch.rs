//! What the accept loop knows of each connection, and how it ends one.
//!
//! Connections write a phase and a coarse time into one atomic word; the accept loop looks at all of
//! them four times a second. So a request costs no timer and no clock reading, and an idle connection
//! no memory but its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::task::Waker;
use std::time::Duration;

use futures_util::task::AtomicWaker;
use tokio::time::Instant;

use super::Limits;

/// Bits of the word that hold the phase.
const PHASE_BITS: u32 = 2;

/// What a connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Nothing, or an answer is on its way out.
    Idle = 0,
    /// The first bytes of a request have come, its head is not complete; or TLS is being set up.
    Head = 1,
    /// The handler has the request.
    Busy = 2,
}

/// What a connection is told to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
pub(super) enum Order {
    /// Go on.
    Run = 0,
    /// Finish the request at hand, then close.
    Drain = 1,
    /// Close now.
    Close = 2,
}

/// Count of the open connections of one listener, and their coarse clock.
#[derive(Debug)]
pub(super) struct Ledger {
    open: AtomicUsize,
    started: Instant,
    now_ms: AtomicU64,
}

impl Default for Ledger {
    fn default() -> Self {
        Self { open: AtomicUsize::new(0), started: Instant::now(), now_ms: AtomicU64::new(0) }
    }
}

impl Ledger {
    pub(super) fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Reads the clock for everyone; milliseconds since the listener started.
    pub(super) fn advance(&self) -> u64 {
        let now = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.now_ms.store(now, Ordering::Relaxed);
        now
    }
}

/// One connection, shared by its task and the accept loop. It counts as open while its task holds it.
#[derive(Debug)]
pub(super) struct Watch {
    ledger: Arc<Ledger>,
    /// Milliseconds, then [`PHASE_BITS`] of phase.
    state: AtomicU64,
    order: AtomicU8,
    waker: AtomicWaker,
}

impl Watch {
    pub(super) fn new(ledger: Arc<Ledger>) -> Arc<Self> {
        ledger.open.fetch_add(1, Ordering::Relaxed);
        let watch = Self {
            ledger,
            state: AtomicU64::new(0),
            order: AtomicU8::new(Order::Run as u8),
            waker: AtomicWaker::new(),
        };
        watch.enter(Phase::Idle);
        Arc::new(watch)
    }

    /// The connection starts to do this, now.
    pub(super) fn enter(&self, phase: Phase) {
        let now = self.ledger.now_ms.load(Ordering::Relaxed);
        self.state.store(now << PHASE_BITS | phase as u64, Ordering::Relaxed);
    }

    pub(super) fn phase(&self) -> Phase {
        match self.state.load(Ordering::Relaxed) & ((1 << PHASE_BITS) - 1) {
            0 => Phase::Idle,
            1 => Phase::Head,
            _ => Phase::Busy,
        }
    }

    /// Bytes came in: a request begins, if none was under way.
    pub(super) fn received(&self) {
        if self.phase() == Phase::Idle {
            self.enter(Phase::Head);
        }
    }

    /// Bytes of an answer went out: the client takes them, so it gets more time.
    pub(super) fn sent(&self) {
        if self.phase() == Phase::Idle {
            self.enter(Phase::Idle);
        }
    }

    /// Why the connection is to be closed at `now` (milliseconds of the ledger's clock), if it is.
    pub(super) fn overdue(&self, now: u64, limits: &Limits) -> Option<&'static str> {
        let since = self.state.load(Ordering::Relaxed) >> PHASE_BITS;
        let (limit, reason) = match self.phase() {
            Phase::Idle => (limits.idle_timeout, "idle"),
            Phase::Head => (limits.header_timeout, "header_timeout"),
            Phase::Busy => (limits.request_timeout, "request_timeout"),
        };
        let due = Duration::from_millis(now.saturating_sub(since)) >= limit;
        (due && self.ordered() < Order::Close).then_some(reason)
    }

    /// Tells the connection what to do. An order is never taken back by a weaker one.
    pub(super) fn order(&self, order: Order) {
        self.order.fetch_max(order as u8, Ordering::SeqCst);
        self.waker.wake();
    }

    pub(super) fn ordered(&self) -> Order {
        match self.order.load(Ordering::SeqCst) {
            0 => Order::Run,
            1 => Order::Drain,
            _ => Order::Close,
        }
    }

    /// Has `waker` woken by the next order.
    pub(super) fn register(&self, waker: &Waker) {
        self.waker.register(waker);
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.ledger.open.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_phase_has_its_deadline() {
        let limits = Limits::default();
        let cases = [
            (Phase::Idle, limits.idle_timeout, "idle"),
            (Phase::Head, limits.header_timeout, "header_timeout"),
            (Phase::Busy, limits.request_timeout, "request_timeout"),
        ];
        for (phase, limit, reason) in cases {
            let ledger = Arc::<Ledger>::default();
            let watch = Watch::new(Arc::clone(&ledger));
            watch.enter(phase);
            assert_eq!(watch.phase(), phase);
            tokio::time::advance(limit - Duration::from_millis(1)).await;
            assert_eq!(watch.overdue(ledger.advance(), &limits), None, "{phase:?}");
            tokio::time::advance(Duration::from_millis(1)).await;
            assert_eq!(watch.overdue(ledger.advance(), &limits), Some(reason));
            watch.order(Order::Close);
            assert_eq!(watch.overdue(ledger.advance(), &limits), None, "told once");
        }
    }

    #[test]
    fn bytes_move_the_phase_only_where_they_should() {
        let ledger = Arc::<Ledger>::default();
        let watch = Watch::new(Arc::clone(&ledger));
        watch.sent();
        assert_eq!(watch.phase(), Phase::Idle);
        watch.received();
        assert_eq!(watch.phase(), Phase::Head);
        watch.enter(Phase::Busy);
        watch.received();
        watch.sent();
        assert_eq!(watch.phase(), Phase::Busy);
        watch.order(Order::Close);
        watch.order(Order::Drain);
        assert_eq!(watch.ordered(), Order::Close);
        assert_eq!(ledger.open(), 1);
        drop(watch);
        assert_eq!(ledger.open(), 0);
    }
}
