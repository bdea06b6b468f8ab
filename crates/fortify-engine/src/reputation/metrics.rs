//! What is counted of circuit_status.

use fortify_core::telemetry::instruments::Unlabelled;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByStatus {
    status: &'static str,
}

/// How circuits stand, and whether that is written and told.
#[derive(Clone, Debug, Default)]
pub struct ReputationMetrics {
    statuses: Family<ByStatus, Gauge>,
    // A family, so that it is absent where there is no other node to tell.
    pending: Family<Unlabelled, Gauge>,
    degraded: Gauge,
    unwritten: Gauge,
}

impl ReputationMetrics {
    /// Fresh instruments, registered.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register("circuit_status", "Circuits by how they stand", metrics.statuses.clone());
        registry.register(
            "replication_pending",
            "Bans, favours and resets that other nodes are not told yet",
            metrics.pending.clone(),
        );
        registry.register(
            "reputation_degraded",
            "1 while the disk does not take bans and favours; they are in force in memory",
            metrics.degraded.clone(),
        );
        registry.register(
            "circuit_status_unwritten",
            "Bans and favours that are in memory alone",
            metrics.unwritten.clone(),
        );
        metrics
    }

    /// How many circuits stand so.
    pub fn set_circuit_status(&self, status: &'static str, count: usize) {
        let gauge = self.statuses.get_or_create(&ByStatus { status });
        gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// How many changes of circuit_status wait to be told to other nodes.
    pub fn set_untold(&self, count: usize) {
        let gauge = self.pending.get_or_create(&Unlabelled {});
        gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// Whether the disk does not take bans and favours, and how many are in memory alone.
    pub fn set_unwritten(&self, degraded: bool, count: usize) {
        self.degraded.set(i64::from(degraded));
        self.unwritten.set(i64::try_from(count).unwrap_or(i64::MAX));
    }
}
