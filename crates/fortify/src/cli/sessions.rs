//! `fortify sessions`: revokes visitors' sessions.

use std::io::Write;

use clap::Subcommand;
use serde_json::json;

use super::CliError;
use super::admin::ask;
use super::args::parse_reason;
use super::remote::Remote;
use super::show::{self, Format, line, text};

/// The subcommands of `fortify sessions`.
#[derive(Debug, Subcommand)]
pub enum Action {
    /// Revoke a session. The value of its cookie, cerberus_session, is prompted for, or read as one line from
    /// standard input, because every user of this machine can see the arguments of a command.
    Revoke {
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
    let Action::Revoke { reason } = action;
    let session = ask("Value of cerberus_session: ")?;
    let args = json!({"session": session.expose(), "reason": reason});
    let revoked = gate.post("/sessions/revoke", &args)?;
    show::write(format, &revoked, out, |it, out| line(out, "ENDED", text(&it["subject"])))
}
