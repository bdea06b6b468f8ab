//! The schema of the admin interface's database.

use fortify_core::sqlite::Schema;

/// The file's name in the data directory.
pub const FILE_NAME: &str = "admin.sqlite";

/// `admin.sqlite` in the data directory.
pub(super) const SCHEMA: Schema =
    Schema { name: FILE_NAME, steps: &[TABLES, VISITS], consequence: "all accounts are lost" };

/// The schema version that this program writes, which is the file's `user_version`.
pub const SCHEMA_VERSION: i64 = SCHEMA.steps.len() as i64;

const TABLES: &str = "
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
";

/// A table for log-ins and log-outs, which would otherwise displace the changes.
const VISITS: &str = "
    CREATE TABLE visits (
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
    INSERT INTO visits SELECT * FROM log WHERE action IN ('login', 'logout');
    DELETE FROM log WHERE action IN ('login', 'logout');
";
