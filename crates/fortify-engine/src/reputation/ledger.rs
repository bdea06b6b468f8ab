//! The file of standings: SQLite, written by the gate's one thread and by the command line.
//!
//! A file of ours ([`sqlite`]): a write is acknowledged after its transaction is on disk, so that a process
//! that is killed has lost nothing it said it had. Every row carries a number from one counter, taken
//! inside the transaction, so that a reader that knows the last number it saw gets exactly what was
//! written since.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};

use super::{Reason, Row, Standing};
use fortify_core::circuit::TorCircuit;
use fortify_core::clock::Timestamp;
use fortify_core::sqlite::{self, FileError, Mark, Opened, Schema};

/// Rows of another process's that are read at one time.
const MAX_FOREIGN_ROWS: usize = 10_000;

/// Rows out of force that one sweep deletes, so that it holds nobody up.
const MAX_PURGED_ROWS: usize = 10_000;

/// The file in the data directory.
pub const FILE_NAME: &str = "reputation.sqlite";

const SCHEMA: Schema =
    Schema { name: FILE_NAME, steps: &[TABLES, SHIFTED], anew: "bans start anew" };

const TABLES: &str = "
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
";

/// By how many ms the times of a row were moved since it was decided, because the clock was set.
const SHIFTED: &str = "ALTER TABLE standings ADD COLUMN shifted INTEGER NOT NULL DEFAULT 0";

/// The version of the schema that this program writes: `user_version` of the file.
pub const SCHEMA_VERSION: i64 = SCHEMA.steps.len() as i64;

const COLUMNS: &str = "instance, epoch, number, standing, since, until, reason, seq";

/// What is to be written.
#[derive(Clone, Copy, Debug)]
pub struct Write {
    /// The row.
    pub row: Row,
    /// Whether it leaves a ban in force alone, unless it is one that lasts longer. An operator's
    /// word yields to nothing.
    pub yields: bool,
    /// By how many ms its times were moved since it was decided, because the clock was set.
    pub shifted: i64,
}

impl Write {
    /// An operator's word, or another gate's, as it was decided.
    #[must_use]
    pub const fn of(row: Row) -> Self {
        Self { row, yields: false, shifted: 0 }
    }
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
    /// The bans that writes yielded to, each with the index of its write, and by how many ms it was moved
    /// since it was decided.
    pub kept: Vec<(usize, Row, i64)>,
}

/// The open file.
#[derive(Debug)]
pub struct Ledger {
    connection: Connection,
    path: PathBuf,
    /// The file as this connection left it.
    mark: Mark,
    begun_anew: bool,
    /// The last number that was seen.
    cursor: i64,
    /// SQLite's own count of other connections' commits.
    data_version: i64,
    rows: usize,
    max_rows: usize,
}

impl Ledger {
    /// Opens the file in `data_dir` for at most `max_rows` rows; makes it, for its owner alone, if
    /// there is none. A damaged one is moved aside.
    ///
    /// # Errors
    ///
    /// [`FileError`], with the file and what to do.
    pub fn open(data_dir: &Path, max_rows: usize, now: Timestamp) -> Result<Self, FileError> {
        Self::over(sqlite::open(data_dir, &SCHEMA, now)?, max_rows)
    }

    /// Opens the file of a gate that was started before, for the command line.
    ///
    /// # Errors
    ///
    /// As [`Self::open`], and [`FileError::NotThere`].
    pub fn open_existing(data_dir: &Path, max_rows: usize) -> Result<Self, FileError> {
        Self::over(sqlite::open_existing(data_dir, &SCHEMA)?, max_rows)
    }

    fn over(opened: Opened, max_rows: usize) -> Result<Self, FileError> {
        let Opened { connection, path, anew } = opened;
        let (mark, begun_anew) = (Mark::of(&path), anew);
        let mut ledger = Self {
            connection,
            path,
            mark,
            begun_anew,
            cursor: 0,
            data_version: 0,
            rows: 0,
            max_rows,
        };
        ledger.recount().map_err(|error| ledger.failed(error))?;
        Ok(ledger)
    }

    /// Whether the file was damaged when it was opened, and is a new one.
    #[must_use]
    pub const fn was_begun_anew(&self) -> bool {
        self.begun_anew
    }

    /// Puts the file aside because of `damaged`, and goes on with a new one, in which nothing is yet.
    ///
    /// # Errors
    ///
    /// When it can be neither moved nor made: this is then still the old one.
    pub fn begin_anew(&mut self, damaged: &FileError, now: Timestamp) -> Result<(), FileError> {
        let opened = sqlite::begin_anew(&self.path, &SCHEMA, now, damaged)?;
        *self = Self::over(opened, self.max_rows)?;
        Ok(())
    }

    /// Whether the file on disk is still the one that this writes, and whole. It is read only if somebody
    /// else wrote to it, which is a command's work, or damage that would be noticed after a restart.
    ///
    /// # Errors
    ///
    /// [`FileError::Damaged`], or why it cannot be read.
    pub fn verify(&mut self) -> Result<(), FileError> {
        let mark = Mark::of(&self.path);
        if mark == self.mark {
            return Ok(());
        }
        if !mark.is_same_file(&self.mark) {
            let cause = "it is another file than the one that was opened".to_owned();
            return Err(FileError::Damaged { path: self.path.clone(), cause });
        }
        sqlite::verify(&self.path)?;
        self.mark = mark;
        Ok(())
    }

    /// Every row in force at `now`, with by how many ms it was moved since it was decided; later
    /// [`Self::foreign`] goes on from here.
    ///
    /// # Errors
    ///
    /// When the file cannot be read.
    pub fn load(&mut self, now: Timestamp) -> Result<Vec<(Row, i64)>, FileError> {
        let load = |this: &mut Self| {
            let reading = this.connection.transaction()?;
            let cursor = reading.query_row("SELECT seq FROM counter", [], |row| row.get(0))?;
            let rows = {
                let query = format!("SELECT {COLUMNS}, shifted FROM standings WHERE until > ?1");
                let mut statement = reading.prepare(&query)?;
                let rows =
                    statement.query_map([millis(now)], |row| Ok((read(row)?, row.get(8)?)))?;
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
    pub fn find(&self, key: TorCircuit, now: Timestamp) -> Result<Option<Row>, FileError> {
        let found = find(&self.connection, key).map_err(|error| self.failed(error))?;
        Ok(found.filter(|row| now < row.until))
    }

    /// Does all of `writes` in one transaction, which is on disk when this returns.
    ///
    /// # Errors
    ///
    /// When the file cannot be written: none of them was done then.
    pub fn apply(&mut self, writes: &[Write], now: Timestamp) -> Result<Applied, FileError> {
        self.try_apply(writes, now).map_err(|error| self.failed(error))
    }

    fn try_apply(&mut self, writes: &[Write], now: Timestamp) -> rusqlite::Result<Applied> {
        let untouched = Mark::of(&self.path) == self.mark;
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
            match (written, ban) {
                (Written::Done, _) => {
                    seq += 1;
                    put(&writing, write, seq)?;
                }
                (Written::Yielded, Some(ban)) => {
                    applied.kept.push((index, ban, shift_of(&writing, ban.circuit)?));
                }
                _ => {}
            }
            applied.written.push(written);
        }
        writing.execute("UPDATE counter SET seq = ?1", [seq])?;
        writing.commit()?;
        (self.cursor, self.rows) = (seq, rows);
        // What a commit moves from the log into the file is this connection's own doing.
        if untouched {
            self.mark = Mark::of(&self.path);
        }
        Ok(applied)
    }

    /// What other processes wrote since it was last asked, oldest first; whether there is more.
    ///
    /// # Errors
    ///
    /// When the file cannot be read.
    pub fn foreign(&mut self) -> Result<(Vec<Row>, bool), FileError> {
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

    /// Moves the times of every row that this has seen by as much as the clock was set.
    ///
    /// # Errors
    ///
    /// When the file cannot be written: no row was moved then.
    pub fn shift(&mut self, millis: i64) -> Result<(), FileError> {
        let untouched = Mark::of(&self.path) == self.mark;
        let moved = self.connection.execute(
            "UPDATE standings SET since = max(0, since + ?1), until = max(0, until + ?1),
             shifted = shifted + ?1 WHERE seq <= ?2",
            [millis, self.cursor],
        );
        moved.map_err(|error| self.failed(error))?;
        if untouched {
            self.mark = Mark::of(&self.path);
        }
        Ok(())
    }

    /// Deletes rows that are not in force any more.
    ///
    /// # Errors
    ///
    /// When the file cannot be written.
    pub fn purge(&mut self, now: Timestamp) -> Result<(), FileError> {
        let purged = purge(&self.connection, now).map_err(|error| self.failed(error))?;
        self.rows = self.rows.saturating_sub(purged);
        Ok(())
    }

    fn recount(&mut self) -> rusqlite::Result<()> {
        self.rows = count(&self.connection)?;
        Ok(())
    }

    fn failed(&self, error: rusqlite::Error) -> FileError {
        FileError::of(&self.path, &error)
    }
}

/// Whether `new` is a ban that lasts longer than `ban`.
pub(super) fn outlasts(new: &Row, ban: &Row) -> bool {
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

/// By how many ms a circuit's row was moved since it was decided.
fn shift_of(connection: &Connection, key: TorCircuit) -> rusqlite::Result<i64> {
    let mut statement = connection.prepare_cached(
        "SELECT shifted FROM standings WHERE instance = ?1 AND epoch = ?2 AND number = ?3",
    )?;
    statement.query_row(params![key.instance(), key.epoch(), key.number()], |row| row.get(0))
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

fn put(writing: &Transaction<'_>, write: &Write, seq: i64) -> rusqlite::Result<()> {
    let mut statement = writing.prepare_cached(
        "INSERT INTO standings
         (instance, epoch, number, standing, since, until, reason, seq, shifted)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
         ON CONFLICT (instance, epoch, number) DO UPDATE SET standing = excluded.standing,
         since = excluded.since, until = excluded.until, reason = excluded.reason,
         seq = excluded.seq, shifted = excluded.shifted",
    )?;
    let (row, key) = (&write.row, write.row.circuit);
    statement.execute(params![
        key.instance(),
        key.epoch(),
        key.number(),
        row.standing as i64,
        millis(row.since),
        millis(row.until),
        row.reason.as_str(),
        seq,
        write.shifted,
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
    use std::time::Duration;

    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

    fn circuit(number: u32) -> TorCircuit {
        TorCircuit::from_parts(3, 7, number)
    }

    fn write(number: u32, standing: Standing, seconds: u64) -> Write {
        let until = NOW.after(Duration::from_secs(seconds));
        let reason = Reason::Operator;
        let row = Row { circuit: circuit(number), standing, since: NOW, until, reason };
        Write { yields: true, ..Write::of(row) }
    }

    fn standing(ledger: &Ledger, number: u32) -> Option<Standing> {
        ledger.find(circuit(number), NOW).unwrap().map(|row| row.standing)
    }

    #[test]
    fn abuse_27_what_was_acknowledged_is_there_for_the_next_process() {
        let dir = tempfile::tempdir().unwrap();
        let mut ledger = Ledger::open(dir.path(), 10, NOW).unwrap();
        let writes = [write(1, Standing::Banned, 60), write(u32::MAX, Standing::Vip, 30)];
        assert_eq!(ledger.apply(&writes, NOW).unwrap().written, [Written::Done; 2]);
        // Not closed: a killed process closes nothing.
        let mut again = Ledger::open(dir.path(), 10, NOW).unwrap();
        let rows = again.load(NOW.after(Duration::from_secs(30))).unwrap();
        assert_eq!(rows, [(writes[0].row, 0)]);
        drop(ledger);
    }

    #[test]
    fn a_favour_yields_to_a_ban_and_a_ban_to_a_longer_one() {
        let dir = tempfile::tempdir().unwrap();
        let mut ledger = Ledger::open(dir.path(), 10, NOW).unwrap();
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
        let mut ledger = Ledger::open(dir.path(), 3, NOW).unwrap();
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
        let mut gate = Ledger::open(dir.path(), 10, NOW).unwrap();
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
    fn abuse_03_04_the_same_number_of_another_run_or_another_tor_is_another_circuit() {
        let dir = tempfile::tempdir().unwrap();
        let mut ledger = Ledger::open(dir.path(), 10, NOW).unwrap();
        ledger.apply(&[write(1, Standing::Banned, 60)], NOW).unwrap();
        for (instance, epoch) in [(3, 8), (4, 7), (0, 0)] {
            let other = TorCircuit::from_parts(instance, epoch, 1);
            assert_eq!(ledger.find(other, NOW).unwrap(), None);
        }
        assert_eq!(standing(&ledger, 1), Some(Standing::Banned));
    }

    #[test]
    fn what_a_full_disk_does_not_take_changes_nothing_and_is_taken_later() {
        let dir = tempfile::tempdir().unwrap();
        let mut ledger = Ledger::open(dir.path(), 10_000, NOW).unwrap();
        ledger.apply(&[write(1, Standing::Banned, 60)], NOW).unwrap();
        let pages = |ledger: &Ledger, most: i64| {
            ledger.connection.pragma_update(None, "max_page_count", most).unwrap();
        };
        pages(&ledger, 1);
        let many: Vec<_> = (2..1000).map(|number| write(number, Standing::Banned, 60)).collect();
        let full = ledger.apply(&many, NOW).unwrap_err();
        assert!(matches!(full, FileError::Failed { .. }));
        assert!(full.to_string().contains("full; check free space"), "{full}");
        assert_eq!(count(&ledger.connection).unwrap(), 1);
        pages(&ledger, 100_000);
        assert!(ledger.apply(&many, NOW).unwrap().written.iter().all(|w| *w == Written::Done));
        assert_eq!(count(&ledger.connection).unwrap(), 999);
    }

    #[test]
    fn rows_out_of_force_are_deleted() {
        let dir = tempfile::tempdir().unwrap();
        let mut ledger = Ledger::open(dir.path(), 10, NOW).unwrap();
        ledger.apply(&[write(1, Standing::Vip, 1), write(2, Standing::Banned, 9)], NOW).unwrap();
        ledger.purge(NOW.after(Duration::from_secs(1))).unwrap();
        assert_eq!(count(&ledger.connection).unwrap(), 1);
        assert_eq!(ledger.rows, 1);
    }
}
