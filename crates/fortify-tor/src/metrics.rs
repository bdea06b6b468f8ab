//! The metrics of tor.

use fortify_core::telemetry::instruments::Unlabelled;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// Whether the control connection is open, restarts, and closed circuits.
#[derive(Clone, Debug, Default)]
pub struct TorMetrics {
    // Families, so that the metrics are absent without [tor]: 0 would look like an alarm.
    up: Family<Unlabelled, Gauge>,
    restarts: Family<Unlabelled, Counter>,
    circuits_closed: Family<Unlabelled, Counter>,
}

impl TorMetrics {
    /// Fresh instruments, registered.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register(
            "tor_up",
            "1 while tor's control port is connected and its generation confirmed",
            metrics.up.clone(),
        );
        registry.register(
            "tor_restarts",
            "Restarts of tor that were noticed",
            metrics.restarts.clone(),
        );
        registry.register(
            "tor_circuits_closed",
            "Visitors' circuits that tor said were closed",
            metrics.circuits_closed.clone(),
        );
        metrics
    }

    /// Sets whether the control connection is open. The first call makes all three metrics appear.
    pub fn set_up(&self, up: bool) {
        self.up.get_or_create(&Unlabelled {}).set(i64::from(up));
        self.restarts.get_or_create(&Unlabelled {}).inc_by(0);
        self.circuits_closed.get_or_create(&Unlabelled {}).inc_by(0);
    }

    /// Counts a restart of tor.
    pub fn restarted(&self) {
        self.restarts.get_or_create(&Unlabelled {}).inc();
    }

    /// Counts a visitor's circuit that tor closed.
    pub fn circuit_closed(&self) {
        self.circuits_closed.get_or_create(&Unlabelled {}).inc();
    }
}
