//! The verbs `check` and `admit`: decide whether a request is admitted, and pay for it.

use tokio::time::Instant;

use super::client::{Client, Renewal};
use super::decision::{self, Decision, DecisionReason, Facts, Grant, Requirement, Trust};
use super::{Engine, EngineError};
use crate::behaviour::Class;
use crate::budget::Spent;
use crate::session::{Admitted, Rejection, Session};
use crate::threat::table::Admits;
use fortify_core::circuit::TorCircuit;
use fortify_core::pseudonym::CircuitTag;
use fortify_reputation::answer_history::Suspicion;
use fortify_reputation::{CircuitStatus, StatusReason};
use fortify_store::StoreError;
use fortify_store::record::SessionId;

/// What a request is decided about for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// It goes to the service, and its session pays.
    Service,
    /// It is for an address of the gate's own.
    Ours,
    /// It is a form with the answer to a challenge.
    Answer,
}

impl Engine {
    /// Decides about one request of `client`, without paying for it: for addresses of the gate's own. A session that is
    /// bound to another circuit moves to this one if the limit of moves permits it. Who has no budget left is not
    /// admitted here either.
    ///
    /// # Errors
    ///
    /// Fails if the store cannot say whether the session is in force; the request must not be admitted then.
    pub async fn check(&self, client: &Client) -> Result<Decision, EngineError> {
        self.decide_timed(client, Purpose::Ours).await
    }

    /// As [`Self::check`], for a form with the answer to a challenge. Whoever has to solve one before the next log-in is
    /// not in here, or the form would not be checked and the log-in never be reached.
    ///
    /// # Errors
    ///
    /// As [`Self::check`].
    pub async fn check_answering(&self, client: &Client) -> Result<Decision, EngineError> {
        self.decide_timed(client, Purpose::Answer).await
    }

    /// As [`Self::check`], for a request to the service, which its session pays for.
    ///
    /// # Errors
    ///
    /// As [`Self::check`].
    pub async fn admit(&self, client: &Client) -> Result<Decision, EngineError> {
        self.decide_timed(client, Purpose::Service).await
    }

    async fn decide_timed(
        &self,
        client: &Client,
        purpose: Purpose,
    ) -> Result<Decision, EngineError> {
        let started = Instant::now();
        let decided = self.decide(client, purpose).await;
        self.metrics.decision.decided(started.elapsed(), decided.as_ref().ok());
        decided
    }

    /// What `client` has to solve now, whether or not it has a session: for visitors who open the challenge page
    /// themselves.
    #[must_use]
    pub fn requirement(&self, client: &Client) -> Requirement {
        let suspicions = self.suspicions(client);
        decision::require(&self.facts(client, None, Trust::No, &suspicions))
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
        if let Some(Admitted { session, reissued: Some(token), moved }) = &found {
            let (token, expires_at) = (token.clone(), session.expires_at);
            client.renewal.get_or_init(|| Renewal { token, expires_at });
            if *moved {
                self.metrics.session.moved();
                self.move_trust(client, session);
            }
        }
        Ok(found)
    }

    /// Takes the trust along with a session that has moved to the circuit of `client`. Its former circuit is refused by
    /// the move itself; its status ends so that `HAProxy` hears of it.
    fn move_trust(&self, client: &Client, session: &Session) {
        let Some(here) = client.tor() else { return };
        for left in self.reputation.trusted_for(session.id) {
            if left != here
                && let Err(error) = self.reputation.end_trust_in_background(left)
            {
                tracing::warn!(%error, "could not end the status of a circuit that a session left; it admits nobody");
            }
        }
        // Where the level asks for both, the circuit has to solve a challenge of its own.
        if self.threat.policy().admits != Admits::Both {
            self.trust(here, *session);
        }
    }

    /// Whether `client` has a session that is not accepted only because records of ended sessions were lost.
    #[must_use]
    pub fn is_unverifiable(&self, client: &Client) -> bool {
        self.sessions.any_unverifiable(&client.credentials.sessions)
    }

    async fn decide(&self, client: &Client, purpose: Purpose) -> Result<Decision, EngineError> {
        let session = self.session(client).await?;
        let trust = self.trust_in(client.tor(), client.tag).await?;
        let suspicions = self.suspicions(client);
        let facts = self.facts(client, session, trust, &suspicions);
        let (requirement, finding) = (decision::require(&facts), facts.finding);
        let (mut decision, mut reasons) = decision::decide(facts);
        if let Decision::Admit(grant) = decision {
            let spent = self.spend(client, grant.session(), finding, purpose).await?;
            if let Spent::TooFast(slow) = spent
                && slow.kept_up
            {
                self.log_out(client, grant.session()).await?;
                self.flooded(client);
            }
            let (within, reason) = decision::within_budget(grant, spent, requirement);
            decision = within;
            if let Some(reason) = reason {
                reasons = vec![reason];
            }
        }
        self.metrics.decision.count_reasons(&reasons);
        tracing::debug!(decision = decision.label(), reasons = %words(&reasons), "decided");
        match &decision {
            Decision::Admit(Grant::Session(_)) => self.renew_trust(client),
            // Another node may have banned the circuit.
            Decision::Admit(Grant::Trusted(_)) => {
                self.store.is_current()?;
                self.renew_trust(client);
            }
            Decision::Challenge(_) | Decision::SlowDown(_) | Decision::Refuse(_) => {}
        }
        Ok(decision)
    }

    /// Extends the trust in a circuit with a session once a tenth of its time has passed, so that active visitors
    /// stay trusted and it ends soon after [`crate::config::ReputationConfig::vip`] without a request. It never
    /// outlasts its session.
    fn renew_trust(&self, client: &Client) {
        let Some(circuit) = client.tor() else { return };
        let (now, vip) = (self.clock.now(), self.config.reputation.vip);
        let row = self.reputation.row(circuit).filter(|row| row.status == CircuitStatus::Trusted);
        let Some((row, session)) = row.and_then(|row| Some((row, row.session?))) else { return };
        if now.until(row.until) < (vip - vip / 10).min(now.until(session.expires_at)) {
            self.trust(circuit, session);
        }
    }

    /// Trusts a circuit for `session` from now on, without waiting for the disk.
    pub(super) fn trust(&self, circuit: TorCircuit, session: Session) {
        let until = self.clock.now().after(self.config.reputation.vip);
        if let Err(error) = self.reputation.trust_in_background(circuit, session, until) {
            tracing::warn!(%error, "could not trust a circuit that solved a challenge; it needs its session cookie");
        }
    }

    fn facts<'a>(
        &self,
        client: &Client,
        session: Option<Admitted>,
        trust: Trust,
        suspicions: &'a [Suspicion],
    ) -> Facts<'a> {
        let finding = client.tor().and_then(|_| self.behaviour.finding(client.tag));
        if finding.is_some() {
            self.threat.signals().flagged(client.tag);
        }
        self.facts_of(trust, session, suspicions, finding.map(|finding| finding.class))
    }

    /// The facts about a circuit. Unlike [`Self::facts`], this counts nothing.
    pub(super) fn facts_of<'a>(
        &self,
        trust: Trust,
        session: Option<Admitted>,
        suspicions: &'a [Suspicion],
        finding: Option<Class>,
    ) -> Facts<'a> {
        let policy = self.threat.policy();
        Facts { session, trust, suspicions, finding, stages: policy.stages, admits: policy.admits }
    }

    /// Whether the circuit `tag` is trusted, and for which session. Trust that an operator gave is for a session
    /// of the circuit's own, at the level in force, until the operator's word ends.
    ///
    /// # Errors
    ///
    /// Fails if the store cannot say whether the session is in force.
    pub(super) async fn trust_in(
        &self,
        tor: Option<TorCircuit>,
        tag: CircuitTag,
    ) -> Result<Trust, StoreError> {
        let Some(circuit) = tor else { return Ok(Trust::Never) };
        let row = self.reputation.row(circuit).filter(|row| row.status == CircuitStatus::Trusted);
        let Some(row) = row else { return Ok(Trust::No) };
        Ok(match (row.session, row.reason) {
            (Some(session), _) if self.sessions.is_held(&session, tag).await? => {
                Trust::For(session)
            }
            (None, StatusReason::Operator) => Trust::For(Session {
                id: SessionId::of_trusted(tag),
                threat_level: self.threat.level().get(),
                issued_at: row.since,
                expires_at: row.until,
            }),
            _ => Trust::No,
        })
    }

    /// Why the circuit's answers look automated. Never for a clearnet address, which many people may share.
    fn suspicions(&self, client: &Client) -> Vec<Suspicion> {
        client.tor().map_or_else(Vec::new, |_| self.answer_histories.suspicions(client.tag))
    }
}

fn words(reasons: &[DecisionReason]) -> String {
    reasons.iter().map(|reason| reason.as_str()).collect::<Vec<_>>().join(", ")
}
