//! The verb `check`: decides whether a request is admitted.

use tokio::time::Instant;

use super::client::Client;
use super::decision::{self, Decision, DecisionReason, Facts, Grant, Requirement};
use super::{Engine, EngineError};
use crate::behaviour::Class;
use crate::session::{Admitted, Rejection};
use fortify_core::circuit::TorCircuit;
use fortify_reputation::CircuitStatus;
use fortify_reputation::answer_history::Suspicion;

impl Engine {
    /// Decides about one request of `client`. A session that is bound to another circuit moves to this one if
    /// the limit of moves permits it.
    ///
    /// # Errors
    ///
    /// Fails if the store cannot say whether the session is in force; the request must not be admitted then.
    pub async fn check(&self, client: &Client) -> Result<Decision, EngineError> {
        let started = Instant::now();
        let decided = self.decide(client).await;
        self.metrics.decision.decided(started.elapsed(), decided.as_ref().ok());
        decided
    }

    /// What `client` has to solve now, whether or not it has a session: for visitors who open the challenge page
    /// themselves.
    #[must_use]
    pub fn requirement(&self, client: &Client) -> Requirement {
        let suspicions = self.suspicions(client);
        decision::require(&self.facts(client, None, &suspicions))
    }

    /// The session of `client` that is in force on its circuit, whether or not it is sufficient for admission.
    ///
    /// # Errors
    ///
    /// Fails if the store cannot say whether the session is in force.
    pub async fn session(&self, client: &Client) -> Result<Option<Admitted>, EngineError> {
        let rejected = |rejection: Rejection| {
            self.metrics.session.rejected(rejection.label());
            if rejection == Rejection::Shared {
                tracing::info!(
                    "session ended: it was used from a circuit that it had already left"
                );
            }
        };
        let sessions = &client.credentials.sessions;
        let found = self.sessions.check(sessions, client.tag, rejected).await?;
        if found.as_ref().is_some_and(|admitted| admitted.moved) {
            self.metrics.session.moved();
        }
        Ok(found)
    }

    async fn decide(&self, client: &Client) -> Result<Decision, EngineError> {
        let session = self.session(client).await?;
        let suspicions = self.suspicions(client);
        let (decision, reasons) = decision::decide(self.facts(client, session, &suspicions));
        self.metrics.decision.count_reasons(&reasons);
        tracing::debug!(decision = decision.label(), reasons = %words(&reasons), "decided");
        match &decision {
            Decision::Admit(Grant::Session(_)) => self.renew_trust(client),
            // The store was not asked about a session, and another node may have banned the circuit.
            Decision::Admit(Grant::Trusted) => self.store.is_current()?,
            Decision::Challenge(_) | Decision::Refuse(_) => {}
        }
        Ok(decision)
    }

    /// Extends the trust in a circuit with a session once half of its time has passed, so that active visitors
    /// stay trusted.
    fn renew_trust(&self, client: &Client) {
        let Some(circuit) = client.tor() else { return };
        let now = self.clock.now();
        let row = self.reputation.row(circuit).filter(|row| row.status == CircuitStatus::Trusted);
        if row.is_some_and(|row| now.until(row.until) < self.config.reputation.vip / 2) {
            self.trust(circuit);
        }
    }

    /// Trusts a circuit from now on, without waiting for the disk.
    pub(super) fn trust(&self, circuit: TorCircuit) {
        let until = self.clock.now().after(self.config.reputation.vip);
        if let Err(error) = self.reputation.trust_in_background(circuit, until) {
            tracing::warn!(%error, "could not trust a circuit that solved a challenge; it needs its session cookie");
        }
    }

    fn facts<'a>(
        &self,
        client: &Client,
        session: Option<Admitted>,
        suspicions: &'a [Suspicion],
    ) -> Facts<'a> {
        let finding = client.tor().and_then(|_| self.behaviour.finding(client.tag));
        if finding.is_some() {
            self.threat.signals().flagged(client.tag);
        }
        self.facts_of(client.tor(), session, suspicions, finding.map(|finding| finding.class))
    }

    /// The facts about a circuit. Unlike [`Self::facts`], this counts nothing.
    pub(super) fn facts_of<'a>(
        &self,
        tor: Option<TorCircuit>,
        session: Option<Admitted>,
        suspicions: &'a [Suspicion],
        finding: Option<Class>,
    ) -> Facts<'a> {
        let policy = self.threat.policy();
        Facts {
            session,
            trusted: tor.map(|circuit| self.is_trusted(circuit)),
            suspicions,
            finding,
            stages: policy.stages,
            admits: policy.admits,
        }
    }

    pub(super) fn is_trusted(&self, circuit: TorCircuit) -> bool {
        self.reputation.status(circuit) == Some(CircuitStatus::Trusted)
    }

    /// Why the circuit's answers look automated. Never for a clearnet address, which many people may share.
    fn suspicions(&self, client: &Client) -> Vec<Suspicion> {
        client.tor().map_or_else(Vec::new, |_| self.answer_histories.suspicions(client.tag))
    }
}

fn words(reasons: &[DecisionReason]) -> String {
    reasons.iter().map(|reason| reason.as_str()).collect::<Vec<_>>().join(", ")
}
