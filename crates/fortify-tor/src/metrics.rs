//! The metrics of tor.

use fortify_core::telemetry::instruments::Unlabelled;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// What tor says of its onion services.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TorFigures {
    /// The proof of work that tor suggests to clients: the highest of all services; 0 while it copes.
    pub effort: u64,
    /// Introductions that wait for their turn, of all services.
    pub queued: u64,
    /// Introductions that tor rejected, of all services and for all reasons: since tor started in a single
    /// reading, since the last one where they are read again and again.
    pub rejected: u64,
}

/// Whether the control connection is open, restarts and closed circuits, and tor's own figures.
#[derive(Clone, Debug, Default)]
pub struct TorMetrics {
    // Families, so that the metrics are absent without [tor]: 0 would look like an alarm.
    up: Family<Unlabelled, Gauge>,
    restarts: Family<Unlabelled, Counter>,
    circuits_closed: Family<Unlabelled, Counter>,
    metrics_up: Family<Unlabelled, Gauge>,
    effort: Family<Unlabelled, Gauge>,
    queued: Family<Unlabelled, Gauge>,
    rejected: Family<Unlabelled, Counter>,
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
        registry.register(
            "tor_metrics_up",
            "1 while tor's metrics port answers",
            metrics.metrics_up.clone(),
        );
        registry.register(
            "tor_pow_suggested_effort",
            "Proof of work that tor suggests to clients, the highest of its services",
            metrics.effort.clone(),
        );
        registry.register(
            "tor_pow_queue",
            "Introductions that wait in tor's queue",
            metrics.queued.clone(),
        );
        registry.register(
            "tor_introductions_rejected",
            "Introductions that tor rejected since the first reading",
            metrics.rejected.clone(),
        );
        metrics
    }

    /// Sets tor's own figures; without them, its metrics port does not answer, and they are 0. The first call makes
    /// all four metrics appear.
    pub fn set_figures(&self, figures: Option<&TorFigures>) {
        let TorFigures { effort, queued, rejected } = figures.copied().unwrap_or_default();
        let gauge = |value| i64::try_from(value).unwrap_or(i64::MAX);
        self.metrics_up.get_or_create(&Unlabelled {}).set(i64::from(figures.is_some()));
        self.effort.get_or_create(&Unlabelled {}).set(gauge(effort));
        self.queued.get_or_create(&Unlabelled {}).set(gauge(queued));
        self.rejected.get_or_create(&Unlabelled {}).inc_by(rejected);
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
