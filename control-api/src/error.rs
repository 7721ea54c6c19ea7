//! What a failure of a port means to the caller of the API; it is logged here, once.

use std::error::Error as StdError;

use schemas::fault::ApiError;

/// The answer to a failed read or write of a store.
///
/// What was being done may or may not have happened; every call can be sent again.
pub(crate) fn storage(error: &storage::Error) -> ApiError {
    let source = error.source().map(ToString::to_string);
    match error.kind {
        storage::Kind::Corrupt => {
            tracing::error!(%error, source, "stored bytes are damaged");
            ApiError::internal()
        }
        _ => {
            tracing::warn!(%error, source, "store did not answer");
            ApiError::unavailable("A store is out of reach. Send the request again.")
        }
    }
}

/// The answer where a stored document or row is not what this version writes.
pub(crate) fn unreadable(what: &'static str, error: &dyn StdError) -> ApiError {
    tracing::error!(what, %error, "stored bytes cannot be read");
    ApiError::internal()
}
