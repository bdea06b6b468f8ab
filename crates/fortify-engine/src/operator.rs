//! The operator's view of the engine: status, health, figures, and changes by hand.

use std::sync::Arc;
use std::time::Duration;

use fortify_captcha::Media;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::Engine;
use super::decision::{self, Facts, Requirement, Trust};
use crate::behaviour::{Class, Report};
use crate::challenge::ChallengeError;
use crate::challenge::tally::Figures;
use crate::session::Session;
use crate::threat::history::DialChange;
use crate::threat::table::LevelPolicy;
use crate::threat::{self, Dial, Threat, ThreatLevel};
use fortify_core::circuit::{CircuitId, Origin, TorCircuit};
use fortify_core::clock::Timestamp;
use fortify_core::damage::Damage;
use fortify_core::pseudonym::CircuitTag;
pub use fortify_core::reach::Reach;
use fortify_core::sqlite::FileError;
use fortify_reputation::{
    self, CircuitStatus, Counts, Durability, Reputation, ReputationError, StatusReason, StatusRow,
};
use fortify_store::StoreError;

/// The number of statuses written together, in one batch of the database.
const WRITTEN_TOGETHER: usize = 256;

/// How much later the same ban may be noticed: by the time of its status, or of the table's clock.
const NOTICED_AGAIN: Duration = Duration::from_secs(2);

/// How long a change waits to be told to the other nodes before its author is told that it was not.
const TOLD_WITHIN: Duration = Duration::from_secs(1);

/// The health of the engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// Whether the store answers.
    pub store: bool,
    /// Whether pictures can be drawn.
    pub renderer: bool,
    /// Whether bans are on disk and so outlive this process. They are in force either way.
    pub reputation: bool,
    /// Whether another node signs with other keys, so that each refuses the other's sessions.
    pub foreign_keys: bool,
    /// The database files that were found damaged and recreated since this process started.
    pub recreated: Vec<&'static str>,
    /// The files that were found damaged since this process started, and what was lost of each.
    pub damaged: Vec<Damage>,
}

/// Circuits.
impl Engine {
    /// The pseudonym of a circuit.
    #[must_use]
    pub fn tag(&self, circuit: &CircuitId) -> CircuitTag {
        self.pseudonyms.tag(circuit)
    }

    /// The circuit with this pseudonym, if its requests are being counted.
    #[must_use]
    pub fn circuit(&self, tag: CircuitTag) -> Option<TorCircuit> {
        self.behaviour.circuit(tag)
    }

    /// The time of a circuit's last counted request.
    #[must_use]
    pub fn last_seen(&self, tag: CircuitTag) -> Option<Timestamp> {
        self.behaviour.last_seen(tag)
    }

    /// Every circuit whose requests are counted, its Tor circuit if known, and when it was last seen. There may be
    /// 100,000, so do not call this on a thread that serves requests.
    #[must_use]
    pub fn recent_circuits(&self) -> Vec<(CircuitTag, Option<TorCircuit>, Timestamp)> {
        self.behaviour.recent()
    }

    /// The status of a circuit, if it has one.
    #[must_use]
    pub fn status(&self, circuit: TorCircuit) -> Option<StatusRow> {
        self.reputation.row(circuit)
    }

    /// Every status in force. There may be half a million, so do not call this on a thread that serves requests.
    #[must_use]
    pub fn statuses(&self) -> Vec<StatusRow> {
        self.reputation.rows()
    }

    /// The number of circuits with each status.
    #[must_use]
    pub fn status_counts(&self) -> Counts {
        self.reputation.counts()
    }

    /// The default duration of a status.
    #[must_use]
    pub const fn usual_time(&self, status: CircuitStatus) -> Duration {
        match status {
            CircuitStatus::Banned => self.config.reputation.ban,
            CircuitStatus::Trusted => self.config.reputation.vip,
            // As long as there may be failures to forget.
            CircuitStatus::Normal => self.config.security.reputation_decay,
        }
    }

    /// Sets the status of a circuit for `time`.
    ///
    /// # Errors
    ///
    /// Fails if it cannot be stored.
    pub async fn set_status(
        &self,
        circuit: TorCircuit,
        status: CircuitStatus,
        time: Duration,
    ) -> Result<Durability, ReputationError> {
        let now = self.clock.now();
        let set = self.reputation.set(circuit, status, now.after(time), StatusReason::Operator);
        if status != CircuitStatus::Banned {
            return set.await;
        }
        // At once: a store that does not answer holds up neither.
        let (ended, set) = tokio::join!(self.end_sessions_on(circuit, now), set);
        if let Err(error) = ended {
            tracing::error!(%error, "could not end the sessions of a circuit; it is banned all the same");
        }
        set
    }

    /// Ends all sessions of `circuit` that were earned until `at`, whichever way its requests arrive. Nothing is
    /// written that is known already.
    pub(super) async fn end_sessions_on(
        &self,
        circuit: TorCircuit,
        at: Timestamp,
    ) -> Result<Reach, StoreError> {
        let (mut reach, mut refused) = (Reach::Cluster, None);
        for id in [CircuitId::Header(circuit), CircuitId::ProxyLine(Origin::Tor(circuit))] {
            let tag = self.pseudonyms.tag(&id);
            let ended = self.store.sessions_ended(tag).await.unwrap_or_default();
            // A ban is noticed again after it was carried out, and after a restart.
            if ended.is_none_or(|ended| ended.after(NOTICED_AGAIN) < at) {
                match self.store.end_sessions_of(tag, at).await {
                    Ok(reached) => reach = reach.and(reached),
                    Err(error) => refused = Some(error),
                }
            }
        }
        refused.map_or(Ok(reach), Err)
    }

    /// Resets the status of many circuits.
    ///
    /// # Errors
    ///
    /// The first failure; the circuits before it have been reset.
    pub async fn reset_all(&self, circuits: &[TorCircuit]) -> Result<(), ReputationError> {
        let time = self.usual_time(CircuitStatus::Normal);
        self.reset_for(circuits, time, StatusReason::Operator, Err).await
    }

    /// Resets the status of `circuits` for `time`, one batch at a time; `failed` decides whether to go on.
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

    /// The reputation, from which the table in `HAProxy` is reconciled.
    #[must_use]
    pub const fn reputation(&self) -> &Arc<Reputation> {
        &self.reputation
    }
}

/// Sessions and challenges.
impl Engine {
    /// The session in the value of a cookie, if its signature and times are valid.
    #[must_use]
    pub fn read_session(&self, text: &str) -> Option<Session> {
        self.sessions.read(text)
    }

    /// Ends a session, and the trust in the circuit that holds it.
    ///
    /// # Errors
    ///
    /// Fails if it cannot be recorded, neither in the store nor at this node; the session may then stay in force.
    pub async fn revoke(&self, session: &Session) -> Result<Reach, StoreError> {
        let reach = self.sessions.revoke(session).await?;
        for circuit in self.reputation.trusted_for(session.id) {
            self.end_trust(circuit).await;
        }
        Ok(reach)
    }

    /// Ends all sessions of `circuit`, and the trust in it.
    ///
    /// # Errors
    ///
    /// Fails if it cannot be recorded, neither in the store nor at this node; the sessions may then stay in force.
    pub async fn revoke_all_on(&self, circuit: TorCircuit) -> Result<Reach, StoreError> {
        let reach = self.end_sessions_on(circuit, self.clock.now()).await?;
        self.end_trust(circuit).await;
        Ok(reach)
    }

    /// The session with this subject, if a circuit is trusted for it: other sessions exist in their cookies only.
    #[must_use]
    pub fn session_of(&self, subject: &str) -> Option<Session> {
        let sessions = self.reputation.rows().into_iter().filter_map(|row| row.session);
        let mut of_it = sessions.filter(|session| self.subject(session) == subject);
        of_it.next()
    }

    async fn end_trust(&self, circuit: TorCircuit) {
        if self.reputation.status(circuit) == Some(CircuitStatus::Trusted)
            && let Err(error) = self.reputation.end_trust(circuit).await
        {
            tracing::warn!(%error, "could not end the status of a circuit whose session ended; it admits nobody");
        }
    }

    /// Draws a sample picture as visitors get it at `level`. It belongs to no challenge.
    ///
    /// # Errors
    ///
    /// [`ChallengeError::Busy`], or the renderer's error.
    pub async fn sample(&self, level: ThreatLevel) -> Result<Media, ChallengeError> {
        let config = self.config.challenge_config(&self.threat.policy_at(level));
        self.challenges.sample(&config.mix).await
    }

    /// How challenges were answered since the start: by kind, and in total.
    #[must_use]
    pub fn answer_figures(&self) -> (Vec<Figures>, Figures) {
        self.challenges.tally().figures()
    }

    /// The number of challenges that wait for an answer.
    ///
    /// # Errors
    ///
    /// Fails if the store fails.
    pub async fn active_challenges(&self) -> Result<u64, StoreError> {
        self.store.active_challenges().await
    }

    /// The number of pictures drawn ahead.
    #[must_use]
    pub fn pictures_ready(&self) -> usize {
        self.challenges.pictures_ready()
    }

    /// The number of visitors waiting in the queue.
    #[must_use]
    pub fn queue_length(&self) -> u64 {
        self.limits.waiting()
    }

    /// The behaviour report since this process started.
    #[must_use]
    pub fn behaviour_report(&self) -> Report {
        self.behaviour.report()
    }

    /// What a circuit without a session has to solve at the current level if its requests look like `class`.
    #[must_use]
    pub fn requirement_of(&self, class: Option<Class>) -> Requirement {
        let policy = self.threat.policy();
        let (stages, admits) = (policy.stages, policy.admits);
        let finding = class;
        let trust = Trust::No;
        let facts = Facts { session: None, trust, suspicions: &[], finding, stages, admits };
        decision::require(&facts)
    }
}

/// The threat level.
impl Engine {
    /// The current state of the dial.
    #[must_use]
    pub fn dial(&self) -> Dial {
        self.threat.dial()
    }

    /// Who made the change of the dial that is in force, if this node knows.
    #[must_use]
    pub fn dial_author(&self) -> Option<Arc<String>> {
        self.threat.author()
    }

    /// The policy at `level`.
    #[must_use]
    pub fn policy_at(&self, level: ThreatLevel) -> Arc<LevelPolicy> {
        self.threat.policy_at(level)
    }

    /// Changes the dial on behalf of an operator to what `decide` returns; `None` leaves it unchanged.
    ///
    /// # Errors
    ///
    /// Fails if the database cannot be written; the dial is unchanged then.
    pub async fn change_dial(
        &self,
        change: DialChange,
        decide: impl FnOnce(Dial) -> Option<Dial> + Send + 'static,
    ) -> Result<Option<Dial>, FileError> {
        self.threat.change_by_operator(change, decide).await
    }

    /// The last `count` changes of the dial, the oldest first.
    ///
    /// # Errors
    ///
    /// Fails if the database cannot be read.
    pub async fn dial_history(
        &self,
        count: u64,
    ) -> Result<Vec<threat::history::DialRow>, FileError> {
        self.threat.history(count).await
    }

    /// The last `count` changes before `before` with numbers below `below`, the latest first.
    ///
    /// # Errors
    ///
    /// Fails if the database cannot be read.
    pub async fn dial_history_before(
        &self,
        before: Timestamp,
        below: u64,
        count: u64,
    ) -> Result<Vec<(u64, threat::history::DialRow)>, FileError> {
        self.threat.history_before(before, below, count).await
    }

    /// The threat level, for the task that runs the dial.
    #[must_use]
    pub const fn threat(&self) -> &Arc<Threat> {
        &self.threat
    }
}

/// Health and figures.
impl Engine {
    /// How far everything reaches that operators changed at this node, as of now.
    #[must_use]
    pub fn reach_now(&self) -> Reach {
        let is_told = self.replication.pending().unwrap_or(0) == 0
            && self.store.unwritten() == 0
            && self.threat.is_published();
        if is_told { Reach::Cluster } else { Reach::Node }
    }

    /// The same, once all of it was told to the other nodes, or after a second.
    pub async fn reach(&self) -> Reach {
        let told = async {
            while self.reach_now() == Reach::Node {
                sleep(Duration::from_millis(10)).await;
            }
        };
        match timeout(TOLD_WITHIN, told).await {
            Ok(()) => Reach::Cluster,
            Err(_elapsed) => Reach::Node,
        }
    }

    /// Whether this node knows which sessions were ended and which circuits are banned; before, it admits nobody.
    #[must_use]
    pub fn is_current(&self) -> bool {
        self.store.is_current().is_ok()
    }

    /// Checks the health of the engine.
    pub async fn health(&self) -> Health {
        Health {
            store: self.store.ping().await.is_ok(),
            renderer: self.challenges.is_warm().await,
            reputation: !self.reputation.is_degraded(),
            foreign_keys: self.metrics.keys.are_foreign(),
            recreated: self.recreated(),
            damaged: self.damages(),
        }
    }

    /// The files that were found damaged since this process started, and what was lost of each.
    #[must_use]
    pub fn damages(&self) -> Vec<Damage> {
        let lost = [self.reputation.damages(), self.threat.damages(), &self.found];
        Damage::by_file(self.store.damages().into_iter().chain(lost.concat()))
    }

    /// The database files that were found damaged and recreated since this process started.
    #[must_use]
    pub fn recreated(&self) -> Vec<&'static str> {
        let files = [
            (fortify_reputation::status_db::FILE_NAME, self.reputation.was_recreated()),
            (threat::history::FILE_NAME, self.threat.was_recreated()),
        ];
        files.into_iter().filter(|(_, recreated)| *recreated).map(|(name, _)| name).collect()
    }

    /// Updates all gauges before the metrics are scraped.
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
            metrics.reputation.set_pending(count);
        }
        metrics
            .reputation
            .set_unwritten(self.reputation.is_degraded(), self.reputation.unwritten());
        for file in self.recreated() {
            metrics.files.recreated(file);
        }
        for damage in self.damages() {
            metrics.files.damaged(damage);
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
