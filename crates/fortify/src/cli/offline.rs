//! The gate's files, read and changed while no gate is running.
//!
//! The methods return what the admin API answers, so the same code prints it. If a gate is running after all, with
//! its socket turned off for example, it picks up these changes within 100 ms. Changes are in the audit, with the
//! method `file`.

use std::io::{self, Write as _};
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use super::CliError;
use super::args::CircuitArg;
use super::progress::Progress;
use super::tor::close;
use fortify_admin::accounts::{Accounts, AccountsError};
use fortify_admin::directory;
use fortify_admin::identity::{AuthMethod, Principal, Role};
use fortify_admin::log::{Entry, LogPage};
use fortify_admin::operations::circuits::{
    Address, Circuit, CircuitFilter, Circuits, Flushed, Killed, WRITTEN_TOGETHER, action, describe,
    usual,
};
use fortify_admin::operations::{audit, dial};
use fortify_config::Config;
use fortify_core::circuit::{TorBoot, TorCircuit};
use fortify_core::clock::{Clock, SystemClock, Timestamp};
use fortify_core::pseudonym::{CircuitTag, Pseudonyms};
use fortify_core::sqlite::FileError;
use fortify_engine::threat::Dial;
use fortify_engine::threat::history::DialHistory;
use fortify_keys::KeyRing;
use fortify_reputation::status_db::{StatusDb, Write, WriteOutcome};
use fortify_reputation::{
    CircuitStatus, MAX_STATUS_ROWS, ReputationError, StatusReason, StatusRow,
};
use fortify_tor::{self, CloseOutcome};

/// For questions that only a running gate can answer.
const GATE_ALONE: &str =
    "only the running gate knows this; start it (fortify serve), and set admin.socket to a path";

/// The files of a gate, and who changes them.
pub(super) struct OfflineFiles<'a> {
    config: &'a Config,
    who: Principal,
}

/// The file of circuits' status, and what is needed to compute pseudonyms.
struct OfflineStatus {
    db: StatusDb,
    names: Pseudonyms,
    by_line: bool,
    boot: TorBoot,
    now: Timestamp,
}

impl<'a> OfflineFiles<'a> {
    pub(super) fn of(config: &'a Config, operator: String) -> Self {
        Self {
            config,
            who: Principal { name: operator, role: Role::Admin, auth_method: AuthMethod::File },
        }
    }

    /// `GET /dial`.
    pub(super) fn dial(&self) -> Result<Value, CliError> {
        let dial = self.open_dial()?.dial().map_err(CliError::failed)?;
        self.view_of(dial.ok_or_else(|| CliError::Failed(NEVER_RAN.to_owned()))?)
    }

    /// `POST /dial/...`: `decide` gives the new state, or `None` where the dial is pinned.
    pub(super) fn turn(
        &self,
        reason: &str,
        decide: impl FnOnce(Dial, Timestamp) -> Option<Dial>,
    ) -> Result<Value, CliError> {
        let mut file = self.open_dial()?;
        if file.dial().map_err(CliError::failed)?.is_none() {
            return Err(CliError::Failed(NEVER_RAN.to_owned()));
        }
        let at = SystemClock.now();
        let why = dial::why(&self.who, at, reason);
        let turned = file.turn(Some(&why), |dial| decide(dial, at)).map_err(CliError::failed)?;
        self.view_of(turned.ok_or_else(|| CliError::Failed(dial::PINNED.to_owned()))?)
    }

    /// `GET /audit`.
    pub(super) fn audit(&self, limit: u64) -> Result<Value, CliError> {
        let (records, next) = self.records(audit::Cursor::LATEST, limit)?;
        value(&audit::Audit { records, next: next.map(|cursor| cursor.to_string()) })
    }

    /// `GET /audit/export`.
    pub(super) fn export(&self) -> Result<Vec<u8>, CliError> {
        let (mut text, mut next) = (Vec::new(), Some(audit::Cursor::LATEST));
        while let Some(cursor) = next {
            let (records, after) = self.records(cursor, audit::EXPORTED_TOGETHER)?;
            text.extend(audit::lines(&records));
            next = after;
        }
        Ok(text)
    }

    /// `GET /circuits`, all pages of it.
    pub(super) fn circuits(
        &self,
        which: CircuitFilter,
        addresses: bool,
    ) -> Result<Value, CliError> {
        if which == CircuitFilter::Seen {
            return Err(CliError::Failed(GATE_ALONE.to_owned()));
        }
        let mut table = self.status_db()?;
        let mut rows = table.status()?;
        rows.retain(|(_, row)| which.has(row.status));
        let circuits = rows.into_iter().map(|(tag, row)| {
            let address = addresses.then(|| Address::of(&row.circuit));
            Circuit { known: true, address, ..Circuit::status_of(tag, Some(row)) }
        });
        value(&Circuits { circuits: circuits.collect(), next: None })
    }

    /// `GET /circuits/{circuit}`.
    pub(super) fn circuit(&self, circuit: &CircuitArg) -> Result<Value, CliError> {
        let mut table = self.status_db()?;
        let (tag, found) = table.named(circuit)?;
        table.view(tag, found)
    }

    /// `POST /circuits/{circuit}/ban`, `promote` and `reset`.
    pub(super) fn stand(
        &self,
        circuit: &CircuitArg,
        status: CircuitStatus,
        time: Duration,
        reason: &str,
    ) -> Result<Value, CliError> {
        let mut table = self.status_db()?;
        let (tag, circuit) = table.known(circuit)?;
        let before = table.db.find(circuit, table.now).map_err(CliError::failed)?;
        let before = before.map_or("normal", |row| row.status.as_str());
        let entry = self.entry(action(status), &tag.hex()).change(before, describe(status, time));
        self.log(&entry.because(reason))?;
        table.set(&[circuit], status, time)?;
        table.view(tag, Some(circuit))
    }

    /// `POST /circuits/{circuit}/kill`, over a connection to tor of its own.
    pub(super) fn kill(&self, circuit: &CircuitArg, reason: &str) -> Result<Value, CliError> {
        let mut table = self.status_db()?;
        let (tag, circuit) = table.known(circuit)?;
        if circuit != circuit.during(table.boot) {
            let gone = "this circuit belongs to an earlier run of tor, and is closed";
            return Err(CliError::Failed(gone.to_owned()));
        }
        self.log(&self.entry("circuit.kill", &tag.hex()).because(reason))?;
        let closed = close(self.config, circuit)?;
        value(&Killed { closed: closed == CloseOutcome::JustClosed })
    }

    /// How many circuits are banned and trusted.
    pub(super) fn counts(&self) -> Result<(u64, u64), CliError> {
        let rows = self.status_db()?.status()?;
        let count = |status| rows.iter().filter(|(_, row)| row.status == status).count();
        Ok((count(CircuitStatus::Banned) as u64, count(CircuitStatus::Trusted) as u64))
    }

    /// `POST /circuits/flush`, repeated until none is left.
    pub(super) fn flush(
        &self,
        which: CircuitFilter,
        reason: &str,
        progress: &Progress,
    ) -> Result<Value, CliError> {
        let mut table = self.status_db()?;
        let rows = table.status()?.into_iter().filter(|(_, row)| which.has(row.status));
        let circuits: Vec<_> = rows.map(|(_, row)| row.circuit).collect();
        let entry = self.entry("circuit.flush", which.as_str()).change(circuits.len(), 0);
        self.log(&entry.because(reason))?;
        for together in circuits.chunks(WRITTEN_TOGETHER) {
            table.set(
                together,
                CircuitStatus::Normal,
                usual(CircuitStatus::Normal, self.config),
            )?;
            progress.add(together.len() as u64);
        }
        value(&Flushed { taken_back: circuits.len() as u64, left: 0, reach: None })
    }

    fn open_dial(&self) -> Result<DialHistory, CliError> {
        DialHistory::open_existing(&self.config.storage.data_dir).map_err(CliError::failed)
    }

    fn view_of(&self, dial: Dial) -> Result<Value, CliError> {
        let table = self.config.engine().dial().map_err(CliError::failed)?.table;
        value(&dial::of(&dial, SystemClock.now(), |level| table.policy(level).clone()))
    }

    fn records(&self, cursor: audit::Cursor, limit: u64) -> Result<audit::Read, CliError> {
        let (before, most) = (audit::EVER, limit + 1);
        let turns = self.open_dial()?.before(before, cursor.turns, most);
        let kept = match self.accounts()? {
            None => LogPage::default(),
            Some(accounts) => accounts.kept(before, &cursor.log, most).map_err(CliError::failed)?,
        };
        Ok(audit::page(turns.map_err(CliError::failed)?, kept, cursor, limit))
    }

    /// The record of changes; `None` if the admin interface was never on.
    fn accounts(&self) -> Result<Option<Accounts>, CliError> {
        match Accounts::open_existing(&self.config.storage.data_dir) {
            Ok(accounts) => Ok(Some(accounts)),
            Err(AccountsError::File(FileError::NotThere(_))) => Ok(None),
            Err(error) => Err(CliError::failed(error)),
        }
    }

    /// An audit record of a change made now from the command line.
    pub(super) fn entry(&self, action: &str, target: &str) -> Entry {
        Entry::new(&self.who, SystemClock.now(), action, target)
    }

    /// Writes a change to the audit, before it is made.
    pub(super) fn log(&self, entry: &Entry) -> Result<(), CliError> {
        let Some(accounts) = self.accounts()? else {
            let none = "note: there is no audit to record this in, because [admin] was never on";
            let _nowhere_left_to_say_it = writeln!(io::stderr(), "{none}");
            return Ok(());
        };
        accounts.log(entry).map_err(CliError::failed)
    }

    fn status_db(&self) -> Result<OfflineStatus, CliError> {
        let data_dir = &self.config.storage.data_dir;
        let db = StatusDb::open_existing(data_dir, MAX_STATUS_ROWS).map_err(CliError::failed)?;
        Ok(OfflineStatus {
            db,
            names: KeyRing::load(data_dir).map_err(CliError::failed)?.pseudonyms(),
            by_line: self.config.server.proxy_protocol,
            boot: fortify_tor::last_boot(&self.config.tor, data_dir).map_err(CliError::failed)?,
            now: SystemClock.now(),
        })
    }
}

const NEVER_RAN: &str = "no gate has run here yet; start it once (fortify serve), or name its configuration with --config";

impl OfflineStatus {
    fn tag(&self, circuit: TorCircuit) -> CircuitTag {
        directory::tag(&self.names, self.by_line, circuit)
    }

    /// Every circuit that is banned or trusted, the latest first.
    fn status(&mut self) -> Result<Vec<(CircuitTag, StatusRow)>, CliError> {
        let rows = self.db.load(self.now).map_err(CliError::failed)?;
        let rows = rows.into_iter().map(|(row, _shifted)| row);
        let rows = rows.filter(|row| row.status != CircuitStatus::Normal);
        let mut rows: Vec<_> = rows.map(|row| (self.tag(row.circuit), row)).collect();
        rows.sort_unstable_by_key(|(tag, row)| (std::cmp::Reverse(row.since), tag.to_bytes()));
        Ok(rows)
    }

    /// The circuit that was named, if its number is known.
    fn named(
        &mut self,
        circuit: &CircuitArg,
    ) -> Result<(CircuitTag, Option<TorCircuit>), CliError> {
        match circuit {
            CircuitArg::Address(circuit) => {
                let circuit = circuit.during(self.boot);
                Ok((self.tag(circuit), Some(circuit)))
            }
            CircuitArg::Pseudonym(tag) => {
                let rows = self.db.load(self.now).map_err(CliError::failed)?;
                let mut circuits = rows.into_iter().map(|(row, _shifted)| row.circuit);
                Ok((*tag, circuits.find(|circuit| self.tag(*circuit) == *tag)))
            }
        }
    }

    fn known(&mut self, circuit: &CircuitArg) -> Result<(CircuitTag, TorCircuit), CliError> {
        let (tag, circuit) = self.named(circuit)?;
        let advice = "this circuit is neither banned nor trusted, and only the running gate knows others; give \
                      its address, or start the gate";
        Ok((tag, circuit.ok_or_else(|| CliError::Failed(advice.to_owned()))?))
    }

    fn view(&self, tag: CircuitTag, circuit: Option<TorCircuit>) -> Result<Value, CliError> {
        let row = match circuit {
            Some(circuit) => self.db.find(circuit, self.now).map_err(CliError::failed)?,
            None => None,
        };
        value(&Circuit { known: circuit.is_some(), ..Circuit::status_of(tag, row) })
    }

    fn set(
        &mut self,
        circuits: &[TorCircuit],
        status: CircuitStatus,
        time: Duration,
    ) -> Result<(), CliError> {
        let (reason, since, until) = (StatusReason::Operator, self.now, self.now.after(time));
        let row = |circuit: &TorCircuit| StatusRow::new(*circuit, status, since, until, reason);
        let writes = circuits.iter().map(|circuit| Write::of(row(circuit)));
        let writes: Vec<_> = writes.collect();
        let applied = self.db.apply(&writes, self.now).map_err(CliError::failed)?;
        let full = applied.written.iter().any(|written| matches!(written, WriteOutcome::Full));
        if full { Err(CliError::failed(ReputationError::Full)) } else { Ok(()) }
    }
}

fn value(answer: &impl Serialize) -> Result<Value, CliError> {
    serde_json::to_value(answer).map_err(CliError::failed)
}
