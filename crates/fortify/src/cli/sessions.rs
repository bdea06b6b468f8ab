//! `fortify sessions`: revokes visitors' sessions.

use std::io::Write;

use clap::Subcommand;
use serde_json::json;

use super::CliError;
use super::admin::ask;
use super::args::{CircuitArg, parse_circuit, parse_reason};
use super::remote::Remote;
use super::show::{self, Format, line, text};

/// The subcommands of `fortify sessions`.
#[derive(Debug, Subcommand)]
pub enum Action {
    /// Revoke a session, with everything that it has under way. The value of its cookie, cerberus_session, is
    /// prompted for, or read as one line from standard input, because every user of this machine can see the
    /// arguments of a command.
    Revoke {
        /// The session with this name for the service behind the gate (X-Fortify-Subject), in place of a cookie.
        /// It is found only while a circuit is trusted for it.
        #[arg(long, value_name = "SUBJECT", conflicts_with = "circuit")]
        subject: Option<String>,
        /// All sessions of this circuit, by its pseudonym or address, in place of a cookie.
        #[arg(long, value_name = "CIRCUIT", value_parser = parse_circuit)]
        circuit: Option<CircuitArg>,
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
    let Action::Revoke { subject, circuit, reason } = action;
    let args = match (subject, circuit) {
        (Some(subject), _) => json!({"subject": subject, "reason": reason}),
        (None, Some(circuit)) => json!({"circuit": circuit.text(), "reason": reason}),
        (None, None) => {
            let session = ask("Value of cerberus_session: ")?;
            json!({"session": session.expose(), "reason": reason})
        }
    };
    let revoked = gate.post("/sessions/revoke", &args)?;
    show::write(format, &revoked, out, |it, out| {
        let name = if it["subject"].is_null() { &it["circuit"] } else { &it["subject"] };
        line(out, "ENDED", text(name))
    })
}
