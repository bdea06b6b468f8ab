//! The signals of automatic control: events of the last minute, counted by circuits instead of requests.
//!
//! Every count is of *distinct* circuits, so that a loud one counts only once. Estimates are enough, because they
//! affect the gate and no particular visitor. Each count is a sketch: linear counting over a bitmap of 65,536 places,
//! where a keyed hash of the circuit determines its place. Up to a few hundred circuits, where the controller's limits
//! lie, an estimate is right to a circuit or two; at 100,000 it is within 1 %; it ends at 727,000. Memory is fixed: 8
//! sketches of 8 KiB for each of 6 intervals, 384 KiB.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use fortify_core::pseudonym::CircuitTag;
use fortify_core::sketch::Sketch;

/// Intervals between samples that make up the last minute, at one sample in 10 s.
const INTERVALS: usize = 6;

/// The number of open challenges of an honest visitor: one in each of a few tabs.
const HONESTLY_WAITING: u64 = 3;

/// The time of a picture above which the machine counts as strained, as the requirements say.
const SLOW_RENDER_MS: u64 = 200;

/// Failures of the protected service between two samples, at which the machine counts as strained.
const MANY_UPSTREAM_ERRORS: u32 = 30;

/// The average time until the protected service begins to answer above which it counts as strained, in ms: so long
/// that people give up.
const SLOW_UPSTREAM_MS: u64 = 2_000;

/// The introductions in tor's queue at which tor counts as strained: what it serves in a second by default.
const MANY_INTRODUCTIONS: u64 = 250;

/// The number of open challenges that counts as an attack, as the requirements say.
const MANY_WAITING: u64 = 500;

/// The number of distinct circuits that counts as an attack. Strain halves it, and half of it is still more than the 50
/// circuits that one client opens with little effort.
const MANY_CIRCUITS: u64 = 120;

/// One sample.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signals {
    /// Open challenges, but at most three for each circuit that was given one in the last minute and has solved none:
    /// as many as honest visitors have.
    pub active: u64,
    /// Circuits given a challenge since the last sample, and none in the minute before.
    pub new_circuits: u32,
    /// Circuits that solved since the last sample.
    pub solving: u32,
    /// Circuits that gave a wrong answer since the last sample.
    pub failing: u32,
    /// Circuits that were banned in the last minute.
    pub banned: u32,
    /// Circuits that behaviour flagged since the last sample.
    pub flagged: u32,
    /// The average time of a picture since the last sample, waiting included, in ms.
    pub render_ms: u64,
    /// Failures of the protected service since the last sample.
    pub upstream_errors: u32,
    /// Circuits that asked for a challenge in the last minute, whether or not they were given one.
    #[serde(default)]
    pub asking: u32,
    /// Circuits that asked for a challenge in the last minute, 20 s ago or more, and again in the last 20 s, in which they
    /// solved none.
    #[serde(default)]
    pub persisting: u32,
    /// Circuits that solved in the last minute.
    #[serde(default)]
    pub solved: u32,
    /// Circuits that had to wait or were refused in the last minute.
    #[serde(default)]
    pub refused: u32,
    /// Circuits that used up their budget in the last minute.
    #[serde(default)]
    pub exhausted: u32,
    /// Visitors in the queue.
    #[serde(default)]
    pub waiting: u64,
    /// Requests since the last sample.
    #[serde(default)]
    pub requests: u64,
    /// The average time until the protected service began to answer since the last sample, in ms.
    #[serde(default)]
    pub upstream_ms: u64,
    /// The proof of work that tor suggests to clients.
    #[serde(default)]
    pub tor_effort: u64,
    /// Introductions that wait in tor's queue.
    #[serde(default)]
    pub tor_queued: u64,
    /// Introductions that tor rejected since the last sample. Shown, and of no weight: they reach nobody.
    #[serde(default)]
    pub tor_rejected: u64,
    /// Connections since the last sample that found no slot, or lost theirs to another.
    #[serde(default)]
    pub turned_away: u64,
}

impl Signals {
    /// The pressure, in percent of the attack threshold; the worst of the signals counts.
    ///
    /// Circuits that solve are set against those that ask, are new and fail, so that a crowd of people is not an
    /// attack; each stands for one other that is still reading. Strain doubles the pressure but counts for nothing by
    /// itself, because a single client can cause it: with slow pictures, with a failing service, with introductions or
    /// with connections.
    #[must_use]
    pub fn pressure(&self) -> u64 {
        let unsolved = self.new_circuits.saturating_sub(self.solving);
        let crowds = [
            unsolved,
            self.unanswered(),
            self.mostly_failing(),
            self.banned,
            self.flagged,
            self.exhausted,
        ];
        let most = crowds.into_iter().map(u64::from).max().unwrap_or(0);
        let worst =
            (most * 100 / MANY_CIRCUITS).max(self.active.saturating_mul(100) / MANY_WAITING);
        if self.is_strained() { worst.saturating_mul(2) } else { worst }
    }

    /// Circuits that ask without solving. Those that go on asking are set against who solved since the last sample only:
    /// whoever solved to earn sessions for an attack stands for nobody who is reading.
    #[must_use]
    pub fn unanswered(&self) -> u32 {
        let asking = self.asking.saturating_sub(self.solved.saturating_mul(2));
        asking.max(self.persisting.saturating_sub(self.solving.saturating_mul(2)))
    }

    /// Circuits that gave a wrong answer, if they are as many as those that solved, or more.
    #[must_use]
    pub const fn mostly_failing(&self) -> u32 {
        if self.failing >= self.solving { self.failing } else { 0 }
    }

    /// As many circuits as weigh what the open challenges do.
    #[must_use]
    pub fn holding(&self) -> u32 {
        let circuits = self.active.saturating_mul(MANY_CIRCUITS) / MANY_WAITING;
        u32::try_from(circuits).unwrap_or(u32::MAX)
    }

    /// Whether pictures or the protected service are slow, the service fails, tor does not cope, or slots run out.
    #[must_use]
    pub const fn is_strained(&self) -> bool {
        self.render_ms > SLOW_RENDER_MS
            || self.upstream_errors >= MANY_UPSTREAM_ERRORS
            || self.upstream_ms > SLOW_UPSTREAM_MS
            || self.is_tor_strained()
            || self.turned_away > 0
    }

    /// Whether tor asks for proof of work, or makes many introductions wait.
    #[must_use]
    pub const fn is_tor_strained(&self) -> bool {
        self.tor_effort > 0 || self.tor_queued >= MANY_INTRODUCTIONS
    }
}

/// Counts between samples, from any thread.
pub struct Collector {
    key: u128,
    minute: Mutex<Minute>,
    requests: AtomicU64,
    waiting: AtomicU64,
    tor_effort: AtomicU64,
    tor_queued: AtomicU64,
    tor_rejected: AtomicU64,
    turned_away: AtomicU64,
}

/// The last minute.
#[derive(Default)]
struct Minute {
    current: Interval,
    /// The intervals before, the oldest first.
    past: VecDeque<Interval>,
}

/// The events between two samples.
#[derive(Default)]
struct Interval {
    asked: Sketch,
    refused: Sketch,
    exhausted: Sketch,
    issued: Sketch,
    solved: Sketch,
    failed: Sketch,
    banned: Sketch,
    flagged: Sketch,
    renders: u32,
    rendering: Duration,
    upstream_errors: u32,
    upstream_answers: u32,
    upstream: Duration,
}

impl Collector {
    /// Creates an empty collector. `key` is random, so that nobody can choose circuits that share a place.
    #[must_use]
    pub fn new(key: [u8; 16]) -> Self {
        Self {
            key: u128::from_le_bytes(key),
            minute: Mutex::default(),
            requests: AtomicU64::new(0),
            waiting: AtomicU64::new(0),
            tor_effort: AtomicU64::new(0),
            tor_queued: AtomicU64::new(0),
            tor_rejected: AtomicU64::new(0),
            turned_away: AtomicU64::new(0),
        }
    }

    /// There was a request.
    pub fn requested(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    /// So many visitors are in the queue.
    pub fn queued(&self, waiting: u64) {
        self.waiting.store(waiting, Ordering::Relaxed);
    }

    /// Tor suggests so much proof of work, makes so many introductions wait, and rejected so many more.
    pub fn tor(&self, effort: u64, queued: u64, rejected: u64) {
        self.tor_effort.store(effort, Ordering::Relaxed);
        self.tor_queued.store(queued, Ordering::Relaxed);
        self.tor_rejected.fetch_add(rejected, Ordering::Relaxed);
    }

    /// A connection found no slot, or lost its own to another.
    pub fn turned_away(&self) {
        self.turned_away.fetch_add(1, Ordering::Relaxed);
    }

    /// `circuit` asked for a challenge.
    pub fn asked(&self, circuit: CircuitTag) {
        let place = self.place(circuit);
        self.lock().current.asked.add(place);
    }

    /// `circuit` had to wait, or was refused.
    pub fn refused(&self, circuit: CircuitTag) {
        let place = self.place(circuit);
        self.lock().current.refused.add(place);
    }

    /// `circuit` used up its budget.
    pub fn exhausted(&self, circuit: CircuitTag) {
        let place = self.place(circuit);
        self.lock().current.exhausted.add(place);
    }

    /// `circuit` was given a challenge.
    pub fn issued(&self, circuit: CircuitTag) {
        let place = self.place(circuit);
        let mut minute = self.lock();
        minute.current.asked.add(place);
        minute.current.issued.add(place);
    }

    /// `circuit` gave a right answer.
    pub fn solved(&self, circuit: CircuitTag) {
        let place = self.place(circuit);
        self.lock().current.solved.add(place);
    }

    /// `circuit` gave a wrong answer.
    pub fn failed(&self, circuit: CircuitTag) {
        let place = self.place(circuit);
        self.lock().current.failed.add(place);
    }

    /// `circuit` was banned.
    pub fn banned(&self, circuit: CircuitTag) {
        let place = self.place(circuit);
        self.lock().current.banned.add(place);
    }

    /// `circuit` was flagged by behaviour.
    pub fn flagged(&self, circuit: CircuitTag) {
        let place = self.place(circuit);
        self.lock().current.flagged.add(place);
    }

    /// A challenge with its picture took this long, waiting included.
    pub fn rendered(&self, took: Duration) {
        let mut minute = self.lock();
        let interval = &mut minute.current;
        interval.renders = interval.renders.saturating_add(1);
        interval.rendering = interval.rendering.saturating_add(took);
    }

    /// The protected service began to answer after this long.
    pub fn upstream_answered(&self, took: Duration) {
        let mut minute = self.lock();
        let interval = &mut minute.current;
        interval.upstream_answers = interval.upstream_answers.saturating_add(1);
        interval.upstream = interval.upstream.saturating_add(took);
    }

    /// The protected service failed.
    pub fn upstream_error(&self) {
        let mut minute = self.lock();
        minute.current.upstream_errors = minute.current.upstream_errors.saturating_add(1);
    }

    /// Ends the interval and returns its signals; `active` is the number of open challenges.
    #[must_use]
    pub fn sample(&self, active: u64) -> Signals {
        let mut minute = self.lock();
        let signals = Signals {
            requests: self.requests.swap(0, Ordering::Relaxed),
            waiting: self.waiting.load(Ordering::Relaxed),
            tor_effort: self.tor_effort.load(Ordering::Relaxed),
            tor_queued: self.tor_queued.load(Ordering::Relaxed),
            tor_rejected: self.tor_rejected.swap(0, Ordering::Relaxed),
            turned_away: self.turned_away.swap(0, Ordering::Relaxed),
            ..minute.signals(active)
        };
        let ended = std::mem::take(&mut minute.current);
        minute.past.push_back(ended);
        if minute.past.len() >= INTERVALS {
            minute.past.pop_front();
        }
        signals
    }

    /// The circuit's place: the two halves of its tag, each combined with its half of the key, are multiplied, and the
    /// middle bits of the product depend on all of them. A tag is already a hash that nobody outside can choose.
    const fn place(&self, circuit: CircuitTag) -> u16 {
        let mixed = u128::from_le_bytes(circuit.to_bytes()) ^ self.key;
        let product = (mixed as u64 as u128).wrapping_mul(mixed >> 64);
        (product >> 56) as u16
    }

    /// Sketches stay consistent after a panic: each change sets one bit.
    fn lock(&self) -> MutexGuard<'_, Minute> {
        self.minute.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Collector").finish_non_exhaustive()
    }
}

impl Minute {
    fn signals(&self, active: u64) -> Signals {
        let before = self.union_of_past(|interval| &interval.issued);
        let issued = before.clone().merged(&self.current.issued);
        let of_minute = |read: fn(&Interval) -> &Sketch| {
            self.union_of_past(read).merged(read(&self.current)).distinct()
        };
        let solved = of_minute(|interval| &interval.solved);
        let unsolved = u64::from(issued.distinct().saturating_sub(solved));
        let current = &self.current;
        let average = |sum: Duration, count| {
            let average = sum.checked_div(count).unwrap_or_default().as_millis();
            u64::try_from(average).unwrap_or(u64::MAX)
        };
        Signals {
            active: active.min(unsolved * HONESTLY_WAITING),
            new_circuits: issued.distinct().saturating_sub(before.distinct()),
            solving: current.solved.distinct(),
            failing: current.failed.distinct(),
            banned: of_minute(|interval| &interval.banned),
            flagged: current.flagged.distinct(),
            render_ms: average(current.rendering, current.renders),
            upstream_errors: current.upstream_errors,
            asking: of_minute(|interval| &interval.asked),
            persisting: self.persisting(),
            solved,
            refused: of_minute(|interval| &interval.refused),
            exhausted: of_minute(|interval| &interval.exhausted),
            upstream_ms: average(current.upstream, current.upstream_answers),
            // The rest is set by the caller, which counts it without a lock.
            ..Signals::default()
        }
    }

    /// [`Signals::persisting`], by inclusion and exclusion, because sketches have unions only.
    fn persisting(&self) -> u32 {
        let recent = || self.past.back().into_iter().chain([&self.current]);
        let solved = Sketch::union(recent().map(|interval| &interval.solved));
        let late = Sketch::union(recent().map(|interval| &interval.asked).chain([&solved]));
        let earlier = self.past.iter().rev().skip(1).map(|interval| &interval.asked);
        let early = Sketch::union(earlier.chain([&solved]));
        let none = solved.distinct() + Sketch::union([&early, &late]).distinct();
        (early.distinct() + late.distinct()).saturating_sub(none)
    }

    fn union_of_past(&self, read: fn(&Interval) -> &Sketch) -> Sketch {
        Sketch::union(self.past.iter().map(read))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::threat::tests::tag;
    use fortify_core::entropy::{SystemEntropy, random_bytes};

    fn collector() -> Collector {
        Collector::new(random_bytes(&SystemEntropy).unwrap())
    }

    fn circuit(number: u32) -> CircuitTag {
        tag(number.into())
    }

    #[test]
    fn circuits_are_counted_and_not_what_they_do() {
        let collector = collector();
        for _ in 0..1_000 {
            for number in 0..50 {
                collector.issued(circuit(number));
                collector.failed(circuit(number));
                collector.banned(circuit(number));
                collector.flagged(circuit(number));
            }
        }
        let signals = collector.sample(1_000_000);
        for count in [signals.new_circuits, signals.failing, signals.banned, signals.flagged] {
            assert!((48..=50).contains(&count), "{signals:?}");
        }
        assert!((144..=150).contains(&signals.active), "{signals:?}");
    }

    #[test]
    fn a_sketch_is_right_enough_where_it_decides() {
        let collector = collector();
        let mut counted = 0;
        for (until, within) in [(120, 2), (10_000, 200), (100_000, 1_500)] {
            for number in counted..until {
                collector.lock().current.issued.add(collector.place(circuit(number)));
            }
            counted = until;
            let distinct = collector.lock().current.issued.distinct();
            assert!(distinct.abs_diff(until) <= within, "{distinct} for {until}");
        }
    }

    #[test]
    fn a_circuit_is_new_once_in_a_minute() {
        let collector = collector();
        let mut new = Vec::new();
        for interval in 0..8 {
            if interval != 1 {
                collector.issued(circuit(7));
            }
            new.push(collector.sample(0).new_circuits);
        }
        assert_eq!(new, [1, 0, 0, 0, 0, 0, 0, 0]);
        for _ in 0..INTERVALS {
            let signals = collector.sample(0);
            assert_eq!((signals.new_circuits, signals.active), (0, 0));
        }
        collector.issued(circuit(7));
        assert_eq!(collector.sample(0).new_circuits, 1);
    }

    #[test]
    fn who_solves_is_set_against_who_is_new_and_who_waits() {
        let collector = collector();
        for number in 0..1_000 {
            collector.issued(circuit(number));
            if number >= 10 {
                collector.solved(circuit(number));
            }
        }
        let signals = collector.sample(5_000);
        assert!(signals.active <= 60, "{signals:?}");
        assert!(signals.pressure() < 50, "{signals:?}");
    }

    #[test]
    fn abuse_25_circuits_that_are_given_nothing_count() {
        let collector = collector();
        let mut bad = 0;
        // 200 circuits that each ask every 20 s, and are refused.
        for sample in 0..12_u32 {
            for number in (0..200).filter(|number| number % 2 == sample % 2) {
                collector.asked(circuit(number));
                collector.refused(circuit(number));
                collector.requested();
            }
            collector.queued(180);
            let signals = collector.sample(0);
            assert_eq!((signals.requests, signals.waiting), (100, 180));
            bad += u32::from(signals.pressure() >= 100);
        }
        assert!(bad >= 11, "{bad}");
        // Fifty, however often they ask, do not.
        let few = self::collector();
        for _ in 0..1_000 {
            for number in 0..50 {
                few.asked(circuit(number));
                few.refused(circuit(number));
                few.requested();
            }
            few.upstream_answered(Duration::from_secs(20));
        }
        let signals = few.sample(0);
        assert!(signals.is_strained());
        assert!(signals.pressure() < 100, "{signals:?}");
    }

    #[test]
    fn abuse_25_circuits_that_solved_first_hide_none_that_go_on_asking() {
        let collector = collector();
        let people = |sample: u32, does: &dyn Fn(CircuitTag)| {
            (0..10).for_each(|number| does(circuit(10_000 + 10 * sample + number)));
        };
        for number in 0..100 {
            collector.solved(circuit(number));
        }
        let mut bad = Vec::new();
        for sample in 0..6 {
            (0..200).for_each(|number| collector.asked(circuit(number)));
            people(sample + 1, &|person| collector.asked(person));
            people(sample, &|person| collector.solved(person));
            bad.push(collector.sample(0).pressure() >= 100);
        }
        assert!(bad.ends_with(&[true; 4]), "{bad:?}");
    }

    #[test]
    fn a_crowd_that_reads_slowly_and_reloads_is_no_attack() {
        let collector = collector();
        // Of 100 people in 10 s, one in five solves only after half a minute, and asks again meanwhile.
        for sample in 0..12_u32 {
            let come =
                |before: u32| (0..100).map(move |number| (sample + 3 - before) * 100 + number);
            come(0).for_each(|number| collector.asked(circuit(number)));
            for number in come(1).chain(come(2)).chain(come(3)).filter(|number| number % 5 == 0) {
                collector.asked(circuit(number));
            }
            come(1)
                .filter(|number| number % 5 != 0)
                .for_each(|number| collector.solved(circuit(number)));
            come(3)
                .filter(|number| number % 5 == 0)
                .for_each(|number| collector.solved(circuit(number)));
            let signals = collector.sample(0);
            assert!(sample < 3 || signals.pressure() < 50, "{signals:?}");
        }
    }

    #[test]
    fn abuse_25_slow_pictures_and_a_failing_service_are_nothing_by_themselves() {
        let collector = collector();
        collector.issued(circuit(1));
        for _ in 0..1_000 {
            collector.rendered(Duration::from_secs(2));
            collector.upstream_error();
        }
        let signals = collector.sample(3);
        assert_eq!((signals.render_ms, signals.upstream_errors), (2_000, 1_000));
        assert!(signals.pressure() < 50, "{signals:?}");
        let crowd = Signals { failing: 60, ..signals };
        assert_eq!(crowd.pressure(), 100);
    }
}
