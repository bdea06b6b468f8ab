//! The metrics of the threat dial.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByWhom {
    by: &'static str,
}

/// The metrics of the threat dial.
#[derive(Clone, Debug, Default)]
pub struct ThreatMetrics {
    level: Gauge,
    verdict: Gauge,
    changes: Family<ByWhom, Counter>,
}

impl ThreatMetrics {
    /// Creates the metrics and registers them.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        metrics.describe(registry);
        metrics
    }

    pub(super) fn describe(&self, registry: &mut Registry) {
        registry.register("threat_level", "Current threat level, 1 to 10", self.level.clone());
        registry.register(
            "threat_verdict",
            "State of the site: 0 calm, 1 busy, 2 under attack",
            self.verdict.clone(),
        );
        registry.register(
            "threat_changes",
            "Changes of the threat level, by origin: auto, operator, configuration, store",
            self.changes.clone(),
        );
    }

    /// Sets the current level.
    pub fn set_level(&self, level: u8) {
        self.level.set(level.into());
    }

    /// Sets the state of the site: 0 calm, 1 busy, 2 under attack.
    pub fn set_verdict(&self, state: i64) {
        self.verdict.set(state);
    }

    /// Counts a change of the level.
    pub fn changed(&self, by: &'static str, level: u8) {
        self.set_level(level);
        self.changes.get_or_create(&ByWhom { by }).inc();
    }
}
