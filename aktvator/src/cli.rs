//! The command line: what each command takes, and how it ends.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config::Config;
use crate::failure::Failure;
use crate::listen::Listen;
use crate::migrate::Migrate;
use crate::moving::Move;
use crate::node;
use crate::quickstart::{self, Quickstart};
use crate::role::{Role, Roles};

/// Exit status of a configuration that cannot be used (`EX_CONFIG` of sysexits.h).
const EXIT_CONFIG: u8 = 78;

/// What the process was called with.
#[derive(Parser)]
#[command(name = "aktvator", version, about = "A performance network behind a REST API")]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run everything in this process, with its data in one directory; or a part of it, on servers.
    Serve(Box<Serve>),
    /// Make what Kafka, CQL and ClickHouse must have, and check what is there.
    Migrate(Migrate),
    /// Take a stopped installation from its data directory to the servers.
    Move(Move),
    /// Set up an organization that is ready for its first event, through the public API.
    Quickstart(Quickstart),
    /// Receive webhooks and print them.
    Listen(Listen),
}

/// Options of `aktvator serve`. What is not given comes from the file, then from the defaults.
#[derive(clap::Args)]
pub(crate) struct Serve {
    /// Read settings from this TOML file.
    #[arg(long)]
    config: Option<PathBuf>,
    /// Do only this, beside other processes that do the rest; may be given several times, or with
    /// commas [default: all of it].
    #[arg(long, value_enum, value_delimiter = ',')]
    role: Vec<Role>,
    /// Print the settings in force as TOML and stop.
    #[arg(long)]
    print_config: bool,
    /// Where the data is kept [default: ./aktvator-data].
    #[arg(long)]
    data_dir: Option<PathBuf>,
    /// Where the API answers [default: 127.0.0.1:8080].
    #[arg(long)]
    listen: Option<SocketAddr>,
    /// Where links redirect [default: 127.0.0.1:8081].
    #[arg(long)]
    redirect_listen: Option<SocketAddr>,
    /// Where health and metrics are shown [default: 127.0.0.1:9600].
    #[arg(long)]
    admin_listen: Option<SocketAddr>,
}

impl Cli {
    /// Runs the command; errors go to standard error in one line each.
    pub(crate) fn run(self) -> ExitCode {
        match self.command {
            Command::Serve(options) => options.run(),
            Command::Migrate(options) => finished(options.run()),
            Command::Move(options) => finished(options.run()),
            Command::Quickstart(options) => ended(quickstart::run(&options)),
            Command::Listen(options) => ended(options.run()),
        }
    }
}

fn ended(result: Result<(), String>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("aktvator: {message}");
            ExitCode::FAILURE
        }
    }
}

fn finished(result: Result<(), Failure>) -> ExitCode {
    match result {
        Err(Failure::Config(message)) => {
            eprintln!("aktvator: {message}");
            ExitCode::from(EXIT_CONFIG)
        }
        Err(Failure::Start(message)) => ended(Err(message)),
        Ok(()) => ended(Ok(())),
    }
}

impl Serve {
    fn run(self) -> ExitCode {
        let roles = Roles::of(&self.role);
        let config = match self.config(&roles) {
            Ok(config) => config,
            Err(message) => {
                eprintln!("aktvator: {message}");
                return ExitCode::from(EXIT_CONFIG);
            }
        };
        if self.print_config {
            print!("{}", config.to_toml());
            return ExitCode::SUCCESS;
        }
        finished(node::run(config, roles))
    }

    fn config(&self, roles: &Roles) -> Result<Config, String> {
        let config = Config::load(self.config.as_deref(), self.flags())?;
        config.check(roles)?;
        Ok(config)
    }

    /// The flags that were given, as the table that goes over file and environment.
    fn flags(&self) -> toml::Table {
        let path = self.data_dir.as_ref().map(|p| p.to_string_lossy().into_owned());
        let given = [
            ("data_dir", path),
            ("listen", self.listen.map(|a| a.to_string())),
            ("redirect_listen", self.redirect_listen.map(|a| a.to_string())),
            ("admin_listen", self.admin_listen.map(|a| a.to_string())),
        ];
        let given = given.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
        given.map(|(name, value)| (name, toml::Value::String(value))).collect()
    }
}
