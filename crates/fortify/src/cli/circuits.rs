//! `fortify circuits`: the status of circuits, shown and changed by the running gate or in its files.

use std::io::{self, BufRead as _, IsTerminal as _, Write};
use std::time::Duration;

use clap::{Subcommand, ValueEnum};
use serde_json::{Value, json};

use super::CliError;
use super::args::{Circuit, parse_reason, segment};
use super::progress::Progress;
use super::remote::{Backend, backend};
use super::show::{self, BAD, Format, GOOD, line, styled, text, time};
use fortify_admin::operations::circuits::{CircuitFilter, LONGEST, usual};
use fortify_config::Config;
use fortify_core::clock::{Clock, SystemClock, Timestamp};
use fortify_reputation::{CircuitStatus, MAX_STATUS_ROWS};

/// The largest page of circuits in the API.
const PAGE: usize = 200;

/// Rounds of a flush: enough for every circuit that may have a status, and some for those that get one meanwhile.
const MOST_ROUNDS: usize = MAX_STATUS_ROWS / 10_000 + 50;

/// The subcommands of `fortify circuits`.
#[derive(Debug, Subcommand)]
pub enum Action {
    /// List circuits, the latest first.
    List {
        /// Which circuits to list.
        #[arg(long, value_enum, default_value = "any")]
        which: FilterArg,
        /// How many to list; all by default.
        #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
        limit: Option<u64>,
        /// Show addresses in addition to pseudonyms.
        #[arg(long)]
        show_circuits: bool,
    },
    /// Show the status of a circuit.
    Show(Circuit),
    /// Ban a circuit: its requests are refused.
    Ban {
        /// The circuit.
        #[command(flatten)]
        circuit: Circuit,
        /// For how long; reputation.ban_seconds by default.
        #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=LONGEST))]
        seconds: Option<u64>,
        /// The reason for the change.
        #[command(flatten)]
        why: ReasonArg,
    },
    /// Trust a circuit, even a banned one.
    Promote {
        /// The circuit.
        #[command(flatten)]
        circuit: Circuit,
        /// For how long; reputation.vip_seconds by default.
        #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=LONGEST))]
        seconds: Option<u64>,
        /// The reason for the change.
        #[command(flatten)]
        why: ReasonArg,
    },
    /// Make a circuit normal again: lifts a ban, withdraws trust, and restores the tries that it used up.
    Reset {
        /// The circuit.
        #[command(flatten)]
        circuit: Circuit,
        /// The reason for the change.
        #[command(flatten)]
        why: ReasonArg,
    },
    /// Close a circuit through tor. This frees its resources and aborts its downloads, but the client returns
    /// on another circuit.
    Kill {
        /// The circuit.
        #[command(flatten)]
        circuit: Circuit,
        /// The reason for the change.
        #[command(flatten)]
        why: ReasonArg,
    },
    /// Lift all bans, withdraw all trust, or both.
    Flush {
        /// What to take back.
        #[arg(value_enum)]
        which: FlushArg,
        /// Do not ask for confirmation.
        #[arg(long)]
        yes: bool,
        /// The reason for the change.
        #[command(flatten)]
        why: ReasonArg,
    },
}

/// The optional reason for a change.
#[derive(Debug, clap::Args)]
pub struct ReasonArg {
    /// Why, for the audit.
    #[arg(long, value_name = "TEXT", value_parser = parse_reason)]
    reason: Option<String>,
}

impl ReasonArg {
    fn text(&self) -> &str {
        self.reason.as_deref().unwrap_or_default()
    }
}

/// Which circuits to list, on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FilterArg {
    /// Banned circuits.
    Banned,
    /// Trusted circuits.
    Vip,
    /// Both.
    Any,
    /// Circuits with requests in the last hour, whatever their status.
    Seen,
}

impl From<FilterArg> for CircuitFilter {
    fn from(which: FilterArg) -> Self {
        match which {
            FilterArg::Banned => Self::Banned,
            FilterArg::Vip => Self::Vip,
            FilterArg::Any => Self::Any,
            FilterArg::Seen => Self::Seen,
        }
    }
}

/// What to take back, on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FlushArg {
    /// Bans.
    Banned,
    /// Trust.
    Vip,
    /// Both.
    Any,
}

impl From<FlushArg> for CircuitFilter {
    fn from(which: FlushArg) -> Self {
        match which {
            FlushArg::Banned => Self::Banned,
            FlushArg::Vip => Self::Vip,
            FlushArg::Any => Self::Any,
        }
    }
}

pub(super) fn run(
    action: &Action,
    format: Format,
    by: String,
    config: &Config,
    out: &mut dyn Write,
) -> Result<(), CliError> {
    let backend = backend(config, by)?;
    match action {
        Action::List { which, limit, show_circuits } => {
            let (which, limit) = ((*which).into(), limit.unwrap_or(u64::MAX));
            let list = list(&backend, which, limit, *show_circuits)?;
            show::write(format, &list, out, |it, out| table(it, *show_circuits, out))
        }
        Action::Show(circuit) => {
            let answer = match &backend {
                Backend::Remote(gate) => gate.get(&circuit.path())?,
                Backend::Offline(files) => files.circuit(&circuit.circuit)?,
            };
            show::write(format, &answer, out, one)
        }
        Action::Ban { circuit, seconds, why } => {
            let change = Change { action: "ban", status: CircuitStatus::Banned, seconds: *seconds };
            show::write(format, &change.make(&backend, circuit, why, config)?, out, one)
        }
        Action::Promote { circuit, seconds, why } => {
            let change =
                Change { action: "promote", status: CircuitStatus::Trusted, seconds: *seconds };
            show::write(format, &change.make(&backend, circuit, why, config)?, out, one)
        }
        Action::Reset { circuit, why } => {
            let change = Change { action: "reset", status: CircuitStatus::Normal, seconds: None };
            show::write(format, &change.make(&backend, circuit, why, config)?, out, one)
        }
        Action::Kill { circuit, why } => {
            let answer = match &backend {
                Backend::Remote(gate) => {
                    gate.post(&format!("{}/kill", circuit.path()), &json!({"reason": why.text()}))?
                }
                Backend::Offline(files) => files.kill(&circuit.circuit, why.text())?,
            };
            show::write(format, &answer, out, |answer, out| {
                let closed = answer["closed"] == true;
                let none = "tor has no such circuit, or no longer has it";
                writeln!(out, "{}", if closed { "closed" } else { none })
            })
        }
        Action::Flush { which, yes, why } => {
            let answer = flush(&backend, *which, *yes, why.text())?;
            show::write(format, &answer, out, |answer, out| {
                let left = answer["left"].as_u64().unwrap_or(0);
                writeln!(out, "{} taken back", answer["taken_back"])?;
                if left > 0 { writeln!(out, "{left} left; run this again") } else { Ok(()) }
            })
        }
    }
}

/// A change of a circuit's status.
struct Change {
    action: &'static str,
    status: CircuitStatus,
    seconds: Option<u64>,
}

impl Change {
    fn make(
        &self,
        backend: &Backend<'_>,
        circuit: &Circuit,
        why: &ReasonArg,
        config: &Config,
    ) -> Result<Value, CliError> {
        match backend {
            Backend::Remote(gate) => {
                let args = json!({"seconds": self.seconds, "reason": why.text()});
                gate.post(&format!("{}/{}", circuit.path(), self.action), &args)
            }
            Backend::Offline(files) => {
                let usual = || usual(self.status, config);
                let time = self.seconds.map_or_else(usual, Duration::from_secs);
                files.stand(&circuit.circuit, self.status, time, why.text())
            }
        }
    }
}

/// All pages of the list, joined.
fn list(
    backend: &Backend<'_>,
    which: CircuitFilter,
    limit: u64,
    addresses: bool,
) -> Result<Value, CliError> {
    let most = usize::try_from(limit).unwrap_or(usize::MAX);
    let mut circuits = Vec::new();
    let mut next = match backend {
        Backend::Offline(files) => {
            let mut list = files.circuits(which, addresses)?;
            let all = list["circuits"].as_array_mut();
            all.into_iter().for_each(|all| circuits.append(all));
            Value::Null
        }
        Backend::Remote(gate) => {
            let mut after = String::new();
            loop {
                let (which, page) = (which.as_str(), PAGE.min(most - circuits.len()));
                let path = format!(
                    "/circuits?which={which}&limit={page}&addresses={addresses}&after={after}"
                );
                let mut list = gate.get(&path)?;
                let found = list["circuits"].as_array_mut();
                let found = found.map_or(0, |found| {
                    let count = found.len();
                    circuits.append(found);
                    count
                });
                let next = list["next"].take();
                // Bounded by what a gate remembers, should it go in circles.
                let enough = circuits.len() >= most.min(4 * MAX_STATUS_ROWS) || found == 0;
                match next.as_str() {
                    Some(cursor) if !enough => after = segment(cursor),
                    _ => break next,
                }
            }
        }
    };
    if circuits.len() > most {
        circuits.truncate(most);
        next = Value::Null;
    }
    Ok(json!({"circuits": circuits, "next": next}))
}

fn table(list: &Value, addresses: bool, out: &mut dyn Write) -> io::Result<()> {
    let address = if addresses { "ADDRESS" } else { "" };
    let title = format!(
        "{:<32} {:<8} {:<9} {:>8} {:<20} {address}",
        "CIRCUIT", "STATUS", "REASON", "LEFT (S)", "SEEN"
    );
    show::head(out, &title)?;
    let now = SystemClock.now();
    for circuit in list["circuits"].as_array().into_iter().flatten() {
        let left = left(circuit, now).map_or_else(|| "-".to_owned(), |left| left.to_string());
        let row = format!(
            "{:<32} {:<8} {:<9} {left:>8} {:<20} {}",
            text(&circuit["circuit"]),
            text(&circuit["status"]),
            text(&circuit["reason"]),
            time(&circuit["seen"]),
            circuit["address"].as_str().unwrap_or_default(),
        );
        show::row(out, &row)?;
    }
    Ok(())
}

fn one(circuit: &Value, out: &mut dyn Write) -> io::Result<()> {
    line(out, "CIRCUIT", text(&circuit["circuit"]))?;
    let (said, style) = status_text(circuit);
    styled(out, "STATUS", &said, style)?;
    if circuit["since"].is_u64() {
        line(out, "SINCE", &time(&circuit["since"]))?;
    }
    if circuit["seen"].is_u64() {
        line(out, "SEEN", &time(&circuit["seen"]))?;
    }
    Ok(())
}

/// The status of a circuit in an answer, with its style.
pub(super) fn status_text(circuit: &Value) -> (String, anstyle::Style) {
    let (Some(status), Some(reason)) = (circuit["status"].as_str(), circuit["reason"].as_str())
    else {
        return ("normal".to_owned(), anstyle::Style::new());
    };
    let left = left(circuit, SystemClock.now()).unwrap_or(0);
    let style = if status == CircuitStatus::Banned.as_str() { BAD } else { GOOD };
    (format!("{status} ({reason}), {left} s left"), style)
}

fn left(circuit: &Value, now: Timestamp) -> Option<u64> {
    let until = circuit["until"].as_u64().map(Timestamp::from_millis)?;
    Some(now.until(until).as_secs())
}

fn flush(
    backend: &Backend<'_>,
    which: FlushArg,
    yes: bool,
    reason: &str,
) -> Result<Value, CliError> {
    let (banned, trusted) = match backend {
        Backend::Offline(files) => files.counts()?,
        Backend::Remote(gate) => {
            let status = gate.get("/status")?;
            let of = |key: &str| status[key].as_u64().unwrap_or(0);
            (of("banned"), of("trusted"))
        }
    };
    let (count, what) = match which {
        FlushArg::Banned => (banned, format!("{banned} bans")),
        FlushArg::Vip => (trusted, format!("trust in {trusted} circuits")),
        FlushArg::Any => {
            (banned + trusted, format!("{banned} bans and trust in {trusted} circuits"))
        }
    };
    if !yes {
        confirm(&format!(
            "This takes back {what}. Those circuits become normal and have all their tries again."
        ))?;
    }
    let progress = Progress::new(count, "taking back");
    match backend {
        Backend::Offline(files) => files.flush(which.into(), reason, &progress),
        Backend::Remote(gate) => {
            let (mut taken_back, mut left) = (0, 0);
            let args = json!({"which": CircuitFilter::from(which).as_str(), "reason": reason});
            for _ in 0..MOST_ROUNDS {
                let answer = gate.post("/circuits/flush", &args)?;
                let taken = answer["taken_back"].as_u64().unwrap_or(0);
                (taken_back, left) = (taken_back + taken, answer["left"].as_u64().unwrap_or(0));
                progress.add(taken);
                if left == 0 {
                    break;
                }
            }
            Ok(json!({"taken_back": taken_back, "left": left}))
        }
    }
}

/// Asks for confirmation at a terminal.
fn confirm(what: &str) -> Result<(), CliError> {
    if !io::stdin().is_terminal() {
        return Err(CliError::Usage(format!("{what} To confirm, add --yes")));
    }
    let _nowhere_left_to_ask = write!(io::stderr(), "{what}\nContinue? [y/N] ");
    let mut answer = String::new();
    let read = io::Read::take(io::stdin().lock(), 64).read_line(&mut answer);
    read.map_err(|error| CliError::Failed(format!("cannot read the answer: {error}")))?;
    match answer.trim().to_ascii_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(CliError::Failed("nothing was changed".to_owned())),
    }
}
