//! Names of what the shell counts.

/// Open connections, by `listener`; sampled four times a second.
pub const CONNECTIONS: &str = "aktvator_serve_connections";
/// Accepted connections, by `listener`.
pub const ACCEPTED: &str = "aktvator_serve_accepted_connections_total";
/// Connections closed by the shell, by `listener` and `reason`: `header_timeout`, `idle`,
/// `request_timeout`, `drain_timeout`, `tls`.
pub const CLOSED: &str = "aktvator_serve_closed_connections_total";
/// Failed accepts (out of file descriptors, for example), by `listener`.
pub const ACCEPT_ERRORS: &str = "aktvator_serve_accept_errors_total";
/// Panics that were caught, by `place`: `handler`, `task`.
pub const PANICS: &str = "aktvator_serve_panics_total";
/// Always 1; labels `version` and `revision` say what is running.
pub const BUILD_INFO: &str = "aktvator_build_info";
