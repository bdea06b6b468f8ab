//! What was changed: turns of the dial and the log of the operator's side, by time.

use axum::body::Body;
use axum::http::{HeaderValue, header};
use axum::response::Response;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::admin::error::AdminError;
use crate::admin::handler::{Context, Nothing};
use crate::admin::log::{self, Entry, Refusals};
use crate::clock::Timestamp;
use crate::threat;
use crate::threat::audit::Row;

/// Records on a page, at most and unless it is said.
pub const MOST: u64 = 1000;
const USUALLY: u64 = 100;

/// Everything that is kept of one kind.
pub(crate) const ALL: u64 =
    if threat::audit::MAX_ROWS > log::MAX_ROWS { threat::audit::MAX_ROWS } else { log::MAX_ROWS };

/// Which records.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Page {
    /// Before when, ms since the Unix epoch; now unless given.
    pub before: Option<u64>,
    /// How many, 100 unless given and at most 1,000.
    pub limit: Option<u64>,
}

/// One record.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Record {
    /// A turn of the dial.
    Turn(Row),
    /// A change.
    Change(Entry),
    /// What was refused in a minute.
    Refused(Refusals),
}

impl Record {
    const fn at(&self) -> Timestamp {
        match self {
            Self::Turn(row) => row.at,
            Self::Change(entry) => entry.at,
            Self::Refused(refusals) => refusals.at,
        }
    }
}

/// A page of records.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Audit {
    /// The latest first.
    pub records: Vec<Record>,
    /// What to give as `before` for the next page; nothing on the last.
    pub next: Option<u64>,
}

/// A page of what was changed, the latest first.
///
/// # Errors
///
/// Faults of the files.
pub async fn show(context: Context, args: Page) -> Result<Audit, AdminError> {
    let limit = args.limit.unwrap_or(USUALLY).clamp(1, MOST);
    let before = args.before.map_or(Timestamp::from_millis(u64::MAX), Timestamp::from_millis);
    let records = records(&context, before, limit + 1).await?;
    Ok(page(records, limit))
}

/// The first `limit` of `records`, of which there is one more where there is a next page.
pub(crate) fn page(mut records: Vec<Record>, limit: u64) -> Audit {
    let more = records.len() as u64 > limit;
    records.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    let last = records.last().map(Record::at).filter(|_| more);
    // Those of the same time come again rather than never.
    let next = last.map(|at| at.as_millis().saturating_add(1));
    let next =
        next.filter(|next| records.first().is_none_or(|first| first.at().as_millis() >= *next));
    Audit { records, next }
}

/// Everything that is kept, as JSON lines, the oldest first.
///
/// # Errors
///
/// Faults of the files.
pub async fn export(context: Context, _: Nothing) -> Result<Response, AdminError> {
    let records = records(&context, Timestamp::from_millis(u64::MAX), ALL).await?;
    let mut response = Response::new(Body::from(lines(records)));
    let lines = HeaderValue::from_static("application/x-ndjson");
    response.headers_mut().insert(header::CONTENT_TYPE, lines);
    Ok(response)
}

/// Records as JSON lines, the oldest first.
pub(crate) fn lines(mut records: Vec<Record>) -> Vec<u8> {
    records.reverse();
    let mut text = Vec::new();
    for record in records {
        if serde_json::to_writer(&mut text, &record).is_ok() {
            text.push(b'\n');
        }
    }
    text
}

async fn records(
    context: &Context,
    before: Timestamp,
    most: u64,
) -> Result<Vec<Record>, AdminError> {
    let turns = context.app().threat.history_before(before, most).await?;
    let (changes, refusals) = (context.admin.accounts)
        .with(move |accounts| {
            Ok((accounts.entries(before, most)?, accounts.refusals(before, most)?))
        })
        .await?;
    Ok(merge(turns, changes, refusals, most))
}

/// The latest `most` of what three lists hold, each with the latest first.
pub(crate) fn merge(
    turns: Vec<Row>,
    changes: Vec<Entry>,
    refusals: Vec<Refusals>,
    most: u64,
) -> Vec<Record> {
    let turns = turns.into_iter().map(Record::Turn);
    let mut all: Vec<_> = turns
        .chain(changes.into_iter().map(Record::Change))
        .chain(refusals.into_iter().map(Record::Refused))
        .collect();
    // Stable: those of one time stay in their order.
    all.sort_by_key(|record| std::cmp::Reverse(record.at()));
    all.truncate(usize::try_from(most).unwrap_or(usize::MAX));
    all
}
