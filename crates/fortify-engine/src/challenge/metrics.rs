//! The metrics of challenges.

use std::time::Duration;

use fortify_core::telemetry::instruments::{ByOutcome, LATENCY_BUCKETS};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

/// The buckets of answer times, in seconds; a challenge lasts 300 s by default.
const ANSWER_BUCKETS: [f64; 11] = [1.0, 2.0, 4.0, 7.0, 12.0, 20.0, 30.0, 45.0, 60.0, 120.0, 300.0];

/// The outcome of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Success: issued, drawn or solved.
    Ok,
    /// A wrong answer.
    Failed,
    /// An answer that only bots give.
    Decoy,
    /// The circuit has to wait.
    Wait,
    /// The same right answer as a moment ago.
    Again,
    /// There was no such challenge.
    Gone,
    /// An internal error.
    Error,
}

impl Outcome {
    const ALL: [Self; 7] =
        [Self::Ok, Self::Failed, Self::Decoy, Self::Wait, Self::Again, Self::Gone, Self::Error];

    const fn label(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Failed => "failed",
            Self::Decoy => "decoy",
            Self::Wait => "wait",
            Self::Again => "again",
            Self::Gone => "gone",
            Self::Error => "error",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByVariant {
    variant: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByPicture {
    variant: &'static str,
    carrier: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByTask {
    variant: &'static str,
    level: u8,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfVariant {
    variant: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByPick {
    variant: &'static str,
    kind: &'static str,
}

/// The metrics of challenges issued, drawn and answered.
#[derive(Clone, Debug)]
pub struct ChallengeMetrics {
    issued: Family<ByVariant, Counter>,
    issue_seconds: Histogram,
    rendered: Family<ByPicture, Counter>,
    render_seconds: Histogram,
    redeemed: Family<ByOutcome, Counter>,
    redeem_seconds: Histogram,
    wrong_picks: Family<ByPick, Counter>,
    active: Gauge,
    strained: Gauge,
    pictures_ready: Gauge,
    answers: Family<ByTask, Counter>,
    first_tries: Counter,
    answer_seconds: Family<OfVariant, Histogram, fn() -> Histogram>,
    renderer_up: Gauge,
}

impl Default for ChallengeMetrics {
    fn default() -> Self {
        let latency = || Histogram::new(LATENCY_BUCKETS);
        Self {
            issued: Family::default(),
            issue_seconds: latency(),
            rendered: Family::default(),
            render_seconds: latency(),
            redeemed: Family::default(),
            redeem_seconds: latency(),
            wrong_picks: Family::default(),
            active: Gauge::default(),
            strained: Gauge::default(),
            pictures_ready: Gauge::default(),
            answers: Family::default(),
            first_tries: Counter::default(),
            answer_seconds: Family::new_with_constructor(|| Histogram::new(ANSWER_BUCKETS)),
            renderer_up: Gauge::default(),
        }
    }
}

impl ChallengeMetrics {
    /// Creates the metrics and registers them.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let m = &metrics;
        registry.register("challenges_issued", "Challenges issued", m.issued.clone());
        registry.register("renders", "Pictures drawn", m.rendered.clone());
        registry.register("redeems", "Answers checked", m.redeemed.clone());
        registry.register(
            "wrong_picks",
            "Wrong choices picked, by kind of decoy",
            m.wrong_picks.clone(),
        );
        registry.register(
            "active_challenges",
            "Challenges that wait for an answer",
            m.active.clone(),
        );
        registry.register(
            "renders_strained",
            "1 while only plain pictures are drawn, because drawing takes too long",
            m.strained.clone(),
        );
        registry.register("pictures_ready", "Pictures drawn ahead", m.pictures_ready.clone());
        registry.register(
            "answers",
            "Answers to existing challenges, by task and level",
            m.answers.clone(),
        );
        registry.register(
            "first_tries",
            "Right answers without a wrong one since the circuit's last right one",
            m.first_tries.clone(),
        );
        registry.register_with_unit(
            "answer",
            "Time from a challenge to its right answer",
            Unit::Seconds,
            m.answer_seconds.clone(),
        );
        registry.register("renderer_up", "1 if pictures can be drawn", m.renderer_up.clone());
        let mut seconds = |name: &str, help: &str, histogram: &Histogram| {
            registry.register_with_unit(name, help, Unit::Seconds, histogram.clone());
        };
        seconds(
            "issue",
            "Time to create and store a challenge, without its picture",
            &m.issue_seconds,
        );
        seconds("render", "Time to draw a picture, waiting included", &m.render_seconds);
        seconds("redeem", "Time to check an answer", &m.redeem_seconds);
        // A series that appears with its first event hides that event from rate().
        for outcome in Outcome::ALL.map(Outcome::label) {
            drop(m.redeemed.get_or_create(&ByOutcome { outcome }));
        }
        metrics
    }

    /// Counts an attempt to store a challenge.
    pub fn issue(&self, took: Duration, variant: &'static str, outcome: Outcome) {
        self.issue_seconds.observe(took.as_secs_f64());
        self.issued.get_or_create(&ByVariant { variant, outcome: outcome.label() }).inc();
    }

    /// Counts an attempt to draw a picture.
    pub fn render(
        &self,
        took: Duration,
        variant: &'static str,
        carrier: &'static str,
        outcome: Outcome,
    ) {
        self.render_seconds.observe(took.as_secs_f64());
        self.rendered
            .get_or_create(&ByPicture { variant, carrier, outcome: outcome.label() })
            .inc();
    }

    /// Sets whether only plain pictures are drawn because drawing takes too long.
    pub fn set_strained(&self, strained: bool) {
        self.strained.set(i64::from(strained));
    }

    /// Sets the number of pictures drawn ahead.
    pub fn set_pictures_ready(&self, count: usize) {
        self.pictures_ready.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// Counts a checked answer.
    pub fn redeem(&self, took: Duration, outcome: Outcome) {
        self.redeem_seconds.observe(took.as_secs_f64());
        self.redeemed.get_or_create(&ByOutcome { outcome: outcome.label() }).inc();
    }

    /// The number of challenges solved since the start.
    #[must_use]
    pub fn solved(&self) -> u64 {
        let outcome = Outcome::Ok.label();
        self.redeemed.get_or_create(&ByOutcome { outcome }).get()
    }

    /// Counts a wrong choice by its kind of decoy.
    pub fn wrong_pick(&self, variant: &'static str, kind: &'static str) {
        self.wrong_picks.get_or_create(&ByPick { variant, kind }).inc();
    }

    /// Counts an answer to an existing challenge.
    pub fn answer(&self, variant: &'static str, level: u8, outcome: Outcome) {
        let outcome = outcome.label();
        self.answers.get_or_create(&ByTask { variant, level, outcome }).inc();
    }

    /// Counts a right answer at the first try.
    pub fn first_try(&self) {
        self.first_tries.inc();
    }

    /// Records the time from a challenge to its right answer.
    pub fn answered_after(&self, took: Duration, variant: &'static str) {
        self.answer_seconds.get_or_create(&OfVariant { variant }).observe(took.as_secs_f64());
    }

    /// Sets the number of challenges that wait for an answer.
    pub fn set_active(&self, count: u64) {
        self.active.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// Sets whether pictures can be drawn.
    pub fn set_renderer_up(&self, up: bool) {
        self.renderer_up.set(i64::from(up));
    }
}
