//! `GET /CODE`: the redirect at once, the click after.
//!
//! The target comes from the link as stored, never from the request. A link that is archived still
//! redirects and counts, for it still attributes. Of a campaign that is not active (draft, paused,
//! ended) the visitor is sent to the target without a click id, and nothing is counted: nothing
//! could be earned by it.

use bytes::Bytes;
use http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, LOCATION, REFERRER_POLICY, RETRY_AFTER};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use schemas::fault::ApiError;
use schemas::time::Timestamp;
use serve::{Body, Clock};
use storage::{Catalog, EventLog};

use crate::answer::{self, RequestIds, RequestName, X_REQUEST_ID};
use crate::click::{Click, ClickKey};
use crate::clicks::{self, ClickQueue, ClickWriter};
use crate::config::Config;
use crate::metrics;
use crate::target::{Target, Targets};

const X_ROBOTS_TAG: HeaderName = HeaderName::from_static("x-robots-tag");
const NOT_FOUND_PAGE: &str = "<!doctype html><html lang=en><meta charset=utf-8>\
    <title>No such link</title><h1>No such link</h1>\
    <p>This address leads nowhere. Check that it was typed in full.</p>";

/// What a [`Redirector`] is made of.
pub struct RedirectParts {
    /// Where links and campaigns are.
    pub catalog: Catalog,
    /// Where clicks are appended.
    pub log: EventLog,
    /// The time of clicks.
    pub clock: Clock,
    /// The installation's key for click ids, the same as the edge's.
    pub click_key: [u8; 32],
    /// Random bits of this process, for request ids.
    pub random: u64,
    /// Settings.
    pub config: Config,
}

/// Answers short links. One is shared by all connections.
pub struct Redirector {
    targets: Targets,
    clicks: ClickQueue,
    clock: Clock,
    click_key: ClickKey,
    request_ids: RequestIds,
}

impl Redirector {
    /// A redirector, and the task that writes its clicks to the log: run it, or every click is dropped
    /// once the queue is full.
    pub fn new(parts: RedirectParts) -> (Self, ClickWriter) {
        let (clicks, writer) = clicks::queue(parts.log, parts.config.click_queue());
        let redirector = Self {
            targets: Targets::new(parts.catalog, parts.config.link_cache()),
            clicks,
            clock: parts.clock,
            click_key: ClickKey::new(&parts.click_key),
            request_ids: RequestIds::new(parts.random),
        };
        (redirector, writer)
    }

    /// Answers any request on the redirect listener: 302, 404, 405, or 503 while the catalog cannot be
    /// read. The request's body is not read.
    pub async fn handle<B>(&self, request: Request<B>) -> Response<Body> {
        let now = Timestamp::from_ms(self.clock.now_ms());
        let id = RequestName::of(request.headers(), || self.request_ids.next(now.as_ms()));
        let (response, result) = self.respond(&request, now, &id).await;
        ::metrics::counter!(metrics::REDIRECTS, "result" => result).increment(1);
        response
    }

    async fn respond<B>(
        &self,
        request: &Request<B>,
        now: Timestamp,
        id: &RequestName,
    ) -> (Response<Body>, &'static str) {
        let counts = match *request.method() {
            Method::GET => true,
            Method::HEAD => false,
            _ => return (answer::method_not_allowed("GET, HEAD", id), "unknown"),
        };
        let Some(code) = code(request.uri().path()) else {
            return (not_found(request.headers(), id), "unknown");
        };
        match self.targets.of(&code).await {
            Ok(Some(target)) if counts && target.counts => {
                let location = self.counted(&target, request.uri().query(), now);
                (redirect(&location, id), "counted")
            }
            Ok(Some(target)) => (redirect(&target.url, id), "uncounted"),
            Ok(None) => (not_found(request.headers(), id), "unknown"),
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::error!(error, %id, "link look-up failed");
                let error = ApiError::unavailable("The link cannot be looked up for now.");
                let mut response = answer::error(&error, id);
                response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
                (response, "failed")
            }
        }
    }

    /// Hands the click to the queue, and returns the target with its signed id.
    fn counted(&self, target: &Target, query: Option<&str>, now: Timestamp) -> String {
        let click_id = self.click_key.sign(Click { link: target.link, at: now });
        let is_qr = query.is_some_and(|query| query.split('&').any(|pair| pair == "qr=1"));
        self.clicks.push(target.click(now, if is_qr { "qr" } else { "link" }), target.scope);
        with_click_id(&target.url, &click_id)
    }
}

/// The code in `path`, upper case; `None` where it cannot be one, so that nothing is looked up.
fn code(path: &str) -> Option<String> {
    let code = path.strip_prefix('/')?;
    let valid = (1..=CODE_MAX).contains(&code.len())
        && code.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    valid.then(|| code.to_ascii_uppercase())
}

/// Bytes of a code.
const CODE_MAX: usize = 64;

/// `url` with `akt_id` as the last parameter of its query, before the fragment (RFC 3986, 3).
fn with_click_id(url: &str, click_id: &str) -> String {
    let (rest, fragment) = match url.find('#') {
        Some(at) => url.split_at(at),
        None => (url, ""),
    };
    let separator = match rest.split_once('?') {
        None => "?",
        Some((_, query)) if query.is_empty() || query.ends_with('&') => "",
        Some(_) => "&",
    };
    format!("{rest}{separator}akt_id={click_id}{fragment}")
}

fn redirect(location: &str, id: &RequestName) -> Response<Body> {
    let mut response = Response::new(serve::body::empty());
    *response.status_mut() = StatusCode::FOUND;
    let headers = response.headers_mut();
    common_headers(headers, id);
    if let Ok(location) = HeaderValue::from_maybe_shared(Bytes::from(escaped(location))) {
        headers.insert(LOCATION, location);
    }
    response
}

/// The URL with everything but visible ASCII percent-encoded, so that no stored byte can end a header.
fn escaped(url: &str) -> String {
    use std::fmt::Write as _;
    url.bytes().fold(String::with_capacity(url.len()), |mut out, byte| {
        match byte {
            b'!'..=b'~' => out.push(char::from(byte)),
            // Writing to a String cannot fail.
            _ => drop(write!(out, "%{byte:02X}")),
        }
        out
    })
}

fn not_found(headers: &HeaderMap, id: &RequestName) -> Response<Body> {
    let accept = headers.get(ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    if !accept.contains("text/html") {
        return answer::error(&ApiError::not_found("link"), id);
    }
    let mut response = Response::new(serve::body::full(NOT_FOUND_PAGE));
    *response.status_mut() = StatusCode::NOT_FOUND;
    let headers = response.headers_mut();
    common_headers(headers, id);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    response
}

fn common_headers(headers: &mut HeaderMap, id: &RequestName) {
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    let policy = HeaderValue::from_static("no-referrer-when-downgrade");
    headers.insert(REFERRER_POLICY, policy);
    headers.insert(X_ROBOTS_TAG, HeaderValue::from_static("noindex"));
    headers.insert(X_REQUEST_ID, id.header());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_click_id_goes_into_the_query() {
        let cases = [
            ("https://a.b", "https://a.b?akt_id=X"),
            ("https://a.b/", "https://a.b/?akt_id=X"),
            ("https://a.b/?", "https://a.b/?akt_id=X"),
            ("https://a.b/?q=1", "https://a.b/?q=1&akt_id=X"),
            ("https://a.b/?q=1&", "https://a.b/?q=1&akt_id=X"),
            ("https://a.b/#top", "https://a.b/?akt_id=X#top"),
            ("https://a.b/?q=1#top", "https://a.b/?q=1&akt_id=X#top"),
            ("https://a.b/#/app?q=1", "https://a.b/?akt_id=X#/app?q=1"),
        ];
        for (url, want) in cases {
            assert_eq!(with_click_id(url, "X"), want);
        }
    }

    #[test]
    fn only_what_can_be_a_code_is_looked_up() {
        let long = format!("/{}", "a".repeat(65));
        let cases = [
            ("/abC-1_x", Some("ABC-1_X")),
            ("/", None),
            ("", None),
            ("/favicon.ico", None),
            ("/a/b", None),
            ("/a%0d", None),
            (long.as_str(), None),
        ];
        for (path, want) in cases {
            assert_eq!(code(path).as_deref(), want, "{path}");
        }
    }

    #[test]
    fn no_byte_can_end_the_header() {
        assert_eq!(escaped("https://a.b/ü\r\nX: y"), "https://a.b/%C3%BC%0D%0AX:%20y");
    }
}
