//! Circuits: found, listed, explained and changed.

use askama::Template;
use axum::response::Response;
use schemars::JsonSchema;
use serde::Deserialize;

use super::view::{self, STYLE, Shell, class_words, span, tenth, utc_or_dash};
use crate::error::AdminError;
use crate::handler::Context;
use crate::operations::circuits::{self, Change, Circuit, CircuitFilter, Flush, List, OfCircuit};
use crate::operations::explain::{self, Explained};
use crate::operations::sessions::{self, Revoke};
use fortify_core::pseudonym::CircuitTag;
use fortify_engine::explain::{Explanation, Forecast};

/// The arguments of the list.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ShowList {
    which: Option<CircuitFilter>,
    after: Option<String>,
    done: Option<String>,
}

/// The arguments of a circuit's page.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ShowOne {
    circuit: String,
    done: Option<String>,
}

#[derive(Template)]
#[template(path = "circuits.html")]
struct ListTemplate {
    shell: Shell,
    asked: Option<String>,
    filters: [(&'static str, &'static str); 4],
    which: &'static str,
    list: Vec<CircuitView>,
    next: Option<String>,
}

#[derive(Template)]
#[template(path = "circuit.html")]
struct CircuitTemplate {
    shell: Shell,
    circuit: CircuitView,
    known: bool,
    explained: Explanation,
    decisions: [DecisionRow; 2],
}

struct CircuitView {
    name: String,
    look: &'static str,
    status: &'static str,
    reason: &'static str,
    since: String,
    until: String,
    seen: String,
}

struct DecisionRow {
    of: &'static str,
    look: &'static str,
    decision: &'static str,
    more: Option<String>,
    reasons: String,
}

/// Shows a page of circuits.
pub(super) async fn list(context: Context, args: ShowList) -> Result<Response, AdminError> {
    list_page(context, args, None, None).await
}

async fn list_page(
    context: Context,
    args: ShowList,
    asked: Option<String>,
    error: Option<AdminError>,
) -> Result<Response, AdminError> {
    let shell =
        Shell::new(&context, "/admin/circuits", "Circuits", args.done.as_deref(), error.as_ref());
    let which = args.which.unwrap_or(CircuitFilter::Any);
    let all = List { which: Some(which), after: args.after, limit: None, addresses: None };
    let page = circuits::list(context, all).await?;
    let template = ListTemplate {
        shell,
        asked,
        filters: [
            ("any", "Banned or trusted"),
            ("banned", "Banned"),
            ("vip", "Trusted"),
            ("seen", "Seen in the last hour"),
        ],
        which: match which {
            CircuitFilter::Any => "any",
            CircuitFilter::Banned => "banned",
            CircuitFilter::Vip => "vip",
            CircuitFilter::Seen => "seen",
        },
        list: page.circuits.iter().map(view_of).collect(),
        next: page.next,
    };
    Ok(view::html_because(&template, error))
}

/// Redirects to a circuit's page.
pub(super) async fn find(context: Context, args: OfCircuit) -> Result<Response, AdminError> {
    match CircuitTag::from_hex(args.circuit.trim()) {
        Some(tag) => Ok(view::go(&format!("/admin/circuits/{}", tag.hex()), None)),
        None => {
            let advice = "circuit: use the 32 hexadecimal digits of its pseudonym";
            let error = AdminError::BadRequest(advice.to_owned());
            list_page(context, ShowList::default(), Some(args.circuit), Some(error)).await
        }
    }
}

/// Shows a circuit, and what the gate would do with its next request.
pub(super) async fn show(context: Context, args: ShowOne) -> Result<Response, AdminError> {
    page(context, args.circuit, args.done.as_deref(), None).await
}

async fn page(
    context: Context,
    circuit: String,
    done: Option<&str>,
    error: Option<AdminError>,
) -> Result<Response, AdminError> {
    let shell = Shell::new(&context, "/admin/circuits", "Circuit", done, error.as_ref());
    let Explained { circuit, explanation: explained } =
        explain::explain(context, OfCircuit { circuit }).await?;
    let template = CircuitTemplate {
        shell,
        circuit: view_of(&circuit),
        known: circuit.known,
        decisions: [
            decision_row("without a session", &explained.without_session),
            decision_row("with a session", &explained.with_session),
        ],
        explained,
    };
    Ok(view::html_because(&template, error))
}

/// Bans a circuit.
pub(super) async fn ban(context: Context, args: Change) -> Result<Response, AdminError> {
    let circuit = args.circuit.clone();
    let done = circuits::ban(context.clone(), args).await.map(|_| "ban");
    after(context, circuit, done).await
}

/// Trusts a circuit.
pub(super) async fn promote(context: Context, args: Change) -> Result<Response, AdminError> {
    let circuit = args.circuit.clone();
    let done = circuits::promote(context.clone(), args).await.map(|_| "promote");
    after(context, circuit, done).await
}

/// Makes a circuit normal again.
pub(super) async fn reset(context: Context, args: Change) -> Result<Response, AdminError> {
    let circuit = args.circuit.clone();
    let done = circuits::reset(context.clone(), args).await.map(|_| "reset");
    after(context, circuit, done).await
}

/// Closes a circuit through tor.
pub(super) async fn kill(context: Context, args: Change) -> Result<Response, AdminError> {
    let circuit = args.circuit.clone();
    let killed = circuits::kill(context.clone(), args).await;
    after(context, circuit, killed.map(|killed| if killed.closed { "kill" } else { "gone" })).await
}

async fn after(
    context: Context,
    circuit: String,
    done: Result<&str, AdminError>,
) -> Result<Response, AdminError> {
    // Only a pseudonym may become part of an address.
    let tag = CircuitTag::from_hex(&circuit).map(|tag| tag.hex());
    match (done, tag) {
        (Ok(done), Some(tag)) => Ok(view::go(&format!("/admin/circuits/{tag}"), Some(done))),
        (Ok(done), None) => Ok(view::go("/admin/circuits", Some(done))),
        (Err(error), Some(tag)) => page(context, tag, None, Some(error)).await,
        (Err(error), None) => Err(error),
    }
}

/// Makes many circuits normal again.
pub(super) async fn flush(context: Context, args: Flush) -> Result<Response, AdminError> {
    match circuits::flush(context.clone(), args).await {
        Ok(flushed) => {
            let done = if flushed.left > 0 { "flush-more" } else { "flush" };
            Ok(view::go("/admin/circuits", Some(done)))
        }
        Err(error) => list_page(context, ShowList::default(), None, Some(error)).await,
    }
}

/// Revokes a visitor's session.
pub(super) async fn revoke(context: Context, args: Revoke) -> Result<Response, AdminError> {
    match sessions::revoke(context.clone(), args).await {
        Ok(_) => Ok(view::go("/admin/circuits", Some("revoke"))),
        Err(error) => list_page(context, ShowList::default(), None, Some(error)).await,
    }
}

fn view_of(circuit: &Circuit) -> CircuitView {
    let (look, status) = match circuit.status {
        Some("banned") => ("bad", "banned"),
        Some("vip") => ("good", "trusted"),
        Some(other) => ("plain", other),
        None => ("plain", "normal"),
    };
    CircuitView {
        name: circuit.circuit.clone(),
        look,
        status,
        reason: circuit.reason.unwrap_or("–"),
        since: utc_or_dash(circuit.since),
        until: utc_or_dash(circuit.until),
        seen: utc_or_dash(circuit.seen),
    }
}

fn decision_row(of: &'static str, decided: &Forecast) -> DecisionRow {
    let look = match decided.decision {
        "admit" => "good",
        "refuse" => "bad",
        "wait" => "warn",
        _ => "plain",
    };
    let mut more = Vec::new();
    if decided.stages > 1 {
        more.push(format!("{} in a row", decided.stages));
    }
    if decided.hard {
        more.push("of a stricter kind".to_owned());
    }
    if let Some(seconds) = decided.seconds {
        more.push(format!("for {}", span(seconds)));
    }
    let more = (!more.is_empty()).then(|| more.join(", "));
    DecisionRow { of, look, decision: decided.decision, more, reasons: decided.reasons.join("; ") }
}
