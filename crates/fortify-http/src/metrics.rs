//! What is counted of connections and of the protected service.

use std::time::Duration;

use fortify_core::telemetry::instruments::ByEvent;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::server::ServerEvent;

/// Bounds of how long the protected service takes to begin its answer, in seconds.
const UPSTREAM_BUCKETS: [f64; 10] = [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0];

/// What an accept loop saw.
#[derive(Clone, Debug, Default)]
pub struct ServerMetrics {
    events: Family<ByEvent, Counter>,
}

impl ServerMetrics {
    /// Fresh instruments, registered.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register(
            "connection_events",
            "Connections opened and closed, and those that a limit ended",
            metrics.events.clone(),
        );
        metrics
    }

    /// The accept loop saw something.
    pub fn event(&self, event: ServerEvent) {
        self.events.get_or_create(&ByEvent { event: event.label() }).inc();
    }
}

/// How the protected service does.
#[derive(Clone, Debug)]
pub struct UpstreamMetrics {
    seconds: Histogram,
}

impl UpstreamMetrics {
    /// Fresh instruments, registered.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register_with_unit(
            "upstream",
            "Time until the protected service begins its answer",
            Unit::Seconds,
            metrics.seconds.clone(),
        );
        metrics
    }

    /// The protected service began its answer, or there was none.
    pub fn answered(&self, took: Duration) {
        self.seconds.observe(took.as_secs_f64());
    }
}

impl Default for UpstreamMetrics {
    fn default() -> Self {
        Self { seconds: Histogram::new(UPSTREAM_BUCKETS) }
    }
}
