//! The client of a request: its circuit and its cookies.
//!
//! Every verb about a visitor takes a [`Client`], and only [`Engine::identify`] creates one, so a banned circuit
//! can reach no other verb. `HAProxy` drops banned circuits earlier, but it may be down or absent.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::Engine;
use super::chain::MAX_STAGE_COOKIES;
use super::decision::{Decision, Refusal};
use crate::behaviour::{Behaviour, Outcome, Request, Target};
use crate::budget::{PAGE, Price};
use fortify_core::circuit::{CircuitId, TorCircuit};
use fortify_core::clock::Timestamp;
use fortify_core::pseudonym::CircuitTag;
use fortify_reputation::CircuitStatus;
use fortify_store::StoreError;
use fortify_store::record::{Secret, SessionId};

/// A visitor whose circuit is not banned.
#[derive(Debug)]
pub struct Client {
    /// The circuit, for reputation, whose copy in `HAProxy` identifies circuits by their number. `Debug` does not
    /// show it.
    pub circuit: CircuitId,
    /// Its pseudonym, the key of everything else.
    pub tag: CircuitTag,
    /// The credentials from the request's cookies.
    pub credentials: Credentials,
    /// What it asks for, without what behaviour finds.
    pub(super) price: Price,
    /// Whether it sends a log-in form, by its path.
    pub(super) login: bool,
    /// The session that paid for it, and how many milli-pages.
    pub(super) paid: OnceLock<(SessionId, u32)>,
    /// The request, counted when it ends; `None` if behaviour is off.
    pub(super) record: Option<RequestRecord>,
    /// Set when its session was found to have moved.
    pub(super) renewal: OnceLock<Renewal>,
}

/// The new cookie of a session that moved to the circuit of the request.
#[derive(Clone, Debug)]
pub struct Renewal {
    /// Its value.
    pub token: Secret<String>,
    /// When the session expires.
    pub expires_at: Timestamp,
}

/// The credentials from a request's cookies.
#[derive(Clone, Default)]
pub struct Credentials {
    /// The values of all cookies with the session's name.
    pub sessions: Vec<String>,
    /// The values of the stage cookies, in order.
    pub stages: [Option<String>; MAX_STAGE_COOKIES],
    /// The token of the challenge that this browser shows. It counts only for a clearnet address, which many people may
    /// share; all tabs of a circuit show one challenge, with or without cookies.
    pub challenge: Option<String>,
}

/// The parts of a request that behaviour counts.
#[derive(Clone, Debug)]
pub struct RequestHead<'a> {
    /// The path and query as sent; `None` if another server asks for a decision without naming them.
    pub target: Option<&'a [u8]>,
    /// Whether it is a POST.
    pub post: bool,
    /// Whether its method may change something: any but `GET`, `HEAD`, `OPTIONS` and `TRACE`.
    pub writes: bool,
    /// Whether it is a subresource that a page loads, neither a navigation nor a script's request.
    pub loaded: bool,
    /// Set by the server when the body exceeds its deadline.
    pub body_expired: Option<Arc<AtomicBool>>,
}

/// The reason why a request has no [`Client`].
#[derive(Debug, thiserror::Error)]
pub enum IdentifyError {
    /// The circuit is banned, for this long from now.
    #[error("the circuit is banned")]
    Banned(Duration),
    /// The store did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A request in progress. It is counted once, on drop, so early refusals and closed connections count too.
pub(super) struct RequestRecord {
    behaviour: Arc<Behaviour>,
    tag: CircuitTag,
    tor: Option<TorCircuit>,
    target: Option<Target>,
    post: bool,
    loaded: bool,
    body_expired: Option<Arc<AtomicBool>>,
    /// Set once; an inner `None` means that the request is not counted.
    outcome: OnceLock<Option<Outcome>>,
}

impl Client {
    /// The Tor circuit, if it is one. Many people may share a clearnet address, so it is never banned, trusted or
    /// suspected.
    #[must_use]
    pub fn tor(&self) -> Option<TorCircuit> {
        self.circuit.tor()
    }

    /// The new cookie, if the session of this request moved: it belongs into whatever is answered, because the old
    /// one is of no use from a further circuit.
    #[must_use]
    pub fn renewal(&self) -> Option<&Renewal> {
        self.renewal.get()
    }

    /// Whether this browser got the challenge `token`: on a circuit all do; at an address the one with its cookie.
    pub(super) fn shows(&self, token: &str) -> bool {
        self.tor().is_some() || self.credentials.challenge.as_deref() == Some(token)
    }

    /// Records the outcome of the request; the first one counts.
    pub fn record(&self, outcome: Outcome) {
        if let Some(record) = &self.record {
            record.outcome.get_or_init(|| Some(outcome));
        }
    }

    /// Whether a whole page was paid for this request, which an answer that is none gives back.
    pub(super) fn paid_for_page(&self) -> Option<(SessionId, u32)> {
        self.paid.get().copied().filter(|(_, paid)| !self.price.writes && *paid >= PAGE)
    }

    /// Whether only an asset was paid for this request, for which an answer that is none charges the rest of a page.
    pub(super) fn paid_for_asset(&self) -> Option<(SessionId, u32)> {
        let discounted = |paid: &u32| self.price.asset && !self.price.writes && *paid < PAGE;
        self.paid.get().copied().filter(|(_, paid)| discounted(paid))
    }

    /// Does not count this request, because the same one is repeated and counts then.
    pub fn skip(&self) {
        if let Some(record) = &self.record {
            record.outcome.get_or_init(|| None);
        }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(..)")
    }
}

impl fmt::Debug for RequestRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RequestRecord(..)")
    }
}

impl Drop for RequestRecord {
    fn drop(&mut self) {
        let Some(outcome) = self.outcome.get().copied().unwrap_or(Some(Outcome::Other)) else {
            return;
        };
        // Without a target, only the fact that there was a request counts.
        let (target, outcome) = match self.target {
            Some(target) => (target, outcome),
            None => (self.behaviour.read(b"/"), Outcome::Other),
        };
        let expired = |flag: &Arc<AtomicBool>| flag.load(Ordering::Relaxed);
        let crawled = self.body_expired.as_ref().is_some_and(expired);
        let request = Request { target, post: self.post, outcome, loaded: self.loaded, crawled };
        self.behaviour.record_circuit(self.tag, self.tor, &request);
    }
}

impl Engine {
    /// Identifies the client of a request, unless its circuit is banned. If an operator has lifted a ban, the
    /// circuit's wrong answers are forgotten, so that it gets a challenge instead of the rest of its wait.
    ///
    /// # Errors
    ///
    /// [`IdentifyError::Banned`], or [`IdentifyError::Store`] if the store fails.
    pub async fn identify(
        &self,
        circuit: CircuitId,
        credentials: Credentials,
        head: &RequestHead<'_>,
    ) -> Result<Client, IdentifyError> {
        let (tag, tor) = (self.pseudonyms.tag(&circuit), circuit.tor());
        self.threat.signals().requested();
        if let Some(tor) = tor {
            self.check_ban(tor, tag).await?;
        }
        let target = head.target.map(|target| self.behaviour.read(target));
        let asset = head.loaded || target.is_some_and(|target| target.asset);
        let price = Price { writes: head.writes, asset, ..Price::default() };
        let login = head.writes && target.is_some_and(|target| target.login);
        let record = self.record_of(tag, tor, target, head);
        let (paid, renewal) = (OnceLock::new(), OnceLock::new());
        Ok(Client { circuit, tag, credentials, price, login, paid, record, renewal })
    }

    /// Counts a request whose circuit could not be identified, for the reason `label`.
    pub fn refuse_unidentified(&self, label: &'static str) {
        self.metrics.decision.circuit_rejected(label);
        self.count_refusal(Refusal::Unidentified);
    }

    async fn check_ban(&self, circuit: TorCircuit, tag: CircuitTag) -> Result<(), IdentifyError> {
        match self.reputation.row(circuit) {
            Some(row) if row.status == CircuitStatus::Banned => {
                let left = self.clock.now().until(row.until);
                self.count_refusal(Refusal::Banned(left));
                self.threat.signals().refused(tag);
                Err(IdentifyError::Banned(left))
            }
            Some(row) if row.status == CircuitStatus::Normal => {
                self.store.forget_failures(tag).await?;
                self.replication.forgive(circuit, tag);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Counted without a duration: a flood of quick refusals must not hide how long decisions take.
    fn count_refusal(&self, refusal: Refusal) {
        self.metrics.decision.count_refusal(&Decision::Refuse(refusal));
    }

    fn record_of(
        &self,
        tag: CircuitTag,
        tor: Option<TorCircuit>,
        target: Option<Target>,
        head: &RequestHead<'_>,
    ) -> Option<RequestRecord> {
        self.behaviour.is_on().then(|| RequestRecord {
            behaviour: self.behaviour.clone(),
            tag,
            tor,
            target,
            post: head.post,
            loaded: head.loaded,
            body_expired: head.body_expired.clone(),
            outcome: OnceLock::new(),
        })
    }
}
