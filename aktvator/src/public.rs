//! The public listeners: TLS or loopback only; ingest first, everything else to the control API.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;

use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::{Request, Response};
use ingest_edge::{Edge, Redirector};
use schemas::fault::ApiError;
use serve::http::{Limits, Listener, Peer};
use serve::{Body, Shutdown};
use tower::ServiceExt;

/// Whether a request came over a connection that nobody could listen to.
#[derive(Clone)]
pub(crate) struct Transport {
    trusted_proxies: Arc<[IpAddr]>,
    local: bool,
}

impl Transport {
    /// `local`: the listener is on loopback, where plain HTTP is fine.
    pub(crate) fn new(trusted_proxies: &[IpAddr], local: bool) -> Self {
        Self { trusted_proxies: trusted_proxies.into(), local }
    }

    /// Loopback, TLS, or a trusted proxy that says its side was TLS.
    pub(crate) fn is_private<B>(&self, request: &Request<B>, peer: Peer) -> bool {
        let forwarded = || {
            let scheme = request.headers().get("x-forwarded-proto");
            self.trusted_proxies.contains(&peer.addr.ip())
                && scheme.is_some_and(|scheme| scheme.as_bytes().eq_ignore_ascii_case(b"https"))
        };
        self.local || peer.tls || forwarded()
    }

    /// 403 that never redirects: a key sent in the clear must fail loudly.
    pub(crate) fn refusal() -> Response<Body> {
        let error = ApiError::new(
            403,
            "https_required",
            "Use HTTPS; this request was readable on its way.",
        );
        let body = serde_json::to_vec(&error.body("")).unwrap_or_default();
        let response = Response::builder()
            .status(403)
            .header("content-type", "application/json")
            .header("connection", "close")
            .body(serve::body::full(body));
        response.unwrap_or_else(|_| Response::new(serve::body::empty()))
    }
}

/// What answers at the public address: the edge its own paths, the control API all others. Of a role
/// that this process has not, the other one says that there is no such path.
#[derive(Clone)]
pub(crate) enum Api {
    Edge(Arc<Edge>),
    Control(axum::Router),
    Both(Arc<Edge>, axum::Router),
}

impl Api {
    async fn handle(self, request: Request<Incoming>) -> Response<Body> {
        let control = match self {
            Self::Edge(edge) => return edge.handle(request).await,
            Self::Both(edge, _) if Edge::takes(&request) => return edge.handle(request).await,
            Self::Both(_, control) | Self::Control(control) => control,
        };
        let answer: Result<_, Infallible> = control.oneshot(request).await;
        match answer {
            Ok(answer) => {
                answer.map(|body| serve::body::boxed(body.map_err(serve::BoxError::from)))
            }
            Err(never) => match never {},
        }
    }
}

/// Answers calls of the API until `shutdown` is requested and the connections are done.
pub(crate) async fn serve_api(
    listener: Listener,
    limits: Limits,
    transport: Transport,
    api: Api,
    shutdown: Shutdown,
) {
    serve::http::serve(listener, limits, shutdown, move |request, peer| {
        let (api, transport) = (api.clone(), transport.clone());
        async move {
            if transport.is_private(&request, peer) {
                api.handle(request).await
            } else {
                Transport::refusal()
            }
        }
    })
    .await;
}

/// Redirects links until `shutdown` is requested and the connections are done.
pub(crate) async fn serve_links(
    listener: Listener,
    transport: Transport,
    redirector: Redirector,
    shutdown: Shutdown,
) {
    let redirector = Arc::new(redirector);
    serve::http::serve(listener, Limits::default(), shutdown, move |request, peer| {
        let (redirector, transport) = (Arc::clone(&redirector), transport.clone());
        async move {
            if transport.is_private(&request, peer) {
                redirector.handle(request).await
            } else {
                Transport::refusal()
            }
        }
    })
    .await;
}
