//! The record of changes: changes of the threat level and the log of the admin interface, merged by time.

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

/// Records per page: the most, and the default.
pub const MOST: u64 = 1000;
const USUALLY: u64 = 100;

/// Records of an export that are in memory at one time.
pub const EXPORTED_TOGETHER: u64 = 250;

/// The page to read.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Page {
    /// Only records before this time, in ms since the Unix epoch; now by default.
    pub before: Option<u64>,
    /// The `next` of the previous page.
    pub after: Option<String>,
    /// How many records: 100 by default, at most 1,000.
    pub limit: Option<u64>,
}

/// Where a page ended, in each of the lists. A time is not enough, because several records may share one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// The number of a change of the threat level.
    pub turns: u64,
    /// The position in the log.
    pub log: LogCursor,
}

impl Cursor {
    /// The position after the latest record.
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

/// The longest name of a kind of refusal, with some reserve.
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
    /// A change of the threat level.
    Turn(DialRow),
    /// A change by an operator.
    Change(Entry),
    /// Refusals of one kind within a minute.
    Refused(Refusals),
}

/// A page of records.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Audit {
    /// The latest first.
    pub records: Vec<Record>,
    /// The `after` of the next page; `None` on the last.
    pub next: Option<String>,
}

/// A page of the record, the latest first.
///
/// # Errors
///
/// [`AdminError::BadRequest`] if `after` is not the `next` of a page; faults of the files.
pub async fn show(context: Context, args: Page) -> Result<Audit, AdminError> {
    let limit = args.limit.unwrap_or(USUALLY).clamp(1, MOST);
    let before = args.before.map_or(EVER, Timestamp::from_millis);
    let bad = || AdminError::BadRequest("after: use the next of the previous page".to_owned());
    let after = args.after.as_deref().map(|text| Cursor::parse(text).ok_or_else(bad));
    let cursor = after.transpose()?.unwrap_or(Cursor::LATEST);
    let (records, next) = read(&context, before, cursor, limit).await?;
    Ok(Audit { records, next: next.map(|cursor| cursor.to_string()) })
}

/// The complete record as JSON lines, the latest first.
///
/// It is read in small parts as fast as the client fetches them, so it neither fills memory nor locks the files.
///
/// # Errors
///
/// [`AdminError::Busy`] during another scan; faults of the files. A later fault cuts the answer off.
pub async fn export(context: Context, _: Nothing) -> Result<Response, AdminError> {
    let permit = context.admin.scan()?;
    let first = read(&context, EVER, Cursor::LATEST, EXPORTED_TOGETHER).await?;
    drop(permit);
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        let (mut records, mut next) = first;
        // The receiver is dropped when the client disconnects.
        while sender.send(Ok(lines(&records).into())).await.is_ok() {
            let Some(cursor) = next.take() else { break };
            match read_in_turn(&context, cursor).await {
                Ok(read) => (records, next) = read,
                Err(error) => {
                    tracing::error!(%error, "an export of the audit was cut off");
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

/// The body of an export.
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

/// A time later than every record.
pub const EVER: Timestamp = Timestamp::from_millis(u64::MAX);

/// Records, and where the next page starts.
pub type Read = (Vec<Record>, Option<Cursor>);

async fn read(
    context: &Context,
    before: Timestamp,
    cursor: Cursor,
    limit: u64,
) -> Result<Read, AdminError> {
    // One more than is shown, to know whether there is a next page.
    let turns = context.app().engine.dial_history_before(before, cursor.turns, limit + 1).await?;
    let place = cursor.log.clone();
    let kept = move |accounts: &Accounts| accounts.kept(before, &place, limit + 1);
    let kept = context.admin.accounts.with(kept).await?;
    Ok(page(turns, kept, cursor, limit))
}

/// Merges lists that each have the latest record first, and one record more than `limit` if there is one. Records
/// of the same time keep the order of the lists.
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
