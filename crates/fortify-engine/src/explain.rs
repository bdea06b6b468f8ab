//! The verb `explain`: everything known about a circuit, and what would be decided about it now.
//!
//! It calls the same function that decides about requests, and counts nothing.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;

use super::Engine;
use super::decision::{self, Decision, Grant, Trust};
use crate::behaviour::CircuitReport;
use crate::session::{Admitted, Session};
use fortify_core::circuit::TorCircuit;
use fortify_core::clock::Timestamp;
use fortify_core::pseudonym::CircuitTag;
use fortify_reputation::CircuitStatus;
use fortify_reputation::answer_history::Suspicion;
use fortify_store::StoreError;
use fortify_store::record::SessionId;

/// The windows over which the challenges of a circuit are counted.
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

/// Everything known about a circuit, and what would be decided about its requests.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Explanation {
    /// The current threat level.
    pub level: u8,
    /// The forecast for a request without a session.
    pub without_session: Forecast,
    /// The forecast for a request with a session that is in force on this circuit.
    pub with_session: Forecast,
    /// How it answered challenges; null without recent answers.
    pub answer_history: Option<AnswerHistoryView>,
    /// The number of wrong answers that still count.
    pub failures: u32,
    /// Seconds until it may get its next challenge.
    pub wait_seconds: u64,
    /// The challenges that it requested; null if the store does not say.
    pub quota: Option<QuotaView>,
    /// What its requests look like; null if none was counted recently.
    pub behaviour: Option<CircuitReport>,
}

/// What would be decided about a request.
#[derive(Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Forecast {
    /// `admit`, `challenge`, `wait` (it needs a challenge but has to wait for it, after wrong answers or because
    /// it has requested as many as it may) or `refuse` (it is banned).
    pub decision: &'static str,
    /// The reasons.
    pub reasons: Vec<&'static str>,
    /// The number of challenges in the chain; 0 if none is required.
    pub stages: u8,
    /// Whether the challenges are of the harder kind.
    pub hard: bool,
    /// Seconds until the wait or the ban ends; null if there is none.
    pub seconds: Option<u64>,
}

/// How a circuit answered.
#[derive(Debug, Serialize, JsonSchema)]
pub struct AnswerHistoryView {
    /// The current score; see `ban_at`.
    pub points: f32,
    /// The score at which it is banned.
    pub ban_at: f32,
    /// The number of right answers.
    pub solved: u32,
    /// The number of right answers at the first try.
    pub first_tries: u32,
    /// The number of wrong answers.
    pub failed: u32,
    /// The reasons why its answers look automated.
    pub suspicions: Vec<&'static str>,
}

/// The challenges that a circuit requested, and its limits.
#[derive(Debug, Serialize, JsonSchema)]
pub struct QuotaView {
    /// Requested in the last minute.
    pub minute: u32,
    /// The limit per minute.
    pub minute_most: u32,
    /// Requested in the last hour.
    pub hour: u32,
    /// The limit per hour.
    pub hour_most: u32,
}

impl QuotaView {
    const fn is_used_up(&self) -> bool {
        self.minute >= self.minute_most || self.hour >= self.hour_most
    }
}

impl Engine {
    /// Explains the circuit `tag`; `tor` is the Tor circuit, if known.
    ///
    /// # Errors
    ///
    /// Fails if the store fails.
    pub async fn explain(
        &self,
        tag: CircuitTag,
        tor: Option<TorCircuit>,
    ) -> Result<Explanation, StoreError> {
        let now = self.clock.now();
        let row = tor.and_then(|circuit| self.reputation.row(circuit));
        let failures = self.store.failures(tag).await?;
        // After a reset, the circuit's wrong answers are forgotten with its next request.
        let forgiven = row.is_some_and(|row| row.status == CircuitStatus::Normal);
        let wait = self.challenges.wait_after(failures).filter(|_| !forgiven);
        let quota = self.quota_usage(tag).await?;
        let too_many = quota.as_ref().is_some_and(QuotaView::is_used_up);
        let trust = self.trust_in(tor, tag).await?;
        let banned = row.filter(|row| row.status == CircuitStatus::Banned);
        let forecast = |session| match banned {
            Some(row) => Forecast {
                reasons: vec![row.reason.as_str()],
                seconds: Some(now.until(row.until).as_secs()),
                ..Forecast::of("refuse")
            },
            None => self.forecast(tag, trust, session, wait, too_many),
        };
        Ok(Explanation {
            level: self.threat.level().get(),
            without_session: forecast(false),
            with_session: forecast(true),
            answer_history: self.history(tag, now),
            failures: failures.count,
            wait_seconds: wait.map_or(0, |wait| wait.as_secs()),
            quota,
            behaviour: self.behaviour.report_of(tag),
        })
    }

    fn forecast(
        &self,
        tag: CircuitTag,
        trust: Trust,
        session: bool,
        wait: Option<Duration>,
        too_many: bool,
    ) -> Forecast {
        let tor = trust != Trust::Never;
        let suspicions = if tor { self.answer_histories.suspicions(tag) } else { Vec::new() };
        let finding = self.behaviour.finding(tag).filter(|_| tor).map(|finding| finding.class);
        let session = session.then(some_session);
        let (decision, reasons) =
            decision::decide(self.facts_of(trust, session, &suspicions, finding));
        let reasons = reasons.iter().map(|reason| reason.as_str()).collect();
        match decision {
            Decision::Admit(Grant::Session(_) | Grant::Trusted(_)) => {
                Forecast { reasons, ..Forecast::of("admit") }
            }
            Decision::Challenge(requirement) => Forecast {
                decision: if wait.is_some() || too_many { "wait" } else { "challenge" },
                reasons,
                stages: requirement.stages,
                hard: requirement.harder,
                seconds: wait.map(|wait| wait.as_secs()),
            },
            Decision::SlowDown(_) | Decision::Refuse(_) => {
                Forecast { reasons, ..Forecast::of("refuse") }
            }
        }
    }

    fn history(&self, tag: CircuitTag, now: Timestamp) -> Option<AnswerHistoryView> {
        let scoring = &self.config.reputation.scoring;
        self.answer_histories.get(tag).map(|history| AnswerHistoryView {
            points: history.points(scoring, now),
            ban_at: scoring.ban,
            solved: history.solved(),
            first_tries: history.first_tries(),
            failed: history.failed(),
            suspicions: history.suspicions(scoring, now).map(Suspicion::as_str).collect(),
        })
    }

    async fn quota_usage(&self, tag: CircuitTag) -> Result<Option<QuotaView>, StoreError> {
        let usage = self.store.quota_usage(tag, [MINUTE, HOUR]).await?;
        Ok(usage.map(|[minute, hour]| QuotaView {
            minute,
            minute_most: self.config.limits.challenges_per_minute,
            hour,
            hour_most: self.threat.policy().challenges_per_hour,
        }))
    }
}

impl Forecast {
    const fn of(decision: &'static str) -> Self {
        Self { decision, reasons: Vec::new(), stages: 0, hard: false, seconds: None }
    }
}

/// A placeholder session: only its presence matters.
const fn some_session() -> Admitted {
    let (id, start) = (SessionId::from_bytes([0; SessionId::BYTES]), Timestamp::from_secs(0));
    let session = Session { id, threat_level: 1, issued_at: start, expires_at: start };
    Admitted { session, reissued: None, moved: false }
}
