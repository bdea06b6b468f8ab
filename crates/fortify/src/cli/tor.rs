//! `fortify tor status`, and closing a circuit for `fortify circuits kill` when no gate is running.

use std::io::Write;
use std::num::NonZero;
use std::time::Duration;

use clap::Subcommand;
use tokio::runtime::Runtime;

use super::CliError;
use super::bench::pictures_per_second;
use fortify_config::{Config, ControlAddress};
use fortify_core::circuit::TorCircuit;
use fortify_tor::{self, CloseOutcome, Status};

/// The burst in seconds of the rate, as in tor's own defaults (250 and 2500).
const BURST: u32 = 10;

/// The subcommands of `fortify tor`.
#[derive(Debug, Subcommand)]
pub enum Action {
    /// Show whether tor's control port accepts Fortify, tor's version and uptime, and the generation number that
    /// the gate has given to this run of tor.
    Status,
    /// Print the values of tor's proof of work for this machine, as lines for torrc. Draws pictures for some seconds
    /// to measure what it can serve.
    Advise {
        /// Seconds to measure.
        #[arg(long, default_value_t = 5.0)]
        seconds: f64,
    },
}

pub(super) fn run(action: &Action, config: &Config, out: &mut dyn Write) -> Result<(), CliError> {
    match action {
        Action::Status => {
            let (control, runtime) = (control(config)?, runtime()?);
            let asked = fortify_tor::status(&config.tor, control, &config.storage.data_dir);
            let status = runtime.block_on(asked).map_err(CliError::failed)?;
            table(control, &status, out)
        }
        Action::Advise { seconds } => {
            if !(0.1..=600.0).contains(seconds) {
                return Err(CliError::Usage("--seconds: use 0.1 to 600".to_owned()));
            }
            let time = Duration::from_secs_f64(*seconds);
            let drawn = pictures_per_second(config.captcha.level, time)?;
            let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
            let limit = config.limits.service.per_minute;
            advise(drawn, cores, limit, out)
        }
    }
    .map_err(|e| CliError::output(&e))
}

/// Introductions that may begin in a second: each is a new circuit, which asks for a challenge. Half of them are
/// expected to be circuits of people who are in, or who leave. Not more than half of the cores can draw.
fn introductions(drawn: f64, cores: usize, per_minute: u32) -> u32 {
    let wanted = f64::from(per_minute) / 60.0 * 2.0;
    let possible = drawn * cores as f64 / 2.0;
    // Between 1 and a rate that no machine reaches, so the conversion is exact enough.
    wanted.min(possible).clamp(1.0, 100_000.0).round() as u32
}

fn advise(drawn: f64, cores: usize, per_minute: u32, out: &mut dyn Write) -> std::io::Result<()> {
    let rate = introductions(drawn, cores, per_minute);
    writeln!(
        out,
        "# This machine draws {drawn:.0} pictures a second on each of {cores} cores, and"
    )?;
    writeln!(out, "# limits.service_challenges_per_minute is {per_minute}.")?;
    writeln!(out, "HiddenServicePoWDefensesEnabled 1")?;
    writeln!(out, "HiddenServicePoWQueueRate {rate}")?;
    writeln!(out, "HiddenServicePoWQueueBurst {}", rate * BURST)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proof_of_work_is_asked_for_what_this_machine_can_serve() {
        // Twice the limit where the machine draws more, otherwise half of its cores.
        assert_eq!(introductions(200.0, 4, 1_000), 33);
        assert_eq!(introductions(10.0, 2, 6_000), 10);
        assert_eq!(introductions(0.1, 1, 10), 1);
        let mut told = Vec::new();
        advise(200.0, 4, 1_000, &mut told).unwrap();
        let told = String::from_utf8(told).unwrap();
        assert!(told.ends_with("HiddenServicePoWQueueRate 33\nHiddenServicePoWQueueBurst 330\n"));
    }
}
