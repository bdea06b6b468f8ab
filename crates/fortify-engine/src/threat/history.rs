//! The SQLite file of the dial: its current state, and every change with its cause.
//!
//! A change is on disk before it is acknowledged or takes effect ([`sqlite`]). Both the gate and the command line
//! write; SQLite's count of other connections' commits tells the gate when to read.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};
use schemars::JsonSchema;
use serde::Serialize;

use super::signals::Signals;
use super::{Dial, Mode, ThreatLevel};
use fortify_core::clock::Timestamp;
use fortify_core::damage::Damage;
use fortify_core::sqlite::{self, FileError, Opened, Schema, WriteCount};

/// The number of changes that are kept: 30 MB at about 300 bytes each, and two months of one change per minute.
pub const MAX_ROWS: u64 = 100_000;

/// The most bytes of a reason.
pub const MAX_REASON: usize = 500;
/// The most bytes of an operator's name.
pub const MAX_NAME: usize = 64;

/// The file in the data directory.
pub const FILE_NAME: &str = "audit.sqlite";

const SCHEMA: Schema = Schema {
    name: FILE_NAME,
    steps: &[TABLES, SUM],
    consequence: "the threat dial is as configured",
};

const TABLES: &str = "
    CREATE TABLE dial (
        id INTEGER PRIMARY KEY CHECK (id = 0),
        version INTEGER NOT NULL,
        mode TEXT NOT NULL CHECK (mode IN ('auto', 'manual', 'pinned')),
        level INTEGER NOT NULL CHECK (level BETWEEN 1 AND 10),
        paused_until INTEGER,
        configured TEXT NOT NULL
    ) STRICT;
    CREATE TABLE turns (
        seq INTEGER PRIMARY KEY,
        at INTEGER NOT NULL,
        from_level INTEGER NOT NULL,
        to_level INTEGER NOT NULL,
        mode TEXT NOT NULL,
        by TEXT NOT NULL,
        reason TEXT NOT NULL,
        signals TEXT
    ) STRICT;
";

/// A checksum of the dial, because SQLite has none: a flipped bit would be another level. Before the first change by
/// this version there is none.
const SUM: &str = "ALTER TABLE dial ADD COLUMN sum INTEGER";

/// The version of the schema that this program writes: `user_version` of the file.
pub const SCHEMA_VERSION: i64 = SCHEMA.steps.len() as i64;

/// The origin of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChangedBy {
    /// Automatic control.
    Auto,
    /// An operator, by name.
    Operator(String),
    /// A change of the configuration.
    Configuration,
    /// Another node, and who there, if it says so.
    Store(Option<String>),
}

impl ChangedBy {
    /// The word in metrics and in the log.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Operator(_) => "operator",
            Self::Configuration => "configuration",
            Self::Store(_) => "store",
        }
    }

    /// The text in the file.
    pub(super) fn text(&self) -> String {
        match self {
            Self::Operator(name) | Self::Store(Some(name)) => format!("{}:{name}", self.label()),
            _ => self.label().to_owned(),
        }
    }

    /// Who it was, wherever: what other nodes are told.
    pub(super) fn author(&self) -> Option<String> {
        match self {
            Self::Store(author) => author.clone(),
            _ => Some(self.text()),
        }
    }
}

/// The name of an author that another node wrote, as this one may write it to files and logs.
pub(super) fn printable(author: &str) -> String {
    let longest = MAX_NAME + "operator:".len();
    author.chars().filter(|c| !c.is_control()).take(longest).collect()
}

/// The cause of a change.
#[derive(Clone, Debug)]
pub struct DialChange {
    /// When it was made.
    pub at: Timestamp,
    /// Who made it.
    pub by: ChangedBy,
    /// The reason, as text.
    pub reason: String,
    /// The sample that caused it, if automatic control made it.
    pub signals: Option<Signals>,
}

/// One recorded change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct DialRow {
    /// When it was made, in ms since the Unix epoch.
    pub at: Timestamp,
    /// The level before the change.
    pub from: u8,
    /// The level after the change.
    pub to: u8,
    /// The mode after the change.
    pub mode: String,
    /// `auto`, `operator:<name>` or `configuration`; `store:` and one of these for a change at another node.
    pub by: String,
    /// The reason, as text.
    pub reason: String,
    /// The sample that caused it.
    pub signals: Option<serde_json::Value>,
}

/// The open file.
#[derive(Debug)]
pub struct DialHistory {
    connection: Connection,
    path: PathBuf,
    /// SQLite's own count of other connections' commits.
    data_version: i64,
    recreated: bool,
    writes: WriteCount,
    damages: Vec<Damage>,
}

impl DialHistory {
    /// Opens the file in `data_dir`; creates it, accessible to its owner only, if necessary. A damaged one is
    /// quarantined, because neither a history nor a level is worth a gate that does not start.
    ///
    /// # Errors
    ///
    /// [`FileError`], which names the file and says what to do.
    pub fn open(data_dir: &Path, now: Timestamp) -> Result<Self, FileError> {
        let opened = Self::over(sqlite::open(data_dir, &SCHEMA, now)?);
        match opened.dial() {
            Err(damaged @ FileError::Damaged { .. }) => {
                sqlite::recreate(&opened.path, &SCHEMA, now, &damaged).map(Self::over)
            }
            Err(error) => Err(error),
            Ok(_) => Ok(opened),
        }
    }

    /// Opens an existing file, for the command line.
    ///
    /// # Errors
    ///
    /// As [`Self::open`], and [`FileError::NotThere`].
    pub fn open_existing(data_dir: &Path) -> Result<Self, FileError> {
        sqlite::open_existing(data_dir, &SCHEMA).map(Self::over)
    }

    fn over(opened: Opened) -> Self {
        let Opened { connection, path, recreated, writes } = opened;
        let damages = writes.check(last_change(&connection));
        Self { connection, path, data_version: 0, recreated, writes, damages }
    }

    /// What was lost of the file, and of the manifest's entry for it.
    #[must_use]
    pub fn damages(&self) -> &[Damage] {
        &self.damages
    }

    /// Whether the file was damaged when it was opened, and was recreated.
    #[must_use]
    pub const fn was_recreated(&self) -> bool {
        self.recreated
    }

    /// The stored dial if the configuration has not changed since; otherwise the dial as configured, so that changes of
    /// the configuration take effect.
    ///
    /// # Errors
    ///
    /// Fails if the file cannot be read or written.
    pub fn configure(
        &mut self,
        mode: Mode,
        level: ThreatLevel,
        at: Timestamp,
    ) -> Result<Dial, FileError> {
        let configured = format!("{} {level}", mode.as_str());
        self.write(|writing| {
            let before = writing
                .query_row("SELECT configured FROM dial", [], |row| row.get::<_, String>(0))
                .optional()?;
            let left = read_dial(writing)?;
            if let Some(left) = left.filter(|_| before.as_ref() == Some(&configured)) {
                return Ok(left);
            }
            let version = left.map_or(1, |left| left.version.saturating_add(1));
            let dial = Dial { version, mode, level, paused_until: None };
            writing.execute("DELETE FROM dial", [])?;
            writing.execute(
                "INSERT INTO dial (id, version, mode, level, configured) VALUES (0, ?1, ?2, ?3, ?4)",
                params![number(version), mode.as_str(), level.get(), configured],
            )?;
            seal(writing)?;
            if let Some(left) = left {
                let (by, reason) =
                    (ChangedBy::Configuration, "the configuration was changed".to_owned());
                append(writing, &left, &dial, &DialChange { at, by, reason, signals: None })?;
            }
            Ok(dial)
        })
    }

    /// The current dial; `None` before the first [`Self::configure`].
    ///
    /// # Errors
    ///
    /// Fails if the file cannot be read.
    pub fn dial(&self) -> Result<Option<Dial>, FileError> {
        read_dial(&self.connection).map_err(|error| self.failed(error))
    }

    /// Changes the dial to what `decide` returns, or leaves it if that is `None`. The change is on disk when this
    /// returns. Without `why` it is not recorded in the history.
    ///
    /// # Errors
    ///
    /// Fails if the file cannot be written; nothing has changed then.
    pub fn turn(
        &mut self,
        why: Option<&DialChange>,
        decide: impl FnOnce(Dial) -> Option<Dial>,
    ) -> Result<Option<Dial>, FileError> {
        self.write(|writing| {
            let Some(before) = read_dial(writing)? else { return Ok(None) };
            let Some(dial) = decide(before) else { return Ok(None) };
            writing.execute(
                "UPDATE dial SET version = ?1, mode = ?2, level = ?3, paused_until = ?4",
                params![
                    number(dial.version),
                    dial.mode.as_str(),
                    dial.level.get(),
                    dial.paused_until.map(|until| number(until.as_millis())),
                ],
            )?;
            seal(writing)?;
            if let Some(why) = why {
                append(writing, &before, &dial, why)?;
            }
            Ok(Some(dial))
        })
    }

    /// The dial, if another process has written it since the last call.
    ///
    /// # Errors
    ///
    /// Fails if the file cannot be read.
    pub fn foreign(&mut self) -> Result<Option<Dial>, FileError> {
        let look = |this: &mut Self| {
            let version =
                this.connection.pragma_query_value(None, "data_version", |row| row.get(0))?;
            if version == this.data_version {
                return Ok(None);
            }
            let dial = read_dial(&this.connection)?;
            this.data_version = version;
            Ok(dial)
        };
        look(self).map_err(|error| self.failed(error))
    }

    /// The operator who made the last change.
    pub(super) fn last_operator(&self) -> Option<String> {
        let last = self.last(1).ok()?.pop()?;
        last.by.strip_prefix("operator:").map(str::to_owned)
    }

    /// The last `count` changes, the oldest first.
    ///
    /// # Errors
    ///
    /// Fails if the file cannot be read.
    pub fn last(&self, count: u64) -> Result<Vec<DialRow>, FileError> {
        let read = || {
            let mut statement = self.connection.prepare(
                "SELECT at, from_level, to_level, mode, by, reason, signals FROM turns
                 ORDER BY seq DESC LIMIT ?1",
            )?;
            let rows = statement.query_map([number(count)], read_row)?;
            let mut rows = rows.collect::<rusqlite::Result<Vec<_>>>()?;
            rows.reverse();
            Ok(rows)
        };
        read().map_err(|error| self.failed(error))
    }

    /// The last `count` changes before `before` with sequence numbers below `below`, with those numbers, the latest
    /// first.
    ///
    /// # Errors
    ///
    /// Fails if the file cannot be read.
    pub fn before(
        &self,
        before: Timestamp,
        below: u64,
        count: u64,
    ) -> Result<Vec<(u64, DialRow)>, FileError> {
        let read = || {
            let mut statement = self.connection.prepare(
                "SELECT at, from_level, to_level, mode, by, reason, signals, seq FROM turns
                 WHERE seq < ?1 AND at < ?2 ORDER BY seq DESC LIMIT ?3",
            )?;
            let bounds = [number(below), number(before.as_millis()), number(count)];
            let rows =
                statement.query_map(bounds, |row| Ok((unsigned(row.get(7)?), read_row(row)?)))?;
            rows.collect::<rusqlite::Result<Vec<_>>>()
        };
        read().map_err(|error| self.failed(error))
    }

    fn write<T>(
        &mut self,
        work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, FileError> {
        let behaviour = TransactionBehavior::Immediate;
        let written = self.connection.transaction_with_behavior(behaviour).and_then(|writing| {
            let done = work(&writing)?;
            writing.commit()?;
            Ok(done)
        });
        self.writes.set(last_change(&self.connection));
        written.map_err(|error| self.failed(error))
    }

    fn failed(&self, error: rusqlite::Error) -> FileError {
        FileError::of(&self.path, &error)
    }
}

/// The number of the last change, recorded in the history or not; 0 if there is none.
fn last_change(connection: &Connection) -> u64 {
    let last = "SELECT max((SELECT coalesce(max(seq), 0) FROM turns),
                           (SELECT coalesce(max(version), 0) FROM dial))";
    connection.query_row(last, [], |row| row.get(0)).map_or(0, unsigned)
}

/// The checksum of the dial that is stored, and the stored checksum.
fn sums(connection: &Connection) -> rusqlite::Result<Option<(i64, Option<i64>)>> {
    let row = connection.query_row(
        "SELECT concat_ws('|', version, mode, level, coalesce(paused_until, ''), configured), sum FROM dial",
        [],
        |row| Ok((row.get::<_, String>(0)?, row.get(1)?)),
    );
    Ok(row.optional()?.map(|(text, sum)| (i64::from(crc32fast::hash(text.as_bytes())), sum)))
}

/// Stores the checksum of the dial.
fn seal(writing: &Transaction<'_>) -> rusqlite::Result<()> {
    if let Some((sum, _before)) = sums(writing)? {
        writing.execute("UPDATE dial SET sum = ?1", [sum])?;
    }
    Ok(())
}

fn read_dial(connection: &Connection) -> rusqlite::Result<Option<Dial>> {
    if sums(connection)?.is_some_and(|(sum, stored)| stored.is_some_and(|stored| stored != sum)) {
        return Err(sqlite::damage("the dial is not the one that was written"));
    }
    let mut statement =
        connection.prepare_cached("SELECT version, mode, level, paused_until FROM dial")?;
    let read = |row: &rusqlite::Row<'_>| {
        let mode: String = row.get(1)?;
        let level: u8 = row.get(2)?;
        let until: Option<i64> = row.get(3)?;
        Ok(Dial {
            version: unsigned(row.get(0)?),
            // The schema allows no other word; if there is one, change nothing.
            mode: Mode::parse(&mode).unwrap_or(Mode::Pinned),
            level: ThreatLevel::new(level)
                .ok_or(rusqlite::Error::IntegralValueOutOfRange(2, level.into()))?,
            paused_until: until.map(|until| Timestamp::from_millis(unsigned(until))),
        })
    };
    statement.query_row([], read).optional()
}

fn append(
    writing: &Transaction<'_>,
    before: &Dial,
    after: &Dial,
    why: &DialChange,
) -> rusqlite::Result<()> {
    let signals = why.signals.as_ref().and_then(|signals| serde_json::to_string(signals).ok());
    writing.execute(
        "INSERT INTO turns (at, from_level, to_level, mode, by, reason, signals)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        params![
            number(why.at.as_millis()),
            before.level.get(),
            after.level.get(),
            after.mode.as_str(),
            why.by.text(),
            why.reason,
            signals,
        ],
    )?;
    let last = writing.last_insert_rowid();
    writing.execute("DELETE FROM turns WHERE seq <= ?1", [last - number(MAX_ROWS)])?;
    Ok(())
}

fn read_row(row: &rusqlite::Row<'_>) -> rusqlite::Result<DialRow> {
    let signals: Option<String> = row.get(6)?;
    Ok(DialRow {
        at: Timestamp::from_millis(unsigned(row.get(0)?)),
        from: row.get(1)?,
        to: row.get(2)?,
        mode: row.get(3)?,
        by: row.get(4)?,
        reason: row.get(5)?,
        signals: signals.and_then(|text| serde_json::from_str(&text).ok()),
    })
}

fn number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn unsigned(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

    fn level(number: u8) -> ThreatLevel {
        ThreatLevel::new(number).unwrap()
    }

    fn open(dir: &tempfile::TempDir) -> (DialHistory, Dial) {
        let mut audit = DialHistory::open(dir.path(), NOW).unwrap();
        let dial = audit.configure(Mode::Auto, level(2), NOW).unwrap();
        (audit, dial)
    }

    fn why(reason: &str) -> DialChange {
        let by = ChangedBy::Operator("ada".to_owned());
        DialChange { at: NOW, by, reason: reason.to_owned(), signals: None }
    }

    #[test]
    fn abuse_27_an_acknowledged_turn_is_there_for_the_next_process() {
        let dir = tempfile::tempdir().unwrap();
        let (mut audit, before) = open(&dir);
        for number in 3..=7 {
            let turned = audit.turn(Some(&why("rush")), |dial| dial.set(level(number), NOW));
            let turned = turned.unwrap().unwrap();
            // The first is not closed, as if its process had been killed.
            let (again, dial) = open(&dir);
            assert_eq!(dial, turned);
            assert_eq!(dial.version, before.version + u64::from(number) - 2);
            assert_eq!(dial.paused_until, Some(NOW.after(super::super::PAUSE)));
            let rows = again.last(1).unwrap();
            let row = &rows[0];
            assert_eq!((row.from, row.to, row.at), (number - 1, number, NOW));
            assert_eq!((row.by.as_str(), row.reason.as_str()), ("operator:ada", "rush"));
        }
    }

    #[test]
    fn a_changed_configuration_counts_and_an_unchanged_one_leaves_the_dial() {
        let dir = tempfile::tempdir().unwrap();
        let (mut audit, _) = open(&dir);
        let pinned = audit.turn(Some(&why("")), |dial| Some(dial.pin(level(9)))).unwrap().unwrap();
        assert_eq!(audit.configure(Mode::Auto, level(2), NOW).unwrap(), pinned);
        let changed = audit.configure(Mode::Auto, level(4), NOW).unwrap();
        assert_eq!((changed.mode, changed.level.get()), (Mode::Auto, 4));
        assert_eq!(changed.version, pinned.version + 1);
        assert_eq!(audit.last(1).unwrap()[0].by, "configuration");
    }

    #[test]
    fn another_process_is_noticed_once() {
        let dir = tempfile::tempdir().unwrap();
        let (mut gate, dial) = open(&dir);
        gate.foreign().unwrap();
        assert_eq!(gate.foreign().unwrap(), None);
        gate.turn(None, |dial| Some(dial.auto())).unwrap();
        assert_eq!(gate.foreign().unwrap(), None, "its own write");
        let mut command = DialHistory::open_existing(dir.path()).unwrap();
        let set = command.turn(Some(&why("")), |dial| dial.set(level(5), NOW)).unwrap().unwrap();
        assert_eq!(set.version, dial.version + 2);
        assert_eq!(gate.foreign().unwrap(), Some(set));
        assert_eq!(gate.foreign().unwrap(), None);
    }

    #[test]
    fn a_turn_that_is_not_wanted_any_more_writes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let (mut audit, dial) = open(&dir);
        assert_eq!(audit.turn(Some(&why("")), |_| None).unwrap(), None);
        assert_eq!(audit.dial().unwrap(), Some(dial));
        assert!(audit.last(10).unwrap().is_empty());
    }

    #[test]
    fn the_latest_turns_are_kept_and_no_more_than_may_be() {
        let dir = tempfile::tempdir().unwrap();
        let (mut audit, _) = open(&dir);
        let filled = audit.connection.execute_batch(
            "WITH RECURSIVE n (seq) AS (SELECT 1 UNION ALL SELECT seq + 1 FROM n LIMIT 100000)
             INSERT INTO turns SELECT seq, 0, 1, 1, 'auto', 'auto', '', NULL FROM n",
        );
        filled.unwrap();
        let signals = Some(Signals { failing: 300, ..Signals::default() });
        for number in [3, 4] {
            let why = DialChange { signals: signals.clone(), by: ChangedBy::Auto, ..why("") };
            audit.turn(Some(&why), |dial| dial.set(level(number), NOW)).unwrap();
        }
        let rows = audit.last(u64::MAX).unwrap();
        assert_eq!(rows.len() as u64, MAX_ROWS);
        let last = rows.last().unwrap();
        assert_eq!((last.to, last.by.as_str()), (4, "auto"));
        assert_eq!(last.signals.as_ref().unwrap()["failing"], 300);
    }

    #[test]
    fn a_damaged_file_is_moved_aside_and_the_dial_stands_as_configured() {
        let dir = tempfile::tempdir().unwrap();
        let (mut audit, _) = open(&dir);
        audit.turn(None, |dial| dial.set(level(9), NOW)).unwrap();
        assert!(!audit.was_recreated());
        drop(audit);
        std::fs::write(dir.path().join(FILE_NAME), vec![7; 5000]).unwrap();
        let (audit, dial) = open(&dir);
        assert_eq!((audit.was_recreated(), dial.level.get()), (true, 2));
    }
}
