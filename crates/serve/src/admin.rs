//! The operator's listener: `/livez`, `/readyz`, `/metrics`, `/version`.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Method, Request, Response, StatusCode, header};

use crate::http::{Limits, Listener, serve};
use crate::telemetry::PrometheusHandle;
use crate::{Body, Health, Shutdown, body, process};

/// How often histograms are folded while nobody scrapes them, so that they do not grow.
const UPKEEP: Duration = Duration::from_secs(5);
/// Connections at once: scrapers and probes, not users.
const CONNECTIONS_MAX: usize = 64;
const PATHS: [&str; 4] = ["/livez", "/readyz", "/metrics", "/version"];

/// What the admin listener tells.
#[derive(Clone)]
pub struct Admin {
    /// Answers `/livez` and `/readyz`.
    pub health: Health,
    /// Answers `/metrics`.
    pub metrics: PrometheusHandle,
    /// Answers `/version`.
    pub version: &'static str,
    /// The source revision the binary was built from, or `unknown`.
    pub revision: &'static str,
}

/// Serves `admin` until `shutdown` is requested.
///
/// Let this outlive the other listeners (a shutdown of its own), so that `/readyz` can be seen to
/// say no while they drain.
pub async fn run(listener: Listener, admin: Admin, shutdown: Shutdown) {
    let limits = Limits { connections_max: CONNECTIONS_MAX, ..Limits::default() };
    let upkeep = crate::spawn("metrics upkeep", upkeep(admin.metrics.clone(), shutdown.clone()));
    let admin = Arc::new(admin);
    serve(listener, limits, shutdown, move |request, _peer| {
        let admin = Arc::clone(&admin);
        async move { admin.answer(&request) }
    })
    .await;
    // It ends by the same shutdown, and a panic in it has been reported.
    let _ = upkeep.await;
}

impl Admin {
    /// Answers one request; needs nothing of its body.
    pub fn answer<B>(&self, request: &Request<B>) -> Response<Body> {
        let path = request.uri().path();
        if !PATHS.contains(&path) {
            return error(StatusCode::NOT_FOUND, "not_found", "No such path.");
        }
        if request.method() != Method::GET && request.method() != Method::HEAD {
            let mut response = error(
                StatusCode::METHOD_NOT_ALLOWED,
                "method_not_allowed",
                "Only GET and HEAD are answered here.",
            );
            response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
            return response;
        }
        match path {
            "/livez" => self.verdict(self.health.is_alive(), request.uri().query()),
            "/readyz" => self.verdict(self.health.is_ready(), request.uri().query()),
            "/metrics" => text(StatusCode::OK, "text/plain; version=0.0.4", self.metrics()),
            _ => text(StatusCode::OK, "application/json", self.version()),
        }
    }

    fn verdict(&self, good: bool, query: Option<&str>) -> Response<Body> {
        let mut lines = String::new();
        let verbose = query.is_some_and(|query| query.split('&').any(|q| q == "verbose"));
        // Writing to a string cannot fail.
        if verbose || !good {
            for (name, blocked) in self.health.report() {
                let _ = match blocked {
                    None => writeln!(lines, "[+] {name}: ok"),
                    Some(reason) => writeln!(lines, "[-] {name}: {reason}"),
                };
            }
        }
        lines.push_str(if good { "ok\n" } else { "not ok\n" });
        let status = if good { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        text(status, "text/plain; charset=utf-8", lines)
    }

    fn metrics(&self) -> String {
        let mut rendered = self.metrics.render();
        process::render_metrics(&mut rendered);
        rendered
    }

    fn version(&self) -> String {
        format!(r#"{{"version":"{}","revision":"{}"}}"#, self.version, self.revision)
    }
}

async fn upkeep(metrics: PrometheusHandle, shutdown: Shutdown) {
    let mut tick = tokio::time::interval(UPKEEP);
    loop {
        tokio::select! {
            biased;
            () = shutdown.requested() => return,
            _ = tick.tick() => metrics.run_upkeep(),
        }
    }
}

fn error(status: StatusCode, code: &str, message: &str) -> Response<Body> {
    let number = status.as_u16();
    let json = format!(r#"{{"statusCode":{number},"message":"{message}","code":"{code}"}}"#);
    text(status, "application/json", json)
}

fn text(status: StatusCode, kind: &'static str, content: String) -> Response<Body> {
    let mut response = Response::new(body::full(content));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
