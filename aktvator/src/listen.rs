//! `aktvator listen`: receives webhooks, prints each, and checks its signature when given the secret.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dispatcher::sign::Secret;
use hyper::body::Incoming;
use hyper::header::HeaderMap;
use hyper::{Request, Response};
use serve::http::{Limits, Listener};
use serve::{Body, Clock, Shutdown};

/// Longest notice that is read, as long as a sender makes them.
const BODY_MAX: usize = 256 << 10;
/// How long a notice may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(15);
/// How far a timestamp may be off before the signature counts as replayed (Standard Webhooks).
const TOLERANCE_S: i64 = 300;

/// Options of `aktvator listen`.
#[derive(clap::Args, Debug)]
pub(crate) struct Listen {
    /// Where to receive.
    #[arg(long, default_value = "127.0.0.1:9700")]
    listen: SocketAddr,
    /// The endpoint's secret, `whsec_...`: signatures are then checked, and wrong ones answered 401.
    #[arg(long)]
    secret: Option<String>,
}

impl Listen {
    /// Receives until the process is asked to end.
    pub(crate) fn run(&self) -> Result<(), String> {
        let secret = self.secret.as_deref().map(Secret::parse).transpose();
        let secret = Arc::new(secret.map_err(|e| e.to_string())?);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|e| format!("no runtime: {e}"))?;
        runtime.block_on(async {
            let listener = Listener::bind("webhooks", self.listen, None)
                .map_err(|e| format!("{e}; choose another address with --listen"))?;
            println!("receiving webhooks at http://{}", self.listen);
            let shutdown = Shutdown::new();
            serve::listen_for_signals(&shutdown).map_err(|e| format!("no signals: {e}"))?;
            let clock = Clock::system();
            serve::http::serve(listener, Limits::default(), shutdown, move |request, _| {
                receive(Arc::clone(&secret), clock.now_ms() / 1000, request)
            })
            .await;
            Ok(())
        })
    }
}

async fn receive(
    secret: Arc<Option<Secret>>,
    now_s: i64,
    request: Request<Incoming>,
) -> Response<Body> {
    let (head, body) = request.into_parts();
    let Ok(body) = serve::body::read(body, BODY_MAX, BODY_TIMEOUT).await else {
        return answer(400);
    };
    let verdict = match secret.as_ref() {
        None => "signature not checked",
        Some(secret) if is_genuine(secret, now_s, &head.headers, &body) => "signature valid",
        Some(_) => "signature WRONG",
    };
    println!("{} ({verdict})", String::from_utf8_lossy(&body));
    answer(if verdict.ends_with("WRONG") { 401 } else { 204 })
}

fn is_genuine(secret: &Secret, now_s: i64, headers: &HeaderMap, body: &Bytes) -> bool {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let Ok(sent_s) = text("webhook-timestamp").parse::<i64>() else { return false };
    let wanted = secret.sign(text("webhook-id"), sent_s, body);
    (now_s - sent_s).abs() <= TOLERANCE_S
        && text("webhook-signature").split(' ').any(|given| given == wanted)
}

fn answer(status: u16) -> Response<Body> {
    let mut response = Response::new(serve::body::empty());
    *response.status_mut() = hyper::StatusCode::from_u16(status).unwrap_or_default();
    response
}
