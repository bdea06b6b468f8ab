//! The metrics of reputation.

use fortify_core::telemetry::instruments::Unlabelled;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByStatus {
    status: &'static str,
}

/// The metrics of circuit statuses, their storage and replication.
#[derive(Clone, Debug, Default)]
pub struct ReputationMetrics {
    statuses: Family<ByStatus, Gauge>,
    // A family, so that it is absent without other nodes.
    pending: Family<Unlabelled, Gauge>,
    degraded: Gauge,
    unwritten: Gauge,
}

impl ReputationMetrics {
    /// Creates the metrics and registers them.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register("circuit_status", "Circuits by status", metrics.statuses.clone());
        registry.register(
            "replication_pending",
            "Changes of circuit status not published to other nodes yet",
            metrics.pending.clone(),
        );
        registry.register(
            "reputation_degraded",
            "1 while circuit statuses cannot be written to disk; they are in force in memory",
            metrics.degraded.clone(),
        );
        registry.register(
            "circuit_status_unwritten",
            "Circuit statuses that are in memory only",
            metrics.unwritten.clone(),
        );
        metrics
    }

    /// Sets the number of circuits with a status.
    pub fn set_circuit_status(&self, status: &'static str, count: usize) {
        let gauge = self.statuses.get_or_create(&ByStatus { status });
        gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// Sets the number of changes not published to other nodes yet.
    pub fn set_pending(&self, count: usize) {
        let gauge = self.pending.get_or_create(&Unlabelled {});
        gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// Sets whether the disk fails, and how many statuses are in memory only.
    pub fn set_unwritten(&self, degraded: bool, count: usize) {
        self.degraded.set(i64::from(degraded));
        self.unwritten.set(i64::try_from(count).unwrap_or(i64::MAX));
    }
}
