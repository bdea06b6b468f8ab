//! What is counted of `HAProxy`.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use fortify_core::telemetry::instruments::{ByOutcome, Unlabelled};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

/// What became of commands to `HAProxy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CommandOutcome {
    /// In the table.
    Done,
    /// Refused, with a text.
    Refused,
    /// Not known: no connection, or no answer that is understood.
    Failed,
}

impl CommandOutcome {
    const fn label(self) -> &'static str {
        match self {
            Self::Done => "ok",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }
}

/// Whether the table is kept as wanted, and what was done for that.
#[derive(Clone, Debug, Default)]
pub struct HaproxyMetrics {
    // Families, so that they are absent where there is no HAProxy: 0 would look like an alarm.
    up: Family<Unlabelled, Gauge>,
    lag: Family<Unlabelled, Gauge<f64, AtomicU64>>,
    commands: Family<ByOutcome, Counter>,
}

impl HaproxyMetrics {
    /// Fresh instruments, registered.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register(
            "haproxy_up",
            "1 while HAProxy's table is kept as wanted",
            metrics.up.clone(),
        );
        registry.register_with_unit(
            "haproxy_lag",
            "Age of the oldest ban or favour that is not in HAProxy's table yet",
            Unit::Seconds,
            metrics.lag.clone(),
        );
        registry.register("haproxy_commands", "Commands sent to HAProxy", metrics.commands.clone());
        metrics
    }

    /// Whether `HAProxy`'s table is kept as wanted.
    pub fn set_up(&self, up: bool) {
        self.up.get_or_create(&Unlabelled {}).set(i64::from(up));
    }

    /// How long the oldest change has waited to be in `HAProxy`'s table.
    pub fn set_lag(&self, lag: Duration) {
        self.lag.get_or_create(&Unlabelled {}).set(lag.as_secs_f64());
    }

    /// So many commands to `HAProxy` ended so.
    pub fn commands(&self, count: usize, outcome: CommandOutcome) {
        let labels = ByOutcome { outcome: outcome.label() };
        self.commands.get_or_create(&labels).inc_by(count as u64);
    }
}
