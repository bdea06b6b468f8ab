//! Who asks: the circuit, and what it brought along.
//!
//! Every verb about a visitor takes a [`Client`], and only [`Engine::identify`] makes one, so that nothing
//! is done for a banned circuit: `HAProxy`, which drops it earlier, may be away or not be there at all.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::Engine;
use super::chain::MAX_STAGE_COOKIES;
use super::decision::{Decision, Refusal};
use crate::behaviour::{Behaviour, Outcome, Request, Target};
use crate::reputation::CircuitStatus;
use fortify_core::circuit::{CircuitId, TorCircuit};
use fortify_core::pseudonym::CircuitTag;
use fortify_store::StoreError;

/// A visitor whose circuit is not banned.
#[derive(Debug)]
pub struct Client {
    /// The circuit, which `Debug` does not show: for reputation, whose copy in `HAProxy` knows circuits by
    /// their number.
    pub circuit: CircuitId,
    /// Its pseudonym, under which everything else is kept.
    pub tag: CircuitTag,
    /// What the request's cookies hold.
    pub credentials: Credentials,
    /// The request, recorded when it is over; `None` where behaviour is not counted.
    pub(super) record: Option<RequestRecord>,
}

/// What a request's cookies hold.
#[derive(Clone, Default)]
pub struct Credentials {
    /// The texts that came under the session's name.
    pub sessions: Vec<String>,
    /// The texts that came under the stages' names, in their order.
    pub stages: [Option<String>; MAX_STAGE_COOKIES],
}

/// What behaviour counts of a request.
#[derive(Clone, Debug)]
pub struct RequestHead<'a> {
    /// Path and query as they were sent; `None` where another server asks without saying what about.
    pub target: Option<&'a [u8]>,
    /// Whether it sends something.
    pub post: bool,
    /// Whether a page loads it: neither a visit nor a script's request.
    pub loaded: bool,
    /// Set by the server when the body runs out of time.
    pub body_expired: Option<Arc<AtomicBool>>,
}

/// Why there is no [`Client`].
#[derive(Debug, thiserror::Error)]
pub enum IdentifyError {
    /// Its circuit is banned, for this long still.
    #[error("the circuit is banned")]
    Banned(Duration),
    /// The store did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A request on its way, counted once when it is dropped: a handler that refuses early, and a visitor who
/// hangs up, count as well.
pub(super) struct RequestRecord {
    behaviour: Arc<Behaviour>,
    tag: CircuitTag,
    tor: Option<TorCircuit>,
    target: Option<Target>,
    post: bool,
    loaded: bool,
    body_expired: Option<Arc<AtomicBool>>,
    /// Set once; `None` in it is a request that is not to be counted.
    outcome: OnceLock<Option<Outcome>>,
}

impl Client {
    /// The circuit, if tor made it. A clearnet address may be many people's, so that it is neither banned,
    /// trusted nor suspected.
    #[must_use]
    pub fn tor(&self) -> Option<TorCircuit> {
        self.circuit.tor()
    }

    /// Records what became of the request; the first outcome counts.
    pub fn record(&self, outcome: Outcome) {
        if let Some(record) = &self.record {
            record.outcome.get_or_init(|| Some(outcome));
        }
    }

    /// Leaves this request uncounted, because the very same comes again and counts then.
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
        // Without an address only that there was a request counts.
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
    /// The client behind a request, unless its circuit is banned. A circuit whose ban an operator took back
    /// has its wrong answers forgotten, so that it gets a challenge and not the rest of its wait.
    ///
    /// # Errors
    ///
    /// [`IdentifyError::Banned`]; faults of the store.
    pub async fn identify(
        &self,
        circuit: CircuitId,
        credentials: Credentials,
        head: &RequestHead<'_>,
    ) -> Result<Client, IdentifyError> {
        let (tag, tor) = (self.pseudonyms.tag(&circuit), circuit.tor());
        if let Some(tor) = tor {
            self.check_ban(tor, tag).await?;
        }
        let record = self.record_of(tag, tor, head);
        Ok(Client { circuit, tag, credentials, record })
    }

    /// Counts a request whose circuit cannot be told, for the reason that `label` names.
    pub fn refuse_unidentified(&self, label: &'static str) {
        self.metrics.decision.circuit_rejected(label);
        self.count_refusal(Refusal::Unidentified);
    }

    async fn check_ban(&self, circuit: TorCircuit, tag: CircuitTag) -> Result<(), IdentifyError> {
        match self.reputation.row(circuit) {
            Some(row) if row.status == CircuitStatus::Banned => {
                let left = self.clock.now().until(row.until);
                self.count_refusal(Refusal::Banned(left));
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

    /// It takes no time, and a flood of them must not hide how long decisions take.
    fn count_refusal(&self, refusal: Refusal) {
        self.metrics.decision.count_refusal(&Decision::Refuse(refusal));
    }

    fn record_of(
        &self,
        tag: CircuitTag,
        tor: Option<TorCircuit>,
        head: &RequestHead<'_>,
    ) -> Option<RequestRecord> {
        self.behaviour.is_on().then(|| RequestRecord {
            behaviour: self.behaviour.clone(),
            tag,
            tor,
            target: head.target.map(|target| self.behaviour.read(target)),
            post: head.post,
            loaded: head.loaded,
            body_expired: head.body_expired.clone(),
            outcome: OnceLock::new(),
        })
    }
}
