//! The SQLite files: intact, and of a schema that this program knows.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC};
use rusqlite::{Connection, OpenFlags};

use super::service_user::ServiceUser;
use super::{Finding, LIMIT};
use fortify_admin::schema as admin;
use fortify_config::Config;
use fortify_engine::threat::history;
use fortify_reputation::status_db;

/// How long to wait for a gate that is writing.
const BUSY: Duration = Duration::from_millis(500);

/// The characters that are not percent-encoded in the path of a URI.
const PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/');

/// A database file, its schema, and the consequence of starting without it.
struct Database {
    check: &'static str,
    name: &'static str,
    version: i64,
    lost: &'static str,
    /// Whether to restore a copy first: without this file, anyone with the new setup token becomes admin.
    copy_first: bool,
}

const DATABASES: [Database; 3] = [
    Database {
        check: "databases.reputation",
        name: status_db::FILE_NAME,
        version: status_db::SCHEMA_VERSION,
        lost: "bans and trust are lost",
        copy_first: false,
    },
    Database {
        check: "databases.audit",
        name: history::FILE_NAME,
        version: history::SCHEMA_VERSION,
        lost: "the dial returns to its configured level, and its history is lost",
        copy_first: false,
    },
    Database {
        check: "databases.admin",
        name: admin::FILE_NAME,
        version: admin::SCHEMA_VERSION,
        lost: "there are no accounts, no tokens and no record of changes, and a new setup token",
        copy_first: true,
    },
];

/// The first complaint of `quick_check`, and the schema's version.
type Inspection = rusqlite::Result<(String, i64)>;

pub(super) async fn check(config: &Config, user: &ServiceUser) -> Vec<Finding> {
    let mut findings = Vec::new();
    for database in &DATABASES {
        let path = config.storage.data_dir.join(database.name);
        findings.push(match path.try_exists() {
            Ok(true) => check_database(database, &path, inspect(&path).await, user),
            Ok(false) => Finding::skipped(
                database.check,
                format!(
                    "{} does not exist; a gate that needs it creates it at its start",
                    path.display()
                ),
            ),
            Err(error) => Finding::skipped(database.check, format!("{}: {error}", path.display())),
        });
    }
    findings
}

/// `None` if it took too long, as with a file of gigabytes.
async fn inspect(path: &Path) -> Option<Inspection> {
    let connection = open(path);
    let connection = match connection {
        Ok(connection) => connection,
        Err(error) => return Some(Err(error)),
    };
    let interrupt = connection.get_interrupt_handle();
    let inspecting = tokio::task::spawn_blocking(move || {
        connection.busy_timeout(BUSY)?;
        let said = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
        let version = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
        Ok((said, version))
    });
    match tokio::time::timeout(LIMIT, inspecting).await {
        Ok(looked) => looked.ok(),
        Err(_elapsed) => {
            interrupt.interrupt();
            None
        }
    }
}

/// Opens the file read-only. If there is a write-ahead log, a gate may be running and SQLite's usual locking
/// applies; otherwise the file is opened as immutable, so that no file is created that the gate's user could not
/// open later.
fn open(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    if beside(path, "-wal").exists() {
        return Connection::open_with_flags(path, flags);
    }
    let name = percent_encoding::percent_encode(path.as_os_str().as_encoded_bytes(), PATH);
    let uri = format!("file:{name}?immutable=1");
    Connection::open_with_flags(uri, flags | OpenFlags::SQLITE_OPEN_URI)
}

fn beside(path: &Path, end: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(end);
    name.into()
}

fn check_database(
    database: &Database,
    path: &Path,
    looked: Option<Inspection>,
    user: &ServiceUser,
) -> Finding {
    let place = path.display();
    let damaged = |what: &str| {
        let found = format!("{place} is damaged: {what}");
        let copy = match database.copy_first {
            true => "restore a backup and start it; without a backup ",
            false => "",
        };
        let advice = format!(
            "stop the gate, {copy}move {place} and its -wal and -shm files away, and start it: {}; check the \
             disk (dmesg)",
            database.lost
        );
        Finding::fail(database.check, found, advice)
    };
    match looked {
        None => Finding::skipped(database.check, format!("{place}: not read within 2 s")),
        Some(Ok((said, _))) if said != "ok" => damaged(said.lines().next().unwrap_or_default()),
        Some(Ok((_, version))) if version > database.version => Finding::fail(
            database.check,
            format!("{place} has schema {version}, this program knows {}", database.version),
            match database.copy_first {
                true => format!(
                    "start the later version of Fortify that wrote it, or restore a backup from before; if \
                     you move it away, {}",
                    database.lost
                ),
                false => {
                    "start the later version of Fortify that wrote it, or move the file away".into()
                }
            },
        ),
        Some(Ok((_, version))) => {
            Finding::ok(database.check, format!("{place} is intact, schema {version}"))
        }
        Some(Err(error)) => match error.sqlite_error_code() {
            Some(rusqlite::ErrorCode::DatabaseCorrupt | rusqlite::ErrorCode::NotADatabase) => {
                damaged(&error.to_string())
            }
            _ if !user.is_gate() && !user.is_root() => Finding::skipped(
                database.check,
                format!("{place}: {error}; run this as the gate's user"),
            ),
            _ => Finding::fail(
                database.check,
                format!("{place}: {error}"),
                format!(
                    "chown it and its -wal and -shm files to the gate's user, and chmod 600 {place}"
                ),
            ),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::super::CheckStatus;
    use super::*;

    #[test]
    fn the_advice_for_accounts_is_to_restore_a_backup_first() {
        let advice = |check, looked: Inspection| {
            let database = DATABASES.iter().find(|database| database.check == check).unwrap();
            let judged =
                check_database(database, Path::new("/d"), Some(looked), &ServiceUser::default());
            assert_eq!(judged.status, CheckStatus::Fail);
            judged.advice.unwrap()
        };
        let damaged = || Ok(("row 1 missing".to_owned(), 1));
        let newer = || Ok(("ok".to_owned(), 99));
        for looked in [damaged, newer] {
            let said = advice("databases.admin", looked());
            let (copy, away) = (said.find("restore a backup"), said.find("move"));
            assert!(copy.is_some() && copy < away && said.contains("no accounts"), "{said}");
            assert!(!advice("databases.audit", looked()).contains("backup"));
        }
    }

    #[tokio::test]
    async fn damage_is_found_and_no_file_is_created() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a b%.sqlite");
        let connection = Connection::open(&path).unwrap();
        connection.pragma_update(None, "journal_mode", "WAL").unwrap();
        let fill = "CREATE TABLE t (x); CREATE INDEX i ON t (x);
                    WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 2000)
                    INSERT INTO t SELECT hex(randomblob(50)) FROM c; PRAGMA user_version = 1;";
        connection.execute_batch(fill).unwrap();
        let database = &DATABASES[0];
        let judged =
            async || check_database(database, &path, inspect(&path).await, &ServiceUser::default());
        assert_eq!(judged().await.status, CheckStatus::Ok, "beside a process that has it open");
        connection.pragma_update(None, "user_version", 99).unwrap();
        let newer = judged().await;
        assert!(newer.status == CheckStatus::Fail && newer.found.contains("99"), "{newer:?}");
        connection.pragma_update(None, "user_version", 1).unwrap();
        drop(connection);
        assert_eq!(judged().await.status, CheckStatus::Ok);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "something was made");

        let mut bytes = std::fs::read(&path).unwrap();
        let length = bytes.len();
        bytes[4096..length - 4096].fill(0x5a);
        std::fs::write(&path, &bytes).unwrap();
        let inside = judged().await;
        assert!(
            inside.status == CheckStatus::Fail && inside.found.contains("damaged"),
            "{inside:?}"
        );
        std::fs::write(&path, "no database at all, and long enough to be read as one").unwrap();
        let whole = judged().await;
        assert!(whole.status == CheckStatus::Fail && whole.found.contains("damaged"), "{whole:?}");
    }
}
