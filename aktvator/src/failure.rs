//! Why a process ends before it was asked to.

/// What kept the process from its work, in words for people.
pub(crate) enum Failure {
    /// A setting cannot be used.
    Config(String),
    /// Anything else.
    Start(String),
}

impl From<String> for Failure {
    fn from(message: String) -> Self {
        Self::Start(message)
    }
}

/// An error with its causes, for people.
pub(crate) fn chain(error: impl std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
