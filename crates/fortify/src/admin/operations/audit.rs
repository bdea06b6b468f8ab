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
const MOST: u64 = 1000;
const USUALLY: u64 = 100;

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
    let mut records = records(&context, before, limit + 1).await?;
    let more = records.len() as u64 > limit;
    records.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    let last = records.last().map(Record::at).filter(|_| more);
    // Those of the same time come again rather than never.
    let next = last.map(|at| at.as_millis().saturating_add(1));
    let next =
        next.filter(|next| records.first().is_none_or(|first| first.at().as_millis() >= *next));
    Ok(Audit { records, next })
}

/// Everything that is kept, as JSON lines, the oldest first.
///
/// # Errors
///
/// Faults of the files.
pub async fn export(context: Context, _: Nothing) -> Result<Response, AdminError> {
    let most = threat::audit::MAX_ROWS.max(log::MAX_ROWS);
    let mut records = records(&context, Timestamp::from_millis(u64::MAX), most).await?;
    records.reverse();
    let mut text = Vec::new();
    for record in records {
        if serde_json::to_writer(&mut text, &record).is_ok() {
            text.push(b'\n');
        }
    }
    let mut response = Response::new(Body::from(text));
    let lines = HeaderValue::from_static("application/x-ndjson");
    response.headers_mut().insert(header::CONTENT_TYPE, lines);
    Ok(response)
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
    let turns = turns.into_iter().map(Record::Turn);
    let mut all: Vec<_> = turns
        .chain(changes.into_iter().map(Record::Change))
        .chain(refusals.into_iter().map(Record::Refused))
        .collect();
    // Stable: those of one time stay in their order.
    all.sort_by_key(|record| std::cmp::Reverse(record.at()));
    all.truncate(usize::try_from(most).unwrap_or(usize::MAX));
    Ok(all)
}
