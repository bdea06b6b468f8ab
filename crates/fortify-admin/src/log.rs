//! The log of operators' changes: who changed what, how they were authenticated, the old and new value, and why.
//!
//! Every entry is on disk before the change is acknowledged: in the same transaction if the change is in the same
//! file, otherwise before the change is made. When there are too many entries, the oldest are deleted. Refusals are
//! counted by the minute, so that a flood of wrong passwords does not displace the changes; log-ins and log-outs have a
//! table and a limit of their own for the same reason.

use rusqlite::{Transaction, params};
use schemars::JsonSchema;
use serde::Serialize;

use super::identity::Principal;
use fortify_core::clock::Timestamp;

/// The most changes that are kept: about 30 MB, at about 300 bytes each.
pub const MAX_ROWS: u64 = 100_000;

/// The most log-ins and log-outs that are kept: half a year of fifty a day.
pub const MAX_VISITS: u64 = 10_000;

/// The most minutes with refusals that are kept, for each kind: two months of continuous attack.
pub const MAX_REFUSALS: u64 = 100_000;

/// The longest text of an entry, in bytes.
pub const MAX_TEXT: usize = 500;

/// One change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Entry {
    /// When it was made, in ms since the Unix epoch.
    pub at: Timestamp,
    /// The account, token or operator.
    pub principal: String,
    /// `session`, `token`, `socket`, `file`, `signal` or `setup`.
    pub auth_method: String,
    /// The action, such as `circuit.ban`.
    pub action: String,
    /// The object that was changed.
    pub target: String,
    /// The old value.
    pub from: String,
    /// The new value.
    pub to: String,
    /// The reason that the operator gave.
    pub reason: String,
}

/// Where a page of the log ended. Everything on the next page is before these positions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogCursor {
    /// The number of a change.
    pub changes: u64,
    /// The number of a log-in or log-out.
    pub visits: u64,
    /// The minute, in ms since the Unix epoch, and the kind of a count of refusals.
    pub refusals: (u64, String),
}

impl LogCursor {
    /// The position after the latest entry.
    pub const LATEST: Self =
        Self { changes: u64::MAX, visits: u64::MAX, refusals: (u64::MAX, String::new()) };
}

/// A part of the log: three lists, each with the latest first.
#[derive(Debug, Default)]
pub struct LogPage {
    /// Changes, by number.
    pub changes: Vec<(u64, Entry)>,
    /// Log-ins and log-outs, by number.
    pub visits: Vec<(u64, Entry)>,
    /// Counts of refusals.
    pub refusals: Vec<Refusals>,
}

/// The refusals of one kind in one minute.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Refusals {
    /// The minute, in ms since the Unix epoch.
    pub at: Timestamp,
    /// The kind.
    pub what: String,
    /// How often.
    pub count: u64,
}

/// A kind of refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RefusalKind {
    /// A wrong name, password or code.
    Login,
    /// A log-in that had to wait.
    Waiting,
    /// A wrong setup token.
    Setup,
    /// A token that is unknown, expired or revoked.
    Token,
    /// A form without its token.
    Form,
    /// A role that was not enough.
    Role,
}

impl RefusalKind {
    /// All kinds.
    pub const ALL: [Self; 6] =
        [Self::Login, Self::Waiting, Self::Setup, Self::Token, Self::Form, Self::Role];

    /// The name in the log and in the metric.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Login => "login",
            Self::Waiting => "login_waiting",
            Self::Setup => "setup",
            Self::Token => "token",
            Self::Form => "form",
            Self::Role => "role",
        }
    }
}

impl Entry {
    /// An entry for a change by `principal` at `at`. Texts are cut at [`MAX_TEXT`] bytes, and control characters are
    /// removed.
    #[must_use]
    pub fn new(principal: &Principal, at: Timestamp, action: &str, target: &str) -> Self {
        let auth_method = principal.auth_method.as_str().to_owned();
        Self {
            at,
            principal: plain(&principal.name),
            auth_method,
            action: plain(action),
            target: plain(target),
            from: String::new(),
            to: String::new(),
            reason: String::new(),
        }
    }

    /// Adds the old and the new value.
    #[must_use]
    pub fn change(mut self, from: impl ToString, to: impl ToString) -> Self {
        self.from = plain(&from.to_string());
        self.to = plain(&to.to_string());
        self
    }

    /// Adds the reason.
    #[must_use]
    pub fn because(mut self, reason: &str) -> Self {
        self.reason = plain(reason);
        self
    }
}

/// The tables of entries.
const CHANGES: &str = "log";
const VISITS: &str = "visits";

fn plain(text: &str) -> String {
    let mut length = 0;
    let fits = |c: &char| {
        length += c.len_utf8();
        length <= MAX_TEXT
    };
    text.chars().filter(|c| !c.is_control()).take_while(fits).collect()
}

/// Writes an entry, and deletes the oldest if there are too many.
pub(super) fn append(writing: &Transaction<'_>, entry: &Entry) -> rusqlite::Result<()> {
    let (table, most) = match entry.action.as_str() {
        "login" | "logout" => (VISITS, MAX_VISITS),
        _ => (CHANGES, MAX_ROWS),
    };
    writing.execute(
        &format!(
            "INSERT INTO {table} (at, who, means, action, target, before, after, reason)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)"
        ),
        params![
            number(entry.at.as_millis()),
            entry.principal,
            entry.auth_method,
            entry.action,
            entry.target,
            entry.from,
            entry.to,
            entry.reason
        ],
    )?;
    writing.execute(
        &format!("DELETE FROM {table} WHERE seq <= (SELECT max(seq) FROM {table}) - ?1"),
        [number(most)],
    )?;
    Ok(())
}

/// Adds to the refusals of a minute.
pub(super) fn count(
    writing: &Transaction<'_>,
    minute: Timestamp,
    what: RefusalKind,
    count: u64,
) -> rusqlite::Result<()> {
    writing.execute(
        "INSERT INTO refusals VALUES (?1, ?2, ?3)
         ON CONFLICT DO UPDATE SET count = count + excluded.count",
        params![number(minute.as_millis()), what.as_str(), number(count)],
    )?;
    writing.execute(
        "DELETE FROM refusals WHERE (SELECT count(*) FROM refusals) > ?1 AND minute =
         (SELECT min(minute) FROM refusals)",
        [number(MAX_REFUSALS)],
    )?;
    Ok(())
}

/// The last `most` entries of each list before `before` and `place`.
pub(super) fn read(
    connection: &rusqlite::Connection,
    before: Timestamp,
    place: &LogCursor,
    most: u64,
) -> rusqlite::Result<LogPage> {
    Ok(LogPage {
        changes: read_entries(connection, CHANGES, before, place.changes, most)?,
        visits: read_entries(connection, VISITS, before, place.visits, most)?,
        refusals: read_refusals(connection, before, place, most)?,
    })
}

fn read_entries(
    connection: &rusqlite::Connection,
    table: &str,
    before: Timestamp,
    below: u64,
    most: u64,
) -> rusqlite::Result<Vec<(u64, Entry)>> {
    let mut statement = connection.prepare(&format!(
        "SELECT at, who, means, action, target, before, after, reason, seq FROM {table}
         WHERE seq < ?1 AND at < ?2 ORDER BY seq DESC LIMIT ?3"
    ))?;
    let bounds = [number(below), number(before.as_millis()), number(most)];
    let rows = statement.query_map(bounds, |row| {
        let seq: i64 = row.get(8)?;
        let entry = Entry {
            at: timestamp(row.get(0)?),
            principal: row.get(1)?,
            auth_method: row.get(2)?,
            action: row.get(3)?,
            target: row.get(4)?,
            from: row.get(5)?,
            to: row.get(6)?,
            reason: row.get(7)?,
        };
        Ok((u64::try_from(seq).unwrap_or(0), entry))
    })?;
    rows.collect()
}

fn read_refusals(
    connection: &rusqlite::Connection,
    before: Timestamp,
    place: &LogCursor,
    most: u64,
) -> rusqlite::Result<Vec<Refusals>> {
    let mut statement = connection.prepare(
        "SELECT minute, what, count FROM refusals
         WHERE (minute, what) < (?1, ?2) AND minute < ?3 ORDER BY minute DESC, what DESC LIMIT ?4",
    )?;
    let (minute, what) = &place.refusals;
    let bounds = params![number(*minute), what, number(before.as_millis()), number(most)];
    let rows = statement.query_map(bounds, |row| {
        let count: i64 = row.get(2)?;
        let count = u64::try_from(count).unwrap_or(0);
        Ok(Refusals { at: timestamp(row.get(0)?), what: row.get(1)?, count })
    })?;
    rows.collect()
}

/// Converts to SQLite's signed integers.
pub(super) fn number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

pub(super) fn timestamp(value: i64) -> Timestamp {
    Timestamp::from_millis(u64::try_from(value).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::super::accounts::Accounts;
    use super::super::identity::{AuthMethod, Role};
    use super::super::schema::SCHEMA;
    use super::*;
    use fortify_core::sqlite::{self, Schema};

    const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);
    const EVER: Timestamp = Timestamp::from_millis(u64::MAX);

    fn entry(action: &str) -> Entry {
        let principal = Principal {
            name: "eve".to_owned(),
            role: Role::Viewer,
            auth_method: AuthMethod::Session,
        };
        Entry::new(&principal, NOW, action, "eve")
    }

    #[test]
    fn log_ins_and_log_outs_displace_no_change() {
        let dir = tempfile::tempdir().unwrap();
        let accounts = Accounts::open(dir.path()).unwrap();
        accounts.log(&entry("dial.set")).unwrap();
        let visits: Vec<_> = ["login", "logout"].map(entry).into_iter().cycle().take(300).collect();
        for _ in 0..334 {
            accounts.log_all(&visits).unwrap();
        }
        let kept = accounts.kept(EVER, &LogCursor::LATEST, u64::MAX).unwrap();
        assert_eq!(kept.visits.len() as u64, MAX_VISITS);
        assert_eq!(kept.changes.len(), 1, "100,200 log-ins displaced a change");
    }

    #[test]
    fn log_ins_among_the_changes_of_an_older_file_are_moved() {
        let dir = tempfile::tempdir().unwrap();
        let old = Schema { steps: &SCHEMA.steps[..1], ..SCHEMA };
        let opened = sqlite::open_sound(dir.path(), &old).unwrap();
        let filled = opened.connection.execute_batch(
            "INSERT INTO log VALUES (7, 1, 'eve', 'session', 'login', 'eve', '', '', ''),
                                    (8, 1, 'ada', 'session', 'user.add', 'eve', '', '', '')",
        );
        filled.unwrap();
        drop(opened);
        let accounts = Accounts::open(dir.path()).unwrap();
        let kept = accounts.kept(EVER, &LogCursor::LATEST, 10).unwrap();
        let actions =
            |all: &[(u64, Entry)]| all.iter().map(|(_, it)| it.action.clone()).collect::<Vec<_>>();
        assert_eq!(
            (actions(&kept.changes), actions(&kept.visits)),
            (vec!["user.add".to_owned()], vec!["login".to_owned()])
        );
    }
}
