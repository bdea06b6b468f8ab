//! Classifies circuits by their requests.
//!
//! Every visitor's request is counted in a record of fixed size for its circuit. From the record and a baseline of
//! what is normal at this service, a pure function classifies the circuit. Nothing is refused here: findings are
//! counted and reported and, if so configured, influence decisions ([`Behaviour::finding`]).
//!
//! # Layout
//!
//! - `target`: what a URL reveals, and the lists of paths (pure);
//! - `class`: the classes (pure);
//! - `baseline`: what is normal (pure);
//! - `features`: the record of one circuit (pure);
//! - `classify`: reasons and thresholds (pure);
//! - `circuit_map`: the records of all circuits, bounded;
//! - `first_day`: the start of the learning period;
//! - this file: [`Behaviour`], which combines the parts.

mod baseline;
mod circuit_map;
mod class;
mod classify;
mod features;
mod first_day;
pub mod metrics;
mod target;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use arc_swap::ArcSwap;
use schemars::JsonSchema;
use serde::Serialize;

use baseline::Sample;
use circuit_map::Circuits;
use fortify_core::circuit::TorCircuit;
use fortify_core::clock::{Clock, Timestamp};
use fortify_core::entropy::{Entropy, EntropyError, random_bytes};
use fortify_core::pseudonym::CircuitTag;
use metrics::BehaviourMetrics;

pub use baseline::Baseline;
pub use class::Class;
pub use classify::{Finding, FindingReason, Reasons, classify};
pub use features::{Counts, Features, Outcome, Request};
pub use first_day::{FIRST_DAY, watching_since};
pub use target::Target;

/// The use of findings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Requests are not counted.
    Off,
    /// Requests are counted and findings reported.
    Observe,
    /// As [`Mode::Observe`] on the first day of an installation, followed by a report of what would have been done,
    /// and as [`Mode::Act`] from then on. The default.
    #[default]
    Learn,
    /// As [`Mode::Observe`], and findings influence decisions.
    Act,
}

impl Mode {
    const ALL: [Self; 4] = [Self::Off, Self::Observe, Self::Learn, Self::Act];
}

/// Counts and classifies the requests of all circuits.
pub struct Behaviour {
    mode: AtomicU8,
    /// When the learning period of [`Mode::Learn`] ends.
    acts_from: Timestamp,
    /// Whether its end was reported, or needs no report.
    announced: AtomicBool,
    clock: Arc<dyn Clock>,
    metrics: BehaviourMetrics,
    /// The key of URL hashes: random for each process and never stored.
    key: [u8; 16],
    circuits: Circuits,
    baseline: ArcSwap<Baseline>,
    learning: Mutex<()>,
    requests: AtomicU64,
    tallies: [Tally; Class::ALL.len()],
    reasons: [AtomicU64; FindingReason::ALL.len()],
}

#[derive(Default)]
struct Tally {
    circuits: AtomicU64,
    requests: AtomicU64,
}

/// A summary of everything seen since the start, and of what would have been done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Report {
    /// The mode.
    pub mode: Mode,
    /// Whether findings influence decisions now.
    pub acts: bool,
    /// Seconds until the learning period ends; 0 if it is over or there is none.
    pub acts_in: u64,
    /// The number of requests counted.
    pub requests: u64,
    /// The number of circuits remembered now.
    pub circuits: usize,
    /// By class, in the order of [`Class::ALL`].
    pub classes: Vec<ClassReport>,
    /// How often each reason led to a finding.
    pub reasons: Vec<(FindingReason, u64)>,
}

/// One class in a [`Report`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ClassReport {
    /// The class.
    pub class: Class,
    /// The number of circuits found to be in this class; once each while they are remembered.
    pub circuits: u64,
    /// The number of requests from circuits while they were in this class, which got stricter challenges or would
    /// have.
    pub requests: u64,
}

impl Report {
    /// The number of circuits in any class; a circuit counts once for each of its classes.
    #[must_use]
    pub fn found(&self) -> u64 {
        self.classes.iter().map(|class| class.circuits).sum()
    }

    /// The number of requests that got stricter challenges, or would have.
    #[must_use]
    pub fn stricter(&self) -> u64 {
        self.classes.iter().map(|class| class.requests).sum()
    }
}

/// Everything known about the requests of one circuit, and its class.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct CircuitReport {
    /// The time of the last counted request, in ms since the Unix epoch.
    pub seen: Timestamp,
    /// The class; null for most circuits.
    pub class: Option<Class>,
    /// The reasons for the class.
    pub reasons: Vec<FindingReason>,
    /// Whether findings influence decisions now.
    pub counts_here: bool,
    /// Requests in about the last minute.
    pub requests_per_minute: f32,
    /// Pages in about the last five minutes.
    pub pages_per_five_minutes: f32,
    /// The approximate number of distinct pages in the last ten to twenty minutes.
    pub distinct_pages: f32,
    /// Whether it ever fetched a page's assets.
    pub loads_assets: bool,
    /// Recent counts by kind, halved every ten minutes.
    pub counts: Counts,
}

impl Behaviour {
    /// Creates an empty record; the learning period of this installation began at `since`.
    ///
    /// # Errors
    ///
    /// Fails if no random key can be drawn.
    pub fn new(
        mode: Mode,
        since: Timestamp,
        clock: Arc<dyn Clock>,
        entropy: &dyn Entropy,
        metrics: BehaviourMetrics,
    ) -> Result<Self, EntropyError> {
        let acts_from = since.after(FIRST_DAY);
        let already_over = acts_from <= clock.now();
        Ok(Self {
            mode: (mode as u8).into(),
            acts_from,
            announced: already_over.into(),
            metrics,
            key: random_bytes(entropy)?,
            circuits: Circuits::new(clock.now()),
            clock,
            baseline: ArcSwap::default(),
            learning: Mutex::default(),
            requests: AtomicU64::default(),
            tallies: Default::default(),
            reasons: Default::default(),
        })
    }

    /// The use of findings.
    #[must_use]
    pub fn mode(&self) -> Mode {
        let number = self.mode.load(Ordering::Relaxed);
        Mode::ALL.into_iter().find(|mode| *mode as u8 == number).unwrap_or_default()
    }

    /// Changes the mode.
    pub fn set_mode(&self, mode: Mode) {
        self.mode.store(mode as u8, Ordering::Relaxed);
        self.announced.store(self.clock.now() >= self.acts_from, Ordering::Relaxed);
    }

    /// Analyses a request's path and query, as sent.
    #[must_use]
    pub fn read(&self, target: &[u8]) -> Target {
        Target::read(&self.key, target)
    }

    /// Whether requests are counted.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.mode() != Mode::Off
    }

    /// Counts one request of a circuit.
    pub fn record(&self, circuit: CircuitTag, request: &Request) {
        self.record_circuit(circuit, None, request);
    }

    /// As [`Self::record`], and remembers the Tor circuit for operators.
    pub fn record_circuit(&self, circuit: CircuitTag, tor: Option<TorCircuit>, request: &Request) {
        if !self.is_on() {
            return;
        }
        let (now, baseline) = (self.clock.now(), self.baseline.load());
        let seen = self.circuits.update(circuit, now, |features| {
            if let Some(tor) = tor {
                features.is(tor);
            }
            features.record(request, now);
            let finding = classify(features, &baseline, now);
            let is_new = finding.is_some_and(|finding| features.note(finding.class));
            (finding, is_new, features.sample(now))
        });
        self.requests.fetch_add(1, Ordering::Relaxed);
        let Some((finding, is_new, sample)) = seen else { return };
        if let Some(finding) = finding {
            self.count(finding, is_new);
        }
        if let Some(sample) = sample {
            self.learn(&sample, now);
        }
    }

    /// Whether findings influence decisions now: never, always, or after the learning period.
    #[must_use]
    pub fn acts(&self) -> bool {
        match self.mode() {
            Mode::Off | Mode::Observe => false,
            Mode::Learn => self.acts_from <= self.clock.now(),
            Mode::Act => true,
        }
    }

    /// The report of the learning period, returned once, after it has ended.
    #[must_use]
    pub fn end_of_first_day(&self) -> Option<Report> {
        let over = self.mode() == Mode::Learn && self.acts();
        let over = over && !self.announced.swap(true, Ordering::Relaxed);
        over.then(|| self.report())
    }

    /// The finding about a circuit, for decisions; always `None` unless findings count ([`Self::acts`]).
    ///
    /// Call this for Tor circuits only: many people may share a clearnet address and look like a flood together.
    #[must_use]
    pub fn finding(&self, circuit: CircuitTag) -> Option<Finding> {
        if !self.acts() {
            return None;
        }
        let features = self.circuits.get(circuit)?;
        classify(&features, &self.baseline.load(), self.clock.now())
    }

    /// The report about a circuit, whatever the mode.
    #[must_use]
    pub fn report_of(&self, circuit: CircuitTag) -> Option<CircuitReport> {
        let (features, now) = (self.circuits.get(circuit)?, self.clock.now());
        let finding = classify(&features, &self.baseline.load(), now);
        let seen = features.last();
        let features = features.as_of(now);
        Some(CircuitReport {
            seen,
            class: finding.map(|finding| finding.class),
            reasons: finding.map_or_else(Vec::new, |finding| finding.reasons.iter().collect()),
            counts_here: self.acts(),
            requests_per_minute: features.rate,
            pages_per_five_minutes: features.page_rate,
            distinct_pages: features.distinct_pages(),
            loads_assets: features.loads_assets,
            counts: features.counts,
        })
    }

    /// The Tor circuit with this pseudonym, if its requests are being counted.
    #[must_use]
    pub fn circuit(&self, circuit: CircuitTag) -> Option<TorCircuit> {
        self.circuits.get(circuit)?.circuit()
    }

    /// The time of its last counted request.
    #[must_use]
    pub fn last_seen(&self, circuit: CircuitTag) -> Option<Timestamp> {
        Some(self.circuits.get(circuit)?.last())
    }

    /// Every circuit whose requests are counted, its Tor circuit if known, and when it was last seen. There may be
    /// 100,000, so do not call this on a thread that serves requests.
    #[must_use]
    pub fn recent(&self) -> Vec<(CircuitTag, Option<TorCircuit>, Timestamp)> {
        self.circuits.all()
    }

    /// Forgets a closed circuit.
    pub fn forget(&self, circuit: CircuitTag) {
        self.circuits.forget(circuit);
    }

    /// A summary of everything seen so far.
    #[must_use]
    pub fn report(&self) -> Report {
        let value = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Report {
            mode: self.mode(),
            acts: self.acts(),
            acts_in: match self.mode() {
                Mode::Learn => self.clock.now().until(self.acts_from).as_secs(),
                Mode::Off | Mode::Observe | Mode::Act => 0,
            },
            requests: value(&self.requests),
            circuits: self.circuits.len(),
            classes: (Class::ALL.into_iter().zip(&self.tallies))
                .map(|(class, tally)| ClassReport {
                    class,
                    circuits: value(&tally.circuits),
                    requests: value(&tally.requests),
                })
                .collect(),
            reasons: FindingReason::ALL.into_iter().zip(self.reasons.iter().map(value)).collect(),
        }
    }

    fn count(&self, finding: Finding, is_new: bool) {
        let tally =
            Class::ALL.iter().zip(&self.tallies).find(|(class, _)| **class == finding.class);
        if let Some((_, tally)) = tally {
            tally.requests.fetch_add(1, Ordering::Relaxed);
            tally.circuits.fetch_add(u64::from(is_new), Ordering::Relaxed);
        }
        if is_new {
            self.metrics.finding(finding.class.label());
            for (reason, count) in FindingReason::ALL.into_iter().zip(&self.reasons) {
                count.fetch_add(u64::from(finding.reasons.has(reason)), Ordering::Relaxed);
            }
        }
    }

    fn learn(&self, sample: &Sample, now: Timestamp) {
        // Samples that arrive during another update are skipped.
        if let Ok(_alone) = self.learning.try_lock() {
            let mut baseline = **self.baseline.load();
            if baseline.learn(sample, now) {
                self.baseline.store(Arc::new(baseline));
            }
        }
    }
}

impl fmt::Debug for Behaviour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Behaviour").field("mode", &self.mode()).finish_non_exhaustive()
    }
}
