//! `fortify tor status`, and closing a circuit for `fortify circuits kill` when no gate is running.

use std::io::Write;

use clap::Subcommand;
use tokio::runtime::Runtime;

use super::CliError;
use fortify_config::{Config, ControlAddress};
use fortify_core::circuit::TorCircuit;
use fortify_tor::{self, CloseOutcome, Status};

/// The subcommands of `fortify tor`.
#[derive(Debug, Subcommand)]
pub enum Action {
    /// Show whether tor's control port accepts Fortify, tor's version and uptime, and the generation number that
    /// the gate has given to this run of tor.
    Status,
}

pub(super) fn run(action: &Action, config: &Config, out: &mut dyn Write) -> Result<(), CliError> {
    match action {
        Action::Status => {
            let (control, runtime) = (control(config)?, runtime()?);
            let asked = fortify_tor::status(&config.tor, control, &config.storage.data_dir);
            let status = runtime.block_on(asked).map_err(CliError::failed)?;
            table(control, &status, out)
        }
    }
    .map_err(|e| CliError::output(&e))
}

/// Closes a circuit of the running tor.
pub(super) fn close(config: &Config, circuit: TorCircuit) -> Result<CloseOutcome, CliError> {
    let asked = fortify_tor::close_circuit(&config.tor, control(config)?, circuit);
    runtime()?.block_on(asked).map_err(CliError::failed)
}

fn control(config: &Config) -> Result<&ControlAddress, CliError> {
    let advice = "tor.control is not set; set it to tor's control port in the section [tor]";
    config.tor.control.as_ref().ok_or_else(|| CliError::Usage(advice.to_owned()))
}

fn runtime() -> Result<Runtime, CliError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|e| CliError::Failed(format!("cannot start: {e}")))
}

fn table(control: &ControlAddress, status: &Status, out: &mut dyn Write) -> std::io::Result<()> {
    writeln!(out, "{:<13} {control}", "CONTROL PORT")?;
    writeln!(out, "{:<13} {}", "VERSION", status.version)?;
    writeln!(out, "{:<13} {}", "PROCESS ID", status.run.pid)?;
    writeln!(out, "{:<13} {} s", "UPTIME", status.run.uptime)?;
    match status.generation {
        Some(generation) => writeln!(out, "{:<13} {generation}", "GENERATION"),
        None => writeln!(out, "{:<13} none yet: no gate has seen this run of tor", "GENERATION"),
    }
}
