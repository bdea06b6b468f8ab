//! What operators see of the engine, and what they do to it.

use std::sync::Arc;
use std::time::Duration;

use fortify_captcha::Media;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::Engine;
use super::decision::{self, Facts, Requirement};
use crate::behaviour::{Class, Report};
use crate::challenge::ChallengeError;
use crate::challenge::tally::Figures;
use crate::reputation::{
    self, CircuitStatus, Counts, Durability, Reputation, ReputationError, StatusReason, StatusRow,
};
use crate::session::Session;
use crate::threat::history::DialChange;
use crate::threat::table::LevelPolicy;
use crate::threat::{self, Dial, Threat, ThreatLevel};
use fortify_core::circuit::{CircuitId, TorCircuit};
use fortify_core::clock::Timestamp;
use fortify_core::pseudonym::CircuitTag;
use fortify_core::sqlite::FileError;
use fortify_store::StoreError;

/// Statuses that are written together: what one batch of the file holds.
const WRITTEN_TOGETHER: usize = 256;

/// Whether the engine can do its work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// The store answers.
    pub store: bool,
    /// A picture can be drawn.
    pub renderer: bool,
    /// Bans outlive this process. They are in force either way.
    pub reputation: bool,
    /// The files that were damaged when this process started, and are new ones.
    pub recreated: Vec<&'static str>,
}

/// Circuits.
impl Engine {
    /// The pseudonym of a circuit.
    #[must_use]
    pub fn tag(&self, circuit: &CircuitId) -> CircuitTag {
        self.pseudonyms.tag(circuit)
    }

    /// The circuit with this pseudonym, where its requests are counted.
    #[must_use]
    pub fn circuit(&self, tag: CircuitTag) -> Option<TorCircuit> {
        self.behaviour.circuit(tag)
    }

    /// When the last request of a circuit was counted.
    #[must_use]
    pub fn last_seen(&self, tag: CircuitTag) -> Option<Timestamp> {
        self.behaviour.last_seen(tag)
    }

    /// Every circuit whose requests are counted, its number where that is known, and when it was last
    /// seen. There may be 100,000: to be asked off the threads that serve.
    #[must_use]
    pub fn recent_circuits(&self) -> Vec<(CircuitTag, Option<TorCircuit>, Timestamp)> {
        self.behaviour.recent()
    }

    /// The status of a circuit, if it has one.
    #[must_use]
    pub fn status(&self, circuit: TorCircuit) -> Option<StatusRow> {
        self.reputation.row(circuit)
    }

    /// Every status in force. There may be half a million: to be asked off the threads that serve.
    #[must_use]
    pub fn statuses(&self) -> Vec<StatusRow> {
        self.reputation.rows()
    }

    /// How many circuits have a status.
    #[must_use]
    pub fn status_counts(&self) -> Counts {
        self.reputation.counts()
    }

    /// For how long a status is set unless it is said.
    #[must_use]
    pub const fn usual_time(&self, status: CircuitStatus) -> Duration {
        match status {
            CircuitStatus::Banned => self.config.reputation.ban,
            CircuitStatus::Trusted => self.config.reputation.vip,
            // Kept for as long as there may be failures to forget.
            CircuitStatus::Normal => self.config.security.reputation_decay,
        }
    }

    /// Sets the status of a circuit for `time`.
    ///
    /// # Errors
    ///
    /// When it cannot be kept.
    pub async fn set_status(
        &self,
        circuit: TorCircuit,
        status: CircuitStatus,
        time: Duration,
    ) -> Result<Durability, ReputationError> {
        let until = self.clock.now().after(time);
        self.reputation.set(circuit, status, until, StatusReason::Operator).await
    }

    /// Takes the statuses of many circuits back.
    ///
    /// # Errors
    ///
    /// The first that could not be taken back; those before it are.
    pub async fn reset_all(&self, circuits: &[TorCircuit]) -> Result<(), ReputationError> {
        let time = self.usual_time(CircuitStatus::Normal);
        self.reset_for(circuits, time, StatusReason::Operator, Err).await
    }

    /// Takes the statuses of `circuits` back for `time`, a batch at a time; `failed` says whether to go on.
    pub(super) async fn reset_for(
        &self,
        circuits: &[TorCircuit],
        time: Duration,
        reason: StatusReason,
        failed: impl Fn(ReputationError) -> Result<(), ReputationError>,
    ) -> Result<(), ReputationError> {
        let until = self.clock.now().after(time);
        for together in circuits.chunks(WRITTEN_TOGETHER) {
            let mut writes = JoinSet::new();
            for circuit in together.iter().copied() {
                let reputation = self.reputation.clone();
                writes.spawn(async move {
                    reputation.set(circuit, CircuitStatus::Normal, until, reason).await
                });
            }
            while let Some(written) = writes.join_next().await {
                written
                    .unwrap_or(Err(ReputationError::Ended))
                    .map_or_else(&failed, |_kept| Ok(()))?;
            }
        }
        Ok(())
    }

    /// The reputation that `HAProxy`'s table is kept like.
    #[must_use]
    pub const fn reputation(&self) -> &Arc<Reputation> {
        &self.reputation
    }
}

/// Sessions and challenges.
impl Engine {
    /// The session in this text of a cookie, if it is one of this gate's and its times are right.
    #[must_use]
    pub fn read_session(&self, text: &str) -> Option<Session> {
        self.sessions.read(text)
    }

    /// Ends a session.
    ///
    /// # Errors
    ///
    /// When the store did not keep it; the session is then still in force.
    pub async fn revoke(&self, session: &Session) -> Result<(), StoreError> {
        self.sessions.revoke(session).await
    }

    /// A picture as visitors get it at `level`: of no challenge, and its answer is thrown away.
    ///
    /// # Errors
    ///
    /// [`ChallengeError::Busy`]; when the renderer fails.
    pub async fn sample(&self, level: ThreatLevel) -> Result<Media, ChallengeError> {
        let terms = self.config.challenge_config(&self.threat.policy_at(level));
        self.challenges.sample(&terms.mix).await
    }

    /// How challenges were answered since the start: each kind, and all of them.
    #[must_use]
    pub fn answer_figures(&self) -> (Vec<Figures>, Figures) {
        self.challenges.tally().figures()
    }

    /// Challenges that wait for an answer.
    ///
    /// # Errors
    ///
    /// Faults of the store.
    pub async fn active_challenges(&self) -> Result<u64, StoreError> {
        self.store.active_challenges().await
    }

    /// Pictures that are drawn ahead.
    #[must_use]
    pub fn pictures_ready(&self) -> usize {
        self.challenges.pictures_ready()
    }

    /// How many wait in the queue.
    #[must_use]
    pub fn queue_length(&self) -> u64 {
        self.limits.waiting()
    }

    /// What behaviour counted since the start.
    #[must_use]
    pub fn behaviour_report(&self) -> Report {
        self.behaviour.report()
    }

    /// What is asked at the level in force of a circuit without a session whose requests look like `class`.
    #[must_use]
    pub fn requirement_of(&self, class: Option<Class>) -> Requirement {
        let policy = self.threat.policy();
        let (stages, admits) = (policy.stages, policy.admits);
        let finding = class;
        let facts =
            Facts { session: None, trusted: Some(false), suspicions: &[], finding, stages, admits };
        decision::require(&facts)
    }
}

/// The threat level.
impl Engine {
    /// Where the dial stands.
    #[must_use]
    pub fn dial(&self) -> Dial {
        self.threat.dial()
    }

    /// What `level` asks.
    #[must_use]
    pub fn policy_at(&self, level: ThreatLevel) -> Arc<LevelPolicy> {
        self.threat.policy_at(level)
    }

    /// Turns the dial by hand, unless `decide` finds that it may not be.
    ///
    /// # Errors
    ///
    /// Faults of the file, and then it was not turned.
    pub async fn start_dial(
        &self,
        change: DialChange,
        decide: impl FnOnce(Dial) -> Option<Dial> + Send + 'static,
    ) -> Result<Option<Dial>, FileError> {
        self.threat.change_by_operator(change, decide).await
    }

    /// The last turns of the dial.
    ///
    /// # Errors
    ///
    /// Faults of the file.
    pub async fn dial_history(
        &self,
        count: u64,
    ) -> Result<Vec<threat::history::DialRow>, FileError> {
        self.threat.history(count).await
    }

    /// Turns of the dial before one.
    ///
    /// # Errors
    ///
    /// Faults of the file.
    pub async fn dial_history_before(
        &self,
        before: Timestamp,
        below: u64,
        count: u64,
    ) -> Result<Vec<(u64, threat::history::DialRow)>, FileError> {
        self.threat.history_before(before, below, count).await
    }

    /// The threat level, for the task that turns it.
    #[must_use]
    pub const fn threat(&self) -> &Arc<Threat> {
        &self.threat
    }
}

/// Health and figures.
impl Engine {
    /// Whether it can do its work now.
    pub async fn health(&self) -> Health {
        Health {
            store: self.store.ping().await.is_ok(),
            renderer: self.challenges.is_warm().await,
            reputation: !self.reputation.is_degraded(),
            recreated: self.recreated(),
        }
    }

    /// The files that were damaged when this process started, and are new ones.
    #[must_use]
    pub fn recreated(&self) -> Vec<&'static str> {
        let files = [
            (reputation::status_db::FILE_NAME, self.reputation.was_recreated()),
            (threat::history::FILE_NAME, self.threat.was_recreated()),
        ];
        files.into_iter().filter(|(_, anew)| *anew).map(|(name, _)| name).collect()
    }

    /// Sets the gauges of what is the case now, to be read by whoever scrapes the metrics.
    pub async fn update_gauges(&self) {
        let metrics = &self.metrics;
        metrics.challenge.set_pictures_ready(self.challenges.pictures_ready());
        metrics.limits.set_queue_waiting(self.limits.waiting());
        if let Ok(count) = self.store.active_challenges().await {
            metrics.challenge.set_active(count);
        }
        let counts = self.reputation.counts();
        metrics.reputation.set_circuit_status(CircuitStatus::Trusted.as_str(), counts.trusted);
        metrics.reputation.set_circuit_status(CircuitStatus::Banned.as_str(), counts.banned);
        if let Some(count) = self.replication.pending() {
            metrics.reputation.set_untold(count);
        }
        metrics
            .reputation
            .set_unwritten(self.reputation.is_degraded(), self.reputation.unwritten());
        for file in self.recreated() {
            metrics.files.recreated(file);
        }
        let started = Instant::now();
        let store = self.store.ping().await.is_ok();
        metrics.store.set_up(store, started.elapsed());
        metrics.challenge.set_renderer_up(self.challenges.is_warm().await);
        if let Some(key) = self.keys.list().first() {
            metrics.session.set_signing_key_created(key.created_at);
        }
    }
}
