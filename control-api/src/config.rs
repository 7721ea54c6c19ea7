//! What an operator may set of the control API.

use serde::{Deserialize, Serialize};

/// The control API's own settings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where this API answers, as clients write it; without a trailing slash. Payment URLs begin
    /// with it.
    pub public_base_url: String,
    /// Where redirects answer; without a trailing slash. Short URLs begin with it.
    pub redirect_base_url: String,
    /// Offer the sandbox payment page, which credits wallets at the press of a button. For loopback
    /// listeners only.
    pub sandbox_payments: bool,
    /// Accept webhook receivers on this machine, and links to http pages. For loopback listeners
    /// only.
    pub allow_loopback_targets: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            public_base_url: "http://127.0.0.1:8080".to_owned(),
            redirect_base_url: "http://127.0.0.1:8081".to_owned(),
            sandbox_payments: true,
            allow_loopback_targets: true,
        }
    }
}

/// Bytes of a request body.
pub(crate) const BODY_LEN_MAX: usize = 1 << 20;
/// Bytes of a rulebook's body.
pub(crate) const RULEBOOK_LEN_MAX: usize = 256 << 10;
/// How long a call waits for its command to be logged or decided, milliseconds.
pub(crate) const COMMAND_WAIT_MS: u64 = 5_000;
/// How long a read waits for the fold to reach the end of the log, milliseconds.
pub(crate) const READ_WAIT_MS: u64 = 2_000;
/// How often a change is tried again when another one came between.
pub(crate) const CHANGE_TRIES_MAX: usize = 8;
