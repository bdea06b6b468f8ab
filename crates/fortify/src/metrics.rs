//! Metrics of the process.

use fortify_core::clock::Timestamp;
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

/// The instruments of the process and its clock.
#[derive(Clone, Debug, Default)]
pub struct DaemonMetrics {
    clock_jumps: Family<ByDirection, Counter>,
    started: Gauge,
}

impl DaemonMetrics {
    /// New instruments, registered together with the kernel's figures about this process.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register(
            "clock_jumps",
            "How often the system's clock was set by more than a minute",
            metrics.clock_jumps.clone(),
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

    /// Counts a jump of the system's clock.
    pub fn clock_jumped(&self, direction: &'static str) {
        self.clock_jumps.get_or_create(&ByDirection { direction }).inc();
    }

    /// Sets the time at which this process was ready.
    pub fn set_started(&self, at: Timestamp) {
        self.started.set(i64::try_from(at.as_secs()).unwrap_or(i64::MAX));
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;

    use super::*;

    #[test]
    fn the_version_and_the_kernels_figures_are_exported() {
        let mut registry = Registry::with_prefix("fortify");
        DaemonMetrics::register(&mut registry);
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        for line in [
            concat!(r#"fortify_build_info{version=""#, env!("CARGO_PKG_VERSION"), r#""} 1"#),
            "fortify_process_open_fds ",
            "fortify_process_resident_memory_bytes ",
            "fortify_process_cpu_seconds_total ",
        ] {
            assert!(text.contains(line), "{line} is missing in:\n{text}");
        }
    }
}
