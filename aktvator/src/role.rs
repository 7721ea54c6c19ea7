//! What a process does of the whole.

use std::collections::BTreeSet;
use std::fmt;

/// One of the four things that a process can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(crate) enum Role {
    /// Take events in and redirect links.
    Edge,
    /// Decide.
    Evaluator,
    /// Send webhooks and count for `/performance`.
    Dispatcher,
    /// Answer every other call of the API.
    Control,
}

impl Role {
    const ALL: [Self; 4] = [Self::Edge, Self::Evaluator, Self::Dispatcher, Self::Control];

    /// As on the command line, and as a health check.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Edge => "edge",
            Self::Evaluator => "evaluator",
            Self::Dispatcher => "dispatcher",
            Self::Control => "control",
        }
    }
}

/// The roles of one process, at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Roles(BTreeSet<Role>);

impl Roles {
    /// Those that were asked for; all where none was.
    pub(crate) fn of(given: &[Role]) -> Self {
        let given = if given.is_empty() { &Role::ALL[..] } else { given };
        Self(given.iter().copied().collect())
    }

    /// Is it one of them?
    pub(crate) fn has(&self, role: Role) -> bool {
        self.0.contains(&role)
    }

    /// The whole in one process.
    pub(crate) fn are_all(&self) -> bool {
        self.0.len() == Role::ALL.len()
    }

    /// Does the process answer callers from outside?
    pub(crate) fn have_callers(&self) -> bool {
        self.has(Role::Edge) || self.has(Role::Control)
    }

    /// Each of them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Role> {
        self.0.iter().copied()
    }
}

impl fmt::Display for Roles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.iter().map(Role::as_str).collect();
        f.write_str(&names.join(", "))
    }
}
