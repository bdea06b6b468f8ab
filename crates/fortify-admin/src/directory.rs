//! Circuits by their pseudonyms.
//!
//! A pseudonym is a keyed hash: there is no way back but to look among the circuits that are known. Those
//! are the ones that stand in some way, and those whose requests are counted; no further list is kept, and
//! a circuit's number never leaves.

use std::sync::Arc;

use super::error::AdminError;
use super::handler::Context;
use fortify_core::circuit::{CircuitId, Origin, TorCircuit};
use fortify_core::pseudonym::{CircuitTag, Pseudonyms};
use fortify_web::app::App;

/// A circuit that was named.
#[derive(Clone, Copy, Debug)]
pub(super) struct KnownCircuit {
    /// Its pseudonym.
    pub(super) tag: CircuitTag,
    /// Itself; not known of a visitor who is told apart by an address, or of whom nothing is kept.
    pub(super) tor: Option<TorCircuit>,
}

impl KnownCircuit {
    /// The circuit, for what is done to it.
    ///
    /// # Errors
    ///
    /// [`AdminError::NotFound`] with what to do.
    pub(super) fn circuit(&self) -> Result<TorCircuit, AdminError> {
        self.tor.ok_or_else(|| {
            AdminError::NotFound(
                "this circuit is not known any more, or is a clearnet visitor's, who cannot be banned; \
                 GET /admin/api/v1/circuits lists those that are known"
                    .to_owned(),
            )
        })
    }
}

/// The pseudonym of a circuit of tor's at this gate.
pub(super) fn tag_of(app: &App, circuit: TorCircuit) -> CircuitTag {
    app.engine.tag(&identity(app.config.server.proxy_protocol, circuit))
}

/// The same by its names, and by whether circuits come in PROXY lines, which are other visitors than those
/// of a header.
pub fn tag(names: &Pseudonyms, by_line: bool, circuit: TorCircuit) -> CircuitTag {
    names.tag(&identity(by_line, circuit))
}

const fn identity(by_line: bool, circuit: TorCircuit) -> CircuitId {
    match by_line {
        true => CircuitId::ProxyLine(Origin::Tor(circuit)),
        false => CircuitId::Header(circuit),
    }
}

/// The circuit that `text` names: by its pseudonym, and beside the gate also by its address.
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
    let advice = "a circuit is named by the 32 hexadecimal digits that GET /admin/api/v1/circuits \
                  shows; over the unix socket also by its address, such as fc00:dead:beef:4dad::19";
    let bad = || AdminError::BadRequest(advice.to_owned());
    if !context.is_local() {
        return Err(bad());
    }
    let circuit: TorCircuit = text.parse().map_err(|_unreadable| bad())?;
    let circuit = circuit.during(app.boot());
    Ok(KnownCircuit { tag: tag_of(app, circuit), tor: Some(circuit) })
}

/// Looks through the standings, at worst half a million hashes: about half a second of one thread, and of no
/// more than one.
async fn find_by_tag(context: &Context, tag: CircuitTag) -> Result<Option<TorCircuit>, AdminError> {
    let (app, permit) = (Arc::clone(&context.app), context.admin.scan()?);
    off_thread(move || {
        // Held for as long as the thread works, whether or not anybody still waits for it.
        let _permit = permit;
        let circuits = app.engine.statuses().into_iter().map(|row| row.circuit);
        circuits.into_iter().find(|circuit| tag_of(&app, *circuit) == tag)
    })
    .await
}

/// Does something long off the threads that serve.
pub(super) async fn off_thread<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, AdminError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|ended| AdminError::Unavailable(ended.to_string()))
}
