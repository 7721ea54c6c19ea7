//! The way of a request: request id, caller, rate limit, scope, body, replay, handler; and the one
//! shape of every answer, whatever went wrong.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use access::{Caller, Class};
use axum::RequestPartsExt as _;
use axum::Router;
use axum::body::Body;
use axum::extract::{RawPathParams, Request};
use axum::http::request::Parts as Head;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use axum::response::Response;
use axum::routing::any;
use futures_util::FutureExt as _;
use schemas::fault::ApiError;
use schemas::id::RequestId;
use schemas::time::Timestamp;
use serve::body::ReadError;

use crate::ControlParts;
use crate::call::{Call, Reply};
use crate::metrics;
use crate::query::Query;
use crate::replay::{self, Asked, Begun, Claim};
use crate::route::{Access, Answer, Handler, Replay, Route, routes};
use crate::stored;

/// How long a body may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(15);
/// Bytes of a client's name for a request.
const REQUEST_ID_LEN_MAX: usize = 128;
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The operations of one path.
struct Site {
    parts: Arc<ControlParts>,
    routes: Vec<Route>,
    allow: HeaderValue,
}

/// Every operation under its path and under `/v1`; anything else is a 404 in the error shape.
pub(crate) fn router(parts: ControlParts) -> Router {
    let parts = Arc::new(parts);
    let mut paths: BTreeMap<&'static str, Vec<Route>> = BTreeMap::new();
    for route in routes(&parts.config) {
        paths.entry(route.path).or_default().push(route);
    }
    let mut router = Router::new();
    for (path, routes) in paths {
        let site = Arc::new(Site { parts: Arc::clone(&parts), allow: allow(&routes), routes });
        for path in [path.to_owned(), format!("/v1{path}")] {
            let site = Arc::clone(&site);
            router = router.route(&path, any(move |request| answer(Arc::clone(&site), request)));
        }
    }
    let nowhere =
        Arc::new(Site { parts, routes: Vec::new(), allow: HeaderValue::from_static("OPTIONS") });
    router.fallback(move |request| answer(Arc::clone(&nowhere), request))
}

/// The methods of a path, as `Allow` lists them.
fn allow(routes: &[Route]) -> HeaderValue {
    let mut methods: Vec<&str> =
        routes.iter().flat_map(|route| &route.methods).map(Method::as_str).collect();
    if methods.contains(&"GET") {
        methods.push("HEAD");
    }
    methods.push("OPTIONS");
    HeaderValue::from_str(&methods.join(", ")).unwrap_or(HeaderValue::from_static("OPTIONS"))
}

async fn answer(site: Arc<Site>, request: Request) -> Response {
    let parts = &site.parts;
    let started = tokio::time::Instant::now();
    let (head, body) = request.into_parts();
    let request_id = named(&head.headers)
        .unwrap_or_else(|| RequestId::new(parts.clock.now_ms(), parts.random.bits()).to_string());
    let is_head = head.method == Method::HEAD;
    let route = site.route(&head.method);
    let operation = route.map_or("none", |route| route.name);

    let mut extra = HeaderMap::new();
    let handled = AssertUnwindSafe(site.handle(route, head, body, &request_id, &mut extra));
    let reply = handled
        .catch_unwind()
        .await
        .unwrap_or_else(|_| refusal(&panicked(operation, &request_id), &request_id));

    let class = metrics::status_class(reply.status.as_u16());
    ::metrics::counter!(metrics::REQUESTS, "operation" => operation, "status" => class)
        .increment(1);
    ::metrics::histogram!(metrics::REQUEST_DURATION, "operation" => operation)
        .record(started.elapsed().as_secs_f64());
    tracing::debug!(operation, request_id, status = reply.status.as_u16(), "answered");
    respond(reply, extra, &request_id, is_head)
}

/// What the client calls the request, where it is one header of 1 to 128 visible ASCII characters.
fn named(headers: &HeaderMap) -> Option<String> {
    let mut values = headers.get_all(REQUEST_ID).iter();
    let bytes = values.next().filter(|_| values.next().is_none())?.as_bytes();
    let fits =
        (1..=REQUEST_ID_LEN_MAX).contains(&bytes.len()) && bytes.iter().all(u8::is_ascii_graphic);
    fits.then(|| String::from_utf8_lossy(bytes).into_owned())
}

impl Site {
    fn route(&self, method: &Method) -> Option<&Route> {
        let wanted = if method == Method::HEAD { &Method::GET } else { method };
        self.routes.iter().find(|route| route.methods.contains(wanted))
    }

    /// The answer, with what is to stand in its head in `extra`.
    async fn handle(
        &self,
        route: Option<&Route>,
        head: Head,
        body: Body,
        request_id: &str,
        extra: &mut HeaderMap,
    ) -> Reply {
        let Some(route) = route else { return self.no_operation(&head, request_id, extra) };
        match self.admitted(route, head, body, request_id, extra).await {
            Ok(reply) => reply,
            Err(error) => refusal(&error, request_id),
        }
    }

    fn no_operation(&self, head: &Head, request_id: &str, extra: &mut HeaderMap) -> Reply {
        if self.routes.is_empty() {
            let message = "No such path. The paths are listed at /openapi.json.";
            return refusal(&ApiError::new(404, "not_found", message), request_id);
        }
        extra.insert(header::ALLOW, self.allow.clone());
        if head.method == Method::OPTIONS {
            return Reply::nothing();
        }
        let message = "This path has no such method; `Allow` lists those it has.";
        refusal(&ApiError::new(405, "method_not_allowed", message), request_id)
    }

    async fn admitted(
        &self,
        route: &Route,
        mut head: Head,
        body: Body,
        request_id: &str,
        extra: &mut HeaderMap,
    ) -> Result<Reply, ApiError> {
        let parts = &self.parts;
        let now = Timestamp::from_ms(parts.clock.now_ms());
        let caller = match route.access {
            Access::Open => None,
            _ => Some(self.caller(route, &head.headers, now, extra).await?),
        };
        let params = head.extract::<RawPathParams>().await;
        let params = params.map_err(|_| ApiError::not_found("path"))?;
        check_media(route, &head.headers)?;
        let body = serve::body::read(body, route.body_len_max, BODY_TIMEOUT).await;
        let body = body.map_err(|error| unread(&error))?;
        let raw_query = head.uri.query().unwrap_or_default().to_owned();
        let call = Call {
            parts: Arc::clone(parts),
            caller: caller.clone(),
            params: params.iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect(),
            query: Query::parse(&raw_query, &route.query),
            headers: head.headers,
            body,
            now,
        };
        let path = head.uri.path();
        let path = path.strip_prefix("/v1").unwrap_or(path);
        replayed(route, call, path, &raw_query, request_id).await
    }

    /// Who calls, if they may.
    async fn caller(
        &self,
        route: &Route,
        headers: &HeaderMap,
        now: Timestamp,
        extra: &mut HeaderMap,
    ) -> Result<Arc<Caller>, ApiError> {
        let gate = &self.parts.gate;
        let caller = gate.authenticate(headers, now).await?;
        let admission = gate.admit(&caller, Class::Requests, 1, now.as_ms());
        admission.headers(extra);
        if !admission.allowed {
            return Err(ApiError {
                retry_after_s: admission.retry_after_s,
                ..ApiError::new(429, "rate_limited", "Too many requests; see Retry-After.")
            });
        }
        match (route.access, &*caller) {
            (Access::Operator, Caller::Key(_)) => {
                let message = "Only the operator of this installation may do this.";
                return Err(ApiError::new(403, "operator_only", message));
            }
            (Access::Key(_), Caller::Operator) => {
                let message = "This call needs an organization's key, not the operator's token.";
                return Err(ApiError::new(403, "key_required", message));
            }
            (Access::Key(scope) | Access::KeyOrOperator(scope), Caller::Key(_)) => {
                access::require(&caller, scope)?;
            }
            (Access::Open | Access::Operator | Access::KeyOrOperator(_), _) => {}
        }
        Ok(caller)
    }
}

/// Runs the handler, unless this very request was answered before.
async fn replayed(
    route: &Route,
    call: Call,
    path: &str,
    query: &str,
    request_id: &str,
) -> Result<Reply, ApiError> {
    let key = match route.replay {
        Replay::Ignored => None,
        Replay::Kept => replay::key(&call.headers)?,
        Replay::Refused => {
            replay::key(&call.headers)?.map_or(Ok(None), |_| Err(secret_answer()))?
        }
    };
    let (Some(key), Some(caller)) = (key, call.caller.clone()) else {
        let (answer, is_overdue) = stored::watched((route.handler)(call)).await;
        return if is_overdue { answer.and_then(|_| Err(stored::overdue())) } else { answer };
    };
    let asked = Asked { caller: &caller, path, query, body: &call.body, now: call.now };
    match call.parts.begin(&key, &asked).await? {
        Begun::Answered(reply) => Ok(reply),
        Begun::First(claim) => {
            let first = First {
                handler: Arc::clone(&route.handler),
                operation: route.name,
                request_id: request_id.to_owned(),
                claim,
            };
            // A task of its own: a client that hangs up must not leave work without its answer.
            let answered = serve::spawn("keyed_request", first.answer(call)).await;
            answered.unwrap_or_else(|_| Err(ApiError::internal()))
        }
    }
}

/// The first request with its key.
struct First {
    handler: Handler,
    operation: &'static str,
    request_id: String,
    claim: Claim,
}

impl First {
    /// Does the work and records its answer. A change that still waits for the log is answered 503,
    /// and what is recorded is the answer it would have had: it must not be made twice.
    async fn answer(self, call: Call) -> Answer {
        let Self { handler, operation, request_id, claim } = self;
        let parts = Arc::clone(&call.parts);
        let work = AssertUnwindSafe(stored::watched(handler(call))).catch_unwind();
        let (answer, is_overdue) =
            work.await.unwrap_or_else(|_| (Err(panicked(operation, &request_id)), false));
        let reply = answer.unwrap_or_else(|error| refusal(&error, &request_id));
        parts.keep_answer(claim, &reply).await;
        if is_overdue && reply.status.is_success() { Err(stored::overdue()) } else { Ok(reply) }
    }
}

/// What a handler that panicked is answered as.
fn panicked(operation: &'static str, request_id: &str) -> ApiError {
    ::metrics::counter!(metrics::PANICS).increment(1);
    tracing::error!(operation, request_id, "handler panicked");
    ApiError::internal()
}

fn secret_answer() -> ApiError {
    ApiError::invalid(
        "Idempotency-Key",
        "not_supported",
        "is not supported here: the answer holds a secret, which is not kept",
    )
}

/// A body must be JSON as it is, where it says what it is.
fn check_media(route: &Route, headers: &HeaderMap) -> Result<(), ApiError> {
    let refused = |message: &str| Err(ApiError::new(415, "unsupported_media_type", message));
    if headers.get(header::CONTENT_ENCODING).is_some_and(|value| value != "identity") {
        return refused("Send the body without Content-Encoding.");
    }
    let Some(content_type) = headers.get(header::CONTENT_TYPE) else { return Ok(()) };
    let media = content_type.to_str().unwrap_or_default().split(';').next().unwrap_or_default();
    let is_json = media.trim().eq_ignore_ascii_case("application/json");
    if route.body.is_some() && !is_json {
        return refused("Send the body as Content-Type: application/json.");
    }
    Ok(())
}

fn unread(error: &ReadError) -> ApiError {
    match error {
        ReadError::TooLarge { max } => {
            ApiError::new(413, "payload_too_large", format!("The body is longer than {max} bytes."))
        }
        ReadError::TooSlow { .. } => {
            ApiError::new(408, "request_timeout", "The body did not arrive in time.")
        }
        ReadError::Broken(_) => {
            ApiError::new(400, "malformed_body", "The body was cut off or badly framed.")
        }
    }
}

/// An error as an answer.
fn refusal(error: &ApiError, request_id: &str) -> Reply {
    let body = serde_json::to_vec(&error.body(request_id)).unwrap_or_default();
    let mut reply = Reply::bytes(error.status, "application/json", body.into());
    if error.status == 401 {
        reply.headers.push((header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer")));
    }
    if let Some(seconds) = error.retry_after_s {
        reply.headers.push((header::RETRY_AFTER, HeaderValue::from(seconds)));
    }
    reply
}

fn respond(reply: Reply, extra: HeaderMap, request_id: &str, is_head: bool) -> Response {
    let length = reply.body.len();
    let body = if is_head { Body::empty() } else { Body::from(reply.body) };
    let mut response = Response::new(body);
    *response.status_mut() = reply.status;
    let headers = response.headers_mut();
    *headers = extra;
    headers.extend(reply.headers);
    if is_head {
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if let Ok(value) = HeaderValue::from_str(request_id) {
        headers.insert(REQUEST_ID, value);
    }
    response
}
