//! What circuits do, and what that makes them look like.
//!
//! Every request that is about a visitor is counted, in a record of fixed size for its circuit; from
//! the record and from what is normal at this service a pure function says whether the circuit is
//! anything. Nothing is denied here: findings are counted and reported, and where the configuration
//! says so, told to whoever decides ([`Behaviour::finding`]).
//!
//! # Layout
//!
//! - this file: [`Behaviour`], which puts the parts together;
//! - `target`: what an address says, and the lists of paths (pure);
//! - `features`: the record of one circuit (pure);
//! - `baseline`: what is normal (pure);
//! - `classify`: classes, reasons, thresholds (pure);
//! - `circuits`: many records, bounded;
//! - `first_day`: since when this installation has watched.

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

/// What is done with what requests tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Nothing is counted.
    Off,
    /// Counted and reported.
    Observe,
    /// As [`Mode::Observe`] for the first day of an installation, with a report of what would have been
    /// done, and as [`Mode::Act`] from then on. The default.
    #[default]
    Learn,
    /// And told to whoever decides.
    Act,
}

impl Mode {
    const ALL: [Self; 4] = [Self::Off, Self::Observe, Self::Learn, Self::Act];
}

/// What circuits do.
pub struct Behaviour {
    mode: AtomicU8,
    /// When the first day of [`Mode::Learn`] is over.
    acts_from: Timestamp,
    /// Whether that was said, or needs not be.
    announced: AtomicBool,
    clock: Arc<dyn Clock>,
    metrics: BehaviourMetrics,
    /// Of the hashes of addresses: random for each process and never kept.
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

/// What was seen since the start, and what would have been done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Report {
    /// What is done with it.
    pub mode: Mode,
    /// Whether findings count now.
    pub acts: bool,
    /// Seconds until they do by themselves; 0 where they do, or never will.
    pub acts_in: u64,
    /// Requests counted.
    pub requests: u64,
    /// Circuits that are remembered now.
    pub circuits: usize,
    /// By class, in the order of [`Class::ALL`].
    pub classes: Vec<ClassReport>,
    /// How often circuits were found for a reason.
    pub reasons: Vec<(FindingReason, u64)>,
}

/// One class in a [`Report`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ClassReport {
    /// Which.
    pub class: Class,
    /// Circuits found to be it; once each, for as long as they are remembered.
    pub circuits: u64,
    /// Requests that came from circuits while they were it: those that would have met stricter challenges.
    pub requests: u64,
}

impl Report {
    /// Circuits found to be anything; one that was several things counts for each.
    #[must_use]
    pub fn found(&self) -> u64 {
        self.classes.iter().map(|class| class.circuits).sum()
    }

    /// Requests that get stricter challenges, or would.
    #[must_use]
    pub fn stricter(&self) -> u64 {
        self.classes.iter().map(|class| class.requests).sum()
    }
}

/// What is known of one circuit's requests, and what it looks like.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct CircuitReport {
    /// When the last one was counted, ms since the Unix epoch.
    pub seen: Timestamp,
    /// What it looks like; nothing for most.
    pub class: Option<Class>,
    /// Why.
    pub reasons: Vec<FindingReason>,
    /// Whether that makes a difference here: findings count now.
    pub counts_here: bool,
    /// Requests in about the last minute.
    pub requests_per_minute: f32,
    /// Pages in about the last five minutes.
    pub pages_per_five_minutes: f32,
    /// About how many distinct pages in the last ten to twenty minutes.
    pub distinct_pages: f32,
    /// Whether it ever fetched what a page loads.
    pub loads_assets: bool,
    /// How many there were of each kind lately.
    pub counts: Counts,
}

impl Behaviour {
    /// Nobody was seen yet; this installation has watched `since` then.
    ///
    /// # Errors
    ///
    /// Without randomness for the key.
    pub fn new(
        mode: Mode,
        since: Timestamp,
        clock: Arc<dyn Clock>,
        entropy: &dyn Entropy,
        metrics: BehaviourMetrics,
    ) -> Result<Self, EntropyError> {
        let acts_from = since.after(FIRST_DAY);
        let nothing_to_say = acts_from <= clock.now();
        Ok(Self {
            mode: (mode as u8).into(),
            acts_from,
            announced: nothing_to_say.into(),
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

    /// What is done with what requests tell.
    #[must_use]
    pub fn mode(&self) -> Mode {
        let number = self.mode.load(Ordering::Relaxed);
        Mode::ALL.into_iter().find(|mode| *mode as u8 == number).unwrap_or_default()
    }

    /// Does something else with it from now on.
    pub fn set_mode(&self, mode: Mode) {
        self.mode.store(mode as u8, Ordering::Relaxed);
        self.announced.store(self.clock.now() >= self.acts_from, Ordering::Relaxed);
    }

    /// What a request's path and query say, as they were sent.
    #[must_use]
    pub fn read(&self, target: &[u8]) -> Target {
        Target::read(&self.key, target)
    }

    /// Whether anything is counted.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.mode() != Mode::Off
    }

    /// Takes in one request of a circuit.
    pub fn record(&self, circuit: CircuitTag, request: &Request) {
        self.record_circuit(circuit, None, request);
    }

    /// As [`Self::saw`], and remembers which circuit it is.
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

    /// Whether findings count: never, always, or from the second day on.
    #[must_use]
    pub fn acts(&self) -> bool {
        match self.mode() {
            Mode::Off | Mode::Observe => false,
            Mode::Learn => self.acts_from <= self.clock.now(),
            Mode::Act => true,
        }
    }

    /// The report of the first day, once, when it is over.
    #[must_use]
    pub fn end_of_first_day(&self) -> Option<Report> {
        let over = self.mode() == Mode::Learn && self.acts();
        let over = over && !self.announced.swap(true, Ordering::Relaxed);
        over.then(|| self.report())
    }

    /// What a circuit looks like, for whoever decides; always nothing unless findings count
    /// ([`Self::acts`]).
    ///
    /// A clearnet address may be many people's, who together look like a flood: whoever decides
    /// should ask only about circuits of tor's.
    #[must_use]
    pub fn finding(&self, circuit: CircuitTag) -> Option<Finding> {
        if !self.acts() {
            return None;
        }
        let features = self.circuits.get(circuit)?;
        classify(&features, &self.baseline.load(), self.clock.now())
    }

    /// What is known of a circuit's requests, and what that would be found to be, whatever the mode.
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

    /// Which circuit of tor's this is, where its requests are counted.
    #[must_use]
    pub fn circuit(&self, circuit: CircuitTag) -> Option<TorCircuit> {
        self.circuits.get(circuit)?.circuit()
    }

    /// When its last request was counted.
    #[must_use]
    pub fn last_seen(&self, circuit: CircuitTag) -> Option<Timestamp> {
        Some(self.circuits.get(circuit)?.last())
    }

    /// Every circuit whose requests are counted, which it is where that is known, and when it was last
    /// seen. There may be 100,000: to be asked off the threads that serve.
    #[must_use]
    pub fn recent(&self) -> Vec<(CircuitTag, Option<TorCircuit>, Timestamp)> {
        self.circuits.all()
    }

    /// Forgets a circuit that is no more.
    pub fn forget(&self, circuit: CircuitTag) {
        self.circuits.forget(circuit);
    }

    /// What was seen so far.
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
        // Who comes while another teaches is not missed.
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
