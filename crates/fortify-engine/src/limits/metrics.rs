//! The metrics of limits.

use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// The metrics of the admission queue.
#[derive(Clone, Debug, Default)]
pub struct LimitsMetrics {
    queue_waiting: Gauge,
}

impl LimitsMetrics {
    /// Creates the metrics and registers them.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register(
            "queue_waiting",
            "Visitors in the queue for a challenge",
            metrics.queue_waiting.clone(),
        );
        metrics
    }

    /// Sets the number of visitors in the queue.
    pub fn set_queue_waiting(&self, count: u64) {
        self.queue_waiting.set(i64::try_from(count).unwrap_or(i64::MAX));
    }
}
