//! The command line.
//!
//! # Layout
//!
//! - [`serve`]: the gate itself, and `check-config`.
//! - [`keys`]: the signing keys.
//! - [`status`]: what the running gate alone knows: how it does, why it decides, what it counted.
//! - [`circuits`]: how circuits stand.
//! - [`dial`]: the threat dial, looked at and turned.
//! - [`audit`]: what was changed, by whom and why.
//! - [`sessions`]: visitors' sessions, ended.
//! - [`reload`]: the configuration, read again by the running gate.
//! - [`admin`]: accounts and API tokens of operators.
//! - [`doctor`]: what is wrong with a gate and around it, and what to do.
//! - `remote`, `files`: who does these things: the running gate over its socket, or its files without one.
//! - [`show`], `progress`: answers as JSON or to be read; bars for long work.
//! - [`simulate`]: attacks played to the dial.
//! - [`tor`]: what tor's control port says.
//! - [`render`]: challenges as files, for people and for the lab.
//! - [`bench`](mod@bench): how fast this machine draws.
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

/// Where the packaged configuration is, used when it is there and `--config` names no other.
const DEFAULT_CONFIG: &str = "/etc/fortify/fortify.toml";

/// `EX_USAGE` of sysexits.h: what was asked for makes no sense, so a supervisor need not retry.
const EXIT_USAGE: u8 = 64;

/// A gate for onion services: lets people in without scripts, makes bots pay for every try.
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
    /// Say whether the configuration is valid, and what is wrong with it.
    CheckConfig(ConfigArgs),
    /// Look at or rotate the keys that sign sessions.
    Keys {
        #[command(subcommand)]
        action: keys::Action,
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Look at, ban, favour, forgive or close circuits: by the running gate, or in its files without one.
    Circuits {
        #[command(subcommand)]
        action: circuits::Action,
        #[command(flatten)]
        format: show::Format,
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Ask tor over its control port.
    Tor {
        #[command(subcommand)]
        action: tor::Action,
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Look at or turn the threat dial: by the running gate, or in its file without one.
    Dial {
        #[command(subcommand)]
        action: dial::Action,
        #[command(flatten)]
        format: show::Format,
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Show what was changed, by whom and why: turns of the dial, changes by operators, refusals.
    Audit {
        #[command(flatten)]
        args: audit::Args,
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// End visitors' sessions before their time.
    Sessions {
        #[command(subcommand)]
        action: sessions::Action,
        #[command(flatten)]
        format: show::Format,
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Have the running gate read its configuration again; a mistake in it changes nothing.
    Reload {
        #[command(flatten)]
        args: reload::Args,
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Look at or change the accounts and API tokens of operators, beside a running gate or without one.
    Admin {
        #[command(subcommand)]
        action: admin::Action,
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Show how the running gate is doing.
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
    /// Show how challenges are answered, by task, carrier and level.
    Challenges {
        #[command(flatten)]
        format: show::Format,
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Show what circuits look like, and what is done about it or would be.
    Behaviour {
        #[command(flatten)]
        format: show::Format,
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Look at the configuration, the files and all servers around the gate, and say what to do.
    Doctor {
        #[command(flatten)]
        args: doctor::Args,
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Play attacks of an hour to the threat dial and print its level over time.
    Simulate(simulate::Args),
    /// Write challenges as pictures, with their answers in labels.csv.
    Render(render::Args),
    /// Print how fast challenges are drawn on one thread, as JSON lines.
    Bench(bench::Args),
    /// Write man pages and shell completions.
    #[command(hide = true)]
    GenerateDocs(generate_docs::Args),
}

/// Which configuration to use.
#[derive(Debug, clap::Args)]
pub struct ConfigArgs {
    /// The configuration file; /etc/fortify/fortify.toml when it exists. Any key can be overridden
    /// by an environment variable such as FORTIFY__SERVER__PORT.
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
}

impl ConfigArgs {
    fn load(&self, env: impl IntoIterator<Item = (String, String)>) -> Result<Config, CliError> {
        self.read(env).map(|(config, _)| config).map_err(CliError::Config)
    }

    /// The gate that runs by it.
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

    /// The file that is read, if any is.
    fn file(&self) -> Option<&Path> {
        let packaged = Path::new(DEFAULT_CONFIG);
        self.config.as_deref().or_else(|| packaged.exists().then_some(packaged))
    }
}

/// Why a command ended without doing what it was asked to.
#[derive(Debug, thiserror::Error)]
enum CliError {
    /// The configuration.
    #[error("{0}")]
    Config(ConfigError),
    /// The arguments.
    #[error("{0}")]
    Usage(String),
    /// Everything else; the message says what to do.
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

/// Does what the arguments say. The exit code is 0, 64 for a mistake in the arguments or the
/// configuration, or 1.
pub fn main(
    args: impl IntoIterator<Item = OsString>,
    env: impl IntoIterator<Item = (OsString, OsString)>,
) -> ExitCode {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(told) => {
            // Help and the version come this way too, and are no mistakes.
            let _nowhere_left_to_say_it = told.print();
            return if told.use_stderr() { ExitCode::from(EXIT_USAGE) } else { ExitCode::SUCCESS };
        }
    };
    // Colours and bold type reach a terminal alone, and with NO_COLOR not even that.
    let mut out = anstream::stdout().lock();
    let done = environment(env).and_then(|env| run(cli, env, &mut out));
    let Err(error) = done else {
        return ExitCode::SUCCESS;
    };
    // Nothing is left to tell it to when standard error is gone as well.
    let _told = writeln!(io::stderr(), "fortify: {error}");
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

/// The variables that are text. Others are not ours to complain about, unless they bear our name.
fn environment(
    env: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Vec<(String, String)>, CliError> {
    let mut texts = Vec::new();
    for (name, value) in env {
        match (name.into_string(), value.into_string()) {
            (Ok(name), Ok(value)) => texts.push((name, value)),
            (Ok(name), Err(_)) if name.starts_with(ENVIRONMENT_PREFIX) => {
                return Err(CliError::Usage(format!("environment variable {name}: not UTF-8")));
            }
            _ => {}
        }
    }
    Ok(texts)
}
