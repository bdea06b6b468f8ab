//! The record of changes.

use askama::Template;
use axum::response::Response;
use schemars::JsonSchema;
use serde::Deserialize;

use super::view::{self, STYLE, Shell, by, utc};
use crate::error::AdminError;
use crate::handler::Context;
use crate::operations::audit::{self, Page, Record};

/// Records per page.
const ON_A_PAGE: u64 = 50;

/// The arguments of the page.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Show {
    /// The `next` of the page before.
    after: Option<String>,
}

#[derive(Template)]
#[template(path = "audit.html")]
struct AuditTemplate {
    shell: Shell,
    records: Vec<RecordView>,
    next: Option<String>,
    paged: bool,
}

struct RecordView {
    at: String,
    principal: String,
    what: String,
    target: String,
    change: String,
    why: String,
}

/// Shows a page of the record.
pub(super) async fn show(context: Context, args: Show) -> Result<Response, AdminError> {
    let shell = Shell::new(&context, "/admin/audit", "Audit", None, None);
    let paged = args.after.is_some();
    let page = Page { before: None, after: args.after, limit: Some(ON_A_PAGE) };
    let audit = audit::show(context, page).await?;
    let records = audit.records.into_iter().map(view_of).collect();
    Ok(view::html(&AuditTemplate { shell, records, next: audit.next, paged }))
}

fn view_of(record: Record) -> RecordView {
    match record {
        Record::Turn(turn) => RecordView {
            at: utc(turn.at),
            principal: by(&turn.by),
            what: "dial".to_owned(),
            target: turn.mode,
            change: format!("{} → {}", turn.from, turn.to),
            why: turn.reason,
        },
        Record::Change(entry) => RecordView {
            at: utc(entry.at),
            principal: format!("{} by {}", entry.principal, entry.auth_method),
            what: entry.action,
            target: entry.target,
            change: match (entry.from.as_str(), entry.to.as_str()) {
                ("", "") => String::new(),
                (from, to) => format!("{from} → {to}"),
            },
            why: entry.reason,
        },
        Record::Refused(refusals) => RecordView {
            at: utc(refusals.at),
            principal: String::new(),
            what: "refused".to_owned(),
            target: refusals.what,
            change: format!("{} in that minute", refusals.count),
            why: String::new(),
        },
    }
}
