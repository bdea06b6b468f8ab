//! What is counted of decisions, and the instruments of the whole engine.

use std::time::Duration;

use fortify_core::telemetry::instruments::{ByReason, LATENCY_BUCKETS};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::behaviour::metrics::BehaviourMetrics;
use crate::challenge::metrics::ChallengeMetrics;
use crate::decision::Reason;
use crate::limits::metrics::LimitsMetrics;
use crate::reputation::metrics::ReputationMetrics;
use crate::session::metrics::SessionMetrics;
use crate::threat::metrics::ThreatMetrics;

/// What the gate decided about a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GateDecision {
    /// Let through with a session.
    Admit,
    /// Let through without one: its circuit is favoured.
    Favoured,
    /// Met with a challenge.
    Challenge,
    /// Refused without a challenge: its circuit is banned, or cannot be told.
    Refuse,
    /// Not decided, for a fault of this side; refused.
    Error,
}

impl GateDecision {
    const ALL: [Self; 5] =
        [Self::Admit, Self::Favoured, Self::Challenge, Self::Refuse, Self::Error];

    const fn label(self) -> &'static str {
        match self {
            Self::Admit => "admit",
            Self::Favoured => "favoured",
            Self::Challenge => "challenge",
            Self::Refuse => "refuse",
            Self::Error => "error",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByDecision {
    decision: &'static str,
}

/// What was decided, why, and how long that took.
#[derive(Clone, Debug)]
pub struct DecisionMetrics {
    decisions: Family<ByDecision, Counter>,
    seconds: Histogram,
    reasons: Family<ByReason, Counter>,
}

impl Default for DecisionMetrics {
    fn default() -> Self {
        Self {
            decisions: Family::default(),
            seconds: Histogram::new(LATENCY_BUCKETS),
            reasons: Family::default(),
        }
    }
}

impl DecisionMetrics {
    /// Fresh instruments, registered.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let m = &metrics;
        registry.register("decisions", "Requests decided at the gate", m.decisions.clone());
        registry.register(
            "decision_reasons",
            "Reasons of decisions at the gate",
            m.reasons.clone(),
        );
        registry.register_with_unit(
            "decision",
            "Time to decide about a request",
            Unit::Seconds,
            m.seconds.clone(),
        );
        // A rate over a series that only begins with its first event misses that event.
        for decision in GateDecision::ALL.map(GateDecision::label) {
            drop(m.decisions.get_or_create(&ByDecision { decision }));
        }
        metrics
    }

    /// The gate decided about a request.
    pub fn decision(&self, took: Duration, decision: GateDecision) {
        self.seconds.observe(took.as_secs_f64());
        self.decisions.get_or_create(&ByDecision { decision: decision.label() }).inc();
    }

    /// A request was refused before there was anything to decide: its circuit is banned, or cannot be
    /// told. It takes no time, and a flood of them must not hide how long decisions take.
    pub fn refused(&self) {
        let decision = GateDecision::Refuse.label();
        self.decisions.get_or_create(&ByDecision { decision }).inc();
    }

    /// How many requests were decided so.
    #[must_use]
    pub fn count(&self, decision: GateDecision) -> u64 {
        self.decisions.get_or_create(&ByDecision { decision: decision.label() }).get()
    }

    /// Why the gate decided as it did.
    pub fn decided(&self, reasons: &[Reason]) {
        for reason in reasons {
            self.reasons.get_or_create(&ByReason { reason: reason.as_str() }).inc();
        }
    }

    /// How often each reason was one.
    #[must_use]
    pub fn reasons(&self) -> Vec<(&'static str, u64)> {
        let count = |reason: Reason| {
            let reason = reason.as_str();
            (reason, self.reasons.get_or_create(&ByReason { reason }).get())
        };
        Reason::all().into_iter().map(count).collect()
    }
}

/// The instruments of the whole engine, each beside what it counts.
#[derive(Clone, Debug, Default)]
pub struct EngineMetrics {
    /// What was decided.
    pub decision: DecisionMetrics,
    /// Challenges issued, drawn and answered.
    pub challenge: ChallengeMetrics,
    /// Sessions earned, moved and not accepted.
    pub session: SessionMetrics,
    /// Who waits in turn.
    pub limits: LimitsMetrics,
    /// How circuits stand.
    pub reputation: ReputationMetrics,
    /// What circuits were found to be.
    pub behaviour: BehaviourMetrics,
    /// Where the dial stands.
    pub threat: ThreatMetrics,
}

impl EngineMetrics {
    /// Fresh instruments, registered.
    pub fn register(registry: &mut Registry) -> Self {
        Self {
            decision: DecisionMetrics::register(registry),
            challenge: ChallengeMetrics::register(registry),
            session: SessionMetrics::register(registry),
            limits: LimitsMetrics::register(registry),
            reputation: ReputationMetrics::register(registry),
            behaviour: BehaviourMetrics::register(registry),
            threat: ThreatMetrics::register(registry),
        }
    }
}
