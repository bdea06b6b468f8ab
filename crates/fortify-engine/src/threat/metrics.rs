//! What is counted of the dial.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByWhom {
    by: &'static str,
}

/// Where the dial stands, and who turned it.
#[derive(Clone, Debug, Default)]
pub struct ThreatMetrics {
    level: Gauge,
    changes: Family<ByWhom, Counter>,
}

impl ThreatMetrics {
    /// Fresh instruments, registered.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        metrics.describe(registry);
        metrics
    }

    pub(super) fn describe(&self, registry: &mut Registry) {
        registry.register("threat_level", "Where the threat dial stands", self.level.clone());
        registry.register(
            "threat_changes",
            "Turns of the threat dial, by whom: itself, an operator, another node",
            self.changes.clone(),
        );
    }

    /// Where the threat dial stands.
    pub fn set_level(&self, level: u8) {
        self.level.set(level.into());
    }

    /// The threat dial was turned.
    pub fn changed(&self, by: &'static str, level: u8) {
        self.set_level(level);
        self.changes.get_or_create(&ByWhom { by }).inc();
    }
}
