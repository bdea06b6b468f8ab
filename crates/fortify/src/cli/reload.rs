//! `fortify reload`: reloads the configuration of the running gate.

use std::io::Write;

use serde_json::{Value, json};

use super::args::{operator, parse_reason};
use super::remote::Remote;
use super::show::{self, Format, HEAD, MIND, plain};
use super::{CliError, ConfigArgs};
use fortify_config::Config;

/// The arguments of `fortify reload`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Why, for the audit.
    #[arg(long, value_name = "TEXT", value_parser = parse_reason)]
    reason: Option<String>,
    #[command(flatten)]
    format: Format,
}

pub(super) fn run(
    args: &Args,
    config: &ConfigArgs,
    env: Vec<(String, String)>,
    out: &mut dyn Write,
) -> Result<(), CliError> {
    let gate = gate(config, env)?;
    let reloaded = gate.post("/reload", &json!({"reason": args.reason}))?;
    show::write(args.format, &reloaded, out, |it, out| {
        let changes = |key: &str| it[key].as_array().cloned().unwrap_or_default();
        let (applied, at_restart) = (changes("applied"), changes("at_restart"));
        if applied.is_empty() && at_restart.is_empty() {
            return writeln!(out, "the configuration was reloaded; nothing in it has changed");
        }
        for change in &applied {
            writeln!(out, "{HEAD}in force{HEAD:#}           {}", describe(change))?;
        }
        for change in &at_restart {
            writeln!(out, "{MIND}at the next start{MIND:#}  {}", describe(change))?;
        }
        Ok(())
    })
}

/// The gate, even if the file has mistakes: the gate reports them and records who tried.
fn gate(config: &ConfigArgs, env: Vec<(String, String)>) -> Result<Remote, CliError> {
    let by = operator(&env);
    let error = match config.read(env.clone()) {
        Ok((config, _)) => return Remote::of(&config, by),
        Err(error) => error,
    };
    let (found, _the_same) = Config::load_leniently(config.file(), env);
    let gate = found.and_then(|config| Remote::of(&config, by).ok());
    let gate = gate.filter(|gate| matches!(gate.is_running(), Ok(true)));
    gate.ok_or_else(|| CliError::Failed(format!("the configuration was not reloaded: {error}")))
}

fn describe(change: &Value) -> String {
    let word = |key: &str| plain(change[key].as_str().unwrap_or("default"));
    format!("{}: {} > {}", word("key"), word("from"), word("to"))
}
