//! The metrics of connections and of the protected service.

use std::time::Duration;

use fortify_core::telemetry::instruments::ByEvent;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::server::ServerEvent;

/// Buckets of the time until the protected service starts its response, in seconds.
const UPSTREAM_BUCKETS: [f64; 10] = [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0];

/// The metrics of an accept loop.
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

    /// Counts an event of the accept loop.
    pub fn event(&self, event: ServerEvent) {
        self.events.get_or_create(&ByEvent { event: event.label() }).inc();
    }
}

/// The metrics of the protected service.
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
            "Time until the protected service starts its response",
            Unit::Seconds,
            metrics.seconds.clone(),
        );
        metrics
    }

    /// Records that the protected service started its response, or that there was none.
    pub fn answered(&self, took: Duration) {
        self.seconds.observe(took.as_secs_f64());
    }
}

impl Default for UpstreamMetrics {
    fn default() -> Self {
        Self { seconds: Histogram::new(UPSTREAM_BUCKETS) }
    }
}
