//! HTTP/1.1 over one shared pool of connections.

use std::error::Error as StdError;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_TYPE, RETRY_AFTER, USER_AGENT};
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::{Client, Error};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use schemas::target::Target;
use tokio::time::{Instant, timeout_at};

use super::connect::{Bounded, Judged, Refused};
use super::resolve::Resolver;
use super::{Deadlines, WebhookRequest};
use crate::attempt::{Answer, NoAnswer};

const AGENT: &str = "Aktvator-Webhooks/1 (+https://aktvator.com/docs/webhooks)";

/// Bytes of an answer's body that are read; a connection with more to say is dropped.
const BODY_MAX: usize = 16 * 1_024;
/// Bytes that an answer's head may have.
const HEAD_MAX: usize = 16 * 1_024;
/// Headers that an answer may have.
const HEADERS_MAX: usize = 64;
/// Connections to one host that are kept for later.
const IDLE_PER_HOST_MAX: usize = 8;
/// How long a connection is kept for later.
const IDLE_MAX: Duration = Duration::from_secs(30);
/// The part of the time to connect that the name may take, so that a name that is not answered is
/// told from a host that is not.
const LOOKUP_PART: (u32, u32) = (4, 5);
/// How long the body of an answer that already means success may still take.
const SUCCESS_BODY_MAX: Duration = Duration::from_secs(1);

/// The network. Clones share connections.
#[derive(Clone)]
pub struct HyperTransport {
    client: Client<Bounded<HttpsConnector<Judged>>, Full<Bytes>>,
    deadlines: Deadlines,
}

impl HyperTransport {
    /// A pool without connections. `allow_loopback` permits receivers on this machine.
    pub fn new(deadlines: Deadlines, allow_loopback: bool) -> Self {
        let https = HttpsConnectorBuilder::new()
            .with_provider_and_webpki_roots(rustls::crypto::ring::default_provider())
            .expect("ring has the suites of TLS 1.2 and 1.3")
            .https_or_http()
            .enable_http1()
            .wrap_connector(Judged {
                resolver: Resolver::system(deadlines.connect * LOOKUP_PART.0 / LOOKUP_PART.1),
                allow_loopback,
            });
        let connector = Bounded { inner: https, limit: deadlines.connect };
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_MAX)
            .pool_max_idle_per_host(IDLE_PER_HOST_MAX)
            .retry_canceled_requests(false)
            .http1_max_buf_size(HEAD_MAX)
            .http1_max_headers(HEADERS_MAX)
            .build(connector);
        Self { client, deadlines }
    }

    pub(super) async fn send(&self, request: WebhookRequest) -> Result<Answer, NoAnswer> {
        let request = encode(request).map_err(|_| NoAnswer::BlockedTarget)?;
        let deadline = Instant::now() + self.deadlines.total;
        match timeout_at(deadline, self.client.request(request)).await {
            Err(_) => Err(NoAnswer::Timeout),
            Ok(Err(e)) => Err(cause(&e)),
            Ok(Ok(response)) => Ok(read(response, deadline).await),
        }
    }
}

fn encode(request: WebhookRequest) -> Result<Request<Full<Bytes>>, http::Error> {
    Request::post(uri(&request.target))
        .header(CONTENT_TYPE, "application/json")
        .header(USER_AGENT, AGENT)
        .header(ACCEPT, "*/*")
        .header(ACCEPT_ENCODING, "identity")
        .header("webhook-id", request.id)
        .header("webhook-timestamp", request.timestamp_s)
        .header("webhook-signature", request.signature)
        .header("aktvator-delivery", request.delivery.to_string())
        .header("aktvator-attempt", request.attempt)
        .body(Full::new(request.body))
}

/// Built from the parts that were judged, so that no second parser reads the URL another way.
fn uri(target: &Target) -> String {
    let (scheme, usual) = if target.https { ("https", 443) } else { ("http", 80) };
    let Target { host, path_and_query, .. } = target;
    if target.port == usual {
        format!("{scheme}://{host}{path_and_query}")
    } else {
        format!("{scheme}://{host}:{}{path_and_query}", target.port)
    }
}

/// The status decides; the body only informs, so one that never ends or breaks costs nothing but
/// its own time.
async fn read(response: Response<Incoming>, deadline: Instant) -> Answer {
    let status = response.status();
    let retry_after = response.headers().get(RETRY_AFTER).map(|value| value.as_bytes().to_vec());
    let deadline = if status.is_success() {
        deadline.min(Instant::now() + SUCCESS_BODY_MAX)
    } else {
        deadline
    };
    let mut kept = Vec::new();
    // Whether it ended or was cut makes no difference: what came is kept.
    timeout_at(deadline, fill(response.into_body(), &mut kept)).await.ok();
    Answer { status: status.as_u16(), retry_after, body: kept }
}

async fn fill(mut body: Incoming, kept: &mut Vec<u8>) {
    while let Some(Ok(frame)) = body.frame().await {
        let data = frame.into_data().unwrap_or_default();
        let room = BODY_MAX - kept.len();
        kept.extend_from_slice(&data[..data.len().min(room)]);
        if data.len() > room {
            return;
        }
    }
}

fn cause(error: &Error) -> NoAnswer {
    let Some(source) = error.source() else { return NoAnswer::Reset };
    if let Some(Refused(why)) = source.downcast_ref::<Refused>() {
        return *why;
    }
    match source.downcast_ref::<hyper::Error>() {
        Some(e) if e.is_canceled() => NoAnswer::Unsent,
        Some(e) if e.is_parse() || e.is_user() => NoAnswer::Protocol,
        _ => NoAnswer::Reset,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_uri_is_the_judged_url() {
        let cases = [
            ("https://Example.com", "https://example.com/"),
            ("https://example.com:443/a?b=c", "https://example.com/a?b=c"),
            ("https://example.com:8443/", "https://example.com:8443/"),
            ("http://127.0.0.1:9/x", "http://127.0.0.1:9/x"),
            ("http://[::1]:9000/x", "http://[::1]:9000/x"),
        ];
        for (url, want) in cases {
            let target = schemas::target::webhook(url, true).expect("a target");
            assert_eq!(uri(&target), want);
            assert!(want.parse::<http::Uri>().is_ok(), "{want}");
        }
    }
}
