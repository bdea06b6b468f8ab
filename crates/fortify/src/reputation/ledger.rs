//! The file of standings: SQLite, written by the gate's one thread and by the command line.
//!
//! A write is acknowledged after its transaction is on disk (`synchronous = FULL` over a write-ahead
//! log), so that a process that is killed has lost nothing it said it had. Every row carries a
//! number from one counter, taken inside the transaction, so that a reader that knows the last
//! number it saw gets exactly what was written since.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{
    Connection, ErrorCode, OpenFlags, OptionalExtension, Transaction, TransactionBehavior, params,
};

use super::{Reason, ReputationError, Row, Standing};
use crate::circuit::TorCircuit;
use crate::clock::Timestamp;

/// The file in the data directory.
pub const FILE_NAME: &str = "reputation.sqlite";

/// How long a write waits for another process that is writing.
const BUSY_TIMEOUT: Duration = Duration::from_secs(3);

/// Rows of another process's that are read at one time.
const MAX_FOREIGN_ROWS: usize = 10_000;

/// Rows out of force that one sweep deletes, so that it holds nobody up.
const MAX_PURGED_ROWS: usize = 10_000;

/// The schema, one step a version: `user_version` says how many were taken.
const MIGRATIONS: [&str; 1] = ["
    CREATE TABLE standings (
        instance INTEGER NOT NULL,
        epoch INTEGER NOT NULL,
        number INTEGER NOT NULL,
        standing INTEGER NOT NULL CHECK (standing BETWEEN 0 AND 2),
        since INTEGER NOT NULL,
        until INTEGER NOT NULL,
        reason TEXT NOT NULL,
        seq INTEGER NOT NULL,
        PRIMARY KEY (instance, epoch, number)
    ) STRICT, WITHOUT ROWID;
    CREATE UNIQUE INDEX standings_by_seq ON standings (seq);
    CREATE INDEX standings_by_end ON standings (standing, until);
    CREATE TABLE counter (id INTEGER PRIMARY KEY CHECK (id = 0), seq INTEGER NOT NULL) STRICT;
    INSERT INTO counter VALUES (0, 0);
"];

/// The version of the schema that this program writes: `user_version` of the file.
pub const SCHEMA_VERSION: i64 = MIGRATIONS.len() as i64;

const COLUMNS: &str = "instance, epoch, number, standing, since, until, reason, seq";

/// What is to be written.
#[derive(Clone, Copy, Debug)]
pub struct Write {
    /// The row.
    pub row: Row,
    /// Whether it leaves a ban in force alone, unless it is one that lasts longer. An operator's
    /// word yields to nothing.
    pub yields: bool,
}

/// What became of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// It is on disk.
    Done,
    /// It yielded to a ban.
    Yielded,
    /// Every row is a ban in force, and none makes room.
    Full,
}

/// What a transaction did.
#[derive(Debug, Default)]
pub struct Applied {
    /// What other processes had written before it, oldest first.
    pub foreign: Vec<Row>,
    /// What became of each write, in order.
    pub written: Vec<Written>,
    /// Whose rows made room, each with the index of the write that it made room for.
    pub dropped: Vec<(usize, TorCircuit)>,
}

/// The open file.
#[derive(Debug)]
pub struct Ledger {
    connection: Connection,
    path: PathBuf,
    /// The last number that was seen.
    cursor: i64,
    /// SQLite's own count of other connections' commits.
    data_version: i64,
    rows: usize,
    max_rows: usize,
}

impl Ledger {
    /// Opens the file in `data_dir` for at most `max_rows` rows; makes it, for its owner alone, if
    /// there is none.
    ///
    /// # Errors
    ///
    /// [`ReputationError`], with the file and what to do.
    pub fn open(data_dir: &Path, max_rows: usize) -> Result<Self, ReputationError> {
        let path = data_dir.join(FILE_NAME);
        // SQLite gives the files beside it the same mode.
        let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        match made {
            Ok(_empty) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(ReputationError::Open { path, cause: error.to_string() }),
        }
        Self::open_at(path, max_rows)
    }

    /// Opens the file of a gate that was started before: a command that made one as another user
    /// would keep the gate out of it.
    ///
    /// # Errors
    ///
    /// As [`Self::open`], and [`ReputationError::NotThere`].
    pub fn open_existing(data_dir: &Path, max_rows: usize) -> Result<Self, ReputationError> {
        let path = data_dir.join(FILE_NAME);
        match path.try_exists() {
            Ok(true) => Self::open_at(path, max_rows),
            Ok(false) => Err(ReputationError::NotThere(path)),
            Err(error) => Err(ReputationError::Open { path, cause: error.to_string() }),
        }
    }

    fn open_at(path: PathBuf, max_rows: usize) -> Result<Self, ReputationError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&path, flags);
        let prepared = connection.and_then(|mut connection| {
            connection.busy_timeout(BUSY_TIMEOUT)?;
            connection.pragma_update(None, "journal_mode", "WAL")?;
            connection.pragma_update(None, "synchronous", "FULL")?;
            // Who was banned is nobody's business once it is over.
            connection.pragma_update(None, "secure_delete", "ON")?;
            let version = migrate(&mut connection)?;
            Ok((connection, version))
        });
        let (connection, version) = match prepared {
            Ok(opened) => opened,
            Err(error) if is_damage(&error) => {
                return Err(ReputationError::Damaged { path, cause: error.to_string() });
            }
            Err(error) => return Err(ReputationError::Open { path, cause: error.to_string() }),
        };
        if version > MIGRATIONS.len() as i64 {
            return Err(ReputationError::Newer { path, version });
        }
        let mut ledger = Self { connection, path, cursor: 0, data_version: 0, rows: 0, max_rows };
        ledger.recount().map_err(|error| ledger.failed(error))?;
        Ok(ledger)
    }

    /// Where the file is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Every row in force at `now`; later [`Self::foreign`] goes on from here.
    ///
    /// # Errors
    ///
    /// When the file cannot be read.
    pub fn load(&mut self, now: Timestamp) -> Result<Vec<Row>, ReputationError> {
        let load = |this: &mut Self| {
            let reading = this.connection.transaction()?;
            let cursor = reading.query_row("SELECT seq FROM counter", [], |row| row.get(0))?;
            let rows = {
                let query = format!("SELECT {COLUMNS} FROM standings WHERE until > ?1");
                let mut statement = reading.prepare(&query)?;
                let rows = statement.query_map([millis(now)], read)?;
                rows.collect::<Result<_, _>>()?
            };
            reading.finish()?;
            this.cursor = cursor;
            Ok(rows)
        };
        load(self).map_err(|error| self.failed(error))
    }

    /// The row of one circuit in force at `now`.
    ///
    /// # Errors
    ///
    /// When the file cannot be read.
    pub fn find(&self, key: TorCircuit, now: Timestamp) -> Result<Option<Row>, ReputationError> {
        let found = find(&self.connection, key).map_err(|error| self.failed(error))?;
        Ok(found.filter(|row| now < row.until))
    }

    /// Does all of `writes` in one transaction, which is on disk when this returns.
    ///
    /// # Errors
    ///
    /// When the file cannot be written: none of them was done then.
    pub fn apply(&mut self, writes: &[Write], now: Timestamp) -> Result<Applied, ReputationError> {
        self.try_apply(writes, now).map_err(|error| self.failed(error))
    }

    fn try_apply(&mut self, writes: &[Write], now: Timestamp) -> rusqlite::Result<Applied> {
        let behaviour = TransactionBehavior::Immediate;
        let writing = self.connection.transaction_with_behavior(behaviour)?;
        let mut applied = Applied::default();
        let mut seq: i64 = writing.query_row("SELECT seq FROM counter", [], |row| row.get(0))?;
        let mut rows = self.rows;
        if seq != self.cursor {
            applied.foreign = read_since(&writing, self.cursor, usize::MAX)?.0;
            rows = count(&writing)?;
        }
        for (index, write) in writes.iter().enumerate() {
            let before = find(&writing, write.row.circuit)?;
            let ban = before.filter(|row| row.standing == Standing::Banned && now < row.until);
            let written = match (before, ban) {
                (_, Some(ban)) if write.yields && !outlasts(&write.row, &ban) => Written::Yielded,
                (Some(_), _) => Written::Done,
                (None, _) => {
                    if rows >= self.max_rows {
                        rows -= purge(&writing, now)?;
                    }
                    if rows >= self.max_rows
                        && let Some(victim) = drop_one(&writing)?
                    {
                        applied.dropped.push((index, victim));
                        rows -= 1;
                    }
                    if rows < self.max_rows {
                        rows += 1;
                        Written::Done
                    } else {
                        Written::Full
                    }
                }
            };
            if written == Written::Done {
                seq += 1;
                put(&writing, &write.row, seq)?;
            }
            applied.written.push(written);
        }
        writing.execute("UPDATE counter SET seq = ?1", [seq])?;
        writing.commit()?;
        (self.cursor, self.rows) = (seq, rows);
        Ok(applied)
    }

    /// What other processes wrote since it was last asked, oldest first; whether there is more.
    ///
    /// # Errors
    ///
    /// When the file cannot be read.
    pub fn foreign(&mut self) -> Result<(Vec<Row>, bool), ReputationError> {
        let look = |this: &mut Self| {
            let version =
                this.connection.pragma_query_value(None, "data_version", |row| row.get(0))?;
            if version == this.data_version {
                return Ok((Vec::new(), false));
            }
            let (rows, last) = read_since(&this.connection, this.cursor, MAX_FOREIGN_ROWS)?;
            let more = rows.len() == MAX_FOREIGN_ROWS;
            this.cursor = last;
            if !more {
                this.data_version = version;
                this.rows = count(&this.connection)?;
            }
            Ok((rows, more))
        };
        look(self).map_err(|error| self.failed(error))
    }

    /// Deletes rows that are not in force any more.
    ///
    /// # Errors
    ///
    /// When the file cannot be written.
    pub fn purge(&mut self, now: Timestamp) -> Result<(), ReputationError> {
        let purged = purge(&self.connection, now).map_err(|error| self.failed(error))?;
        self.rows = self.rows.saturating_sub(purged);
        Ok(())
    }

    fn recount(&mut self) -> rusqlite::Result<()> {
        self.rows = count(&self.connection)?;
        Ok(())
    }

    fn failed(&self, error: rusqlite::Error) -> ReputationError {
        let (path, cause) = (self.path.clone(), error.to_string());
        if is_damage(&error) {
            ReputationError::Damaged { path, cause }
        } else {
            ReputationError::Failed { path, cause }
        }
    }
}

/// Takes the steps that the file has not taken; the number it is at then.
fn migrate(connection: &mut Connection) -> rusqlite::Result<i64> {
    let writing = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let version: i64 = writing.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let done = usize::try_from(version).unwrap_or(0);
    for step in MIGRATIONS.iter().skip(done) {
        writing.execute_batch(step)?;
    }
    let version = version.max(MIGRATIONS.len() as i64);
    writing.pragma_update(None, "user_version", version)?;
    writing.commit()?;
    Ok(version)
}

fn is_damage(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
}

fn outlasts(new: &Row, ban: &Row) -> bool {
    new.standing == Standing::Banned && ban.until < new.until
}

fn count(connection: &Connection) -> rusqlite::Result<usize> {
    let rows: i64 = connection.query_row("SELECT count(*) FROM standings", [], |row| row.get(0))?;
    Ok(usize::try_from(rows).unwrap_or(usize::MAX))
}

fn find(connection: &Connection, key: TorCircuit) -> rusqlite::Result<Option<Row>> {
    let mut statement = connection.prepare_cached(
        "SELECT instance, epoch, number, standing, since, until, reason, seq FROM standings
         WHERE instance = ?1 AND epoch = ?2 AND number = ?3",
    )?;
    statement.query_row(params![key.instance(), key.epoch(), key.number()], read).optional()
}

/// The rows whose number is above `cursor`, and the last of those numbers.
fn read_since(
    connection: &Connection,
    cursor: i64,
    limit: usize,
) -> rusqlite::Result<(Vec<Row>, i64)> {
    let mut statement = connection.prepare_cached(
        "SELECT instance, epoch, number, standing, since, until, reason, seq FROM standings
         WHERE seq > ?1 ORDER BY seq LIMIT ?2",
    )?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let (mut rows, mut last) = (Vec::new(), cursor);
    let found = statement.query_map([cursor, limit], |row| Ok((read(row)?, row.get(7)?)))?;
    for pair in found {
        let (row, seq) = pair?;
        rows.push(row);
        last = seq;
    }
    Ok((rows, last))
}

fn put(writing: &Transaction<'_>, row: &Row, seq: i64) -> rusqlite::Result<()> {
    let mut statement = writing.prepare_cached(
        "INSERT INTO standings (instance, epoch, number, standing, since, until, reason, seq)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
         ON CONFLICT (instance, epoch, number) DO UPDATE SET standing = excluded.standing,
         since = excluded.since, until = excluded.until, reason = excluded.reason,
         seq = excluded.seq",
    )?;
    let key = row.circuit;
    statement.execute(params![
        key.instance(),
        key.epoch(),
        key.number(),
        row.standing as i64,
        millis(row.since),
        millis(row.until),
        row.reason.as_str(),
        seq,
    ])?;
    Ok(())
}

/// Deletes some of the rows that are out of force; how many.
fn purge(connection: &Connection, now: Timestamp) -> rusqlite::Result<usize> {
    let mut statement = connection.prepare_cached(
        "DELETE FROM standings WHERE (instance, epoch, number) IN
         (SELECT instance, epoch, number FROM standings
          WHERE standing IN (0, 1, 2) AND until <= ?1 LIMIT ?2)",
    )?;
    statement.execute([millis(now), MAX_PURGED_ROWS as i64])
}

/// Drops the reset, or else the favour, that ends first; whose it was, if there was one.
fn drop_one(writing: &Transaction<'_>) -> rusqlite::Result<Option<TorCircuit>> {
    let mut statement = writing.prepare_cached(
        "SELECT instance, epoch, number, standing, since, until, reason, seq FROM standings
         WHERE standing < 2 ORDER BY standing, until LIMIT 1",
    )?;
    let Some(victim) = statement.query_row([], read).optional()? else {
        return Ok(None);
    };
    let key = victim.circuit;
    let mut statement = writing.prepare_cached(
        "DELETE FROM standings WHERE instance = ?1 AND epoch = ?2 AND number = ?3",
    )?;
    statement.execute(params![key.instance(), key.epoch(), key.number()])?;
    Ok(Some(key))
}

fn read(row: &rusqlite::Row<'_>) -> rusqlite::Result<Row> {
    let standing = match row.get(3)? {
        0 => Standing::Reset,
        1 => Standing::Vip,
        // Of numbers that the schema refuses, the one that admits nobody.
        _ => Standing::Banned,
    };
    let reason: String = row.get(6)?;
    Ok(Row {
        circuit: TorCircuit::from_parts(row.get(0)?, row.get(1)?, row.get(2)?),
        standing,
        since: timestamp(row.get(4)?),
        until: timestamp(row.get(5)?),
        reason: Reason::parse(&reason),
    })
}

fn millis(time: Timestamp) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

fn timestamp(millis: i64) -> Timestamp {
    Timestamp::from_millis(u64::try_from(millis).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

    fn circuit(number: u32) -> TorCircuit {
        TorCircuit::from_parts(3, 7, number)
    }

    fn write(number: u32, standing: Standing, seconds: u64) -> Write {
        let until = NOW.after(Duration::from_secs(seconds));
        let reason = Reason::Operator;
        let row = Row { circuit: circuit(number), standing, since: NOW, until, reason };
        Write { row, yields: true }
    }

    fn standing(ledger: &Ledger, number: u32) -> Option<Standing> {
        ledger.find(circuit(number), NOW).unwrap().map(|row| row.standing)
    }

    #[test]
    fn abuse_27_what_was_acknowledged_is_there_for_the_next_process() {
        let dir = tempfile::tempdir().unwrap();
        let mut ledger = Ledger::open(dir.path(), 10).unwrap();
        let writes = [write(1, Standing::Banned, 60), write(u32::MAX, Standing::Vip, 30)];
        assert_eq!(ledger.apply(&writes, NOW).unwrap().written, [Written::Done; 2]);
        // Not closed: a killed process closes nothing.
        let mut again = Ledger::open(dir.path(), 10).unwrap();
        let rows = again.load(NOW.after(Duration::from_secs(30))).unwrap();
        assert_eq!(rows, [writes[0].row]);
        drop(ledger);
    }

    #[test]
    fn the_files_are_their_owners_alone() {
        let dir = tempfile::tempdir().unwrap();
        let mut ledger = Ledger::open(dir.path(), 10).unwrap();
        ledger.apply(&[write(1, Standing::Banned, 60)], NOW).unwrap();
        let mut seen = 0;
        for file in std::fs::read_dir(dir.path()).unwrap() {
            let mode = file.unwrap().metadata().unwrap().permissions().mode() & 0o777;
            assert_eq!(mode, 0o600);
            seen += 1;
        }
        assert_eq!(seen, 3, "the file, its log and its index");
    }

    #[test]
    fn a_favour_yields_to_a_ban_and_a_ban_to_a_longer_one() {
        let dir = tempfile::tempdir().unwrap();
        let mut ledger = Ledger::open(dir.path(), 10).unwrap();
        let mut one = |write: Write, now| ledger.apply(&[write], now).unwrap().written[0];
        assert_eq!(one(write(1, Standing::Banned, 60), NOW), Written::Done);
        assert_eq!(one(write(1, Standing::Vip, 600), NOW), Written::Yielded);
        assert_eq!(one(write(1, Standing::Banned, 30), NOW), Written::Yielded);
        assert_eq!(one(write(1, Standing::Banned, 90), NOW), Written::Done);
        let operator = Write { yields: false, ..write(1, Standing::Reset, 60) };
        assert_eq!(one(operator, NOW), Written::Done);
        assert_eq!(one(write(1, Standing::Vip, 600), NOW), Written::Done);
        let later = NOW.after(Duration::from_secs(90));
        assert_eq!(one(write(2, Standing::Banned, 90), NOW), Written::Done);
        assert_eq!(one(write(2, Standing::Vip, 600), later), Written::Done, "the ban is over");
    }

    #[test]
    fn at_the_bound_resets_and_favours_make_room_and_bans_never() {
        let dir = tempfile::tempdir().unwrap();
        let mut ledger = Ledger::open(dir.path(), 3).unwrap();
        let mut apply = |writes: &[Write], now| ledger.apply(writes, now).unwrap();
        apply(
            &[
                write(1, Standing::Vip, 50),
                write(2, Standing::Vip, 40),
                write(3, Standing::Reset, 60),
            ],
            NOW,
        );
        assert_eq!(apply(&[write(4, Standing::Banned, 60)], NOW).dropped, [(0, circuit(3))]);
        assert_eq!(apply(&[write(5, Standing::Banned, 60)], NOW).dropped, [(0, circuit(2))]);
        assert_eq!(apply(&[write(6, Standing::Banned, 60)], NOW).dropped, [(0, circuit(1))]);
        let full = apply(&[write(7, Standing::Banned, 60), write(8, Standing::Vip, 60)], NOW);
        assert_eq!(full.written, [Written::Full; 2]);
        let both = apply(&[write(4, Standing::Reset, 9)], NOW);
        assert_eq!(both.written, [Written::Yielded]);
        let known = apply(&[write(4, Standing::Banned, 70)], NOW);
        assert_eq!(known.written, [Written::Done], "a row that is there needs no room");
        let later = NOW.after(Duration::from_secs(60));
        let freed = apply(&[write(9, Standing::Vip, 90)], later);
        assert_eq!((freed.written, freed.dropped), (vec![Written::Done], vec![]), "none purged");
        for (number, expected) in [(4, Some(Standing::Banned)), (5, None), (9, Some(Standing::Vip))]
        {
            assert_eq!(standing(&ledger, number), expected);
        }
    }

    #[test]
    fn another_process_is_noticed_before_and_between_writes() {
        let dir = tempfile::tempdir().unwrap();
        let mut gate = Ledger::open(dir.path(), 10).unwrap();
        gate.load(NOW).unwrap();
        let mut command = Ledger::open_existing(dir.path(), 10).unwrap();
        let numbers =
            |rows: &[Row]| rows.iter().map(|row| row.circuit.number()).collect::<Vec<_>>();
        assert!(gate.foreign().unwrap().0.is_empty());
        command.apply(&[write(1, Standing::Banned, 60)], NOW).unwrap();
        assert_eq!(numbers(&gate.foreign().unwrap().0), [1]);
        assert!(gate.foreign().unwrap().0.is_empty(), "told twice");
        command.apply(&[write(2, Standing::Banned, 60)], NOW).unwrap();
        let applied = gate.apply(&[write(3, Standing::Vip, 60)], NOW).unwrap();
        assert_eq!(numbers(&applied.foreign), [2], "the gate's own write hid the other's");
        assert!(gate.foreign().unwrap().0.is_empty());
        let applied = command.apply(&[write(3, Standing::Banned, 60)], NOW).unwrap();
        assert_eq!(numbers(&applied.foreign), [3]);
        assert_eq!(numbers(&gate.foreign().unwrap().0), [3]);
    }

    #[test]
    fn a_file_that_cannot_be_used_is_named_with_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let said = |result: Result<Ledger, ReputationError>| result.unwrap_err().to_string();
        let missing = said(Ledger::open_existing(dir.path(), 10));
        assert!(missing.contains("reputation.sqlite: is not there; start the gate once"));
        let nowhere = said(Ledger::open(&dir.path().join("none"), 10));
        assert!(nowhere.contains("cannot be opened") && nowhere.contains("storage.data_dir"));
        std::fs::write(dir.path().join(FILE_NAME), vec![7; 5000]).unwrap();
        let damaged = said(Ledger::open(dir.path(), 10));
        assert!(damaged.contains("is damaged") && damaged.contains("move the file away"));

        let dir = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(dir.path(), 10).unwrap();
        ledger.connection.pragma_update(None, "user_version", 9).unwrap();
        drop(ledger);
        let newer = said(Ledger::open(dir.path(), 10));
        assert!(newer.contains("later version of Fortify (schema 9)"), "{newer}");
    }

    #[test]
    fn abuse_03_04_the_same_number_of_another_run_or_another_tor_is_another_circuit() {
        let dir = tempfile::tempdir().unwrap();
        let mut ledger = Ledger::open(dir.path(), 10).unwrap();
        ledger.apply(&[write(1, Standing::Banned, 60)], NOW).unwrap();
        for (instance, epoch) in [(3, 8), (4, 7), (0, 0)] {
            let other = TorCircuit::from_parts(instance, epoch, 1);
            assert_eq!(ledger.find(other, NOW).unwrap(), None);
        }
        assert_eq!(standing(&ledger, 1), Some(Standing::Banned));
    }

    #[test]
    fn rows_out_of_force_are_deleted() {
        let dir = tempfile::tempdir().unwrap();
        let mut ledger = Ledger::open(dir.path(), 10).unwrap();
        ledger.apply(&[write(1, Standing::Vip, 1), write(2, Standing::Banned, 9)], NOW).unwrap();
        ledger.purge(NOW.after(Duration::from_secs(1))).unwrap();
        assert_eq!(count(&ledger.connection).unwrap(), 1);
        assert_eq!(ledger.rows, 1);
    }
}
