//! `fortify tor status`, and closing a circuit for `fortify circuits kill` without a gate.

use std::io::Write;

use clap::Subcommand;
use tokio::runtime::Runtime;

use super::CliError;
use fortify_config::{Config, ControlAddress};
use fortify_core::circuit::TorCircuit;
use fortify_tor::{self, CloseOutcome, Status};

/// What to ask of tor.
#[derive(Debug, Subcommand)]
pub enum Action {
    /// Say whether tor's control port lets Fortify in, which tor it is, and under which epoch the gate
    /// knows it.
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

/// Has the tor that runs now close a circuit.
pub(super) fn close(config: &Config, circuit: TorCircuit) -> Result<CloseOutcome, CliError> {
    let asked = fortify_tor::close_circuit(&config.tor, control(config)?, circuit);
    runtime()?.block_on(asked).map_err(CliError::failed)
}

fn control(config: &Config) -> Result<&ControlAddress, CliError> {
    let advice = "tor.control is not set: name tor's control port in the section [tor]";
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
        None => writeln!(out, "{:<13} none yet: no gate has met this start of tor", "GENERATION"),
    }
}
