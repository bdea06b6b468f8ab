//! Attack traces of one hour, played against the limits, the queue, the signal collector and the dial controller in
//! simulated time.
//!
//! Throughout the hour one person arrives every second and solves a challenge after 20 s; one in ten of them
//! gives a wrong answer first.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use serde::Serialize;

use fortify_core::allowance::Rate;
use fortify_core::clock::Timestamp;
use fortify_core::pseudonym::CircuitTag;
use fortify_engine::limits::admission_queue::{AdmissionQueue, Lane, QueueOutcome, TicketNumber};
use fortify_engine::threat::controller::{DialController, SAMPLE_INTERVAL};
use fortify_engine::threat::signals::Collector;
use fortify_engine::threat::{Dial, Mode, ThreatLevel};

/// The length of a trace, in seconds.
const LENGTH: u64 = 3_600;

/// The lifetime of a challenge, in seconds, and the most that a circuit has open: the defaults of
/// `captcha.ttl_seconds` and `captcha.max_active_per_circuit`.
const TTL: u64 = 300;
const PER_CIRCUIT: usize = 3;

/// The defaults of `limits.service_challenges_per_minute` and `_per_second`, and of `limits.challenges_per_minute`.
const RATE: Rate = Rate { per_minute: 1_000, per_second: 1_000 };
const PER_MINUTE: u32 = 10;

/// An attack pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Trace {
    /// Rises from none to 2,500 circuits in 20 minutes.
    Ramp,
    /// 5,000 circuits for 20 s in every ten minutes.
    Pulse,
    /// New circuits, from none to ten per second, that each request one challenge and solve none.
    SlowBurn,
    /// One circuit that triggers every signal 20 times a second and slows everything down.
    OneLoud,
    /// Fifty such circuits.
    FiftyLoud,
    /// 5,000 circuits for half an hour.
    Flood,
    /// 2,000 circuits that ask for challenges 100 times a second for ten minutes, and answer none.
    NeverAnswered,
    /// 200 circuits that each ask every 20 s for ten minutes, and answer none.
    TwoHundred,
    /// 5,000 circuits, 90 s on and 180 s off.
    Flapping,
}

impl Trace {
    /// Every trace.
    pub(super) const ALL: [Self; 9] = [
        Self::Ramp,
        Self::Pulse,
        Self::SlowBurn,
        Self::OneLoud,
        Self::FiftyLoud,
        Self::Flood,
        Self::NeverAnswered,
        Self::TwoHundred,
        Self::Flapping,
    ];

    /// The number of circuits that attack during `second`.
    const fn crowd(self, second: u64) -> u64 {
        match self {
            Self::Ramp if 300 <= second && second < 1_500 => (second - 300) * 2_500 / 1_200,
            Self::Pulse if second % 600 < 20 => 5_000,
            Self::OneLoud if 300 <= second && second < 2_700 => 1,
            Self::FiftyLoud if 300 <= second && second < 2_700 => 50,
            Self::Flood if 300 <= second && second < 2_100 => 5_000,
            Self::NeverAnswered if 300 <= second && second < 900 => 2_000,
            Self::TwoHundred if 300 <= second && second < 900 => 200,
            Self::Flapping if second % 270 < 90 => 5_000,
            _ => 0,
        }
    }

    const fn is_loud(self) -> bool {
        matches!(self, Self::OneLoud | Self::FiftyLoud)
    }
}

/// One minute of a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Minute {
    /// Its number, from 1.
    pub minute: u64,
    /// The level at its end.
    pub level: ThreatLevel,
    /// The highest pressure sampled during the minute, in percent of the attack threshold.
    pub pressure: u64,
}

/// What the dial did in a trace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Played {
    /// The trace.
    pub trace: Trace,
    /// The level at which the dial rests.
    pub start: ThreatLevel,
    /// The highest level reached.
    pub highest: ThreatLevel,
    /// The number of rises.
    pub rises: u32,
    /// The number of falls.
    pub falls: u32,
    /// The level at the end of each minute.
    pub minutes: Vec<Minute>,
}

/// Plays `trace` against a dial that rests at `start`.
#[must_use]
pub(super) fn play(trace: Trace, start: ThreatLevel) -> Played {
    let at = |second| Timestamp::from_secs(second);
    let mut dial = Dial { version: 1, mode: Mode::Auto, level: start, paused_until: None };
    let mut controller = DialController::new(start, &dial, at(0));
    let mut crowd = Crowd {
        collector: Collector::new([0x5a; 16]),
        waiting: HashMap::new(),
        queue: AdmissionQueue::new(RATE, 0x5a, at(0)),
        asked: HashMap::new(),
        line: BTreeMap::new(),
        reading: BTreeMap::new(),
    };
    let mut played =
        Played { trace, start, highest: start, rises: 0, falls: 0, minutes: Vec::new() };
    let mut pressure = 0;
    for second in 1..=LENGTH {
        crowd.refresh(second);
        crowd.people(second);
        crowd.attackers(trace, second);
        if second.is_multiple_of(SAMPLE_INTERVAL.as_secs()) {
            let active = crowd.active(second);
            let signals = crowd.collector.sample(active);
            pressure = signals.pressure().max(pressure);
            if let Some(change) = controller.step(&signals, at(second)) {
                dial.level = change.to;
                controller.adopt(&dial, at(second));
                played.rises += u32::from(change.to > change.from);
                played.falls += u32::from(change.to < change.from);
                played.highest = played.highest.max(change.to);
            }
        }
        if second.is_multiple_of(60) {
            let minute = Minute { minute: second / 60, level: dial.level, pressure };
            played.minutes.push(minute);
            pressure = 0;
        }
    }
    played
}

/// All circuits in the simulation.
struct Crowd {
    collector: Collector,
    /// When the open challenges of each circuit expire, in seconds.
    waiting: HashMap<u64, Vec<u64>>,
    queue: AdmissionQueue,
    /// The minute in which each circuit asked last, how often in it, and how often in all.
    asked: HashMap<u64, (u64, u32, u32)>,
    /// The people who wait in the queue, by when their pages refresh.
    line: BTreeMap<u64, Vec<(u64, TicketNumber)>>,
    /// The people who read a challenge, by when they solve it.
    reading: BTreeMap<u64, Vec<u64>>,
}

impl Crowd {
    fn people(&mut self, second: u64) {
        let person = |arrived: u64| (1 << 32) + arrived;
        self.ask(person(second), second);
        if second.is_multiple_of(10) {
            self.collector.failed(tag(person(second.saturating_sub(10))));
        }
        for person in self.reading.remove(&second).unwrap_or_default() {
            self.waiting.remove(&person);
            self.collector.solved(tag(person));
        }
    }

    fn attackers(&mut self, trace: Trace, second: u64) {
        if trace == Trace::SlowBurn {
            for number in 0..second * 10 / LENGTH {
                self.ask((2 << 32) + second * 16 + number, second);
            }
        }
        for circuit in 0..trace.crowd(second) {
            if trace.is_loud() {
                for _ in 0..20 {
                    self.ask(circuit, second);
                    self.collector.failed(tag(circuit));
                }
                self.collector.banned(tag(circuit));
                self.collector.flagged(tag(circuit));
                self.collector.rendered(Duration::from_secs(2));
                self.collector.upstream_error();
                self.collector.upstream_error();
                self.collector.upstream_error();
            } else if (circuit + second).is_multiple_of(20) {
                self.ask(circuit, second);
                let answers = !matches!(trace, Trace::NeverAnswered | Trace::TwoHundred);
                if answers && circuit.is_multiple_of(3) {
                    self.collector.failed(tag(circuit));
                }
            }
        }
    }

    /// A circuit asks for a challenge. Only people wait in the queue; attackers ask again.
    fn ask(&mut self, circuit: u64, second: u64) {
        self.collector.requested();
        self.collector.asked(tag(circuit));
        let (minute, now) = (second / 60, Timestamp::from_secs(second));
        let (last, in_minute, in_all) = self.asked.entry(circuit).or_default();
        *in_minute = if *last == minute { *in_minute + 1 } else { 1 };
        *last = minute;
        if *in_minute > PER_MINUTE {
            self.collector.refused(tag(circuit));
            return;
        }
        *in_all += 1;
        let place = self.queue.enter(Lane::of(false, *in_all), now);
        self.collector.queued(self.queue.waiting());
        match place {
            None => self.issue(circuit, second),
            Some(place) => {
                self.collector.refused(tag(circuit));
                if is_person(circuit) {
                    let again = second + place.refresh.as_secs() + 1;
                    self.line.entry(again).or_default().push((circuit, place.ticket));
                }
            }
        }
    }

    /// The pages of people who wait refresh.
    fn refresh(&mut self, second: u64) {
        for (circuit, ticket) in self.line.remove(&second).unwrap_or_default() {
            self.collector.requested();
            self.collector.asked(tag(circuit));
            match self.queue.redeem(ticket, Timestamp::from_secs(second)) {
                QueueOutcome::Admitted => self.issue(circuit, second),
                QueueOutcome::Wait(place) => {
                    self.collector.refused(tag(circuit));
                    let again = second + place.refresh.as_secs() + 1;
                    self.line.entry(again).or_default().push((circuit, place.ticket));
                }
                QueueOutcome::Expired => {}
            }
        }
        self.collector.queued(self.queue.waiting());
    }

    fn issue(&mut self, circuit: u64, second: u64) {
        self.collector.issued(tag(circuit));
        if is_person(circuit) {
            self.reading.entry(second + 20).or_default().push(circuit);
        }
        let ends = self.waiting.entry(circuit).or_default();
        ends.push(second + TTL);
        let surplus = ends.len().saturating_sub(PER_CIRCUIT);
        ends.drain(..surplus);
    }

    fn active(&mut self, second: u64) -> u64 {
        self.waiting.retain(|_, ends| {
            ends.retain(|end| *end > second);
            !ends.is_empty()
        });
        self.waiting.values().map(|ends| ends.len() as u64).sum()
    }
}

/// Whether this number is a person's.
const fn is_person(circuit: u64) -> bool {
    circuit >> 32 == 1
}

/// A tag derived from a number and spread like a keyed hash: two steps of SplitMix64.
fn tag(circuit: u64) -> CircuitTag {
    let mixed = |seed: u64| {
        let z = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        u128::from(z ^ (z >> 31))
    };
    let [low, high] = [2 * circuit + 1, 2 * circuit + 2].map(mixed);
    CircuitTag::from_bytes((low | high << 64).to_le_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn played(trace: Trace) -> Played {
        play(trace, ThreatLevel::new(2).unwrap())
    }

    /// The level at the end of every minute, and how often the dial turned up and down.
    fn levels(trace: Trace) -> (String, u32, u32) {
        let Played { minutes, rises, falls, .. } = played(trace);
        let levels = minutes.iter().map(|minute| minute.level.get().to_string()).collect();
        println!("{trace:?}: {rises} rises, {falls} falls: {levels}");
        (levels, rises, falls)
    }

    #[test]
    fn abuse_25_neither_one_loud_circuit_nor_fifty_turn_the_dial() {
        for trace in [Trace::OneLoud, Trace::FiftyLoud] {
            assert_eq!(levels(trace), ("2".repeat(60), 0, 0));
        }
    }

    #[test]
    fn a_flood_raises_the_dial_to_8_within_ten_minutes_and_it_falls_back_without_flapping() {
        let played = played(Trace::Flood);
        let level = |minute: usize| played.minutes[minute - 1].level.get();
        // The attack lasts from the sixth minute to the thirty-fifth.
        assert_eq!(level(5), 2);
        assert_eq!(level(15), 8);
        assert_eq!(level(35), 8);
        assert_eq!(level(50), 2);
        assert_eq!((played.rises, played.falls), (6, 6));
    }

    #[test]
    fn abuse_25_a_flood_that_is_refused_raises_the_dial_within_a_minute_and_it_is_back_after_twelve()
     {
        for trace in [Trace::NeverAnswered, Trace::TwoHundred] {
            let (levels, _, _) = levels(trace);
            let level = |minute: usize| levels.as_bytes()[minute - 1] - b'0';
            // The attack lasts from the sixth minute to the fifteenth.
            assert_eq!((level(5), level(6), level(11)), (2, 3, 8), "{levels}");
            assert_eq!((level(15), level(27)), (8, 2), "{levels}");
        }
    }

    #[test]
    fn each_trace_moves_the_dial_as_recorded() {
        let expected = [
            (Trace::Ramp, "222222345678888888888888887766554433222222222222222222222222", 6, 6),
            (Trace::Pulse, "332222222233222222223322222222332222222233222222223322222222", 6, 6),
            (Trace::SlowBurn, "222222222222222222234567888888888888888888888888888888888888", 6, 0),
            (Trace::Flapping, "344345554566678888888888888888888888888888888888888888888888", 8, 2),
        ];
        let seen = expected.map(|(trace, ..)| levels(trace));
        assert_eq!(
            seen,
            expected.map(|(_, levels, rises, falls)| (levels.to_owned(), rises, falls))
        );
    }

    #[test]
    fn the_level_changes_by_at_most_one_per_minute_in_every_trace() {
        for trace in Trace::ALL {
            let minutes = played(trace).minutes;
            for pair in minutes.windows(2) {
                assert!(pair[0].level.get().abs_diff(pair[1].level.get()) <= 1, "{trace:?}");
            }
        }
    }
}
