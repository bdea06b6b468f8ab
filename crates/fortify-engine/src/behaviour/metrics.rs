//! The metrics of behaviour.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByClass {
    class: &'static str,
}

/// The metrics of behaviour findings.
#[derive(Clone, Debug, Default)]
pub struct BehaviourMetrics {
    findings: Family<ByClass, Counter>,
}

impl BehaviourMetrics {
    /// Creates the metrics and registers them.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        metrics.describe(registry);
        metrics
    }

    pub(super) fn describe(&self, registry: &mut Registry) {
        registry.register(
            "behaviour_findings",
            "Circuits that were classified as automated, by class",
            self.findings.clone(),
        );
    }

    /// Counts a finding.
    pub fn finding(&self, class: &'static str) {
        self.findings.get_or_create(&ByClass { class }).inc();
    }
}
