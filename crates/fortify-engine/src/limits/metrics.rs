//! What is counted of limits.

use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// Who waits in turn.
#[derive(Clone, Debug, Default)]
pub struct LimitsMetrics {
    queue_waiting: Gauge,
}

impl LimitsMetrics {
    /// Fresh instruments, registered.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register(
            "queue_waiting",
            "Places in the queue for a challenge that are not called yet",
            metrics.queue_waiting.clone(),
        );
        metrics
    }

    /// How many wait in turn.
    pub fn set_queue_waiting(&self, count: u64) {
        self.queue_waiting.set(i64::try_from(count).unwrap_or(i64::MAX));
    }
}
