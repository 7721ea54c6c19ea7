//! The public listener: TLS or loopback only, ingest first, everything else to the control API.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;

use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::{Request, Response};
use ingest_edge::Edge;
use schemas::fault::ApiError;
use serve::Body;
use serve::http::Peer;
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

/// Everything behind the public address.
#[derive(Clone)]
pub(crate) struct Public {
    pub(crate) transport: Transport,
    pub(crate) edge: Arc<Edge>,
    pub(crate) control: axum::Router,
}

impl Public {
    /// Answers one request.
    pub(crate) async fn handle(self, request: Request<Incoming>, peer: Peer) -> Response<Body> {
        if !self.transport.is_private(&request, peer) {
            return Transport::refusal();
        }
        if Edge::takes(&request) {
            return self.edge.handle(request).await;
        }
        let answer: Result<_, Infallible> = self.control.oneshot(request).await;
        match answer {
            Ok(answer) => {
                answer.map(|body| serve::body::boxed(body.map_err(serve::BoxError::from)))
            }
            Err(never) => match never {},
        }
    }
}
