//! What is counted of requests at the edge.

use fortify_core::telemetry::instruments::ByReason;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// Requests that did not end as they should.
#[derive(Clone, Debug, Default)]
pub struct WebMetrics {
    errors: Family<ByReason, Counter>,
    admin_unavailable: Gauge,
    maintenance: Gauge,
}

impl WebMetrics {
    /// Fresh instruments, registered.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register("errors", "Requests that ended in a fault", metrics.errors.clone());
        registry.register(
            "admin_unavailable",
            "1 where the admin interface is not served, because its file cannot be used",
            metrics.admin_unavailable.clone(),
        );
        registry.register(
            "maintenance",
            "1 while visitors are told that the site is being worked on",
            metrics.maintenance.clone(),
        );
        metrics
    }

    /// A request ended in a fault.
    pub fn error(&self, reason: &'static str) {
        self.errors.get_or_create(&ByReason { reason }).inc();
    }

    /// Whether operators are shut out.
    pub fn set_admin_unavailable(&self, admin_unavailable: bool) {
        self.admin_unavailable.set(i64::from(admin_unavailable));
    }

    /// Whether there is maintenance.
    pub fn set_maintenance(&self, maintenance: bool) {
        self.maintenance.set(i64::from(maintenance));
    }

    /// How many requests ended in this fault.
    #[must_use]
    pub fn errors(&self, reason: &'static str) -> u64 {
        self.errors.get_or_create(&ByReason { reason }).get()
    }
}
