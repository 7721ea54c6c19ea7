//! Opens connections to permitted addresses only.
//!
//! The name is resolved here, every address it has is judged, and one bad address refuses all: a
//! mixed answer is how a name is made to point inside. What was judged is what is connected to.

use std::error::Error as StdError;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper_util::rt::TokioIo;
use schemas::target;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tower::Service;

use super::resolve::Resolver;
use crate::attempt::NoAnswer;

type Connecting<T> = Pin<Box<dyn Future<Output = Result<T, Refused>> + Send>>;

/// Why there is no connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no connection")]
pub(super) struct Refused(pub(super) NoAnswer);

/// Resolves, judges, connects over TCP.
#[derive(Clone)]
pub(super) struct Judged {
    /// Finds the addresses of a name.
    pub(super) resolver: Resolver,
    /// May it connect to this machine?
    pub(super) allow_loopback: bool,
}

impl Service<Uri> for Judged {
    type Response = TokioIo<TcpStream>;
    type Error = Refused;
    type Future = Connecting<Self::Response>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Refused>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        Box::pin(connect(uri, self.resolver.clone(), self.allow_loopback))
    }
}

async fn connect(
    uri: Uri,
    resolver: Resolver,
    allow_loopback: bool,
) -> Result<TokioIo<TcpStream>, Refused> {
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    let https = uri.scheme_str() == Some("https");
    let port = uri.port_u16().unwrap_or(if https { 443 } else { 80 });
    let found = resolver.addresses(host, port).await.map_err(Refused)?;
    let addresses = judge(found, allow_loopback)?;
    let stream = first_to_connect(&addresses).await.map_err(|_| Refused(NoAnswer::Connect))?;
    let peer = stream.peer_addr().map_err(|_| Refused(NoAnswer::Connect))?;
    judge(vec![peer], allow_loopback)?;
    // A request is written at once; waiting to fill a packet only delays it. A socket that cannot
    // be told so still works.
    stream.set_nodelay(true).ok();
    Ok(TokioIo::new(stream))
}

/// The addresses, if there are any and all of them are permitted.
fn judge(addresses: Vec<SocketAddr>, allow_loopback: bool) -> Result<Vec<SocketAddr>, Refused> {
    if addresses.is_empty() {
        return Err(Refused(NoAnswer::Dns));
    }
    let permitted = |address: &SocketAddr| target::permits(address.ip(), allow_loopback);
    if addresses.iter().all(permitted) {
        Ok(addresses)
    } else {
        Err(Refused(NoAnswer::BlockedTarget))
    }
}

async fn first_to_connect(addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    let mut failure = io::ErrorKind::AddrNotAvailable.into();
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(e) => failure = e,
        }
    }
    Err(failure)
}

/// Bounds the time that `inner` takes to connect, and names why it could not.
#[derive(Clone)]
pub(super) struct Bounded<C> {
    /// Connects, over TLS where the scheme says so.
    pub(super) inner: C,
    /// For name, TCP and TLS together.
    pub(super) limit: Duration,
}

impl<C> Service<Uri> for Bounded<C>
where
    C: Service<Uri, Error = Box<dyn StdError + Send + Sync>>,
    C::Future: Send + 'static,
    C::Response: 'static,
{
    type Response = C::Response;
    type Error = Refused;
    type Future = Connecting<C::Response>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Refused>> {
        self.inner.poll_ready(cx).map_err(|e| refusal(&*e))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connecting = timeout(self.limit, self.inner.call(uri));
        Box::pin(async move {
            match connecting.await {
                Ok(connected) => connected.map_err(|e| refusal(&*e)),
                Err(_) => Err(Refused(NoAnswer::Timeout)),
            }
        })
    }
}

/// What is not a refusal of [`Judged`] came from TLS: there is nothing else.
fn refusal(error: &(dyn StdError + Send + Sync + 'static)) -> Refused {
    error.downcast_ref::<Refused>().copied().unwrap_or(Refused(NoAnswer::Tls))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_bad_address_refuses_all() {
        let blocked = Err(Refused(NoAnswer::BlockedTarget));
        let cases: &[(&[&str], bool, Result<usize, Refused>)] = &[
            (&["93.184.215.14:443", "[2606:4700::1]:443"], false, Ok(2)),
            (&["93.184.215.14:443", "10.0.0.1:443"], false, blocked),
            (&["127.0.0.1:443"], false, blocked),
            (&["127.0.0.1:443", "[::1]:443"], true, Ok(2)),
            (&["127.0.0.1:443", "192.168.0.1:443"], true, blocked),
            (&["[::ffff:8.8.8.8]:443"], false, blocked),
            (&[], true, Err(Refused(NoAnswer::Dns))),
        ];
        for (addresses, allow, want) in cases {
            let parsed = addresses.iter().map(|a| a.parse().expect("an address")).collect();
            assert_eq!(judge(parsed, *allow).map(|kept| kept.len()), *want, "{addresses:?}");
        }
    }
}
