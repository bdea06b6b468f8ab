//! The metrics of `HAProxy`'s table.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use fortify_core::telemetry::instruments::{ByOutcome, Unlabelled};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

/// The result of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CommandOutcome {
    /// Accepted.
    Done,
    /// Refused, with a message.
    Refused,
    /// Unknown: no connection, or a malformed answer.
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

/// Whether the table is up to date, and the commands that were sent for it.
#[derive(Clone, Debug, Default)]
pub struct HaproxyMetrics {
    // Families, so that the metrics are absent without HAProxy: 0 would look like an alarm.
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
            "1 while HAProxy's table is kept up to date",
            metrics.up.clone(),
        );
        registry.register_with_unit(
            "haproxy_lag",
            "Age of the oldest change of a circuit's status that is not in HAProxy's table yet",
            Unit::Seconds,
            metrics.lag.clone(),
        );
        registry.register("haproxy_commands", "Commands sent to HAProxy", metrics.commands.clone());
        metrics
    }

    /// Sets whether the table is kept up to date.
    pub fn set_up(&self, up: bool) {
        self.up.get_or_create(&Unlabelled {}).set(i64::from(up));
    }

    /// Sets the age of the oldest change that is not in the table yet.
    pub fn set_lag(&self, lag: Duration) {
        self.lag.get_or_create(&Unlabelled {}).set(lag.as_secs_f64());
    }

    /// Counts `count` commands with this result.
    pub fn commands(&self, count: usize, outcome: CommandOutcome) {
        let labels = ByOutcome { outcome: outcome.label() };
        self.commands.get_or_create(&labels).inc_by(count as u64);
    }
}
