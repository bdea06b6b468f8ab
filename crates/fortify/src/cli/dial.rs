//! `fortify dial` and `fortify audit`: the threat dial, beside a running gate or without one.
//!
//! The file is the same that the gate has open; a running gate follows within 100 ms, and with it every
//! node of its store.

use std::io::Write;

use clap::Subcommand;

use super::CliError;
use crate::clock::{Clock, SystemClock, Timestamp};
use crate::config::Config;
use crate::threat::audit::{Audit, By, MAX_NAME, MAX_REASON, MAX_ROWS, Row, Why};
use crate::threat::{Dial, ThreatLevel};

/// The variables that name an operator, the first that is set.
const NAMES: [&str; 3] = ["SUDO_USER", "LOGNAME", "USER"];

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

/// Which turns to show, and how.
#[derive(Debug, clap::Args)]
pub struct AuditArgs {
    /// As JSON, one object a line.
    #[arg(long)]
    json: bool,
    /// How many.
    #[arg(long, value_name = "COUNT", default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=MAX_ROWS))]
    last: u64,
}

fn parse_level(text: &str) -> Result<ThreatLevel, String> {
    text.parse().ok().and_then(ThreatLevel::new).ok_or_else(|| "use 1 to 10".to_owned())
}

fn parse_reason(text: &str) -> Result<String, String> {
    let fits = (1..=MAX_REASON).contains(&text.len()) && !text.contains(char::is_control);
    fits.then(|| text.to_owned())
        .ok_or_else(|| format!("use one line of 1 to {MAX_REASON} bytes that says why"))
}

/// Who is at the command line, as the environment says.
pub(super) fn operator(env: &[(String, String)]) -> String {
    let name = NAMES.iter().find_map(|name| env.iter().find(|(key, _)| key == name));
    let name = name.map_or("unknown", |(_, name)| name);
    let mut length = 0;
    let fits = |c: &char| {
        length += c.len_utf8();
        length <= MAX_NAME && !c.is_control()
    };
    name.chars().take_while(fits).collect()
}

pub(super) fn run(
    action: &Action,
    by: String,
    config: &Config,
    out: &mut dyn Write,
) -> Result<(), CliError> {
    let mut audit = Audit::open_existing(&config.storage.data_dir).map_err(CliError::failed)?;
    let at = SystemClock.now();
    let why = |reason: &str| Why {
        at,
        by: By::Operator(by.clone()),
        reason: reason.to_owned(),
        signals: None,
    };
    let turned = match action {
        Action::Get => audit.dial(),
        Action::Set { level, why: Reason { reason } } => {
            audit.turn(Some(&why(reason)), |dial| dial.set(*level, at))
        }
        Action::Auto { reason } => {
            let why = why(reason.as_deref().unwrap_or_default());
            audit.turn(Some(&why), |dial| Some(dial.auto()))
        }
        Action::Pin { level, why: Reason { reason } } => {
            audit.turn(Some(&why(reason)), |dial| Some(dial.pin(*level)))
        }
    };
    let Some(dial) = turned.map_err(CliError::failed)? else {
        let advice =
            "the dial is pinned, or no gate has run here yet: fortify dial auto, then set it";
        return Err(CliError::Failed(advice.to_owned()));
    };
    writeln!(out, "{}", told(&dial, at)).map_err(|e| CliError::output(&e))
}

fn told(dial: &Dial, now: Timestamp) -> String {
    let line = format!("level {}, {}", dial.level, dial.mode.as_str());
    match dial.pause(now).as_secs() {
        0 => line,
        left => format!("{line}, does not turn by itself for {left} s"),
    }
}

pub(super) fn audit(
    args: &AuditArgs,
    config: &Config,
    out: &mut dyn Write,
) -> Result<(), CliError> {
    let audit = Audit::open_existing(&config.storage.data_dir).map_err(CliError::failed)?;
    let rows = audit.last(args.last).map_err(CliError::failed)?;
    let write = |out: &mut dyn Write| match args.json {
        true => rows.iter().try_for_each(|row| writeln!(out, "{}", serde_json::json!(row))),
        false => table(&rows, out),
    };
    write(out).map_err(|e| CliError::output(&e))
}

fn table(rows: &[Row], out: &mut dyn Write) -> std::io::Result<()> {
    writeln!(out, "{:<20} {:<8} {:<7} {:<20} REASON", "AT (UNIX S)", "LEVEL", "MODE", "BY")?;
    for row in rows {
        let (at, level) = (row.at.as_secs(), format!("{}>{}", row.from, row.to));
        let line = format!("{at:<20} {level:<8} {:<7} {:<20} {}", row.mode, row.by, row.reason);
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}
