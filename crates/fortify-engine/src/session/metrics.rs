//! The metrics of sessions.

use fortify_core::clock::Timestamp;
use fortify_core::telemetry::instruments::ByReason;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByLevel {
    level: u8,
}

/// Sessions issued, moved and rejected, and the age of the signing key.
#[derive(Clone, Debug, Default)]
pub struct SessionMetrics {
    rejected: Family<ByReason, Counter>,
    moved: Counter,
    issued: Family<ByLevel, Counter>,
    signing_key_created: Gauge,
}

impl SessionMetrics {
    /// Creates the metrics and registers them.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register(
            "sessions_rejected",
            "Session cookies that were rejected",
            metrics.rejected.clone(),
        );
        registry.register(
            "session_moves",
            "Sessions that moved to another circuit",
            metrics.moved.clone(),
        );
        registry.register(
            "sessions_issued",
            "Sessions issued, by threat level",
            metrics.issued.clone(),
        );
        registry.register_with_unit(
            "signing_key_created_timestamp",
            "Creation time of the key that signs sessions",
            Unit::Seconds,
            metrics.signing_key_created.clone(),
        );
        metrics
    }

    /// Counts a rejected session cookie.
    pub fn rejected(&self, reason: &'static str) {
        self.rejected.get_or_create(&ByReason { reason }).inc();
    }

    /// Counts a session that moved to another circuit.
    pub fn moved(&self) {
        self.moved.inc();
    }

    /// Counts a session issued at this level.
    pub fn issued(&self, level: u8) {
        self.issued.get_or_create(&ByLevel { level }).inc();
    }

    /// Sets the creation time of the signing key.
    pub fn set_signing_key_created(&self, at: Timestamp) {
        self.signing_key_created.set(i64::try_from(at.as_secs()).unwrap_or(i64::MAX));
    }
}
