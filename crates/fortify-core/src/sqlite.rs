//! SQLite files: opened, migrated, and quarantined when they are damaged.
//!
//! Only their owner can read them. They use a write-ahead log with `synchronous = FULL`, so a committed
//! transaction is on disk. Fortify moves a damaged file aside when it starts or notices the damage, and
//! creates a new one: losing the content is better than not running. The accounts' file is an exception and
//! stays in place, because anyone with the setup token could claim a new one. Commands never move a file;
//! they report the problem.
//!
//! The write-ahead log is copied into the file when it is opened and after every `CHECKPOINT_PAGES`, so a
//! damaged log costs the last changes, not the file. Whether some were lost is known from a number in the
//! [`manifest`](crate::manifest) ([`WriteCount`]).

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};

use crate::clock::Timestamp;
pub use crate::damage::MAX_DAMAGED;
use crate::damage::{Damage, move_aside, with};
use crate::manifest::{Progress, Recorded, Slot};

/// How long a write waits for another process that is writing.
const BUSY_TIMEOUT: Duration = Duration::from_secs(3);

/// The pause before asking again for what SQLite refuses at once while another process has the file.
const BUSY_PAUSE: Duration = Duration::from_millis(5);

/// After how many pages of the write-ahead log it is copied into the file: 100 KiB, a few hundred changes. SQLite's
/// own limit is a thousand pages.
const CHECKPOINT_PAGES: i64 = 25;

/// One of the files in `storage.data_dir`.
#[derive(Clone, Copy, Debug)]
pub struct Schema {
    /// Its name.
    pub name: &'static str,
    /// The migration steps; `user_version` counts those that were taken.
    pub steps: &'static [&'static str],
    /// What an empty file means, for messages: `the new file starts without bans`.
    pub consequence: &'static str,
}

/// An open file.
#[derive(Debug)]
pub struct Opened {
    /// The connection.
    pub connection: Connection,
    /// Where the file is.
    pub path: PathBuf,
    /// Whether it replaced a damaged file, or one that is gone.
    pub recreated: bool,
    /// How far it had come.
    pub writes: WriteCount,
}

/// How far a file had come, according to the manifest: how often it was opened, and the number of its last write.
/// Only the running service counts.
#[derive(Debug, Default)]
pub struct WriteCount {
    slot: Option<Slot>,
    name: &'static str,
    /// `None` if the disk did not take the count.
    opens: Option<u64>,
    recorded: Option<Progress>,
    /// Whether the manifest's own entry is damaged.
    unknown: bool,
    /// Whether a damaged log was put aside.
    log_lost: bool,
}

impl WriteCount {
    /// What was lost of the file, whose last write has the number `last`. To be called once it is open; the manifest
    /// then says `last`.
    #[must_use]
    pub fn check(&self, last: u64) -> Vec<Damage> {
        let file = self.name;
        let before = self.recorded.unwrap_or_default();
        let behind = before.last.saturating_sub(last);
        let mut damages = Vec::new();
        if behind > 0 || self.is_old_copy() || self.log_lost {
            let lost = (behind > 0).then_some(behind);
            tracing::error!(
                file,
                ?lost,
                "changes are missing: the file was damaged, or replaced by an old copy"
            );
            damages.push(Damage { file, lost });
        }
        if self.unknown {
            damages.push(Damage { file: crate::manifest::FILE_NAME, lost: None });
        }
        self.set(last);
        damages
    }

    /// Records that the last write has the number `last`.
    pub fn set(&self, last: u64) {
        if let Some(slot) = &self.slot {
            let before = self.recorded.unwrap_or_default().first;
            slot.set(Progress { first: self.opens.unwrap_or(before), last });
        }
    }

    fn is_old_copy(&self) -> bool {
        let before = self.recorded.unwrap_or_default().first;
        before > 0 && self.opens.is_some_and(|opens| opens <= before)
    }
}

/// Why a file cannot be used. Each message says what to do.
#[derive(Clone, Debug, thiserror::Error)]
pub enum FileError {
    /// The file cannot be opened.
    #[error(
        "{}: cannot be opened ({cause}); check free space, and that the user that runs Fortify may read \
         and write it and its directory, which is storage.data_dir", path.display()
    )]
    Open {
        /// The file.
        path: PathBuf,
        /// What the system or SQLite said.
        cause: String,
    },
    /// There is no file yet.
    #[error(
        "{}: is not there; start the gate once, or name its configuration with --config so that \
         storage.data_dir is the gate's", .0.display()
    )]
    NotThere(PathBuf),
    /// The file is damaged.
    #[error(
        "{}: is damaged ({cause}); start the gate again, which moves it aside and begins a new one",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        cause: String,
    },
    /// A later version of this program made the file.
    #[error(
        "{}: was written by a later version of Fortify (schema {version}); start that version, or \
         move the file away (then {consequence})", path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its schema.
        version: i64,
        /// What a new file means.
        consequence: &'static str,
    },
    /// A write or a read failed: nothing was changed.
    #[error("{}: {cause}; check free space and the disk", path.display())]
    Failed {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        cause: String,
    },
}

impl FileError {
    /// Classifies an SQLite error of the open file at `path`.
    pub fn of(path: &Path, error: &rusqlite::Error) -> Self {
        let (path, cause) = (path.to_owned(), error.to_string());
        match is_damage(error) {
            true => Self::Damaged { path, cause },
            false => Self::Failed { path, cause },
        }
    }
}

/// Opens the file in `data_dir`, or creates it. Moves a damaged file aside and logs that. For the running
/// service.
///
/// # Errors
///
/// [`FileError`], never [`FileError::Damaged`] unless the new file is as well.
pub fn open(data_dir: &Path, schema: &Schema, now: Timestamp) -> Result<Opened, FileError> {
    let path = data_dir.join(schema.name);
    let log = with(&path, "-wal");
    match open_sound(data_dir, schema) {
        Err(FileError::Damaged { .. }) if log.exists() && log_is_to_blame(&path, schema) => {
            for part in ["-wal", "-shm"] {
                let _next_to_a_sound_file = move_aside(&with(&path, part), now);
            }
            let mut opened = open_sound(data_dir, schema)?;
            opened.writes.log_lost = true;
            Ok(opened)
        }
        Err(damaged @ FileError::Damaged { .. }) => recreate(&path, schema, now, &damaged),
        opened => opened,
    }
}

/// Whether the file at `path` is sound without the log beside it, which is then what is damaged.
fn log_is_to_blame(path: &Path, schema: &Schema) -> bool {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let Some(name) = path.to_str().filter(|name| !name.contains(['?', '#', '%'])) else {
        return false;
    };
    let uri = format!("file:{name}?immutable=1");
    let sound = Connection::open_with_flags(uri, flags | OpenFlags::SQLITE_OPEN_URI).and_then(
        |connection| {
            check(&connection)?;
            connection.pragma_query_value(None, "user_version", |row| row.get::<_, i64>(0))
        },
    );
    // Without any step it has nothing: then the log had everything.
    sound.is_ok_and(|version| 0 < version && version <= schema.steps.len() as i64)
}

/// As [`open`], but leaves a damaged file in place: for a file that only an operator may replace.
///
/// # Errors
///
/// [`FileError`].
pub fn open_sound(data_dir: &Path, schema: &Schema) -> Result<Opened, FileError> {
    let path = data_dir.join(schema.name);
    let was_there = std::fs::metadata(&path).is_ok_and(|file| file.len() > 0);
    let mut opened = make(&path, schema)?;
    check(&opened.connection).map_err(|error| FileError::of(&path, &error))?;
    let (slot, recorded) = Slot::open(data_dir, schema.name);
    opened.writes = WriteCount {
        slot: Some(slot),
        name: schema.name,
        opens: count_opens(&opened.connection, schema),
        recorded: recorded.progress(),
        unknown: recorded == Recorded::Damaged,
        log_lost: false,
    };
    opened.recreated = !was_there && opened.writes.recorded.is_some();
    Ok(opened)
}

/// The mark in SQLite's `application_id`: the version of the schema, which `user_version` says too, and how often the
/// service opened the file. One that says another version than `user_version` is damaged.
fn mark_of(version: i64, opens: i64) -> i64 {
    (version & 0x7f) << 24 | (opens & MAX_OPENS)
}

/// The most that is counted, once a second for half a year.
const MAX_OPENS: i64 = 0x00ff_ffff;

/// Counts that the service opened the file. A full disk is no reason not to open it.
fn count_opens(connection: &Connection, schema: &Schema) -> Option<u64> {
    let mark: i64 = connection.pragma_query_value(None, "application_id", |row| row.get(0)).ok()?;
    let opens = (mark & MAX_OPENS).min(MAX_OPENS - 1);
    let version = schema.steps.len() as i64;
    let counted = connection.pragma_update(None, "application_id", mark_of(version, opens + 1));
    // What is in the file cannot be lost with the log. Fails while somebody reads, and is repeated.
    let _later =
        connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, i64>(0));
    counted.ok().map(|()| (opens + 1).unsigned_abs())
}

/// Moves the file at `path` aside because of `damaged`, and opens a new one.
///
/// # Errors
///
/// If the old file cannot be moved or the new one cannot be created.
pub fn recreate(
    path: &Path,
    schema: &Schema,
    now: Timestamp,
    damaged: &FileError,
) -> Result<Opened, FileError> {
    let failed = |e: io::Error| FileError::Open { path: path.to_owned(), cause: e.to_string() };
    let aside = move_aside(path, now).map_err(failed)?;
    let opened = make(path, schema)?;
    let (aside, consequence) = (aside.as_deref().map(Path::display), schema.consequence);
    tracing::error!(error = %damaged, ?aside, "a damaged file was moved aside and replaced by an empty one: {consequence}");
    let mut opened = Opened { recreated: true, ..opened };
    if let Some(data_dir) = path.parent() {
        opened.writes = WriteCount {
            slot: Some(Slot::open(data_dir, schema.name).0),
            name: schema.name,
            opens: count_opens(&opened.connection, schema),
            ..WriteCount::default()
        };
    }
    Ok(opened)
}

/// Opens a file that exists. For commands: one that created the file as another user would lock the service
/// out.
///
/// # Errors
///
/// [`FileError`].
pub fn open_existing(data_dir: &Path, schema: &Schema) -> Result<Opened, FileError> {
    let path = data_dir.join(schema.name);
    match path.try_exists() {
        Ok(true) => open_at(&path, schema),
        Ok(false) => Err(FileError::NotThere(path)),
        Err(error) => Err(FileError::Open { path, cause: error.to_string() }),
    }
}

/// As [`open_existing`], but creates a missing file, owned by the owner of the directory: for a command that
/// root runs before the first start. SQLite gives the files beside it the same owner.
///
/// # Errors
///
/// [`FileError`]; [`FileError::NotThere`] without a directory, because the owner is then unknown.
pub fn open_for_owner(data_dir: &Path, schema: &Schema) -> Result<Opened, FileError> {
    let path = data_dir.join(schema.name);
    let failed =
        |e: &dyn std::fmt::Display| FileError::Open { path: path.clone(), cause: e.to_string() };
    let owner = match std::fs::metadata(data_dir) {
        Ok(directory) => (directory.uid(), directory.gid()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(FileError::NotThere(path));
        }
        Err(error) => return Err(failed(&error)),
    };
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
        Ok(file) => {
            let given = file.metadata().and_then(|made| {
                let same = made.uid() == owner.0;
                if same { Ok(()) } else { fchown(&file, Some(owner.0), Some(owner.1)) }
            });
            if let Err(error) = given {
                // Left in place, it would lock the service out.
                let _nothing_is_in_it = std::fs::remove_file(&path);
                let cause = format!(
                    "the directory belongs to another user, run this as that user: {error}"
                );
                return Err(failed(&cause));
            }
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(failed(&error)),
    }
    open_at(&path, schema)
}

/// The identity, length and modification time of the file at a path, to detect that another process changed
/// it. `None` if there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    file: Option<(u64, u64, u64, Option<SystemTime>)>,
}

impl Mark {
    /// The state of the file now. It is not opened, because closing it would drop SQLite's locks.
    #[must_use]
    pub fn of(path: &Path) -> Self {
        let file = std::fs::metadata(path).ok();
        Self { file: file.map(|f| (f.dev(), f.ino(), f.len(), f.modified().ok())) }
    }

    /// Whether it is still the same file, whatever was written to it.
    #[must_use]
    pub fn is_same_file(&self, other: &Self) -> bool {
        let name = |mark: &Self| mark.file.map(|(device, inode, ..)| (device, inode));
        name(self) == name(other)
    }
}

/// Checks the file at `path` as it is on disk, without the cache of an open connection.
///
/// # Errors
///
/// [`FileError::Damaged`], or why it cannot be read.
pub fn verify(path: &Path) -> Result<(), FileError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let read = Connection::open_with_flags(path, flags).and_then(|connection| {
        connection.busy_timeout(BUSY_TIMEOUT)?;
        check(&connection)
    });
    read.map_err(|error| FileError::of(path, &error))
}

fn make(path: &Path, schema: &Schema) -> Result<Opened, FileError> {
    // SQLite gives the files beside it the same mode.
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(_empty) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => {
            return Err(FileError::Open { path: path.to_owned(), cause: error.to_string() });
        }
    }
    open_at(path, schema)
}

fn open_at(path: &Path, schema: &Schema) -> Result<Opened, FileError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let opened = Connection::open_with_flags(path, flags).and_then(|mut connection| {
        connection.busy_timeout(BUSY_TIMEOUT)?;
        keep_a_log(&connection)?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        // Deleted rows must not stay readable in the file.
        connection.pragma_update(None, "secure_delete", "ON")?;
        connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
        let version = migrate(&mut connection, schema.steps)?;
        if version == schema.steps.len() as i64 {
            check_schema(&connection, schema)?;
        }
        Ok((connection, version))
    });
    let path = path.to_owned();
    match opened {
        Ok((_, version)) if version > schema.steps.len() as i64 => {
            Err(FileError::Newer { path, version, consequence: schema.consequence })
        }
        Ok((connection, _)) => {
            Ok(Opened { connection, path, recreated: false, writes: WriteCount::default() })
        }
        Err(error) if is_damage(&error) => {
            Err(FileError::Damaged { path, cause: error.to_string() })
        }
        Err(error) => Err(FileError::Open { path, cause: error.to_string() }),
    }
}

/// Has SQLite write changes to a log first. Of two processes that find a new file, each may hold a lock that the other
/// waits for: SQLite then refuses one of them without waiting.
fn keep_a_log(connection: &Connection) -> rusqlite::Result<()> {
    let started = Instant::now();
    loop {
        let done = connection.pragma_update(None, "journal_mode", "WAL");
        let busy =
            |error: &rusqlite::Error| error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy);
        if !done.as_ref().is_err_and(busy) || started.elapsed() >= BUSY_TIMEOUT {
            return done;
        }
        std::thread::sleep(BUSY_PAUSE);
    }
}

/// Takes the missing migration steps and returns the resulting version. An up-to-date file is not written
/// to, so that it opens on a full disk.
fn migrate(connection: &mut Connection, steps: &[&str]) -> rusqlite::Result<i64> {
    // Both numbers as of one moment: another process may take the steps between two queries.
    let (before, _) = versions(&connection.transaction()?)?;
    if before >= steps.len() as i64 {
        return Ok(before);
    }
    take_steps(connection, steps)
}

/// The version of the file's schema and the mark beside it, which says the version too.
fn versions(reading: &rusqlite::Transaction<'_>) -> rusqlite::Result<(i64, i64)> {
    let number = |name| reading.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let (version, mark) = (number("user_version")?, number("application_id")?);
    if mark != 0 && (mark >> 24 != version || version <= 0) {
        return Err(damage("the version of its schema is not the one that it was written with"));
    }
    Ok((version, mark))
}

fn take_steps(connection: &mut Connection, steps: &[&str]) -> rusqlite::Result<i64> {
    let writing = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    // Another process may have taken them since, and counted that it opened the file.
    let (before, mark) = versions(&writing)?;
    for step in steps.iter().skip(usize::try_from(before).unwrap_or(0)) {
        writing.execute_batch(step)?;
    }
    let version = before.max(steps.len() as i64);
    writing.pragma_update(None, "user_version", version)?;
    writing.pragma_update(None, "application_id", mark_of(version, mark & MAX_OPENS))?;
    writing.commit()?;
    Ok(version)
}

/// Checks that the tables are those that the migration steps make: SQLite reads a name with a flipped bit as another
/// table's.
fn check_schema(connection: &Connection, schema: &Schema) -> rusqlite::Result<()> {
    let tables = |connection: &Connection| -> rusqlite::Result<Vec<(String, Option<String>)>> {
        let mut all = connection.prepare("SELECT name, sql FROM sqlite_schema ORDER BY name")?;
        all.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
    };
    let expected = Connection::open_in_memory()?;
    for step in schema.steps {
        expected.execute_batch(step)?;
    }
    match tables(connection)? == tables(&expected)? {
        true => Ok(()),
        false => Err(damage("its tables are not those that it was written with")),
    }
}

/// Checks the whole file: about 0.1 s for 500,000 rows.
fn check(connection: &Connection) -> rusqlite::Result<()> {
    let said: String =
        connection.query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0))?;
    if said == "ok" {
        return Ok(());
    }
    Err(damage(&said))
}

/// The error for content that this program did not write, which counts as damage of the file.
#[must_use]
pub fn damage(what: &str) -> rusqlite::Error {
    let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT);
    rusqlite::Error::SqliteFailure(code, Some(what.to_owned()))
}

fn is_damage(error: &rusqlite::Error) -> bool {
    // A value that is not what this program writes: a text that is no text, a number that is too large.
    let foreign = matches!(
        error,
        rusqlite::Error::FromSqlConversionFailure(..)
            | rusqlite::Error::IntegralValueOutOfRange(..)
            | rusqlite::Error::InvalidColumnType(..)
            | rusqlite::Error::Utf8Error(..)
            | rusqlite::Error::QueryReturnedNoRows
    );
    let code = error.sqlite_error_code();
    foreign || matches!(code, Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);
    const SCHEMA: Schema = Schema {
        name: "audit.sqlite",
        steps: &["CREATE TABLE things (n INTEGER) STRICT", "CREATE INDEX by_n ON things (n)"],
        consequence: "the new file starts empty",
    };

    /// What is in the log after its last checkpoint, and the file without it.
    fn with_log(dir: &Path) -> PathBuf {
        let opened = open(dir, &SCHEMA, NOW).unwrap();
        assert_eq!(opened.writes.check(1), []);
        opened.connection.execute("INSERT INTO things VALUES (7)", []).unwrap();
        opened.writes.set(2);
        let path = dir.join(SCHEMA.name);
        // As a killed process leaves it: copied before it is closed.
        let copies = ["", "-wal"].map(|part| std::fs::read(with(&path, part)).unwrap());
        drop(opened);
        for (part, bytes) in ["", "-wal"].into_iter().zip(copies) {
            std::fs::write(with(&path, part), bytes).unwrap();
        }
        path
    }

    #[test]
    fn a_damaged_log_costs_the_last_changes_and_is_noticed() {
        for step in 0..200_usize {
            let dir = tempfile::tempdir().unwrap();
            let path = with_log(dir.path());
            let log = with(&path, "-wal");
            let mut bytes = std::fs::read(&log).unwrap();
            let at = step * bytes.len() / 200;
            bytes[at] ^= 0x10;
            std::fs::write(&log, bytes).unwrap();
            std::fs::write(with(&path, "-shm"), vec![0x5a; 40_000]).unwrap();
            let opened = open(dir.path(), &SCHEMA, NOW).unwrap();
            assert!(!opened.recreated, "byte {at}");
            let count = "SELECT count(*) FROM things";
            let rows: u32 = opened.connection.query_row(count, [], |row| row.get(0)).unwrap();
            let lost = opened.writes.check(1 + u64::from(rows));
            assert_eq!(lost.is_empty(), rows == 1, "byte {at}: {rows} rows, {lost:?}");
        }
    }

    #[test]
    fn an_old_copy_a_missing_file_and_a_changed_version_are_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(SCHEMA.name);
        let start = |last| {
            let opened = open(dir.path(), &SCHEMA, NOW).unwrap();
            (opened.recreated, opened.writes.check(last).len())
        };
        assert_eq!(start(0), (false, 0));
        let old = std::fs::read(&path).unwrap();
        assert_eq!(start(5), (false, 0));
        assert_eq!(start(6), (false, 0), "a command wrote");
        std::fs::write(&path, &old).unwrap();
        assert_eq!(start(0), (false, 1), "an old copy");
        assert_eq!(start(0), (false, 0), "said once");
        std::fs::remove_file(&path).unwrap();
        assert_eq!(start(0), (true, 1), "gone");
        // The lowest byte of `user_version`, and of the version in `application_id`.
        for at in [63, 68] {
            let mut bytes = std::fs::read(&path).unwrap();
            bytes[at] ^= 4;
            std::fs::write(&path, bytes).unwrap();
            assert!(start(0).0, "byte {at}");
        }
    }

    #[test]
    fn steps_that_another_process_took_meanwhile_are_not_taken_again() {
        let dir = tempfile::tempdir().unwrap();
        let mut opened = open(dir.path(), &SCHEMA, NOW).unwrap();
        let mark = |connection: &Connection| -> i64 {
            connection.pragma_query_value(None, "application_id", |row| row.get(0)).unwrap()
        };
        let before = mark(&opened.connection);
        assert_eq!(before, mark_of(2, 1));
        // Whoever found no steps taken, and waited for the one who took them.
        assert_eq!(take_steps(&mut opened.connection, SCHEMA.steps).unwrap(), 2);
        assert_eq!(mark(&opened.connection), before, "that the file was opened is still counted");
    }

    #[test]
    fn many_processes_that_start_at_once_find_no_damage() {
        for _round in 0..30 {
            let dir = tempfile::tempdir().unwrap();
            std::thread::scope(|scope| {
                let starts: Vec<_> =
                    (0..6).map(|_| scope.spawn(|| open(dir.path(), &SCHEMA, NOW))).collect();
                for start in starts {
                    assert!(!start.join().unwrap().unwrap().recreated);
                }
            });
            let names = std::fs::read_dir(dir.path()).unwrap().map(|one| one.unwrap().file_name());
            let aside = names.filter(|name| name.to_string_lossy().contains("damaged"));
            assert_eq!(aside.count(), 0);
        }
    }

    fn fill(opened: &Opened) {
        let filled = opened.connection.execute_batch(
            "WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n LIMIT 2000)
             INSERT INTO things SELECT n FROM n",
        );
        filled.unwrap();
    }

    #[test]
    fn a_file_and_those_beside_it_are_their_owners_alone_and_it_waits_for_the_disk() {
        let dir = tempfile::tempdir().unwrap();
        let opened = open(dir.path(), &SCHEMA, NOW).unwrap();
        fill(&opened);
        let files: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(Result::unwrap).collect();
        assert_eq!(files.len(), 4, "the file, its log, its index, the manifest");
        for file in files {
            assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        }
        let pragma = |name| {
            opened.connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0)).unwrap()
        };
        assert_eq!((pragma("synchronous"), pragma("user_version")), (2, 2));
    }

    #[test]
    fn steps_that_were_not_taken_are_and_a_later_versions_file_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let old = Schema { steps: &SCHEMA.steps[..1], ..SCHEMA };
        fill(&open(dir.path(), &old, NOW).unwrap());
        let opened = open(dir.path(), &SCHEMA, NOW).unwrap();
        let count = "SELECT count(*) FROM things INDEXED BY by_n";
        let rows: i64 = opened.connection.query_row(count, [], |row| row.get(0)).unwrap();
        assert_eq!(rows, 2000);
        drop(opened);
        for opened in [open(dir.path(), &old, NOW), open_existing(dir.path(), &old)] {
            let newer = opened.unwrap_err().to_string();
            assert!(newer.contains("later version of Fortify (schema 2)"), "{newer}");
            assert!(newer.contains("the new file starts empty"), "{newer}");
        }
        assert!(!open(dir.path(), &SCHEMA, NOW).unwrap().recreated);
    }

    #[test]
    fn a_command_makes_a_file_that_is_the_gates() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        let missing = open_for_owner(&data, &SCHEMA).unwrap_err();
        assert!(matches!(missing, FileError::NotThere(_)), "{missing}");
        std::fs::create_dir(&data).unwrap();
        // Only root can make a directory somebody else's.
        let given = std::os::unix::fs::chown(&data, Some(12_345), Some(12_345)).is_ok();
        let opened = open_for_owner(&data, &SCHEMA).unwrap();
        fill(&opened);
        let owner = std::fs::metadata(&data).unwrap().uid();
        assert!(!given || owner == 12_345);
        let files: Vec<_> = std::fs::read_dir(&data).unwrap().map(Result::unwrap).collect();
        assert_eq!(files.len(), 3, "the file, its log and its index");
        for file in files {
            let file = file.metadata().unwrap();
            assert_eq!((file.uid(), file.permissions().mode() & 0o777), (owner, 0o600));
        }
        drop(opened);
        let again = open_for_owner(&data, &SCHEMA).unwrap();
        let count = "SELECT count(*) FROM things";
        let rows: i64 = again.connection.query_row(count, [], |row| row.get(0)).unwrap();
        assert_eq!(rows, 2000, "an existing file was recreated");
    }

    /// Damage at the start of a file, in its middle, and a file that ends too soon.
    #[test]
    fn damaged_files_are_quarantined_with_what_is_beside_them() {
        let damages: [fn(&mut Vec<u8>); 3] = [
            |bytes| bytes.fill(7),
            |bytes| bytes[4096..8192].fill(7),
            |bytes| bytes.truncate(9000),
        ];
        for damage in damages {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join(SCHEMA.name);
            // Closed, so that the log is in the file.
            fill(&open(dir.path(), &SCHEMA, NOW).unwrap());
            let mut bytes = std::fs::read(&path).unwrap();
            damage(&mut bytes);
            std::fs::write(&path, &bytes).unwrap();
            std::fs::write(with(&path, "-wal"), "left over").unwrap();
            assert!(matches!(verify(&path), Err(FileError::Damaged { .. })));
            assert!(matches!(open_sound(dir.path(), &SCHEMA), Err(FileError::Damaged { .. })));
            assert_eq!(std::fs::read(&path).unwrap(), bytes, "left where it is");
            std::fs::write(with(&path, "-wal"), "left over").unwrap();
            let opened = open(dir.path(), &SCHEMA, NOW).unwrap();
            assert!(opened.recreated);
            let aside = with(&path, ".damaged-1800000000");
            assert_eq!(std::fs::read(&aside).unwrap(), bytes);
            fill(&opened);
            assert!(verify(&path).is_ok());
            assert!(!open(dir.path(), &SCHEMA, NOW).unwrap().recreated);
        }
    }

    #[test]
    fn the_command_line_puts_nothing_aside() {
        let dir = tempfile::tempdir().unwrap();
        let missing = open_existing(dir.path(), &SCHEMA).unwrap_err().to_string();
        assert!(missing.contains("audit.sqlite: is not there; start the gate once"), "{missing}");
        let nowhere = open(&dir.path().join("none"), &SCHEMA, NOW).unwrap_err().to_string();
        assert!(nowhere.contains("cannot be opened") && nowhere.contains("storage.data_dir"));
        std::fs::write(dir.path().join(SCHEMA.name), vec![7; 5000]).unwrap();
        let damaged = open_existing(dir.path(), &SCHEMA).unwrap_err().to_string();
        assert!(damaged.contains("is damaged") && damaged.contains("start the gate again"));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_bounded_number_of_damaged_files_is_kept_the_latest() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(SCHEMA.name);
        for round in 0..5_u8 {
            std::fs::write(&path, vec![round; 5000]).unwrap();
            // All in one second.
            assert!(open(dir.path(), &SCHEMA, NOW).unwrap().recreated);
        }
        let damaged: Vec<_> = std::fs::read_dir(dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.contains("damaged"))
            .collect();
        assert_eq!(damaged.len(), MAX_DAMAGED, "{damaged:?}");
        let latest = with(&path, ".damaged-1800000004");
        assert_eq!(std::fs::read(latest).unwrap(), vec![4; 5000]);
    }
}
