//! The metrics of decisions, and of the whole engine.

use std::time::Duration;

use fortify_core::damage::Damage;
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
use crate::session::metrics::SessionMetrics;
use crate::threat::metrics::ThreatMetrics;
use fortify_reputation::metrics::ReputationMetrics;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByDecision {
    decision: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByFile {
    file: &'static str,
}

/// The metrics of decisions: their number, reasons and duration.
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
    /// Creates the metrics and registers them.
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
            "Requests whose circuit could not be identified",
            m.rejected_circuits.clone(),
        );
        registry.register_with_unit(
            "decision",
            "Time to decide about a request",
            Unit::Seconds,
            m.seconds.clone(),
        );
        // A series that appears with its first event hides that event from rate().
        for decision in Decision::LABELS {
            drop(m.decisions.get_or_create(&ByDecision { decision }));
        }
        metrics
    }

    /// Counts a decision and its duration; `None` if an internal error prevented the decision.
    pub fn decided(&self, took: Duration, decision: Option<&Decision>) {
        self.seconds.observe(took.as_secs_f64());
        self.decision(decision.map_or(Decision::ERROR, Decision::label));
    }

    /// Counts a request that was refused before the decision.
    pub fn count_refusal(&self, decision: &Decision) {
        self.decision(decision.label());
    }

    fn decision(&self, decision: &'static str) {
        self.decisions.get_or_create(&ByDecision { decision }).inc();
    }

    /// The number of requests with this decision.
    #[must_use]
    pub fn count(&self, decision: &'static str) -> u64 {
        self.decisions.get_or_create(&ByDecision { decision }).get()
    }

    /// Counts a request whose circuit could not be identified.
    pub fn circuit_rejected(&self, reason: &'static str) {
        self.rejected_circuits.get_or_create(&ByReason { reason }).inc();
    }

    /// Counts the reasons of a decision.
    pub fn count_reasons(&self, reasons: &[DecisionReason]) {
        for reason in reasons {
            self.reasons.get_or_create(&ByReason { reason: reason.as_str() }).inc();
        }
    }

    /// The number of decisions for each reason.
    #[must_use]
    pub fn counted_reasons(&self) -> Vec<(&'static str, u64)> {
        let count = |reason: DecisionReason| {
            let reason = reason.as_str();
            (reason, self.reasons.get_or_create(&ByReason { reason }).get())
        };
        DecisionReason::all().into_iter().map(count).collect()
    }
}

/// The metrics of database files.
#[derive(Clone, Debug, Default)]
pub struct FileMetrics {
    recreated: Family<ByFile, Gauge>,
    damaged: Family<ByFile, Gauge>,
    lost: Family<ByFile, Gauge>,
}

impl FileMetrics {
    /// Creates the metrics and registers them.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register(
            "files_recreated",
            "1 for a damaged file that was recreated since this process started",
            metrics.recreated.clone(),
        );
        registry.register(
            "files_damaged",
            "1 for a file that was found damaged since this process started",
            metrics.damaged.clone(),
        );
        registry.register(
            "files_lost_records",
            "Records that a damaged file lost, where they can be counted",
            metrics.lost.clone(),
        );
        metrics
    }

    /// Records that a file was found damaged, and what was lost.
    pub fn damaged(&self, damage: Damage) {
        let file = ByFile { file: damage.file };
        self.damaged.get_or_create(&file).set(1);
        if let Some(lost) = damage.lost {
            self.lost.get_or_create(&file).set(i64::try_from(lost).unwrap_or(i64::MAX));
        }
    }

    /// Records that a damaged file was recreated.
    pub fn recreated(&self, file: &'static str) {
        self.recreated.get_or_create(&ByFile { file }).set(1);
    }
}

/// The metrics of signing keys.
#[derive(Clone, Debug, Default)]
pub struct KeyMetrics {
    foreign: Gauge,
}

impl KeyMetrics {
    /// Creates the metrics and registers them.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register(
            "keys_foreign",
            "1 while another node signs with keys of another root, so that each refuses the other's sessions",
            metrics.foreign.clone(),
        );
        metrics
    }

    /// Records whether another node has other keys, and returns whether it had before.
    pub fn set_foreign(&self, foreign: bool) -> bool {
        self.foreign.set(i64::from(foreign)) != 0
    }

    /// Whether another node has other keys.
    #[must_use]
    pub fn are_foreign(&self) -> bool {
        self.foreign.get() != 0
    }
}

/// The metrics of the whole engine, by the module that owns them.
#[derive(Clone, Debug, Default)]
pub struct EngineMetrics {
    /// Decisions.
    pub decision: DecisionMetrics,
    /// Challenges issued, drawn and answered.
    pub challenge: ChallengeMetrics,
    /// Sessions issued, moved and rejected.
    pub session: SessionMetrics,
    /// The admission queue.
    pub limits: LimitsMetrics,
    /// The status of circuits.
    pub reputation: ReputationMetrics,
    /// Behaviour findings.
    pub behaviour: BehaviourMetrics,
    /// The threat level.
    pub threat: ThreatMetrics,
    /// The health of the store.
    pub store: StoreMetrics,
    /// Recreated files.
    pub files: FileMetrics,
    /// Signing keys.
    pub keys: KeyMetrics,
}

impl EngineMetrics {
    /// Creates the metrics and registers them.
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
            keys: KeyMetrics::register(registry),
        }
    }
}
