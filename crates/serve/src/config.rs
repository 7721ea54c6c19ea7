//! Settings: a TOML file, then `PREFIX__SECTION__KEY` from the environment, then the command line,
//! each over the one before.
//!
//! A setting that nobody knows is an error, never ignored; every fault of all three sources is
//! reported at once, with where it stands and what would be right. Configuration types give every
//! field a default (`#[serde(default)]`) and do not use `#[serde(flatten)]`, which hides a struct's
//! fields from its reader.

mod read;
mod suggest;
mod tree;
mod units;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

pub use self::tree::Origin;
pub use self::units::{Size, Span};

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file that was asked for cannot be read.
    #[error("cannot read the configuration file {}; check --config", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Something in it is wrong. Display is one line per fault.
    #[error("{}", lines(.0))]
    Faulty(Vec<Fault>),
}

/// One thing wrong with a setting.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fault {
    /// Where it was set.
    pub origin: Origin,
    /// Dotted path of the setting; empty for the file as a whole.
    pub key: String,
    /// What is wrong, and what would be right.
    pub problem: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.key.is_empty() {
            write!(f, "{}: {}", self.origin, self.problem)
        } else {
            write!(f, "{}: `{}`: {}", self.origin, self.key, self.problem)
        }
    }
}

fn lines(faults: &[Fault]) -> String {
    faults.iter().map(Fault::to_string).collect::<Vec<_>>().join("\n")
}

/// Reads `T` from `file` (none: defaults), then the `env` variables that begin with `env_prefix` and
/// two underscores, then `flags`, a table shaped as the file is.
///
/// Text from the environment and the command line is read as what the setting is: a number, a
/// duration, a TOML array or a list with commas.
///
/// # Errors
/// [`ConfigError`], with every fault at once.
pub fn load<T: DeserializeOwned>(
    file: Option<&Path>,
    env_prefix: &str,
    env: impl Iterator<Item = (String, String)>,
    flags: toml::Table,
) -> Result<T, ConfigError> {
    let mut tree = match file {
        None => tree::Node::root(),
        Some(path) => {
            let text = std::fs::read_to_string(path)
                .map_err(|source| ConfigError::Unreadable { path: path.into(), source })?;
            tree::from_file(path, &text).map_err(ConfigError::Faulty)?
        }
    };
    for (name, value) in env {
        tree::lay_env(&mut tree, env_prefix, name, value);
    }
    tree::lay_flags(&mut tree, flags);
    read::read(tree).map_err(ConfigError::Faulty)
}

/// The process's environment, for [`load`]. Variables that are not UTF-8 are left out.
pub fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)))
}

/// The settings as a TOML file that [`load`] reads back.
///
/// # Errors
/// Where `settings` holds what TOML cannot, such as a number above 2^63 - 1.
pub fn print<T: Serialize>(settings: &T) -> Result<String, toml::ser::Error> {
    toml::to_string_pretty(settings)
}
