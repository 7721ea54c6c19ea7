//! One connection: wait for its first byte, shake hands, serve requests, close when told.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::FutureExt;
use http::{Request, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;

use super::watch::{Order, Phase, Watch};
use super::{Limits, Peer};
use crate::body::Outgoing;
use crate::tls::Tls;
use crate::{Body, body, metrics, task};

/// How long a client that is being closed may take to accept a last answer.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(1);
const FAREWELL: &[u8] = b"HTTP/1.1 408 Request Timeout\r\ncontent-type: application/json\r\n\
    connection: close\r\ncontent-length: 97\r\n\r\n\
    {\"statusCode\":408,\"message\":\"The request did not arrive in time.\",\"code\":\"request_timeout\"}     \n";
const PANICKED: &[u8] =
    br#"{"statusCode":500,"message":"Something broke on our side; it is logged.","code":"internal"}"#;

/// How connections of one listener are made.
pub(super) struct Connector {
    name: &'static str,
    header_timeout: Duration,
    tls: Option<Tls>,
    http: http1::Builder,
}

impl Connector {
    pub(super) fn new(name: &'static str, limits: Limits, tls: Option<Tls>) -> Self {
        let mut http = http1::Builder::new();
        // Deadlines are the accept loop's (see `watch`), so hyper's own is off. So is its experimental
        // `pipeline_flush`: it keeps back an answer while half of the next request is there, and never
        // sends hyper's own 400s.
        http.timer(TokioTimer::new())
            .header_read_timeout(None)
            .max_headers(limits.headers_max)
            .max_header_size(limits.buffer_max)
            .max_buf_size(limits.buffer_max);
        Self { name, header_timeout: limits.header_timeout, tls, http }
    }
}

/// A connector and the handler of its requests.
pub(super) struct Server<H>(Arc<(Connector, H)>);

impl<H> Clone for Server<H> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<H, F> Server<H>
where
    H: Fn(Request<Incoming>, Peer) -> F + Send + Sync + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    pub(super) fn new(connector: Connector, handler: H) -> Self {
        Self(Arc::new((connector, handler)))
    }

    /// Runs one connection to its end.
    pub(super) async fn connection(self, stream: TcpStream, addr: SocketAddr, watch: Arc<Watch>) {
        // Buffers are made only once there is something to put in them: a silent connection is cheap.
        if stream.set_nodelay(true).is_err() || !first_byte(&stream, &watch).await {
            return;
        }
        let connector = &self.0.0;
        match &connector.tls {
            None => Box::pin(self.requests(stream, Peer { addr, tls: false }, watch)).await,
            Some(tls) => {
                watch.enter(Phase::Head);
                match tls.accept(stream, connector.header_timeout).await {
                    Ok(stream) => {
                        Box::pin(self.requests(stream, Peer { addr, tls: true }, watch)).await;
                    }
                    Err(error) => {
                        tracing::debug!(listener = connector.name, %error, "no TLS handshake");
                        ::metrics::counter!(
                            metrics::CLOSED, "listener" => connector.name, "reason" => "tls"
                        )
                        .increment(1);
                    }
                }
            }
        }
    }

    async fn requests<I>(&self, io: I, peer: Peer, watch: Arc<Watch>)
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let service = service_fn(|request| {
            watch.enter(Phase::Busy);
            let (server, watch) = (self.clone(), Arc::clone(&watch));
            let answer = AssertUnwindSafe(async move { (server.0.1)(request, peer).await });
            async move {
                let answer = answer.catch_unwind().await;
                watch.enter(Phase::Idle);
                let answer = answer.unwrap_or_else(|panic| panicked(panic.as_ref()));
                Ok::<_, Infallible>(answer.map(Outgoing))
            }
        });
        let io = TokioIo::new(Watched { io, watch: Arc::clone(&watch) });
        let mut connection = self.0.0.http.serve_connection(io, service);
        let mut draining = false;
        let closed = poll_fn(|cx| {
            watch.register(cx.waker());
            match watch.ordered() {
                Order::Close => return Poll::Ready(true),
                Order::Drain if !draining => {
                    draining = true;
                    Pin::new(&mut connection).graceful_shutdown();
                }
                Order::Drain | Order::Run => {}
            }
            // How a connection ended is the client's affair.
            Pin::new(&mut connection).poll(cx).map(|_ended| false)
        })
        .await;
        if closed && watch.phase() == Phase::Head {
            farewell(connection.into_parts().io.into_inner()).await;
        }
    }
}

/// Waits until there is something to read; `false` where the connection is to end before.
async fn first_byte(stream: &TcpStream, watch: &Watch) -> bool {
    poll_fn(|cx| {
        watch.register(cx.waker());
        if watch.ordered() > Order::Run {
            return Poll::Ready(false);
        }
        stream.poll_read_ready(cx).map(|ready| ready.is_ok())
    })
    .await
}

fn panicked(panic: &(dyn std::any::Any + Send)) -> Response<Body> {
    tracing::error!(message = task::panic_message(panic), "request handler panicked");
    ::metrics::counter!(metrics::PANICS, "place" => "handler").increment(1);
    let mut response = Response::new(body::full(PANICKED));
    *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    let json = header::HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

/// Tells a client whose request stopped half-way why it is being closed.
async fn farewell(mut io: impl AsyncWrite + Unpin) {
    let said = async {
        io.write_all(FAREWELL).await?;
        io.shutdown().await
    };
    // It may well be gone, which is as good.
    let _ = tokio::time::timeout(FAREWELL_TIMEOUT, said).await;
}

/// A stream that reports what passes through it.
struct Watched<I> {
    io: I,
    watch: Arc<Watch>,
}

impl<I: AsyncRead + Unpin> AsyncRead for Watched<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let result = ready!(Pin::new(&mut self.io).poll_read(cx, buf));
        if buf.filled().len() > before {
            self.watch.received();
        }
        Poll::Ready(result)
    }
}

impl<I: AsyncWrite + Unpin> Watched<I> {
    fn wrote(&self, result: io::Result<usize>) -> Poll<io::Result<usize>> {
        if result.is_ok() {
            self.watch.sent();
        }
        Poll::Ready(result)
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Watched<I> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = ready!(Pin::new(&mut self.io).poll_write(cx, buf));
        self.wrote(result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = ready!(Pin::new(&mut self.io).poll_write_vectored(cx, bufs));
        self.wrote(result)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
