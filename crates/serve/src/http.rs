//! The accept loop: connections in, requests to a handler, a drain at the end.

mod connection;
mod watch;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::Instant;

use self::connection::{Connector, Server};
use self::watch::{Ledger, Order, Watch};
use crate::tls::Tls;
use crate::{Body, Shutdown, metrics};

/// Connections the kernel may hold for us before we accept them; it cuts this to `somaxconn`.
const BACKLOG: u32 = 4_096;
/// How often deadlines are looked at: also how exact they are.
const TICK: Duration = Duration::from_millis(250);
/// How often a drain looks whether it is done.
const DRAIN_TICK: Duration = Duration::from_millis(20);
/// How long to leave the listener alone after a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Bounds of one listener and of each of its connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections at once; more wait in the kernel's queue.
    pub connections_max: usize,
    /// From a request's first byte to the end of its head; then 408. Also the TLS handshake.
    pub header_timeout: Duration,
    /// Between two requests, before the first, and between two writes of an answer. Above three
    /// quarters of `connections_max` it is `header_timeout` at most, so that room is made.
    pub idle_timeout: Duration,
    /// From the end of the head to the handler's answer, reading of the body included; then the
    /// connection is closed.
    pub request_timeout: Duration,
    /// How long requests in flight may take to finish after a shutdown was requested.
    pub drain_timeout: Duration,
    /// Header lines of a request; more get 431.
    pub headers_max: usize,
    /// Bytes of a request's head; more get 431. Also the largest piece of a body read at once.
    pub buffer_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 10_000,
            header_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(75),
            request_timeout: Duration::from_secs(60),
            drain_timeout: Duration::from_secs(30),
            headers_max: 64,
            buffer_max: 64 << 10,
        }
    }
}

/// Who sent a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The other end of the connection.
    pub addr: SocketAddr,
    /// Whether the connection is TLS.
    pub tls: bool,
}

/// A bound address, plain or TLS.
pub struct Listener {
    name: &'static str,
    tcp: TcpListener,
    tls: Option<Tls>,
}

/// The address cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {addr} ({name} listener)")]
pub struct BindError {
    /// Which listener.
    pub name: &'static str,
    /// The address.
    pub addr: SocketAddr,
    /// Why.
    pub source: io::Error,
}

impl Listener {
    /// Binds `addr`; port 0 takes a free one. `name` labels the listener's metrics and logs. Must be
    /// called inside a tokio runtime.
    ///
    /// # Errors
    /// Where the address is taken, is not this machine's, or needs privileges.
    pub fn bind(name: &'static str, addr: SocketAddr, tls: Option<Tls>) -> Result<Self, BindError> {
        let tcp = listen(addr).map_err(|source| BindError { name, addr, source })?;
        Ok(Self { name, tcp, tls })
    }

    /// The address that was bound, with its real port.
    ///
    /// # Errors
    /// Where the operating system does not say.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.tcp.local_addr()
    }
}

fn listen(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = if addr.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A restarted process can bind while old connections linger in TIME_WAIT.
    socket.set_reuseaddr(true)?;
    socket.bind(addr)?;
    socket.listen(BACKLOG)
}

/// Serves HTTP/1.1 on `listener` until `shutdown` is requested and every connection is done, or cut
/// at the drain deadline.
///
/// `handler` gets each request with its peer. It may be dropped at any await, because clients hang
/// up; a panic in it answers 500.
pub async fn serve<H, F>(listener: Listener, limits: Limits, shutdown: Shutdown, handler: H)
where
    H: Fn(Request<Incoming>, Peer) -> F + Send + Sync + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let Listener { name, tcp, tls } = listener;
    let server = Server::new(Connector::new(name, limits, tls), handler);
    let mut open = Open { name, limits, ledger: Arc::default(), watches: Vec::new() };
    accept_until(&shutdown, &tcp, &mut open, |stream, addr, watch| {
        let server = server.clone();
        tokio::spawn(async move { server.connection(stream, addr, watch).await });
    })
    .await;
    drop(tcp);
    open.drain().await;
}

async fn accept_until(
    shutdown: &Shutdown,
    tcp: &TcpListener,
    open: &mut Open,
    start: impl Fn(TcpStream, SocketAddr, Arc<Watch>),
) {
    let requested = shutdown.requested();
    tokio::pin!(requested);
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let room = open.ledger.open() < open.limits.connections_max;
        tokio::select! {
            biased;
            () = &mut requested => return,
            _ = tick.tick() => open.tick(),
            accepted = tcp.accept(), if room => match accepted {
                Ok((stream, addr)) => start(stream, addr, open.admit()),
                Err(error) => open.accept_failed(&error).await,
            },
        }
    }
}

/// The accept loop's view of its connections.
struct Open {
    name: &'static str,
    limits: Limits,
    ledger: Arc<Ledger>,
    watches: Vec<Weak<Watch>>,
}

impl Open {
    fn admit(&mut self) -> Arc<Watch> {
        ::metrics::counter!(metrics::ACCEPTED, "listener" => self.name).increment(1);
        let watch = Watch::new(Arc::clone(&self.ledger));
        self.watches.push(Arc::downgrade(&watch));
        watch
    }

    /// Moves the coarse clock on, forgets connections that are gone, and ends those past a deadline.
    fn tick(&mut self) {
        let now = self.ledger.advance();
        let open = self.ledger.open();
        ::metrics::gauge!(metrics::CONNECTIONS, "listener" => self.name).set(open as f64);
        let mut limits = self.limits;
        if open > limits.connections_max / 4 * 3 {
            limits.idle_timeout = limits.idle_timeout.min(limits.header_timeout);
        }
        let name = self.name;
        self.watches.retain(|watch| {
            let Some(watch) = watch.upgrade() else { return false };
            if let Some(reason) = watch.overdue(now, &limits) {
                ::metrics::counter!(metrics::CLOSED, "listener" => name, "reason" => reason)
                    .increment(1);
                watch.order(Order::Close);
            }
            true
        });
    }

    async fn accept_failed(&self, error: &io::Error) {
        // A client that hung up while it waited is its own business.
        if error.kind() == io::ErrorKind::ConnectionAborted {
            return;
        }
        ::metrics::counter!(metrics::ACCEPT_ERRORS, "listener" => self.name).increment(1);
        tracing::warn!(listener = self.name, %error, "cannot accept a connection");
        tokio::time::sleep(ACCEPT_PAUSE).await;
    }

    async fn drain(mut self) {
        self.order_all(Order::Drain);
        let deadline = Instant::now() + self.limits.drain_timeout;
        while self.ledger.open() > 0 && Instant::now() < deadline {
            self.tick();
            tokio::time::sleep(DRAIN_TICK).await;
        }
        let cut = self.ledger.open();
        if cut > 0 {
            tracing::warn!(listener = self.name, cut, "connections cut at the drain deadline");
            ::metrics::counter!(metrics::CLOSED, "listener" => self.name, "reason" => "drain_timeout")
                .increment(cut as u64);
            self.order_all(Order::Close);
        }
        ::metrics::gauge!(metrics::CONNECTIONS, "listener" => self.name).set(0.0);
    }

    fn order_all(&self, order: Order) {
        for watch in self.watches.iter().filter_map(Weak::upgrade) {
            watch.order(order);
        }
    }
}
