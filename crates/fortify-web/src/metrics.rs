//! The registry of one gate, on which each owner registers its instruments, in Prometheus' text form.
//!
//! Every label comes from a small fixed set; nothing that a visitor sends can become one. The
//! registry belongs to the [`Metrics`] that made it, so that two gates in one process count apart.
//!
//! What has few labels is there from the start, at zero: a rate over a series that only begins with
//! its first event misses that event. What an installation does not have (tor's control port,
//! `HAProxy`) is absent: 0 would look like an alarm.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use fortify_engine::metrics::EngineMetrics;
use fortify_haproxy::metrics::HaproxyMetrics;
use fortify_http::metrics::{ServerMetrics, UpstreamMetrics};
use fortify_tor::metrics::TorMetrics;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;

use crate::request_metrics::WebMetrics;

/// Requests since the start, in sums.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Let through.
    pub admitted: u64,
    /// Met with a challenge.
    pub challenged: u64,
    /// Refused: banned circuits, and those that have to wait.
    pub refused: u64,
    /// Challenges answered rightly.
    pub solved: u64,
}

/// The instruments of one gate.
pub struct Metrics {
    /// Owners that are built later register here too.
    registry: Mutex<Registry>,
    /// Of decisions, challenges, sessions, limits, circuit_status, behaviour and the dial.
    pub engine: EngineMetrics,
    /// Of visitors' connections.
    pub server: ServerMetrics,
    /// Of the protected service.
    pub upstream: UpstreamMetrics,
    /// Of tor.
    pub tor: TorMetrics,
    /// Of `HAProxy`.
    pub haproxy: HaproxyMetrics,
    /// Of requests at the edge.
    pub web: WebMetrics,
}

impl Metrics {
    /// Fresh instruments, all at zero.
    #[must_use]
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("fortify");
        Self {
            engine: EngineMetrics::register(&mut registry),
            server: ServerMetrics::register(&mut registry),
            upstream: UpstreamMetrics::register(&mut registry),
            tor: TorMetrics::register(&mut registry),
            haproxy: HaproxyMetrics::register(&mut registry),
            web: WebMetrics::register(&mut registry),
            registry: Mutex::new(registry),
        }
    }

    /// Registers the instruments of an owner that is built later.
    pub fn register<T>(&self, register: impl FnOnce(&mut Registry) -> T) -> T {
        register(&mut self.registry())
    }

    /// How often each reason was one.
    #[must_use]
    pub fn decision_reasons(&self) -> Vec<(&'static str, u64)> {
        self.engine.decision.counted_reasons()
    }

    /// Requests since the start.
    #[must_use]
    pub fn totals(&self) -> Totals {
        let decided = |decision| self.engine.decision.count(decision);
        let ended = |error| self.web.errors(error);
        Totals {
            admitted: decided("admit") + decided("trusted"),
            challenged: decided("challenge"),
            refused: ended("banned") + ended("must_wait") + ended("too_many"),
            solved: self.engine.challenge.solved(),
        }
    }

    /// All of it, in the text form that Prometheus reads.
    ///
    /// # Errors
    ///
    /// When an instrument cannot be written as text, which none of these can fail to be.
    pub fn encode(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry())?;
        Ok(text)
    }

    /// Whole after any panic: every change to it is one call.
    fn registry(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use fortify_core::clock::Timestamp;
    use fortify_engine::challenge::metrics::Outcome;
    use fortify_engine::decision::{Decision, Grant};
    use fortify_engine::session::Session;

    #[test]
    fn what_was_counted_is_in_the_text() {
        let metrics = Metrics::new();
        metrics.engine.challenge.redeem(Duration::from_micros(40), Outcome::Failed);
        metrics.engine.challenge.issue(Duration::from_micros(40), "arithmetic", Outcome::Ok);
        let session = Session::sample(1, Timestamp::from_secs(1));
        let trusted = Decision::Admit(Grant::Trusted(session));
        metrics.engine.decision.decided(Duration::from_micros(40), Some(&trusted));
        metrics.engine.challenge.answer("arithmetic", 3, Outcome::Failed);
        let text = metrics.encode().unwrap();
        for line in [
            r#"fortify_redeems_total{outcome="failed"} 1"#,
            r#"fortify_challenges_issued_total{variant="arithmetic",outcome="ok"} 1"#,
            r#"fortify_decisions_total{decision="trusted"} 1"#,
            r#"fortify_redeem_seconds_bucket{le="0.00005"} 1"#,
            "fortify_render_seconds_count 0",
            // Nothing was refused, and that is said.
            r#"fortify_decisions_total{decision="refuse"} 0"#,
            r#"fortify_answers_total{variant="arithmetic",level="3",outcome="failed"} 1"#,
        ] {
            assert!(text.contains(line), "{line} is missing in:\n{text}");
        }
    }

    #[test]
    fn what_is_not_installed_is_absent() {
        let text = Metrics::new().encode().unwrap();
        for name in ["\nfortify_haproxy_up ", "\nfortify_haproxy_lag_seconds ", "\nfortify_tor_up "]
        {
            assert!(!text.contains(name), "{text}");
        }
    }
}
