//! `fortify dial`: the threat level, shown and changed by the running gate or in its file.

use std::io::Write;

use clap::Subcommand;

use serde_json::{Value, json};

use super::CliError;
use super::args::parse_reason;
use super::remote::{Backend, backend};
use super::show::{self, Format, text};
use fortify_config::Config;
use fortify_engine::threat::ThreatLevel;

/// The subcommands of `fortify dial`.
#[derive(Debug, Subcommand)]
pub enum Action {
    /// Show the threat level and how it is controlled.
    Get,
    /// Set the threat level by hand; automatic control pauses for half an hour.
    Set {
        /// The threat level, 1 to 10.
        #[arg(value_parser = parse_level)]
        level: ThreatLevel,
        /// The reason for the change.
        #[command(flatten)]
        why: Reason,
    },
    /// Return the threat level to automatic control, which follows the traffic.
    Auto {
        /// Why, for the audit.
        #[arg(long, value_name = "TEXT", value_parser = parse_reason)]
        reason: Option<String>,
    },
    /// Hold the threat level, whatever happens, until it is returned to automatic control.
    Pin {
        /// The threat level, 1 to 10.
        #[arg(value_parser = parse_level)]
        level: ThreatLevel,
        /// The reason for the change.
        #[command(flatten)]
        why: Reason,
    },
}

/// The reason for a change.
#[derive(Debug, clap::Args)]
pub struct Reason {
    /// Why, for the audit.
    #[arg(long, value_name = "TEXT", value_parser = parse_reason)]
    reason: String,
}

fn parse_level(text: &str) -> Result<ThreatLevel, String> {
    text.parse().ok().and_then(ThreatLevel::new).ok_or_else(|| "use 1 to 10".to_owned())
}

pub(super) fn run(
    action: &Action,
    format: Format,
    by: String,
    config: &Config,
    out: &mut dyn Write,
) -> Result<(), CliError> {
    let backend = backend(config, by)?;
    let answer = match (&backend, action) {
        (Backend::Remote(gate), Action::Get) => gate.get("/dial")?,
        (Backend::Remote(gate), Action::Set { level, why: Reason { reason } }) => {
            gate.post("/dial/set", &json!({"level": level.get(), "reason": reason}))?
        }
        (Backend::Remote(gate), Action::Auto { reason }) => {
            gate.post("/dial/auto", &json!({"reason": reason}))?
        }
        (Backend::Remote(gate), Action::Pin { level, why: Reason { reason } }) => {
            gate.post("/dial/pin", &json!({"level": level.get(), "reason": reason}))?
        }
        (Backend::Offline(files), Action::Get) => files.dial()?,
        (Backend::Offline(files), Action::Set { level, why: Reason { reason } }) => {
            files.turn(reason, |dial, now| dial.set(*level, now))?
        }
        (Backend::Offline(files), Action::Auto { reason }) => {
            files.turn(reason.as_deref().unwrap_or_default(), |dial, _| Some(dial.auto()))?
        }
        (Backend::Offline(files), Action::Pin { level, why: Reason { reason } }) => {
            files.turn(reason, |dial, _| Some(dial.pin(*level)))?
        }
    };
    show::write(format, &answer, out, |dial, out| show::row(out, &describe(dial)))
}

fn describe(dial: &Value) -> String {
    let line = format!("level {}, {}", dial["level"], text(&dial["mode"]));
    match dial["paused_seconds"].as_u64() {
        None | Some(0) => line,
        Some(left) => format!("{line}, automatic control paused for {left} s"),
    }
}
