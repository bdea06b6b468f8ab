//! What was changed: turns of the dial and the log of the admin interface, by time.

use std::fmt;
use std::pin::Pin;
use std::task::{self, Poll};

use axum::body::Body;
use axum::http::{HeaderValue, header};
use axum::response::Response;
use bytes::Bytes;
use http_body::Frame;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::accounts::Accounts;
use crate::error::AdminError;
use crate::handler::{Context, Nothing};
use crate::log::{Entry, LogCursor, LogPage, Refusals};
use fortify_core::clock::Timestamp;
use fortify_engine::threat::history::DialRow;

/// Records on a page, at most and unless it is said.
pub const MOST: u64 = 1000;
const USUALLY: u64 = 100;

/// Records of an export that are in memory at a time.
pub const EXPORTED_TOGETHER: u64 = 250;

/// Which records.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Page {
    /// Before when, ms since the Unix epoch; now unless given.
    pub before: Option<u64>,
    /// The `next` of the page before.
    pub after: Option<String>,
    /// How many, 100 unless given and at most 1,000.
    pub limit: Option<u64>,
}

/// Where a page ended, in each of the lists: a time would not do, for several records have the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// The number of a turn of the dial.
    pub turns: u64,
    /// The same in the log.
    pub log: LogCursor,
}

impl Cursor {
    /// Before which everything is.
    pub const LATEST: Self = Self { turns: u64::MAX, log: LogCursor::LATEST };

    fn parse(text: &str) -> Option<Self> {
        let (numbers, what) = text.rsplit_once('.')?;
        let mut numbers = numbers.split('.').map(|number| number.parse().ok());
        let mut next = || numbers.next().flatten();
        let (turns, changes, visits, minute) = (next()?, next()?, next()?, next()?);
        let plain = |c: char| c.is_ascii_lowercase() || c == '_';
        if numbers.next().is_some() || what.len() > LONGEST_KIND || !what.chars().all(plain) {
            return None;
        }
        Some(Self {
            turns,
            log: LogCursor { changes, visits, refusals: (minute, what.to_owned()) },
        })
    }
}

/// Letters of a kind of refusal, and more.
const LONGEST_KIND: usize = 32;

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let LogCursor { changes, visits, refusals: (minute, what) } = &self.log;
        write!(f, "{}.{changes}.{visits}.{minute}.{what}", self.turns)
    }
}

/// One record.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Record {
    /// A turn of the dial.
    Turn(DialRow),
    /// A change.
    Change(Entry),
    /// What was refused in a minute.
    Refused(Refusals),
}

/// A page of records.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Audit {
    /// The latest first.
    pub records: Vec<Record>,
    /// What to give as `after` for the next page; nothing on the last.
    pub next: Option<String>,
}

/// A page of what was changed, the latest first.
///
/// # Errors
///
/// [`AdminError::BadRequest`] where `after` is none that was given; faults of the files.
pub async fn show(context: Context, args: Page) -> Result<Audit, AdminError> {
    let limit = args.limit.unwrap_or(USUALLY).clamp(1, MOST);
    let before = args.before.map_or(EVER, Timestamp::from_millis);
    let bad = || AdminError::BadRequest("after: use the next of the page before".to_owned());
    let after = args.after.as_deref().map(|text| Cursor::parse(text).ok_or_else(bad));
    let cursor = after.transpose()?.unwrap_or(Cursor::LATEST);
    let (records, next) = read(&context, before, cursor, limit).await?;
    Ok(Audit { records, next: next.map(|cursor| cursor.to_string()) })
}

/// Everything that is kept, as JSON lines, the latest first.
///
/// It is read a little at a time, as fast as it is fetched: neither memory nor the files are held meanwhile.
///
/// # Errors
///
/// [`AdminError::Busy`] while something else is looked through; faults of the files. One that comes later
/// breaks the answer off.
pub async fn export(context: Context, _: Nothing) -> Result<Response, AdminError> {
    let permit = context.admin.scan()?;
    let first = read(&context, EVER, Cursor::LATEST, EXPORTED_TOGETHER).await?;
    drop(permit);
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        let (mut records, mut next) = first;
        // Whoever fetches no more has dropped the receiver.
        while sender.send(Ok(lines(&records).into())).await.is_ok() {
            let Some(cursor) = next.take() else { break };
            match read_in_turn(&context, cursor).await {
                Ok(read) => (records, next) = read,
                Err(error) => {
                    tracing::error!(%error, "an export of the audit was broken off");
                    drop(sender.send(Err(error)).await);
                    break;
                }
            }
        }
    });
    let mut response = Response::new(Body::new(Lines(receiver)));
    let lines = HeaderValue::from_static("application/x-ndjson");
    response.headers_mut().insert(header::CONTENT_TYPE, lines);
    Ok(response)
}

async fn read_in_turn(context: &Context, cursor: Cursor) -> Result<Read, AdminError> {
    let _permit = context.admin.scan_in_turn().await?;
    read(context, EVER, cursor, EXPORTED_TOGETHER).await
}

/// An answer that is still being read.
struct Lines(mpsc::Receiver<Result<Bytes, AdminError>>);

impl http_body::Body for Lines {
    type Data = Bytes;
    type Error = AdminError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut task::Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, AdminError>>> {
        self.0.poll_recv(cx).map(|lines| lines.map(|lines| lines.map(Frame::data)))
    }
}

/// Records as JSON lines.
pub fn lines(records: &[Record]) -> Vec<u8> {
    let mut text = Vec::new();
    for record in records {
        if serde_json::to_writer(&mut text, record).is_ok() {
            text.push(b'\n');
        }
    }
    text
}

/// Later than every record.
pub const EVER: Timestamp = Timestamp::from_millis(u64::MAX);

/// Records, and where to go on.
pub type Read = (Vec<Record>, Option<Cursor>);

async fn read(
    context: &Context,
    before: Timestamp,
    cursor: Cursor,
    limit: u64,
) -> Result<Read, AdminError> {
    // One more than is shown tells whether there is more.
    let turns = context.app().engine.dial_history_before(before, cursor.turns, limit + 1).await?;
    let place = cursor.log.clone();
    let kept = move |accounts: &Accounts| accounts.kept(before, &place, limit + 1);
    let kept = context.admin.accounts.with(kept).await?;
    Ok(page(turns, kept, cursor, limit))
}

/// The first `limit` of lists that each have the latest first and one record more, where there is one. Those
/// of one time come in the order of the lists.
pub fn page(turns: Vec<(u64, DialRow)>, kept: LogPage, mut cursor: Cursor, limit: u64) -> Read {
    let mut turns = turns.into_iter().peekable();
    let mut changes = kept.changes.into_iter().peekable();
    let mut visits = kept.visits.into_iter().peekable();
    let mut refusals = kept.refusals.into_iter().peekable();
    let mut records = Vec::new();
    loop {
        let heads = [
            turns.peek().map(|(_, turn)| turn.at),
            changes.peek().map(|(_, entry)| entry.at),
            visits.peek().map(|(_, entry)| entry.at),
            refusals.peek().map(|refusals| refusals.at),
        ];
        let Some(latest) = heads.iter().max().copied().flatten() else { return (records, None) };
        if records.len() as u64 >= limit {
            return (records, Some(cursor));
        }
        let record = match heads.iter().position(|head| *head == Some(latest)) {
            Some(0) => turns.next().map(|(number, turn)| {
                cursor.turns = number;
                Record::Turn(turn)
            }),
            Some(1) => changes.next().map(|(number, entry)| {
                cursor.log.changes = number;
                Record::Change(entry)
            }),
            Some(2) => visits.next().map(|(number, entry)| {
                cursor.log.visits = number;
                Record::Change(entry)
            }),
            _ => refusals.next().map(|refusals| {
                cursor.log.refusals = (refusals.at.as_millis(), refusals.what.clone());
                Record::Refused(refusals)
            }),
        };
        records.extend(record);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_reads_back_and_nothing_else_does() {
        let cursor = Cursor {
            turns: 7,
            log: LogCursor {
                changes: 0,
                visits: u64::MAX,
                refusals: (9, "login_waiting".to_owned()),
            },
        };
        for cursor in [cursor, Cursor::LATEST] {
            assert_eq!(Cursor::parse(&cursor.to_string()), Some(cursor));
        }
        let long = format!("1.2.3.4.{}", "x".repeat(33));
        for text in ["", "1", "1.2.3.4", "1.2.3.x.login", "1.2.3.4.5.login", "1.2.3.4.Login", &long]
        {
            assert_eq!(Cursor::parse(text), None, "{text}");
        }
    }
}
