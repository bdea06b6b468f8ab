//! The file of the operator's side: opened, and brought up to date.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};

use super::accounts::AccountsError;

/// The file in the data directory.
const FILE_NAME: &str = "admin.sqlite";

/// How long a write waits for another process that is writing.
const BUSY_TIMEOUT: Duration = Duration::from_secs(3);

/// The schema, one step a version: `user_version` says how many were taken.
const MIGRATIONS: [&str; 1] = ["
    CREATE TABLE users (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        name TEXT NOT NULL UNIQUE,
        role TEXT NOT NULL CHECK (role IN ('viewer', 'operator', 'admin')),
        password TEXT NOT NULL,
        totp BLOB,
        totp_step INTEGER NOT NULL DEFAULT 0,
        generation INTEGER NOT NULL DEFAULT 0,
        created INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE tokens (
        id TEXT PRIMARY KEY,
        hash BLOB NOT NULL UNIQUE,
        role TEXT NOT NULL CHECK (role IN ('viewer', 'operator', 'admin')),
        label TEXT NOT NULL,
        made_by TEXT NOT NULL,
        created INTEGER NOT NULL,
        expires INTEGER NOT NULL,
        revoked INTEGER
    ) STRICT;
    CREATE TABLE setup (
        id INTEGER PRIMARY KEY CHECK (id = 0),
        hash BLOB
    ) STRICT;
    CREATE TABLE log (
        seq INTEGER PRIMARY KEY,
        at INTEGER NOT NULL,
        who TEXT NOT NULL,
        means TEXT NOT NULL,
        action TEXT NOT NULL,
        target TEXT NOT NULL,
        before TEXT NOT NULL,
        after TEXT NOT NULL,
        reason TEXT NOT NULL
    ) STRICT;
    CREATE TABLE refusals (
        minute INTEGER NOT NULL,
        what TEXT NOT NULL,
        count INTEGER NOT NULL,
        PRIMARY KEY (minute, what)
    ) STRICT, WITHOUT ROWID;
"];

/// Opens the file in `data_dir`; makes it, for its owner alone, if there is none.
pub(super) fn open(data_dir: &Path) -> Result<(Connection, PathBuf), AccountsError> {
    let path = data_dir.join(FILE_NAME);
    // SQLite gives the files beside it the same mode.
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
    match made {
        Ok(_empty) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(AccountsError::Open { path, cause: error.to_string() }),
    }
    open_at(path)
}

/// As [`open`], where a gate was started before: a command that made the file as another user would keep
/// the gate out of it.
pub(super) fn open_existing(data_dir: &Path) -> Result<(Connection, PathBuf), AccountsError> {
    let path = data_dir.join(FILE_NAME);
    match path.try_exists() {
        Ok(true) => open_at(path),
        Ok(false) => Err(AccountsError::NotThere(path)),
        Err(error) => Err(AccountsError::Open { path, cause: error.to_string() }),
    }
}

fn open_at(path: PathBuf) -> Result<(Connection, PathBuf), AccountsError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let opened = Connection::open_with_flags(&path, flags).and_then(|mut connection| {
        connection.busy_timeout(BUSY_TIMEOUT)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        let version = migrate(&mut connection)?;
        Ok((connection, version))
    });
    match opened {
        Ok((_, version)) if version > MIGRATIONS.len() as i64 => {
            Err(AccountsError::Newer { path, version })
        }
        Ok((connection, _)) => Ok((connection, path)),
        Err(error) => {
            let cause = error.to_string();
            Err(match is_damage(&error) {
                true => AccountsError::Damaged { path, cause },
                false => AccountsError::Open { path, cause },
            })
        }
    }
}

/// Takes the steps that the file has not taken; the number it is at then.
fn migrate(connection: &mut Connection) -> rusqlite::Result<i64> {
    let writing = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let version: i64 = writing.pragma_query_value(None, "user_version", |row| row.get(0))?;
    for step in MIGRATIONS.iter().skip(usize::try_from(version).unwrap_or(0)) {
        writing.execute_batch(step)?;
    }
    let version = version.max(MIGRATIONS.len() as i64);
    writing.pragma_update(None, "user_version", version)?;
    writing.commit()?;
    Ok(version)
}

pub(super) fn is_damage(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
}
