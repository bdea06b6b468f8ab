//! One request, told to [`crate::behaviour`] once: when its handler is done, however that ends.

use std::sync::OnceLock;
use std::sync::atomic::Ordering;

use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue, Method};

use super::gate::{AUTH, SEC_FETCH_DEST};
use crate::app::SharedApp;
use crate::behaviour::{Outcome, Request, Target};
use crate::circuit::TorCircuit;
use crate::pseudonym::CircuitTag;
use crate::server::BodyExpired;

/// What nginx asks about, where it asks ([`AUTH`]).
const ORIGINAL_URI: HeaderName = HeaderName::from_static("x-original-uri");
const ORIGINAL_METHOD: HeaderName = HeaderName::from_static("x-original-method");

/// A request on its way.
///
/// It is told when it is dropped: a handler that refuses early, and a visitor who hangs up, count as
/// well. What a visitor writes into nginx's headers elsewhere is not read, and where it is read, it
/// says something about that visitor alone.
pub struct Sighting {
    app: SharedApp,
    circuit: CircuitTag,
    tor: Option<TorCircuit>,
    /// Unknown where another server asks without saying what about.
    target: Option<Target>,
    post: bool,
    loaded: bool,
    body: Option<BodyExpired>,
    /// Set once; `None` in it is a request that is not to be counted.
    outcome: OnceLock<Option<Outcome>>,
}

impl Sighting {
    /// The request that these are the head of; `None` where nothing is counted.
    pub(super) fn of(
        parts: &Parts,
        circuit: CircuitTag,
        tor: Option<TorCircuit>,
        app: &SharedApp,
    ) -> Option<Self> {
        let behaviour = &app.behaviour;
        if !behaviour.is_on() {
            return None;
        }
        let (target, post) = if parts.uri.path() == AUTH {
            let uri = parts.headers.get(ORIGINAL_URI);
            let post = parts.headers.get(ORIGINAL_METHOD).is_some_and(|method| method == "POST");
            (uri.map(|uri| behaviour.read(uri.as_bytes())), post)
        } else {
            let sent = parts.uri.path_and_query().map_or("/", |sent| sent.as_str());
            (Some(behaviour.read(sent.as_bytes())), parts.method == Method::POST)
        };
        Some(Self {
            app: app.clone(),
            circuit,
            tor,
            target,
            post,
            loaded: parts.headers.get(SEC_FETCH_DEST).is_some_and(is_loaded),
            body: parts.extensions.get::<BodyExpired>().cloned(),
            outcome: OnceLock::new(),
        })
    }

    fn tell(&self) {
        let outcome = self.outcome.get().copied().unwrap_or(Some(Outcome::Other));
        let (Some(outcome), behaviour) = (outcome, &self.app.behaviour) else { return };
        // Of an address that is not known only its coming counts.
        let (target, outcome) = match self.target {
            Some(target) => (target, outcome),
            None => (behaviour.read(b"/"), Outcome::Other),
        };
        let crawled = self.body.as_ref().is_some_and(|body| body.0.load(Ordering::Relaxed));
        let (post, loaded) = (self.post, self.loaded);
        let request = Request { target, post, outcome, loaded, crawled };
        behaviour.saw_of(self.circuit, self.tor, &request);
    }

    /// Says what became of the request; the first word counts.
    pub(super) fn came(&self, outcome: Outcome) {
        self.outcome.get_or_init(|| Some(outcome));
    }

    /// Says that this very request will come again, and count then.
    pub(super) fn comes_again(&self) {
        self.outcome.get_or_init(|| None);
    }
}

/// Whether a page loads it: neither a visit (`document`) nor a script's request (`empty`).
fn is_loaded(dest: &HeaderValue) -> bool {
    dest != "document" && dest != "empty"
}

impl Drop for Sighting {
    fn drop(&mut self) {
        self.tell();
    }
}
