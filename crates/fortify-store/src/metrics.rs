//! The metrics of the store.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

/// Whether the store answers, and how fast.
#[derive(Clone, Debug, Default)]
pub struct StoreMetrics {
    up: Gauge,
    ping: Gauge<f64, AtomicU64>,
}

impl StoreMetrics {
    /// Fresh instruments, registered.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register("store_up", "1 while the store answers", metrics.up.clone());
        registry.register_with_unit(
            "store_ping",
            "Time that the store took to answer the last check",
            Unit::Seconds,
            metrics.ping.clone(),
        );
        metrics
    }

    /// Sets whether the store answers, and how long it took.
    pub fn set_up(&self, up: bool, ping: Duration) {
        self.up.set(i64::from(up));
        self.ping.set(ping.as_secs_f64());
    }
}
