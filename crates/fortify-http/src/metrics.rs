//! The metrics of connections and of the protected service.

use std::time::Duration;

use fortify_core::telemetry::instruments::{ByEvent, ByReason};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::occupancy::{Busy, Figures};
use crate::server::ServerEvent;

/// Buckets of the time until the protected service starts its response, in seconds.
const UPSTREAM_BUCKETS: [f64; 10] = [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0];

/// The metrics of an accept loop.
#[derive(Clone, Debug, Default)]
pub struct ServerMetrics {
    events: Family<ByEvent, Counter>,
}

impl ServerMetrics {
    /// Fresh instruments, registered.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register(
            "connection_events",
            "Connections opened and closed, and those that a limit ended",
            metrics.events.clone(),
        );
        metrics
    }

    /// Counts an event of the accept loop.
    pub fn event(&self, event: ServerEvent) {
        self.events.get_or_create(&ByEvent { event: event.label() }).inc();
    }
}

/// The metrics of the protected service.
#[derive(Clone, Debug)]
pub struct UpstreamMetrics {
    seconds: Histogram,
    servers: Family<ByState, Gauge>,
    breaker: Family<ByEvent, Counter>,
    sent_again: Counter,
    limit: Gauge,
    in_flight: Gauge,
    waiting: Gauge,
    refused: Family<ByReason, Counter>,
}

/// Whether a server of the protected service accepts connections: `up` or `down`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByState {
    state: &'static str,
}

impl UpstreamMetrics {
    /// Fresh instruments, registered.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register_with_unit(
            "upstream",
            "Time until the protected service starts its response",
            Unit::Seconds,
            metrics.seconds.clone(),
        );
        registry.register(
            "upstream_servers",
            "Addresses of the protected service, by whether they accept connections",
            metrics.servers.clone(),
        );
        registry.register(
            "upstream_breaker",
            "Times that an address of the protected service stopped and began to accept connections",
            metrics.breaker.clone(),
        );
        registry.register(
            "upstream_sent_again",
            "Requests that were sent a second time, because the protected service had closed their connection",
            metrics.sent_again.clone(),
        );
        registry.register(
            "upstream_limit",
            "Requests that the protected service may work on at once, as its latency permits",
            metrics.limit.clone(),
        );
        registry.register(
            "upstream_in_flight",
            "Requests that the protected service works on",
            metrics.in_flight.clone(),
        );
        registry.register(
            "upstream_waiting",
            "Requests that wait because the limit is reached",
            metrics.waiting.clone(),
        );
        registry.register(
            "upstream_refused",
            "Requests that got no place at the protected service, by reason",
            metrics.refused.clone(),
        );
        for reason in [Busy::Full, Busy::Deadline] {
            metrics.refused.get_or_create(&ByReason { reason: reason.label() }).inc_by(0);
        }
        metrics
    }

    /// The numbers of servers that accept connections and that do not.
    pub(crate) fn servers(&self, up: usize, down: usize) {
        for (state, number) in [("up", up), ("down", down)] {
            let number = i64::try_from(number).unwrap_or(i64::MAX);
            self.servers.get_or_create(&ByState { state }).set(number);
        }
    }

    /// The limit, and what is under way and waits.
    pub(crate) fn places(&self, figures: Figures) {
        let Figures { limit, in_flight, waiting } = figures;
        let gauges = [(&self.limit, limit), (&self.in_flight, in_flight), (&self.waiting, waiting)];
        for (gauge, number) in gauges {
            gauge.set(i64::try_from(number).unwrap_or(i64::MAX));
        }
    }

    /// A request got no place.
    pub(crate) fn refused(&self, reason: &'static str) {
        self.refused.get_or_create(&ByReason { reason }).inc();
    }

    /// A breaker `opened` or `closed`.
    pub(crate) fn breaker(&self, event: &'static str) {
        self.breaker.get_or_create(&ByEvent { event }).inc();
    }

    /// A request was sent a second time.
    pub(crate) fn sent_again(&self) {
        self.sent_again.inc();
    }

    /// Records that the protected service started its response, or that there was none.
    pub fn answered(&self, took: Duration) {
        self.seconds.observe(took.as_secs_f64());
    }
}

impl Default for UpstreamMetrics {
    fn default() -> Self {
        Self {
            seconds: Histogram::new(UPSTREAM_BUCKETS),
            servers: Family::default(),
            breaker: Family::default(),
            sent_again: Counter::default(),
            limit: Gauge::default(),
            in_flight: Gauge::default(),
            waiting: Gauge::default(),
            refused: Family::default(),
        }
    }
}
