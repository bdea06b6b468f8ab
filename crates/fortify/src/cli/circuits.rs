//! `fortify circuits`: how circuits stand, looked at and changed beside a running gate or without one.
//!
//! The file is the same that the gate has open; a running gate takes over what is written here within
//! 100 ms and tells `HAProxy`.

use std::io::Write;
use std::time::Duration;

use clap::Subcommand;

use super::CliError;
use crate::circuit::{CircuitId, Origin, TorCircuit};
use crate::clock::{Clock, SystemClock, Timestamp};
use crate::config::Config;
use crate::pseudonym::Pseudonyms;
use crate::reputation::ledger::{self, Ledger, Written};
use crate::reputation::{MAX_STANDINGS, Reason, ReputationError, Row, Standing};
use crate::session::key_ring::KeyRing;
use crate::tor;

/// Characters of a circuit's pseudonym that are shown: 48 bits, enough to tell rows apart.
const SHORT_TAG: usize = 8;

/// The longest time that can be given, seconds: a year.
const MAX_SECONDS: u64 = 31_536_000;

/// What to do with circuits.
#[derive(Debug, Subcommand)]
pub enum Action {
    /// Show the circuits that are favoured or banned.
    List {
        /// Show their addresses too; without, only pseudonyms.
        #[arg(long)]
        show_circuits: bool,
    },
    /// Show how a circuit stands.
    Show(Circuit),
    /// Refuse a circuit.
    Ban {
        /// Which.
        #[command(flatten)]
        circuit: Circuit,
        /// For how long; reputation.ban_seconds unless given.
        #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=MAX_SECONDS))]
        seconds: Option<u64>,
    },
    /// Favour a circuit, even a banned one.
    Promote {
        /// Which.
        #[command(flatten)]
        circuit: Circuit,
        /// For how long; reputation.vip_seconds unless given.
        #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=MAX_SECONDS))]
        seconds: Option<u64>,
    },
    /// Take a ban or a favour back; a circuit that had used up its tries has them again.
    Reset(Circuit),
}

/// Which circuit.
#[derive(Debug, clap::Args)]
pub struct Circuit {
    /// Its address as tor and HAProxy have it, such as fc00:dead:beef:4dad::19.
    #[arg(value_name = "ADDRESS", value_parser = parse_circuit)]
    circuit: TorCircuit,
}

fn parse_circuit(text: &str) -> Result<TorCircuit, String> {
    text.parse().map_err(|error| format!("{error}; use one such as fc00:dead:beef:4dad::19"))
}

pub(super) fn run(action: &Action, config: &Config, out: &mut dyn Write) -> Result<(), CliError> {
    let data_dir = &config.storage.data_dir;
    let mut ledger = Ledger::open_existing(data_dir, MAX_STANDINGS).map_err(CliError::failed)?;
    let now = SystemClock.now();
    let boot = tor::last_boot(&config.tor, data_dir).map_err(CliError::failed)?;
    match action {
        Action::List { show_circuits } => {
            let names = KeyRing::load(data_dir).map_err(CliError::failed)?.pseudonyms();
            let rows = ledger.load(now).map_err(CliError::failed)?.into_iter();
            let mut rows: Vec<_> = rows.map(|(row, _shifted)| row).collect();
            rows.retain(|row| row.standing != Standing::Reset);
            rows.sort_by_key(|row| (row.standing as u8, row.until, row.circuit));
            let list = List { names, by_line: config.server.proxy_protocol, now };
            list.write(&rows, *show_circuits, out).map_err(|e| CliError::output(&e))
        }
        Action::Show(Circuit { circuit }) => {
            let row = ledger.find(circuit.during(boot), now).map_err(CliError::failed)?;
            let said = match row.filter(|row| row.standing != Standing::Reset) {
                None => "like any other".to_owned(),
                Some(row) => {
                    let (left, reason) = (now.until(row.until).as_secs(), row.reason.as_str());
                    format!("{} ({reason}), {left} s left", row.standing)
                }
            };
            writeln!(out, "{said}").map_err(|e| CliError::output(&e))
        }
        Action::Ban { circuit, seconds } => {
            let time = seconds.map_or(config.reputation.ban, Duration::from_secs);
            set(&mut ledger, circuit.circuit.during(boot), Standing::Banned, time, now)
        }
        Action::Promote { circuit, seconds } => {
            let time = seconds.map_or(config.reputation.vip, Duration::from_secs);
            set(&mut ledger, circuit.circuit.during(boot), Standing::Vip, time, now)
        }
        // Kept for as long as there may be failures to forget.
        Action::Reset(circuit) => {
            let time = config.security.reputation_decay;
            set(&mut ledger, circuit.circuit.during(boot), Standing::Reset, time, now)
        }
    }
}

fn set(
    ledger: &mut Ledger,
    circuit: TorCircuit,
    standing: Standing,
    time: Duration,
    now: Timestamp,
) -> Result<(), CliError> {
    let reason = Reason::Operator;
    let row = Row { circuit, standing, since: now, until: now.after(time), reason };
    let write = ledger::Write::of(row);
    let applied = ledger.apply(&[write], now).map_err(CliError::failed)?;
    match applied.written.first() {
        Some(Written::Full) => Err(CliError::failed(ReputationError::Full)),
        _ => Ok(()),
    }
}

/// How a list is written.
struct List {
    names: Pseudonyms,
    /// Whether circuits come in PROXY lines, which are other visitors than those of a header.
    by_line: bool,
    now: Timestamp,
}

impl List {
    fn write(&self, rows: &[Row], addresses: bool, out: &mut dyn Write) -> std::io::Result<()> {
        let head = if addresses { "ADDRESS" } else { "" };
        let line = format!(
            "{:<10} {:<8} {:<9} {:>8}  {head}",
            "CIRCUIT", "STANDING", "REASON", "LEFT (S)"
        );
        writeln!(out, "{}", line.trim_end())?;
        for row in rows {
            let id = match self.by_line {
                true => CircuitId::ProxyLine(Origin::Tor(row.circuit)),
                false => CircuitId::Header(row.circuit),
            };
            let tag = self.names.tag(&id).encode();
            let short = tag.get(..SHORT_TAG).unwrap_or_default();
            let left = self.now.until(row.until).as_secs();
            let address = if addresses { row.circuit.address().to_string() } else { String::new() };
            let (standing, reason) = (row.standing, row.reason.as_str());
            let line = format!("{short:<10} {standing:<8} {reason:<9} {left:>8}  {address}");
            writeln!(out, "{}", line.trim_end())?;
        }
        Ok(())
    }
}
