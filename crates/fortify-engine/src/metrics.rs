//! What is counted of decisions, and the instruments of the whole engine.

use std::time::Duration;

use fortify_core::telemetry::instruments::{ByReason, LATENCY_BUCKETS};
use fortify_store::metrics::StoreMetrics;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::behaviour::metrics::BehaviourMetrics;
use crate::challenge::metrics::ChallengeMetrics;
use crate::decision::{Decision, DecisionReason};
use crate::limits::metrics::LimitsMetrics;
use crate::reputation::metrics::ReputationMetrics;
use crate::session::metrics::SessionMetrics;
use crate::threat::metrics::ThreatMetrics;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByDecision {
    decision: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByFile {
    file: &'static str,
}

/// What was decided, why, and how long that took.
#[derive(Clone, Debug)]
pub struct DecisionMetrics {
    decisions: Family<ByDecision, Counter>,
    seconds: Histogram,
    reasons: Family<ByReason, Counter>,
    rejected_circuits: Family<ByReason, Counter>,
}

impl Default for DecisionMetrics {
    fn default() -> Self {
        Self {
            decisions: Family::default(),
            seconds: Histogram::new(LATENCY_BUCKETS),
            reasons: Family::default(),
            rejected_circuits: Family::default(),
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
        registry.register(
            "circuits_rejected",
            "Requests whose circuit could not be told",
            m.rejected_circuits.clone(),
        );
        registry.register_with_unit(
            "decision",
            "Time to decide about a request",
            Unit::Seconds,
            m.seconds.clone(),
        );
        // A rate over a series that only begins with its first event misses that event.
        for decision in Decision::LABELS {
            drop(m.decisions.get_or_create(&ByDecision { decision }));
        }
        metrics
    }

    /// A request was decided about; `None` where it could not be, for a fault of this side.
    pub fn decided(&self, took: Duration, decision: Option<&Decision>) {
        self.seconds.observe(took.as_secs_f64());
        self.decision(decision.map_or(Decision::ERROR, Decision::label));
    }

    /// A request was refused before there was anything to decide.
    pub fn count_refusal(&self, decision: &Decision) {
        self.decision(decision.label());
    }

    fn decision(&self, decision: &'static str) {
        self.decisions.get_or_create(&ByDecision { decision }).inc();
    }

    /// How many requests were decided so.
    #[must_use]
    pub fn count(&self, decision: &'static str) -> u64 {
        self.decisions.get_or_create(&ByDecision { decision }).get()
    }

    /// A request's circuit could not be told.
    pub fn circuit_rejected(&self, reason: &'static str) {
        self.rejected_circuits.get_or_create(&ByReason { reason }).inc();
    }

    /// Why it was decided so.
    pub fn count_reasons(&self, reasons: &[DecisionReason]) {
        for reason in reasons {
            self.reasons.get_or_create(&ByReason { reason: reason.as_str() }).inc();
        }
    }

    /// How often each reason was one.
    #[must_use]
    pub fn counted_reasons(&self) -> Vec<(&'static str, u64)> {
        let count = |reason: DecisionReason| {
            let reason = reason.as_str();
            (reason, self.reasons.get_or_create(&ByReason { reason }).get())
        };
        DecisionReason::all().into_iter().map(count).collect()
    }
}

/// Files that were damaged.
#[derive(Clone, Debug, Default)]
pub struct FileMetrics {
    recreated: Family<ByFile, Gauge>,
}

impl FileMetrics {
    /// Fresh instruments, registered.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register(
            "files_recreated",
            "1 for a file that was damaged, and is a new one, since this process started",
            metrics.recreated.clone(),
        );
        metrics
    }

    /// A file was damaged, and is a new one.
    pub fn recreated(&self, file: &'static str) {
        self.recreated.get_or_create(&ByFile { file }).set(1);
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
    /// Whether the store answers.
    pub store: StoreMetrics,
    /// Which files were damaged.
    pub files: FileMetrics,
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
            store: StoreMetrics::register(registry),
            files: FileMetrics::register(registry),
        }
    }
}
