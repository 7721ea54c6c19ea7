//! What an ingest request asks for, as far as path, query and headers tell, and its body.

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, Uri};
use schemas::fault::{ApiError, Fault};
use serve::BoxError;
use serve::body::ReadError;

use crate::batch::Format;

/// Bytes of the body of a single event.
pub const SINGLE_BODY_MAX: usize = 64 * 1024;
/// Bytes of the body of a batch.
pub const BATCH_BODY_MAX: usize = 1024 * 1024;
/// The longest `?wait`, in milliseconds.
pub const WAIT_MAX_MS: u64 = 5_000;

/// The two endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    Single,
    Batch,
}

impl Route {
    /// The endpoint at `path`, with or without `/v1`.
    pub(crate) fn of(path: &str) -> Option<Self> {
        match path.strip_prefix("/v1").unwrap_or(path) {
            "/events/ingest" => Some(Self::Single),
            "/events/ingest/batch" => Some(Self::Batch),
            _ => None,
        }
    }

    fn body_max(self) -> usize {
        match self {
            Self::Single => SINGLE_BODY_MAX,
            Self::Batch => BATCH_BODY_MAX,
        }
    }
}

/// What query and headers ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    /// How long the answer may wait for decisions.
    pub(crate) wait: Option<Duration>,
    /// How a batch is written.
    pub(crate) format: Format,
}

impl Asked {
    /// Reads the query and the headers that describe the body.
    ///
    /// # Errors
    /// 400 for a query that is not known or out of bounds, 413 for a length over the bound, 415 for a
    /// type or an encoding that is not read here.
    pub(crate) fn of(route: Route, uri: &Uri, headers: &HeaderMap) -> Result<Self, ApiError> {
        let wait = wait(uri.query().unwrap_or_default()).map_err(ApiError::validation)?;
        if headers.contains_key(CONTENT_ENCODING) {
            return Err(unsupported("Send the body without Content-Encoding."));
        }
        let format = format(route, headers)?;
        let length = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok());
        if length.and_then(|text| text.parse().ok()).unwrap_or(0) > route.body_max() as u64 {
            return Err(too_large(route.body_max()));
        }
        Ok(Self { wait, format })
    }
}

/// Reads the body within the bound of `route` and within `timeout`.
///
/// # Errors
/// 413, 408, or 400 where it broke off.
pub(crate) async fn body<B>(body: B, route: Route, timeout: Duration) -> Result<Bytes, ApiError>
where
    B: hyper::body::Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    serve::body::read(body, route.body_max(), timeout).await.map_err(|error| match error {
        ReadError::TooLarge { max } => too_large(max),
        ReadError::TooSlow { .. } => {
            ApiError::new(408, "request_timeout", "The body did not arrive in time.")
        }
        ReadError::Broken(_) => {
            ApiError::new(400, "incomplete_body", "The body broke off before its end.")
        }
    })
}

fn format(route: Route, headers: &HeaderMap) -> Result<Format, ApiError> {
    let mut types = headers.get_all(CONTENT_TYPE).iter();
    let (first, second) = (types.next(), types.next());
    let Some(given) = first.filter(|_| second.is_none()) else {
        return match second {
            None => Ok(Format::Sniffed),
            Some(_) => Err(unsupported("Send one Content-Type.")),
        };
    };
    let media = given.to_str().unwrap_or_default().split(';').next().unwrap_or_default().trim();
    let is = |names: &[&str]| names.iter().any(|name| media.eq_ignore_ascii_case(name));
    if is(&["application/json"]) {
        return Ok(Format::Sniffed);
    }
    match route {
        Route::Batch if is(&["application/x-ndjson", "application/ndjson"]) => Ok(Format::Lines),
        Route::Batch => {
            Err(unsupported("Send Content-Type application/json or application/x-ndjson."))
        }
        Route::Single => Err(unsupported("Send Content-Type application/json.")),
    }
}

/// The value of `wait`, the only parameter there is; 0 and absent mean not to wait.
fn wait(query: &str) -> Result<Option<Duration>, Vec<Fault>> {
    let (mut wait, mut faults) = (None, Vec::new());
    for (name, value) in query.split('&').filter(|pair| !pair.is_empty()).map(pair) {
        let fault = match name {
            "wait" if wait.is_some() => {
                Fault::new("wait", "duplicate_key", "stands more than once")
            }
            "wait" => match milliseconds(value) {
                Some(ms) => {
                    wait = Some(Duration::from_millis(ms));
                    continue;
                }
                None => {
                    let message = format!("must be milliseconds from 0 to {WAIT_MAX_MS}");
                    Fault::new("wait", "out_of_range", message)
                }
            },
            "dryRun" => Fault::new("dryRun", "not_supported", "`dryRun` is not supported yet"),
            _ => {
                let shown: String = name.chars().take(100).collect();
                Fault::new(shown, "unknown_field", "is not a known query parameter")
            }
        };
        faults.push(fault);
    }
    if faults.is_empty() { Ok(wait.filter(|wait| !wait.is_zero())) } else { Err(faults) }
}

fn pair(text: &str) -> (&str, &str) {
    text.split_once('=').unwrap_or((text, ""))
}

fn milliseconds(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|ms| digits && *ms <= WAIT_MAX_MS)
}

fn too_large(max: usize) -> ApiError {
    let message = format!("The body may have at most {max} bytes.");
    ApiError::new(413, "payload_too_large", message)
}

fn unsupported(message: &str) -> ApiError {
    ApiError::new(415, "unsupported_media_type", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Status, and the code of the first fault or of the whole.
    type Refusal = (u16, String);
    type Pairs<'p> = &'p [(&'p str, &'p str)];

    fn asked(route: Route, uri: &str, headers: Pairs<'_>) -> Result<Asked, Refusal> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            let name: http::HeaderName = name.parse().expect("name");
            map.append(name, value.parse().expect("value"));
        }
        Asked::of(route, &uri.parse().expect("uri"), &map).map_err(|error| {
            (
                error.status,
                error.errors.first().map_or(error.code.to_owned(), |f| f.code.to_string()),
            )
        })
    }

    #[test]
    fn paths() {
        let cases = [
            ("/events/ingest", Some(Route::Single)),
            ("/v1/events/ingest", Some(Route::Single)),
            ("/events/ingest/batch", Some(Route::Batch)),
            ("/v1/events/ingest/batch", Some(Route::Batch)),
            ("/v1/v1/events/ingest", None),
            ("/events/ingest/", None),
            ("/events", None),
            ("/v1", None),
        ];
        for (path, route) in cases {
            assert_eq!(Route::of(path), route, "{path}");
        }
    }

    #[test]
    fn queries() {
        let wait = |ms| Ok(Some(Duration::from_millis(ms)));
        let cases = [
            ("/", Ok(None)),
            ("/?", Ok(None)),
            ("/?wait=0", Ok(None)),
            ("/?wait=1", wait(1)),
            ("/?wait=5000", wait(5_000)),
            ("/?wait=5001", Err((400, "out_of_range".to_owned()))),
            ("/?wait=", Err((400, "out_of_range".to_owned()))),
            ("/?wait", Err((400, "out_of_range".to_owned()))),
            ("/?wait=+5", Err((400, "out_of_range".to_owned()))),
            ("/?wait=99999999999999999999", Err((400, "out_of_range".to_owned()))),
            ("/?wait=1&wait=1", Err((400, "duplicate_key".to_owned()))),
            ("/?dryRun=true", Err((400, "not_supported".to_owned()))),
            ("/?limit=1", Err((400, "unknown_field".to_owned()))),
        ];
        for (uri, want) in cases {
            assert_eq!(asked(Route::Single, uri, &[]).map(|asked| asked.wait), want, "{uri}");
        }
    }

    #[test]
    fn headers() {
        let refused = |status, code: &str| Err((status, code.to_owned()));
        let unsupported = || refused(415, "unsupported_media_type");
        let cases: [(Route, Pairs<'_>, Result<Format, Refusal>); 12] = [
            (Route::Single, &[], Ok(Format::Sniffed)),
            (
                Route::Single,
                &[("content-type", "Application/JSON; charset=utf-8")],
                Ok(Format::Sniffed),
            ),
            (Route::Single, &[("content-type", "application/x-ndjson")], unsupported()),
            (Route::Single, &[("content-type", "text/plain")], unsupported()),
            (Route::Batch, &[("content-type", "application/json")], Ok(Format::Sniffed)),
            (Route::Batch, &[("content-type", "application/x-ndjson")], Ok(Format::Lines)),
            (Route::Batch, &[("content-type", "")], unsupported()),
            (
                Route::Batch,
                &[("content-type", "application/json"), ("content-type", "application/json")],
                unsupported(),
            ),
            (Route::Batch, &[("content-encoding", "gzip")], unsupported()),
            (Route::Single, &[("content-length", "65536")], Ok(Format::Sniffed)),
            (Route::Single, &[("content-length", "65537")], refused(413, "payload_too_large")),
            (Route::Batch, &[("content-length", "1048577")], refused(413, "payload_too_large")),
        ];
        for (route, headers, want) in cases {
            assert_eq!(asked(route, "/", headers).map(|a| a.format), want, "{headers:?}");
        }
    }
}
