//! The one error shape of the API: `{statusCode, message, code, errors?, requestId}`.

use std::borrow::Cow;

use serde::Serialize;
use utoipa::ToSchema;

/// One thing wrong with the input.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Fault {
    /// JSON pointer (RFC 6901) into the body, or the name of a query parameter or header.
    pub path: String,
    /// Stable, snake_case: `required`, `unknown_field`, `wrong_type`, `out_of_range`,
    /// `invalid_format`, `not_supported`, ...
    pub code: Cow<'static, str>,
    /// For people.
    pub message: String,
}

impl Fault {
    /// A fault at `path`.
    pub fn new(
        path: impl Into<String>,
        code: impl Into<Cow<'static, str>>,
        message: impl Into<String>,
    ) -> Self {
        Self { path: path.into(), code: code.into(), message: message.into() }
    }
}

/// What an API call failed with. Anything a caller can see goes through here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{status} {code}: {message}")]
pub struct ApiError {
    /// HTTP status.
    pub status: u16,
    /// Stable, snake_case.
    pub code: &'static str,
    /// For people; never holds an inner error's text.
    pub message: String,
    /// Every fault at once, for 400s.
    pub errors: Vec<Fault>,
    /// Seconds for `Retry-After`, on 429 and 503.
    pub retry_after_s: Option<u32>,
}

/// [`ApiError`] as it stands in the body.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ErrorBody<'a> {
    /// HTTP status.
    pub status_code: u16,
    /// For people.
    pub message: &'a str,
    /// Stable, snake_case.
    pub code: &'a str,
    /// Every fault at once; absent when there is none.
    #[serde(skip_serializing_if = "<[Fault]>::is_empty")]
    pub errors: &'a [Fault],
    /// Also in the `X-Request-Id` header.
    pub request_id: &'a str,
}

impl ApiError {
    /// An error without faults.
    pub fn new(status: u16, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), errors: Vec::new(), retry_after_s: None }
    }

    /// 400 with every fault.
    pub fn validation(errors: Vec<Fault>) -> Self {
        Self { errors, ..Self::new(400, "validation_failed", "The request is not valid.") }
    }

    /// 400 with one fault.
    pub fn invalid(path: &str, code: &'static str, message: impl Into<String>) -> Self {
        Self::validation(vec![Fault::new(path, code, message)])
    }

    /// 401; the message says what to send.
    pub fn unauthorized(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(401, code, message)
    }

    /// 404; a foreign organization's thing reads the same as none.
    pub fn not_found(what: &str) -> Self {
        Self::new(404, "not_found", format!("No such {what}."))
    }

    /// 409.
    pub fn conflict(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(409, code, message)
    }

    /// 503 with `Retry-After`.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self { retry_after_s: Some(1), ..Self::new(503, "unavailable", message) }
    }

    /// 500; what happened is in the server's log under the request id.
    pub fn internal() -> Self {
        Self::new(500, "internal", "Something broke on our side; it is logged.")
    }

    /// The JSON body.
    pub fn body<'a>(&'a self, request_id: &'a str) -> ErrorBody<'a> {
        ErrorBody {
            status_code: self.status,
            message: &self.message,
            code: self.code,
            errors: &self.errors,
            request_id,
        }
    }
}
