//! `fortify maintenance`: has visitors told that the site is being worked on, through the running gate.

use std::io::Write;

use clap::Subcommand;
use serde_json::{Value, json};

use super::CliError;
use super::args::parse_reason;
use super::remote::Remote;
use super::show::{self, Format, plain};
use fortify_web::maintenance::MAX_MINUTES;

/// The subcommands of `fortify maintenance`.
#[derive(Debug, Subcommand)]
pub enum Action {
    /// Show whether there is maintenance.
    Get,
    /// Give visitors a page that says that the site is being worked on, and no challenge.
    On {
        /// Minutes after which it ends by itself; without, it ends with `fortify maintenance off`.
        #[arg(long, value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_MINUTES)))]
        minutes: Option<u32>,
        /// What visitors read instead of the usual text: one line.
        #[arg(long, value_name = "TEXT", value_parser = parse_reason)]
        message: Option<String>,
        /// Why, for the audit.
        #[arg(long, value_name = "TEXT", value_parser = parse_reason)]
        reason: Option<String>,
    },
    /// Let visitors in again.
    Off {
        /// Why, for the audit.
        #[arg(long, value_name = "TEXT", value_parser = parse_reason)]
        reason: Option<String>,
    },
}

pub(super) fn run(
    action: &Action,
    format: Format,
    gate: &Remote,
    out: &mut dyn Write,
) -> Result<(), CliError> {
    let answer = match action {
        Action::Get => gate.get("/maintenance")?,
        Action::On { minutes, message, reason } => gate.post(
            "/maintenance/on",
            &json!({"minutes": minutes, "message": message, "reason": reason}),
        )?,
        Action::Off { reason } => gate.post("/maintenance/off", &json!({"reason": reason}))?,
    };
    show::write(format, &answer, out, |it, out| writeln!(out, "{}", describe(it)))
}

fn describe(answer: &Value) -> String {
    if answer["on"] != true {
        return "no maintenance; visitors are let in".to_owned();
    }
    let ends = match answer["seconds_left"].as_u64() {
        Some(seconds) => format!("ends in {} min", seconds.div_ceil(60)),
        None => "until fortify maintenance off".to_owned(),
    };
    match answer["message"].as_str() {
        Some(message) => format!("maintenance, {ends}; visitors read: {}", plain(message)),
        None => format!("maintenance, {ends}"),
    }
}
