//! The log of what operators changed: who, by what means, what, from, to, why.
//!
//! Every entry is on disk before the change is acknowledged: in the same transaction where the change is in
//! the same file, and otherwise before the change is made. The oldest go when there are too many. What was
//! refused is counted by the minute, so that a flood of wrong passwords does not push the changes out.

use rusqlite::{Transaction, params};
use schemars::JsonSchema;
use serde::Serialize;

use super::identity::Who;
use crate::clock::Timestamp;

/// Changes that are kept, the latest: at about 300 bytes each 30 MB.
pub const MAX_ROWS: u64 = 100_000;

/// Minutes with refusals that are kept for each kind of refusal: two months of a siege.
pub const MAX_REFUSALS: u64 = 100_000;

/// Bytes of a reason, and of every other text of an entry.
pub const MAX_TEXT: usize = 500;

/// One change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Entry {
    /// When, ms since the Unix epoch.
    pub at: Timestamp,
    /// The account, token or operator.
    pub who: String,
    /// `session`, `token`, `socket`, `file`, `signal` or `setup`.
    pub means: String,
    /// What was done, as `circuit.ban`.
    pub action: String,
    /// To what.
    pub target: String,
    /// How it was.
    pub from: String,
    /// How it is.
    pub to: String,
    /// Why, in words.
    pub reason: String,
}

/// A kind of refusal, counted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Refusals {
    /// The minute, ms since the Unix epoch.
    pub at: Timestamp,
    /// What was refused, and why.
    pub what: String,
    /// How often.
    pub count: u64,
}

/// Why somebody was refused: what is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refused {
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

impl Refused {
    /// Every kind.
    pub const ALL: [Self; 6] =
        [Self::Login, Self::Waiting, Self::Setup, Self::Token, Self::Form, Self::Role];

    /// The word in the log and in the metric.
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
    /// What `who` does at `at`. Texts are cut at [`MAX_TEXT`] bytes and lose their control characters.
    #[must_use]
    pub fn new(who: &Who, at: Timestamp, action: &str, target: &str) -> Self {
        let means = who.means.as_str().to_owned();
        Self {
            at,
            who: plain(&who.name),
            means,
            action: plain(action),
            target: plain(target),
            from: String::new(),
            to: String::new(),
            reason: String::new(),
        }
    }

    /// From what to what.
    #[must_use]
    pub fn change(mut self, from: impl ToString, to: impl ToString) -> Self {
        self.from = plain(&from.to_string());
        self.to = plain(&to.to_string());
        self
    }

    /// Why.
    #[must_use]
    pub fn because(mut self, reason: &str) -> Self {
        self.reason = plain(reason);
        self
    }
}

fn plain(text: &str) -> String {
    let mut length = 0;
    let fits = |c: &char| {
        length += c.len_utf8();
        length <= MAX_TEXT
    };
    text.chars().filter(|c| !c.is_control()).take_while(fits).collect()
}

/// Writes an entry down, and lets the oldest go where there are too many.
pub(super) fn append(writing: &Transaction<'_>, entry: &Entry) -> rusqlite::Result<()> {
    writing.execute(
        "INSERT INTO log (at, who, means, action, target, before, after, reason)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        params![
            number(entry.at.as_millis()),
            entry.who,
            entry.means,
            entry.action,
            entry.target,
            entry.from,
            entry.to,
            entry.reason
        ],
    )?;
    writing.execute(
        "DELETE FROM log WHERE seq <= (SELECT max(seq) FROM log) - ?1",
        [number(MAX_ROWS)],
    )?;
    Ok(())
}

/// Adds to the refusals of a minute.
pub(super) fn count(
    writing: &Transaction<'_>,
    minute: Timestamp,
    what: Refused,
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

/// The last `most` changes before `before`, the latest first.
pub(super) fn read(
    connection: &rusqlite::Connection,
    before: Timestamp,
    most: u64,
) -> rusqlite::Result<Vec<Entry>> {
    let mut statement = connection.prepare(
        "SELECT at, who, means, action, target, before, after, reason FROM log
         WHERE at < ?1 ORDER BY seq DESC LIMIT ?2",
    )?;
    let rows = statement.query_map([number(before.as_millis()), number(most)], |row| {
        Ok(Entry {
            at: timestamp(row.get(0)?),
            who: row.get(1)?,
            means: row.get(2)?,
            action: row.get(3)?,
            target: row.get(4)?,
            from: row.get(5)?,
            to: row.get(6)?,
            reason: row.get(7)?,
        })
    })?;
    rows.collect()
}

/// As [`read`], for refusals.
pub(super) fn read_refusals(
    connection: &rusqlite::Connection,
    before: Timestamp,
    most: u64,
) -> rusqlite::Result<Vec<Refusals>> {
    let mut statement = connection.prepare(
        "SELECT minute, what, count FROM refusals WHERE minute < ?1 ORDER BY minute DESC LIMIT ?2",
    )?;
    let rows = statement.query_map([number(before.as_millis()), number(most)], |row| {
        let count: i64 = row.get(2)?;
        let count = u64::try_from(count).unwrap_or(0);
        Ok(Refusals { at: timestamp(row.get(0)?), what: row.get(1)?, count })
    })?;
    rows.collect()
}

/// SQLite's numbers are signed.
pub(super) fn number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

pub(super) fn timestamp(value: i64) -> Timestamp {
    Timestamp::from_millis(u64::try_from(value).unwrap_or(0))
}
