//! The command line.
//!
//! # Layout
//!
//! In order of dependency:
//!
//! - this file: the commands, the configuration that they use, and exit codes.
//! - [`args`]: arguments that several commands take. [`show`]: answers as JSON or as text. `progress`: progress bars.
//! - [`tor`]: tor's control port.
//! - `offline`: the gate's files, when no gate is running. `remote`: the running gate over its socket, or else those
//!   files.
//! - [`circuits`], [`dial`], [`audit`]: the status of circuits, the threat level and the record of changes.
//! - [`keys`]: the signing keys. [`admin`]: accounts and API tokens of operators.
//! - [`status`], [`sessions`], [`reload`], [`maintenance`]: what only a running gate can answer or do.
//! - [`serve`]: the gate itself. [`doctor`]: what is wrong with a gate or around it, and what to do.
//! - [`render`], [`bench`](mod@bench), [`simulate`]: challenges as files, the speed of drawing, and attacks played
//!   to the threat level's control loop.
//! - [`generate_docs`]: man pages and completions, for packages.

pub mod admin;
pub mod args;
pub mod audit;
pub mod bench;
pub mod circuits;
pub mod dial;
pub mod doctor;
pub mod generate_docs;
pub mod keys;
pub mod maintenance;
mod offline;
mod progress;
pub mod reload;
mod remote;
pub mod render;
pub mod serve;
pub mod sessions;
pub mod show;
pub mod simulate;
pub mod status;
pub mod tor;

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use fortify_config::{Config, ConfigError, ENVIRONMENT_PREFIX, WrittenConfig};

/// The packaged configuration, used if it exists and `--config` names no other.
const DEFAULT_CONFIG: &str = "/etc/fortify/fortify.toml";

/// `EX_USAGE` of sysexits.h: a mistake in the arguments or the configuration, so a supervisor need not retry.
const EXIT_USAGE: u8 = 64;

/// A gate for onion services: people get in without scripts, bots pay for every try.
#[derive(Debug, Parser)]
#[command(version, about)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the gate until SIGTERM or Ctrl-C.
    Serve(ConfigArgs),
    /// Check the configuration and print every mistake in it.
    CheckConfig(ConfigArgs),
    /// List or rotate the keys that sign sessions.
    Keys {
        #[command(subcommand)]
        action: keys::Action,
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// List, ban, trust, reset or close circuits, through the running gate or else in its files.
    Circuits {
        #[command(subcommand)]
        action: circuits::Action,
        #[command(flatten)]
        format: show::Format,
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Query tor over its control port.
    Tor {
        #[command(subcommand)]
        action: tor::Action,
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Show or change the threat level, through the running gate or else in its file.
    Dial {
        #[command(subcommand)]
        action: dial::Action,
        #[command(flatten)]
        format: show::Format,
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Show the record of changes: who changed what and why, and who was refused.
    Audit {
        #[command(flatten)]
        args: audit::Args,
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Revoke visitors' sessions.
    Sessions {
        #[command(subcommand)]
        action: sessions::Action,
        #[command(flatten)]
        format: show::Format,
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Have visitors told that the site is being worked on, or let them in again.
    Maintenance {
        #[command(subcommand)]
        action: maintenance::Action,
        #[command(flatten)]
        format: show::Format,
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Reload the configuration of the running gate; if it has a mistake, nothing changes.
    Reload {
        #[command(flatten)]
        args: reload::Args,
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Manage the accounts and API tokens of operators, whether or not a gate is running.
    Admin {
        #[command(subcommand)]
        action: admin::Action,
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Show the state of the running gate.
    Status {
        #[command(flatten)]
        format: show::Format,
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Show what the running gate would do with a circuit now, and why.
    Explain {
        #[command(flatten)]
        circuit: args::Circuit,
        #[command(flatten)]
        format: show::Format,
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Show how challenges are answered, by task, rendering and level.
    Challenges {
        #[command(flatten)]
        format: show::Format,
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Show suspicious behaviour of circuits, and what is or would be done about it.
    Behaviour {
        #[command(flatten)]
        format: show::Format,
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Check the configuration, the files and every server around the gate, and say what to do.
    Doctor {
        #[command(flatten)]
        args: doctor::Args,
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Simulate attacks of an hour and print the threat level over time.
    Simulate(simulate::Args),
    /// Write challenges as pictures, with their answers in labels.csv.
    Render(render::Args),
    /// Measure how fast one thread draws challenges, and print JSON lines.
    Bench(bench::Args),
    /// Write man pages and shell completions.
    #[command(hide = true)]
    GenerateDocs(generate_docs::Args),
}

/// The configuration to use.
#[derive(Debug, clap::Args)]
pub struct ConfigArgs {
    /// The configuration file; /etc/fortify/fortify.toml by default, if it exists. Environment variables such
    /// as FORTIFY__SERVER__PORT override its keys.
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
}

impl ConfigArgs {
    fn load(&self, env: impl IntoIterator<Item = (String, String)>) -> Result<Config, CliError> {
        self.read(env).map(|(config, _)| config).map_err(CliError::Config)
    }

    /// The gate that runs with this configuration.
    fn gate(&self, env: Vec<(String, String)>) -> Result<remote::Remote, CliError> {
        let by = args::operator(&env);
        remote::Remote::of(&self.load(env)?, by)
    }

    fn read(
        &self,
        env: impl IntoIterator<Item = (String, String)>,
    ) -> Result<(Config, WrittenConfig), ConfigError> {
        Config::load_written(self.file(), env)
    }

    /// The file to read, if there is one.
    fn file(&self) -> Option<&Path> {
        let packaged = Path::new(DEFAULT_CONFIG);
        self.config.as_deref().or_else(|| packaged.exists().then_some(packaged))
    }
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
enum CliError {
    /// A mistake in the configuration.
    #[error("{0}")]
    Config(ConfigError),
    /// A mistake in the arguments.
    #[error("{0}")]
    Usage(String),
    /// Any other failure; the message says what to do.
    #[error("{0}")]
    Failed(String),
}

impl CliError {
    fn failed(error: impl std::fmt::Display) -> Self {
        Self::Failed(error.to_string())
    }

    /// For a failed write to standard output.
    fn output(error: &io::Error) -> Self {
        Self::Failed(format!("cannot write the output: {error}"))
    }
}

/// Runs the command that the arguments name. The exit code is 0, 64 for a mistake in the arguments or the
/// configuration, or 1.
pub fn main(
    args: impl IntoIterator<Item = OsString>,
    env: impl IntoIterator<Item = (OsString, OsString)>,
) -> ExitCode {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and the version come this way too, and are no mistakes.
            let _nowhere_left_to_say_it = error.print();
            return if error.use_stderr() { ExitCode::from(EXIT_USAGE) } else { ExitCode::SUCCESS };
        }
    };
    // Styles only reach a terminal, and not with NO_COLOR.
    let mut out = anstream::stdout().lock();
    let done = environment(env).and_then(|env| run(cli, env, &mut out));
    let Err(error) = done else {
        return ExitCode::SUCCESS;
    };
    let _nowhere_left_to_say_it = writeln!(io::stderr(), "fortify: {error}");
    match error {
        CliError::Config(_) | CliError::Usage(_) => ExitCode::from(EXIT_USAGE),
        CliError::Failed(_) => ExitCode::FAILURE,
    }
}

fn run(cli: Cli, env: Vec<(String, String)>, out: &mut dyn Write) -> Result<(), CliError> {
    match cli.command {
        Command::Serve(config) => serve::serve(config, env),
        Command::CheckConfig(config) => {
            config.load(env)?;
            writeln!(out, "the configuration is valid").map_err(|e| CliError::output(&e))
        }
        Command::Keys { action, config } => {
            let by = args::operator(&env);
            keys::run(&action, by, &config.load(env)?, out)
        }
        Command::Circuits { action, format, config } => {
            let by = args::operator(&env);
            circuits::run(&action, format, by, &config.load(env)?, out)
        }
        Command::Tor { action, config } => tor::run(&action, &config.load(env)?, out),
        Command::Dial { action, format, config } => {
            let by = args::operator(&env);
            dial::run(&action, format, by, &config.load(env)?, out)
        }
        Command::Audit { args, config } => {
            let by = args::operator(&env);
            audit::run(&args, by, &config.load(env)?, out)
        }
        Command::Admin { action, config } => {
            let by = args::operator(&env);
            admin::run(&action, by, &config.load(env)?, out)
        }
        Command::Sessions { action, format, config } => {
            sessions::run(&action, format, &config.gate(env)?, out)
        }
        Command::Maintenance { action, format, config } => {
            maintenance::run(&action, format, &config.gate(env)?, out)
        }
        Command::Reload { args, config } => reload::run(&args, &config, env, out),
        Command::Status { format, config } => status::status(&config.gate(env)?, format, out),
        Command::Explain { circuit, format, config } => {
            status::explain(&config.gate(env)?, &circuit, format, out)
        }
        Command::Doctor { args, config } => doctor::run(&args, &config, env, out),
        Command::Challenges { format, config } => {
            status::challenges(&config.gate(env)?, format, out)
        }
        Command::Behaviour { format, config } => status::behaviour(&config.gate(env)?, format, out),
        Command::Simulate(args) => simulate::run(&args, out),
        Command::Render(args) => render::run(&args, out),
        Command::Bench(args) => bench::run(&args, out),
        Command::GenerateDocs(args) => generate_docs::run(&args, out),
    }
}

/// The variables that are UTF-8. Others are ignored, unless they have our prefix.
fn environment(
    env: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Vec<(String, String)>, CliError> {
    let mut texts = Vec::new();
    for (name, value) in env {
        match (name.into_string(), value.into_string()) {
            (Ok(name), Ok(value)) => texts.push((name, value)),
            (Ok(name), Err(_)) if name.starts_with(ENVIRONMENT_PREFIX) => {
                return Err(CliError::Usage(format!(
                    "environment variable {name}: not UTF-8; correct or unset it"
                )));
            }
            _ => {}
        }
    }
    Ok(texts)
}
