//! `fortify dial`: the threat dial, looked at and turned: by the running gate, or in its file.

use std::io::Write;

use clap::Subcommand;

use serde_json::{Value, json};

use super::CliError;
use super::args::parse_reason;
use super::remote::{Backend, backend};
use super::show::{self, Format, text};
use fortify_config::Config;
use fortify_engine::threat::ThreatLevel;

/// What to do with the dial.
#[derive(Debug, Subcommand)]
pub enum Action {
    /// Show where it stands, and who may turn it.
    Get,
    /// Turn it by hand; it does not turn by itself for half an hour then.
    Set {
        /// 1 to 10.
        #[arg(value_parser = parse_level)]
        level: ThreatLevel,
        /// Why.
        #[command(flatten)]
        why: Reason,
    },
    /// Give it back to itself: it turns by what visitors do.
    Auto {
        /// Why, for the audit.
        #[arg(long, value_name = "TEXT", value_parser = parse_reason)]
        reason: Option<String>,
    },
    /// Hold it at a level, whatever happens, until it is given back to itself.
    Pin {
        /// 1 to 10.
        #[arg(value_parser = parse_level)]
        level: ThreatLevel,
        /// Why.
        #[command(flatten)]
        why: Reason,
    },
}

/// Why it is turned.
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
    show::write(format, &answer, out, |dial, out| show::row(out, &told(dial)))
}

fn told(dial: &Value) -> String {
    let line = format!("level {}, {}", dial["level"], text(&dial["mode"]));
    match dial["paused_seconds"].as_u64() {
        None | Some(0) => line,
        Some(left) => format!("{line}, does not turn by itself for {left} s"),
    }
}
