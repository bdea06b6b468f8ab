//! Finds circuits by their pseudonyms.
//!
//! A pseudonym is a keyed hash, so the only way back is to search the known circuits: those that are banned or
//! trusted, and those with recent requests. No other list is kept, and a circuit's number is never in an answer.

use std::sync::Arc;

use super::error::AdminError;
use super::handler::Context;
use fortify_core::circuit::{CircuitId, Origin, TorCircuit};
use fortify_core::pseudonym::{CircuitTag, Pseudonyms};
use fortify_web::app::App;

/// A circuit that a request names.
#[derive(Clone, Copy, Debug)]
pub(super) struct KnownCircuit {
    /// Its pseudonym.
    pub(super) tag: CircuitTag,
    /// Its number; `None` for a clearnet visitor, and for a circuit of which nothing is stored.
    pub(super) tor: Option<TorCircuit>,
}

impl KnownCircuit {
    /// The circuit, to change its status.
    ///
    /// # Errors
    ///
    /// [`AdminError::NotFound`] with what to do.
    pub(super) fn circuit(&self) -> Result<TorCircuit, AdminError> {
        self.tor.ok_or_else(|| {
            AdminError::NotFound(
                "this circuit is no longer known, or belongs to a clearnet visitor, who cannot be banned; \
                 GET /admin/api/v1/circuits lists the known ones"
                    .to_owned(),
            )
        })
    }
}

/// The pseudonym of a Tor circuit at this gate.
pub(super) fn tag_of(app: &App, circuit: TorCircuit) -> CircuitTag {
    app.engine.tag(&identity(app.config.server.proxy_protocol, circuit))
}

/// The pseudonym of a Tor circuit under the keys `names`. It depends on whether circuits come in PROXY lines or in
/// a header.
pub fn tag(names: &Pseudonyms, by_line: bool, circuit: TorCircuit) -> CircuitTag {
    names.tag(&identity(by_line, circuit))
}

const fn identity(by_line: bool, circuit: TorCircuit) -> CircuitId {
    match by_line {
        true => CircuitId::ProxyLine(Origin::Tor(circuit)),
        false => CircuitId::Header(circuit),
    }
}

/// The circuit that `text` names, by its pseudonym, or on the unix socket by its address.
///
/// # Errors
///
/// [`AdminError::BadRequest`] with what to use.
pub(super) async fn resolve(context: &Context, text: &str) -> Result<KnownCircuit, AdminError> {
    let app = &context.app;
    if let Some(tag) = CircuitTag::from_hex(text) {
        let tor = match app.engine.circuit(tag) {
            Some(tor) => Some(tor),
            None => find_by_tag(context, tag).await?,
        };
        return Ok(KnownCircuit { tag, tor });
    }
    let advice = "name a circuit by the 32 hexadecimal digits that GET /admin/api/v1/circuits shows; on the \
                  unix socket also by its address, such as fc00:dead:beef:4dad::19";
    let bad = || AdminError::BadRequest(advice.to_owned());
    if !context.is_local() {
        return Err(bad());
    }
    let circuit: TorCircuit = text.parse().map_err(|_unreadable| bad())?;
    let circuit = circuit.during(app.boot());
    Ok(KnownCircuit { tag: tag_of(app, circuit), tor: Some(circuit) })
}

/// Searches all circuits with a status. In the worst case this computes half a million hashes, about half a second
/// on one thread; only one search runs at a time.
async fn find_by_tag(context: &Context, tag: CircuitTag) -> Result<Option<TorCircuit>, AdminError> {
    let (app, permit) = (Arc::clone(&context.app), context.admin.scan()?);
    off_thread(move || {
        // Held for as long as the thread works, even if the caller stops waiting.
        let _permit = permit;
        let circuits = app.engine.statuses().into_iter().map(|row| row.circuit);
        circuits.into_iter().find(|circuit| tag_of(&app, *circuit) == tag)
    })
    .await
}

/// Runs `work` on a thread for blocking work.
pub(super) async fn off_thread<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, AdminError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|ended| AdminError::Unavailable(ended.to_string()))
}
