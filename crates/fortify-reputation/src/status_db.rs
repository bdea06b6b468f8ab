//! The SQLite file of circuit statuses, written by the gate's writer thread and by the command line.
//!
//! A write is acknowledged after its transaction is on disk ([`sqlite`]), so a killed process loses nothing that it
//! acknowledged. Every row has a sequence number from one counter, taken inside the transaction, so a reader that
//! knows the last number it saw gets exactly the rows written since.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};

use super::{CircuitStatus, StatusReason, StatusRow};
use fortify_core::circuit::TorCircuit;
use fortify_core::clock::Timestamp;
use fortify_core::damage::{Damage, copy_aside};
use fortify_core::sqlite::{self, FileError, Mark, Opened, Schema, WriteCount};
use fortify_store::record::Session;

/// The most rows of other processes that are read at once.
const MAX_FOREIGN_ROWS: usize = 10_000;

/// The most expired rows that one purge deletes, so that it does not hold up other writes.
const MAX_PURGED_ROWS: usize = 10_000;

/// The file in the data directory.
pub const FILE_NAME: &str = "reputation.sqlite";

const SCHEMA: Schema = Schema {
    name: FILE_NAME,
    steps: &[TABLES, SHIFTED, SESSION, SUMS],
    consequence: "the new file starts without bans",
};

const TABLES: &str = "
    CREATE TABLE statuses (
        instance INTEGER NOT NULL,
        generation INTEGER NOT NULL,
        number INTEGER NOT NULL,
        status INTEGER NOT NULL CHECK (status BETWEEN 0 AND 2),
        since INTEGER NOT NULL,
        until INTEGER NOT NULL,
        reason TEXT NOT NULL,
        seq INTEGER NOT NULL,
        PRIMARY KEY (instance, generation, number)
    ) STRICT, WITHOUT ROWID;
    CREATE UNIQUE INDEX statuses_by_seq ON statuses (seq);
    CREATE INDEX statuses_by_end ON statuses (status, until);
    CREATE TABLE counter (id INTEGER PRIMARY KEY CHECK (id = 0), seq INTEGER NOT NULL) STRICT;
    INSERT INTO counter VALUES (0, 0);
";

/// By how many ms a row's times were shifted since it was decided, because the clock was set.
const SHIFTED: &str = "ALTER TABLE statuses ADD COLUMN shifted INTEGER NOT NULL DEFAULT 0";

/// The session that a circuit is trusted for ([`Session::encode`]).
const SESSION: &str = "ALTER TABLE statuses ADD COLUMN session BLOB";

/// A checksum of each row, because SQLite has none: a flipped bit would ban another circuit. Rows without one were
/// written by an earlier version.
const SUMS: &str = "ALTER TABLE statuses ADD COLUMN sum INTEGER";

/// The version of the schema that this program writes: `user_version` of the file.
pub const SCHEMA_VERSION: i64 = SCHEMA.steps.len() as i64;

const COLUMNS: &str = "instance, generation, number, status, since, until, reason, seq, session";

/// A row to be written.
#[derive(Clone, Copy, Debug)]
pub struct Write {
    /// The row.
    pub row: StatusRow,
    /// Whether it yields to a ban in force, unless it is a longer ban itself. An operator's decision never yields.
    pub yields: bool,
    /// By how many ms its times were shifted since it was decided, because the clock was set.
    pub shifted: i64,
}

impl Write {
    /// A write that yields to nothing: an operator's decision, or a row from another node.
    #[must_use]
    pub const fn of(row: StatusRow) -> Self {
        Self { row, yields: false, shifted: 0 }
    }
}

/// The outcome of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteOutcome {
    /// It is on disk.
    Done,
    /// It yielded to a ban.
    Yielded,
    /// Every row is a ban in force, so none can be evicted.
    Full,
}

/// The effects of a transaction.
#[derive(Debug, Default)]
pub struct Applied {
    /// The rows that other processes wrote before it, oldest first.
    pub foreign: Vec<StatusRow>,
    /// The outcome of each write, in order.
    pub written: Vec<WriteOutcome>,
    /// The circuits whose rows were evicted, each with the index of the write that needed the room.
    pub dropped: Vec<(usize, TorCircuit)>,
    /// The bans that writes yielded to, each with the index of its write, and by how many ms it was shifted since it
    /// was decided.
    pub kept: Vec<(usize, StatusRow, i64)>,
}

/// The open file.
#[derive(Debug)]
pub struct StatusDb {
    connection: Connection,
    path: PathBuf,
    /// The state of the file after this connection's last write.
    mark: Mark,
    recreated: bool,
    writes: WriteCount,
    damages: Vec<Damage>,
    /// The last sequence number that was seen.
    cursor: i64,
    /// SQLite's own count of other connections' commits.
    data_version: i64,
    rows: usize,
    max_rows: usize,
}

impl StatusDb {
    /// Opens the file in `data_dir` for at most `max_rows` rows; creates it, accessible to its owner only, if
    /// necessary. A damaged one is quarantined.
    ///
    /// # Errors
    ///
    /// [`FileError`], which names the file and says what to do.
    pub fn open(data_dir: &Path, max_rows: usize, now: Timestamp) -> Result<Self, FileError> {
        Self::over(sqlite::open(data_dir, &SCHEMA, now)?, max_rows)
    }

    /// Opens an existing file, for the command line.
    ///
    /// # Errors
    ///
    /// As [`Self::open`], and [`FileError::NotThere`].
    pub fn open_existing(data_dir: &Path, max_rows: usize) -> Result<Self, FileError> {
        Self::over(sqlite::open_existing(data_dir, &SCHEMA)?, max_rows)
    }

    fn over(opened: Opened, max_rows: usize) -> Result<Self, FileError> {
        let Opened { connection, path, recreated, writes } = opened;
        let mark = Mark::of(&path);
        let mut db = Self {
            connection,
            path,
            mark,
            recreated,
            writes,
            damages: Vec::new(),
            cursor: 0,
            data_version: 0,
            rows: 0,
            max_rows,
        };
        db.recount().map_err(|error| db.failed(error))?;
        Ok(db)
    }

    /// Whether the file was damaged when it was opened, and was recreated.
    #[must_use]
    pub const fn was_recreated(&self) -> bool {
        self.recreated
    }

    /// What was found lost by [`Self::load`].
    #[must_use]
    pub fn damages(&self) -> &[Damage] {
        &self.damages
    }

    /// Quarantines the file because of `damaged`, and continues with a new, empty one.
    ///
    /// # Errors
    ///
    /// Fails if the file can be neither moved nor created; the old one is still open then.
    pub fn recreate(&mut self, damaged: &FileError, now: Timestamp) -> Result<(), FileError> {
        let opened = sqlite::recreate(&self.path, &SCHEMA, now, damaged)?;
        *self = Self::over(opened, self.max_rows)?;
        Ok(())
    }

    /// Checks that the file on disk is still the one that is open, and intact. It is read only if something else wrote
    /// to it: the command line, or damage that would otherwise be noticed only after a restart.
    ///
    /// # Errors
    ///
    /// [`FileError::Damaged`], or another error if it cannot be read.
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

    /// All rows in force at `now`, and by how many ms each was shifted since it was decided. [`Self::foreign`]
    /// continues from here. Rows that are not what was written are removed and counted ([`Self::damages`]).
    ///
    /// # Errors
    ///
    /// Fails if the file cannot be read.
    pub fn load(&mut self, now: Timestamp) -> Result<Vec<(StatusRow, i64)>, FileError> {
        let load = |this: &mut Self| {
            let reading = this.connection.transaction()?;
            let cursor = reading.query_row("SELECT seq FROM counter", [], |row| row.get(0))?;
            let (mut kept, mut damaged) = (Vec::new(), Vec::new());
            {
                // Not those in force alone: a damaged one may look expired.
                let query = format!("SELECT {COLUMNS}, shifted, sum FROM statuses");
                let mut statement = reading.prepare(&query)?;
                let mut rows = statement.query([])?;
                while let Some(row) = rows.next()? {
                    match read_sound(row) {
                        Ok(Some((row, shifted))) if now < row.until => kept.push((row, shifted)),
                        Ok(Some(_expired)) => {}
                        Ok(None) | Err(_) => damaged.push(row.get::<_, i64>(7).unwrap_or(0)),
                    }
                }
            }
            reading.finish()?;
            this.cursor = cursor;
            Ok((kept, damaged))
        };
        let (rows, damaged) = load(self).map_err(|error| self.failed(error))?;
        self.damages = self.writes.check(self.cursor.unsigned_abs());
        if !damaged.is_empty() {
            let lost = damaged.len() as u64;
            let aside = copy_aside(&self.path, now).ok();
            let aside = aside.as_deref().map(Path::display);
            tracing::error!(
                file = FILE_NAME,
                lost,
                ?aside,
                "damaged rows: the circuits that they banned or trusted are neither"
            );
            self.damages.push(Damage { file: FILE_NAME, lost: Some(lost) });
            for seq in damaged {
                // One that stays is counted again at the next start.
                let _stays = self.connection.execute("DELETE FROM statuses WHERE seq = ?1", [seq]);
            }
        }
        Ok(rows)
    }

    /// The row of one circuit in force at `now`.
    ///
    /// # Errors
    ///
    /// Fails if the file cannot be read.
    pub fn find(&self, key: TorCircuit, now: Timestamp) -> Result<Option<StatusRow>, FileError> {
        let found = find(&self.connection, key).map_err(|error| self.failed(error))?;
        Ok(found.filter(|row| now < row.until))
    }

    /// Applies `writes` in one transaction, which is on disk when this returns.
    ///
    /// # Errors
    ///
    /// Fails if the file cannot be written; nothing has changed then.
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
            let ban = before.filter(|row| row.status == CircuitStatus::Banned && now < row.until);
            let written = match (before, ban) {
                (_, Some(ban)) if write.yields && !outlasts(&write.row, &ban) => {
                    WriteOutcome::Yielded
                }
                (Some(_), _) => WriteOutcome::Done,
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
                        WriteOutcome::Done
                    } else {
                        WriteOutcome::Full
                    }
                }
            };
            match (written, ban) {
                (WriteOutcome::Done, _) => {
                    seq += 1;
                    put(&writing, write, seq)?;
                }
                (WriteOutcome::Yielded, Some(ban)) => {
                    applied.kept.push((index, ban, shift_of(&writing, ban.circuit)?));
                }
                _ => {}
            }
            applied.written.push(written);
        }
        writing.execute("UPDATE counter SET seq = ?1", [seq])?;
        writing.commit()?;
        (self.cursor, self.rows) = (seq, rows);
        self.writes.set(seq.unsigned_abs());
        // A checkpoint on commit changes the file too, but is this connection's own write.
        if untouched {
            self.mark = Mark::of(&self.path);
        }
        Ok(applied)
    }

    /// The rows that other processes wrote since the last call, oldest first, and whether there are more.
    ///
    /// # Errors
    ///
    /// Fails if the file cannot be read.
    pub fn foreign(&mut self) -> Result<(Vec<StatusRow>, bool), FileError> {
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

    /// Shifts the times of all rows seen so far by as much as the clock was set.
    ///
    /// # Errors
    ///
    /// Fails if the file cannot be written; no row was shifted then.
    pub fn shift(&mut self, millis: i64) -> Result<(), FileError> {
        let untouched = Mark::of(&self.path) == self.mark;
        let moved = self.connection.execute(
            "UPDATE statuses SET since = max(0, since + ?1), until = max(0, until + ?1),
             shifted = shifted + ?1 WHERE seq <= ?2",
            [millis, self.cursor],
        );
        moved.map_err(|error| self.failed(error))?;
        if untouched {
            self.mark = Mark::of(&self.path);
        }
        Ok(())
    }

    /// Deletes expired rows.
    ///
    /// # Errors
    ///
    /// Fails if the file cannot be written.
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
pub(super) fn outlasts(new: &StatusRow, ban: &StatusRow) -> bool {
    new.status == CircuitStatus::Banned && ban.until < new.until
}

fn count(connection: &Connection) -> rusqlite::Result<usize> {
    let rows: i64 = connection.query_row("SELECT count(*) FROM statuses", [], |row| row.get(0))?;
    Ok(usize::try_from(rows).unwrap_or(usize::MAX))
}

fn find(connection: &Connection, key: TorCircuit) -> rusqlite::Result<Option<StatusRow>> {
    let mut statement = connection.prepare_cached(
        "SELECT instance, generation, number, status, since, until, reason, seq, session FROM statuses
         WHERE instance = ?1 AND generation = ?2 AND number = ?3",
    )?;
    statement.query_row(params![key.instance(), key.generation(), key.number()], read).optional()
}

/// By how many ms a circuit's row was shifted since it was decided.
fn shift_of(connection: &Connection, key: TorCircuit) -> rusqlite::Result<i64> {
    let mut statement = connection.prepare_cached(
        "SELECT shifted FROM statuses WHERE instance = ?1 AND generation = ?2 AND number = ?3",
    )?;
    statement.query_row(params![key.instance(), key.generation(), key.number()], |row| row.get(0))
}

/// The rows with sequence numbers above `cursor`, and the last of those numbers.
fn read_since(
    connection: &Connection,
    cursor: i64,
    limit: usize,
) -> rusqlite::Result<(Vec<StatusRow>, i64)> {
    let mut statement = connection.prepare_cached(
        "SELECT instance, generation, number, status, since, until, reason, seq, session FROM statuses
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
        "INSERT INTO statuses
         (instance, generation, number, status, since, until, reason, seq, shifted, session, sum)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)
         ON CONFLICT (instance, generation, number) DO UPDATE SET status = excluded.status,
         since = excluded.since, until = excluded.until, reason = excluded.reason,
         seq = excluded.seq, shifted = excluded.shifted, session = excluded.session,
         sum = excluded.sum",
    )?;
    let (row, key) = (&write.row, write.row.circuit);
    statement.execute(params![
        key.instance(),
        key.generation(),
        key.number(),
        row.status as i64,
        millis(row.since),
        millis(row.until),
        row.reason.as_str(),
        seq,
        write.shifted,
        row.session.map(|session| session.encode()),
        sum_of(row, seq, write.shifted),
    ])?;
    Ok(())
}

/// Deletes at most [`MAX_PURGED_ROWS`] expired rows, and returns how many.
fn purge(connection: &Connection, now: Timestamp) -> rusqlite::Result<usize> {
    let mut statement = connection.prepare_cached(
        "DELETE FROM statuses WHERE (instance, generation, number) IN
         (SELECT instance, generation, number FROM statuses
          WHERE status IN (0, 1, 2) AND until <= ?1 LIMIT ?2)",
    )?;
    statement.execute([millis(now), MAX_PURGED_ROWS as i64])
}

/// Drops the reset, or else the trusted row, that ends first, and returns its circuit.
fn drop_one(writing: &Transaction<'_>) -> rusqlite::Result<Option<TorCircuit>> {
    let mut statement = writing.prepare_cached(
        "SELECT instance, generation, number, status, since, until, reason, seq, session FROM statuses
         WHERE status < 2 ORDER BY status, until LIMIT 1",
    )?;
    let Some(victim) = statement.query_row([], read).optional()? else {
        return Ok(None);
    };
    let key = victim.circuit;
    let mut statement = writing.prepare_cached(
        "DELETE FROM statuses WHERE instance = ?1 AND generation = ?2 AND number = ?3",
    )?;
    statement.execute(params![key.instance(), key.generation(), key.number()])?;
    Ok(Some(key))
}

fn read(row: &rusqlite::Row<'_>) -> rusqlite::Result<StatusRow> {
    let status = match row.get(3)? {
        0 => CircuitStatus::Normal,
        1 => CircuitStatus::Trusted,
        // The schema allows no other number; if there is one, admit nobody.
        _ => CircuitStatus::Banned,
    };
    let reason: String = row.get(6)?;
    Ok(StatusRow {
        circuit: TorCircuit::from_parts(row.get(0)?, row.get(1)?, row.get(2)?),
        status,
        since: timestamp(row.get(4)?),
        until: timestamp(row.get(5)?),
        reason: StatusReason::parse(&reason),
        session: row.get::<_, Option<Vec<u8>>>(8)?.and_then(|bytes| Session::decode(&bytes)),
    })
}

/// A row and its shift, if its checksum is right.
fn read_sound(row: &rusqlite::Row<'_>) -> rusqlite::Result<Option<(StatusRow, i64)>> {
    let (read, seq, shifted) = (read(row)?, row.get(7)?, row.get(9)?);
    let sum: Option<i64> = row.get(10)?;
    // Rows of an earlier version have none.
    Ok(sum.is_none_or(|sum| sum == sum_of(&read, seq, shifted)).then_some((read, shifted)))
}

/// The checksum of a row. The times count as they were decided, because those of all rows are shifted at once.
fn sum_of(row: &StatusRow, seq: i64, shifted: i64) -> i64 {
    let mut sum = crc32fast::Hasher::new();
    let key = row.circuit;
    sum.update(&key.instance().to_be_bytes());
    sum.update(&key.generation().to_be_bytes());
    sum.update(&key.number().to_be_bytes());
    sum.update(&[row.status as u8]);
    for time in [row.since, row.until] {
        sum.update(&millis(time).wrapping_sub(shifted).to_be_bytes());
    }
    sum.update(row.reason.as_str().as_bytes());
    sum.update(&seq.to_be_bytes());
    sum.update(&row.session.map_or([0; Session::BYTES], |session| session.encode()));
    i64::from(sum.finalize())
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

    fn write(number: u32, status: CircuitStatus, seconds: u64) -> Write {
        let until = NOW.after(Duration::from_secs(seconds));
        let reason = StatusReason::Operator;
        let row = StatusRow::new(circuit(number), status, NOW, until, reason);
        Write { yields: true, ..Write::of(row) }
    }

    fn status(db: &StatusDb, number: u32) -> Option<CircuitStatus> {
        db.find(circuit(number), NOW).unwrap().map(|row| row.status)
    }

    #[test]
    fn a_row_that_is_not_what_was_written_is_left_out_and_counted() {
        let changes = [
            "number = number + 4096",
            "until = since + 1",
            "status = 1",
            "since = 0",
            "shifted = 3600000",
            "reason = 'closed'",
        ];
        for change in changes {
            let dir = tempfile::tempdir().unwrap();
            let mut db = StatusDb::open(dir.path(), 10, NOW).unwrap();
            let writes = [1, 2].map(|number| write(number, CircuitStatus::Banned, 60));
            db.apply(&writes, NOW).unwrap();
            // The times of all rows move with the clock: that is no damage.
            db.shift(5000).unwrap();
            let circuits = |db: &mut StatusDb| {
                let rows = db.load(NOW).unwrap();
                rows.iter().map(|(row, _)| row.circuit).collect::<Vec<_>>()
            };
            assert_eq!(circuits(&mut db), [circuit(1), circuit(2)]);
            assert_eq!(db.damages(), []);
            db.connection
                .execute(&format!("UPDATE statuses SET {change} WHERE number = 1"), [])
                .unwrap();
            drop(db);
            let mut db = StatusDb::open(dir.path(), 10, NOW).unwrap();
            assert_eq!(circuits(&mut db), [circuit(2)], "{change}");
            assert_eq!(db.damages(), [Damage { file: FILE_NAME, lost: Some(1) }], "{change}");
            drop(db);
            let mut db = StatusDb::open(dir.path(), 10, NOW).unwrap();
            assert_eq!((circuits(&mut db), db.damages()), (vec![circuit(2)], &[][..]));
        }
    }

    #[test]
    fn an_old_copy_of_the_file_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE_NAME);
        let start = |numbers: &[u32]| {
            let mut db = StatusDb::open(dir.path(), 10, NOW).unwrap();
            db.load(NOW).unwrap();
            let writes: Vec<_> =
                numbers.iter().map(|number| write(*number, CircuitStatus::Banned, 60)).collect();
            db.apply(&writes, NOW).unwrap();
            db.damages().to_vec()
        };
        assert_eq!(start(&[1]), []);
        let old = std::fs::read(&path).unwrap();
        assert_eq!(start(&[2, 3]), []);
        std::fs::write(&path, old).unwrap();
        assert_eq!(start(&[]), [Damage { file: FILE_NAME, lost: Some(2) }]);
    }

    #[test]
    fn abuse_27_what_was_acknowledged_is_there_for_the_next_process() {
        let dir = tempfile::tempdir().unwrap();
        let mut db = StatusDb::open(dir.path(), 10, NOW).unwrap();
        let writes =
            [write(1, CircuitStatus::Banned, 60), write(u32::MAX, CircuitStatus::Trusted, 30)];
        assert_eq!(db.apply(&writes, NOW).unwrap().written, [WriteOutcome::Done; 2]);
        // The first is not closed, as if its process had been killed.
        let mut again = StatusDb::open(dir.path(), 10, NOW).unwrap();
        let rows = again.load(NOW.after(Duration::from_secs(30))).unwrap();
        assert_eq!(rows, [(writes[0].row, 0)]);
        drop(db);
    }

    #[test]
    fn trust_yields_to_a_ban_and_a_ban_to_a_longer_one() {
        let dir = tempfile::tempdir().unwrap();
        let mut db = StatusDb::open(dir.path(), 10, NOW).unwrap();
        let mut one = |write: Write, now| db.apply(&[write], now).unwrap().written[0];
        assert_eq!(one(write(1, CircuitStatus::Banned, 60), NOW), WriteOutcome::Done);
        assert_eq!(one(write(1, CircuitStatus::Trusted, 600), NOW), WriteOutcome::Yielded);
        assert_eq!(one(write(1, CircuitStatus::Banned, 30), NOW), WriteOutcome::Yielded);
        assert_eq!(one(write(1, CircuitStatus::Banned, 90), NOW), WriteOutcome::Done);
        let operator = Write { yields: false, ..write(1, CircuitStatus::Normal, 60) };
        assert_eq!(one(operator, NOW), WriteOutcome::Done);
        assert_eq!(one(write(1, CircuitStatus::Trusted, 600), NOW), WriteOutcome::Done);
        let later = NOW.after(Duration::from_secs(90));
        assert_eq!(one(write(2, CircuitStatus::Banned, 90), NOW), WriteOutcome::Done);
        assert_eq!(
            one(write(2, CircuitStatus::Trusted, 600), later),
            WriteOutcome::Done,
            "the ban is over"
        );
    }

    #[test]
    fn at_the_bound_resets_and_trusted_make_room_and_bans_never() {
        let dir = tempfile::tempdir().unwrap();
        let mut db = StatusDb::open(dir.path(), 3, NOW).unwrap();
        let mut apply = |writes: &[Write], now| db.apply(writes, now).unwrap();
        apply(
            &[
                write(1, CircuitStatus::Trusted, 50),
                write(2, CircuitStatus::Trusted, 40),
                write(3, CircuitStatus::Normal, 60),
            ],
            NOW,
        );
        assert_eq!(apply(&[write(4, CircuitStatus::Banned, 60)], NOW).dropped, [(0, circuit(3))]);
        assert_eq!(apply(&[write(5, CircuitStatus::Banned, 60)], NOW).dropped, [(0, circuit(2))]);
        assert_eq!(apply(&[write(6, CircuitStatus::Banned, 60)], NOW).dropped, [(0, circuit(1))]);
        let full = apply(
            &[write(7, CircuitStatus::Banned, 60), write(8, CircuitStatus::Trusted, 60)],
            NOW,
        );
        assert_eq!(full.written, [WriteOutcome::Full; 2]);
        let both = apply(&[write(4, CircuitStatus::Normal, 9)], NOW);
        assert_eq!(both.written, [WriteOutcome::Yielded]);
        let known = apply(&[write(4, CircuitStatus::Banned, 70)], NOW);
        assert_eq!(known.written, [WriteOutcome::Done], "a row that is there needs no room");
        let later = NOW.after(Duration::from_secs(60));
        let freed = apply(&[write(9, CircuitStatus::Trusted, 90)], later);
        assert_eq!(
            (freed.written, freed.dropped),
            (vec![WriteOutcome::Done], vec![]),
            "none purged"
        );
        for (number, expected) in
            [(4, Some(CircuitStatus::Banned)), (5, None), (9, Some(CircuitStatus::Trusted))]
        {
            assert_eq!(status(&db, number), expected);
        }
    }

    #[test]
    fn another_process_is_noticed_before_and_between_writes() {
        let dir = tempfile::tempdir().unwrap();
        let mut gate = StatusDb::open(dir.path(), 10, NOW).unwrap();
        gate.load(NOW).unwrap();
        let mut command = StatusDb::open_existing(dir.path(), 10).unwrap();
        let numbers =
            |rows: &[StatusRow]| rows.iter().map(|row| row.circuit.number()).collect::<Vec<_>>();
        assert!(gate.foreign().unwrap().0.is_empty());
        command.apply(&[write(1, CircuitStatus::Banned, 60)], NOW).unwrap();
        assert_eq!(numbers(&gate.foreign().unwrap().0), [1]);
        assert!(gate.foreign().unwrap().0.is_empty(), "reported twice");
        command.apply(&[write(2, CircuitStatus::Banned, 60)], NOW).unwrap();
        let applied = gate.apply(&[write(3, CircuitStatus::Trusted, 60)], NOW).unwrap();
        assert_eq!(numbers(&applied.foreign), [2], "the gate's own write hid the other's");
        assert!(gate.foreign().unwrap().0.is_empty());
        let applied = command.apply(&[write(3, CircuitStatus::Banned, 60)], NOW).unwrap();
        assert_eq!(numbers(&applied.foreign), [3]);
        assert_eq!(numbers(&gate.foreign().unwrap().0), [3]);
    }

    #[test]
    fn abuse_03_04_the_same_number_of_another_run_or_another_tor_is_another_circuit() {
        let dir = tempfile::tempdir().unwrap();
        let mut db = StatusDb::open(dir.path(), 10, NOW).unwrap();
        db.apply(&[write(1, CircuitStatus::Banned, 60)], NOW).unwrap();
        for (instance, generation) in [(3, 8), (4, 7), (0, 0)] {
            let other = TorCircuit::from_parts(instance, generation, 1);
            assert_eq!(db.find(other, NOW).unwrap(), None);
        }
        assert_eq!(status(&db, 1), Some(CircuitStatus::Banned));
    }

    #[test]
    fn what_a_full_disk_does_not_take_changes_nothing_and_is_taken_later() {
        let dir = tempfile::tempdir().unwrap();
        let mut db = StatusDb::open(dir.path(), 10_000, NOW).unwrap();
        db.apply(&[write(1, CircuitStatus::Banned, 60)], NOW).unwrap();
        let pages = |db: &StatusDb, most: i64| {
            db.connection.pragma_update(None, "max_page_count", most).unwrap();
        };
        pages(&db, 1);
        let many: Vec<_> =
            (2..1000).map(|number| write(number, CircuitStatus::Banned, 60)).collect();
        let full = db.apply(&many, NOW).unwrap_err();
        assert!(matches!(full, FileError::Failed { .. }));
        assert!(full.to_string().contains("full; check free space"), "{full}");
        assert_eq!(count(&db.connection).unwrap(), 1);
        pages(&db, 100_000);
        assert!(db.apply(&many, NOW).unwrap().written.iter().all(|w| *w == WriteOutcome::Done));
        assert_eq!(count(&db.connection).unwrap(), 999);
    }

    #[test]
    fn rows_out_of_force_are_deleted() {
        let dir = tempfile::tempdir().unwrap();
        let mut db = StatusDb::open(dir.path(), 10, NOW).unwrap();
        db.apply(&[write(1, CircuitStatus::Trusted, 1), write(2, CircuitStatus::Banned, 9)], NOW)
            .unwrap();
        db.purge(NOW.after(Duration::from_secs(1))).unwrap();
        assert_eq!(count(&db.connection).unwrap(), 1);
        assert_eq!(db.rows, 1);
    }
}
