//! Metrics of the admin interface.

use fortify_core::telemetry::instruments::{ByEvent, ByOutcome};
use fortify_http::server::ServerEvent;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

/// The instruments of the admin interface.
#[derive(Clone, Debug, Default)]
pub struct AdminMetrics {
    requests: Family<ByOutcome, Counter>,
    logins: Family<ByOutcome, Counter>,
    connections: Family<ByEvent, Counter>,
}

impl AdminMetrics {
    /// New instruments, registered.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register(
            "admin_requests",
            "Requests of operators, by how they ended",
            metrics.requests.clone(),
        );
        registry.register("admin_logins", "Log-ins of operators", metrics.logins.clone());
        registry.register(
            "admin_connection_events",
            "Connections of operators opened and closed, and those that a limit ended",
            metrics.connections.clone(),
        );
        metrics
    }

    /// Counts a request of an operator by its outcome.
    pub fn request(&self, outcome: &'static str) {
        self.requests.get_or_create(&ByOutcome { outcome }).inc();
    }

    /// Counts a log-in attempt.
    pub fn login(&self, outcome: &'static str) {
        self.logins.get_or_create(&ByOutcome { outcome }).inc();
    }

    /// Counts an event of the listeners.
    pub fn connection(&self, event: ServerEvent) {
        self.connections.get_or_create(&ByEvent { event: event.label() }).inc();
    }
}
