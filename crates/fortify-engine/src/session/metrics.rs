//! What is counted of sessions.

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

/// Sessions earned, moved and not accepted, and the key that signs them.
#[derive(Clone, Debug, Default)]
pub struct SessionMetrics {
    rejected: Family<ByReason, Counter>,
    moved: Counter,
    issued: Family<ByLevel, Counter>,
    signing_key_created: Gauge,
}

impl SessionMetrics {
    /// Fresh instruments, registered.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register(
            "sessions_rejected",
            "Session cookies that were not accepted",
            metrics.rejected.clone(),
        );
        registry.register(
            "session_moves",
            "Sessions that moved to another circuit",
            metrics.moved.clone(),
        );
        registry.register(
            "sessions_issued",
            "Sessions earned, by the level in force",
            metrics.issued.clone(),
        );
        registry.register_with_unit(
            "signing_key_created_timestamp",
            "When the key was made that signs sessions",
            Unit::Seconds,
            metrics.signing_key_created.clone(),
        );
        metrics
    }

    /// A session cookie was not accepted.
    pub fn rejected(&self, reason: &'static str) {
        self.rejected.get_or_create(&ByReason { reason }).inc();
    }

    /// A session moved to another circuit.
    pub fn moved(&self) {
        self.moved.inc();
    }

    /// A session was earned at this level.
    pub fn issued(&self, level: u8) {
        self.issued.get_or_create(&ByLevel { level }).inc();
    }

    /// When the key was made that signs.
    pub fn set_signing_key_created(&self, at: Timestamp) {
        self.signing_key_created.set(i64::try_from(at.as_secs()).unwrap_or(i64::MAX));
    }
}
