//! What is counted of this process.

use fortify_core::clock::Timestamp;
use fortify_core::telemetry::instruments::ByOutcome;
use fortify_core::telemetry::process::ProcessCollector;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByDirection {
    direction: &'static str,
}

/// The process, its clock and its configuration.
#[derive(Clone, Debug, Default)]
pub struct DaemonMetrics {
    clock_jumps: Family<ByDirection, Counter>,
    config_reloads: Family<ByOutcome, Counter>,
    started: Gauge,
}

impl DaemonMetrics {
    /// Fresh instruments, registered, and what the kernel says of this process.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register(
            "clock_jumps",
            "How often the system's clock was set by more than a minute",
            metrics.clock_jumps.clone(),
        );
        registry.register(
            "config_reloads",
            "Times that the configuration was read again, by outcome",
            metrics.config_reloads.clone(),
        );
        let version = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "The version of this program", version);
        registry.register_with_unit(
            "process_start_time",
            "When this process was ready, since the epoch",
            Unit::Seconds,
            metrics.started.clone(),
        );
        registry.register_collector(Box::new(ProcessCollector::of_this_process()));
        metrics
    }

    /// The system's clock was set.
    pub fn clock_jumped(&self, direction: &'static str) {
        self.clock_jumps.get_or_create(&ByDirection { direction }).inc();
    }

    /// The configuration was read again, or was not good.
    pub fn config_reload(&self, ok: bool) {
        let outcome = if ok { "ok" } else { "error" };
        self.config_reloads.get_or_create(&ByOutcome { outcome }).inc();
    }

    /// When this process was ready.
    pub fn set_started(&self, at: Timestamp) {
        self.started.set(i64::try_from(at.as_secs()).unwrap_or(i64::MAX));
    }
}
