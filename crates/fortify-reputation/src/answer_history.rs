//! The answers of circuits, their score and suspicions.
//!
//! Answers are timed by the server's clock, from the delivery of the picture to the answer. Nothing that the client
//! claims counts.
//!
//! Suspicion never bans. It requires one more challenge, of a kind that is harder for bots, and ends when answers
//! look like a person's again or after a while without any. Only the score bans, which takes many wrong answers, or
//! something no person does: answering the decoy, or filling in a hidden field.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;

use fortify_core::clock::{Clock, Timestamp};
use fortify_core::damage::Damage;
use fortify_core::notes::{HEAD_BYTES, Notes, head_of};
use fortify_core::pseudonym::CircuitTag;
use fortify_core::recent::Recent;

/// The number of answers whose times are remembered, as the requirements say.
pub const TIMES: usize = 10;

/// The most circuits, 127 bytes each (`cargo bench -p fortify --bench judging`); the least recently seen is evicted.
const MAX_CIRCUITS: usize = 100_000;

/// The file in `storage.data_dir`.
const FILE_NAME: &str = "answers";

/// Bytes of a fact: the head, the times, three counts, two marks, the points and their time.
const FACT_BYTES: usize = HEAD_BYTES + 4 * TIMES + 3 * 4 + 1 + 4 + 8;

/// Answers are too quick if their average is below the first, or each of them below the second; both from the
/// requirements.
const QUICK_AVERAGE: Duration = Duration::from_millis(2000);
const QUICK_EACH: Duration = Duration::from_millis(3000);
/// The fewest answers for a meaningful average.
const AVERAGED: usize = 3;
/// No person answers this soon after getting the page; from the requirements.
const INSTANT: Duration = Duration::from_millis(500);
/// The fewest answers for a meaningful spread; from the requirements.
const SPREAD: usize = 5;
/// The spread, as a share of the average, below which delays look automated. People who solve the same kind of task
/// repeatedly have a spread of 30 % or more; a delay with a jitter of a fifth either way has one of 12 %.
const STEADY: f64 = 0.15;
/// The same for circuits without a failure in more than five answers: the requirements' "little variance".
const STEADY_UNFAILING: f64 = 0.25;

/// The scoring of answers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scoring {
    /// Points for a wrong answer.
    pub failure: f32,
    /// Points for something that only a bot does.
    pub bot: f32,
    /// Points at which a circuit is banned.
    pub ban: f32,
    /// The half-life of points.
    pub half_life: Duration,
    /// How long a history is remembered without a further answer.
    pub forget: Duration,
    /// Whether suspicious answers require one more challenge.
    pub suspects: bool,
}

impl Default for Scoring {
    fn default() -> Self {
        Self {
            failure: 1.0,
            bot: 5.0,
            ban: 10.0,
            half_life: Duration::from_secs(1200),
            forget: Duration::from_secs(3600),
            suspects: true,
        }
    }
}

/// The most points. More than a ban needs would change nothing but take longer to decay.
const MOST_POINTS: f32 = 100.0;

/// A circuit's answer to a challenge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnswerEvent {
    /// The right answer, this long after the picture was delivered.
    Solved(Duration),
    /// A wrong answer.
    Failed,
    /// Something that only a bot does.
    Bot,
}

/// The reason why a circuit's answers look automated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Suspicion {
    /// They take less than two seconds on average, or each of them less than three.
    Quick,
    /// One came less than half a second after its page.
    Instant,
    /// Their delays are too even.
    Steady,
    /// More than five, none of them wrong, and rather even.
    Unfailing,
    /// The circuit did something that only a bot does.
    Bot,
}

impl Suspicion {
    /// Every reason.
    pub const ALL: [Self; 5] =
        [Self::Quick, Self::Instant, Self::Steady, Self::Unfailing, Self::Bot];

    /// The word in metrics and in the log.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Quick => "quick",
            Self::Instant => "instant",
            Self::Steady => "steady",
            Self::Unfailing => "unfailing",
            Self::Bot => "bot",
        }
    }
}

/// The answer history of one circuit.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct AnswerHistory {
    /// Times of the last right answers in milliseconds, in no particular order.
    times: [u32; TIMES],
    /// Right answers; saturates.
    solved: u32,
    /// Wrong answers; saturates.
    failed: u32,
    /// Right answers without a wrong one before them since the last right one; saturates.
    first_tries: u32,
    /// Whether the last answer was wrong.
    missed: bool,
    bot: bool,
    points: f32,
    /// The time of `points`; 1970 if there is none yet.
    at: Timestamp,
}

impl AnswerHistory {
    /// The history after one more answer.
    #[must_use]
    pub fn after(self, event: AnswerEvent, scoring: &Scoring, now: Timestamp) -> Self {
        let mut next = self.at(scoring, now);
        match event {
            AnswerEvent::Solved(time) => {
                let slot = next.times.get_mut(next.solved as usize % TIMES);
                if let Some(slot) = slot {
                    *slot = u32::try_from(time.as_millis()).unwrap_or(u32::MAX);
                }
                next.solved = next.solved.saturating_add(1);
                next.first_tries = next.first_tries.saturating_add(u32::from(!next.missed));
                next.missed = false;
            }
            AnswerEvent::Failed => {
                next.missed = true;
                next.failed = next.failed.saturating_add(1);
                next.points += scoring.failure;
            }
            AnswerEvent::Bot => {
                next.missed = true;
                next.failed = next.failed.saturating_add(1);
                next.bot = true;
                next.points += scoring.bot;
            }
        }
        next.points = next.points.min(MOST_POINTS);
        next
    }

    /// The history as of `now`: points decay, and after long enough the history is empty. A clock that was set back
    /// changes nothing.
    fn at(self, scoring: &Scoring, now: Timestamp) -> Self {
        if self.is_over(scoring, now) {
            return Self { at: now, ..Self::default() };
        }
        let passed = self.at.until(now);
        let halves = passed.as_secs_f32() / scoring.half_life.as_secs_f32().max(1.0);
        Self { points: self.points * (-halves).exp2(), at: self.at.max(now), ..self }
    }

    /// Whether the last answer was so long ago that the history is empty.
    fn is_over(&self, scoring: &Scoring, now: Timestamp) -> bool {
        self.at.until(now) >= scoring.forget
    }

    fn encode(&self, circuit: CircuitTag, forget: Duration) -> [u8; FACT_BYTES] {
        let mut value = Vec::with_capacity(FACT_BYTES);
        value.extend(head_of(circuit.into(), self.at.after(forget)));
        let counts = [self.solved, self.failed, self.first_tries, self.points.to_bits()];
        value.extend(self.times.iter().chain(&counts).flat_map(|number| number.to_be_bytes()));
        value.extend(self.at.as_millis().to_be_bytes());
        value.push(u8::from(self.missed) | u8::from(self.bot) << 1);
        let mut fact = [0; FACT_BYTES];
        for (byte, value) in fact.iter_mut().zip(value) {
            *byte = value;
        }
        fact
    }

    fn decode(fact: &[u8; FACT_BYTES]) -> Option<(CircuitTag, Self)> {
        let circuit = CircuitTag::from_bytes(*fact.first_chunk()?);
        let mut rest = fact.get(HEAD_BYTES..)?;
        let mut number = || {
            let (number, after) = rest.split_first_chunk()?;
            rest = after;
            Some(u32::from_be_bytes(*number))
        };
        let mut history = Self::default();
        for time in &mut history.times {
            *time = number()?;
        }
        (history.solved, history.failed, history.first_tries) = (number()?, number()?, number()?);
        let points = f32::from_bits(number()?);
        history.points = if points.is_finite() { points.clamp(0.0, MOST_POINTS) } else { 0.0 };
        let (at, marks) = rest.split_first_chunk()?;
        history.at = Timestamp::from_millis(u64::from_be_bytes(*at));
        let marks = marks.first()?;
        (history.missed, history.bot) = (marks & 1 > 0, marks & 2 > 0);
        Some((circuit, history))
    }

    /// Right answers; saturates.
    #[must_use]
    pub const fn solved(&self) -> u32 {
        self.solved
    }

    /// Right answers at the first try: without a wrong one since the last right one; saturates.
    #[must_use]
    pub const fn first_tries(&self) -> u32 {
        self.first_tries
    }

    /// Whether the last answer was wrong, so that a right one now is no first try.
    #[must_use]
    pub const fn missed(&self) -> bool {
        self.missed
    }

    /// Wrong answers; saturates.
    #[must_use]
    pub const fn failed(&self) -> u32 {
        self.failed
    }

    /// The points at `now`.
    #[must_use]
    pub fn points(&self, scoring: &Scoring, now: Timestamp) -> f32 {
        self.at(scoring, now).points
    }

    /// The reasons why its answers look automated at `now`; empty for most.
    pub fn suspicions(
        &self,
        scoring: &Scoring,
        now: Timestamp,
    ) -> impl Iterator<Item = Suspicion> + use<> {
        let history = self.at(scoring, now);
        Suspicion::ALL.into_iter().filter(move |reason| history.matches(*reason))
    }

    fn matches(&self, reason: Suspicion) -> bool {
        let known = (self.solved as usize).min(TIMES);
        let times = self.times.get(..known).unwrap_or(&[]);
        let average = times.iter().map(|time| f64::from(*time)).sum::<f64>() / known.max(1) as f64;
        let below = |bound: Duration, time: f64| time < bound.as_millis() as f64;
        match reason {
            Suspicion::Quick if known >= AVERAGED => {
                let each = times.iter().all(|time| below(QUICK_EACH, f64::from(*time)));
                below(QUICK_AVERAGE, average) || each
            }
            Suspicion::Quick => false,
            Suspicion::Instant => times.iter().any(|time| below(INSTANT, f64::from(*time))),
            Suspicion::Steady => known >= SPREAD && spread(times, average) < STEADY,
            Suspicion::Unfailing => {
                known > SPREAD && self.failed == 0 && spread(times, average) < STEADY_UNFAILING
            }
            Suspicion::Bot => self.bot,
        }
    }
}

/// The standard deviation as a share of the average.
fn spread(times: &[u32], average: f64) -> f64 {
    let count = times.len().max(2) as f64;
    let squares = times.iter().map(|time| (f64::from(*time) - average).powi(2)).sum::<f64>();
    (squares / (count - 1.0)).sqrt() / average.max(1.0)
}

/// The answer histories of circuits, for the tasks of a running gate. Bounded. On a single node they outlast a restart;
/// where nodes share them, a node that starts reads them from the store.
pub struct AnswerHistories {
    circuits: Recent<AnswerHistory>,
    clock: Arc<dyn Clock>,
    scoring: ArcSwap<Scoring>,
    notes: Option<Notes<FACT_BYTES>>,
}

impl AnswerHistories {
    /// Creates an empty set of histories.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, scoring: Scoring) -> Self {
        let (circuits, scoring) = (Recent::new(MAX_CIRCUITS), ArcSwap::from_pointee(scoring));
        Self { circuits, clock, scoring, notes: None }
    }

    /// The histories that the file in `data_dir` has.
    #[must_use]
    pub fn open(data_dir: &Path, clock: Arc<dyn Clock>, scoring: Scoring) -> Self {
        let now = clock.now();
        let notes = Notes::open(data_dir, FILE_NAME, MAX_CIRCUITS, now);
        let all = Self { notes: Some(notes), ..Self::new(clock, scoring) };
        let facts = all.notes.iter().flat_map(|notes| notes.all(now));
        for (circuit, history) in facts.filter_map(|fact| AnswerHistory::decode(&fact)) {
            // A clock that was set back must not delay the decay.
            let history = AnswerHistory { at: history.at.min(now), ..history };
            all.circuits.change(circuit, |_| false, |_| (history, ()));
        }
        all
    }

    /// Writes what circuits answered since the last time. Blocks.
    pub fn keep(&self) {
        let Some(notes) = &self.notes else { return };
        let (now, scoring) = (self.clock.now(), self.scoring.load());
        for (circuit, history) in self.circuits.all() {
            if !history.is_over(&scoring, now) {
                notes.note(history.encode(circuit, scoring.forget));
                // One that was forgotten since it was copied must not come back by a restart.
                if !self.circuits.contains(circuit) {
                    notes.forget(circuit.into());
                }
            }
        }
        notes.write(now);
    }

    /// What was lost of the file.
    #[must_use]
    pub fn damages(&self) -> &[Damage] {
        self.notes.as_ref().map_or(&[], Notes::damages)
    }

    /// Changes the scoring, which applies to remembered answers too.
    pub fn set_scoring(&self, scoring: Scoring) {
        self.scoring.store(Arc::new(scoring));
    }

    /// Records an answer, and returns whether the circuit's score requires a ban.
    pub fn record(&self, circuit: CircuitTag, event: AnswerEvent) -> bool {
        let (now, scoring) = (self.clock.now(), self.scoring.load());
        self.add(circuit, event, &scoring, now, now) >= scoring.ban
    }

    /// Adds an answer given at `at`, and returns the new score.
    fn add(
        &self,
        circuit: CircuitTag,
        event: AnswerEvent,
        scoring: &Scoring,
        at: Timestamp,
        now: Timestamp,
    ) -> f32 {
        let is_over = |known: &AnswerHistory| known.is_over(scoring, now);
        self.circuits.change(circuit, is_over, |known| {
            let next = known.unwrap_or_default().after(event, scoring, at);
            (next, next.points)
        })
    }

    /// Adds an answer that another node recorded at `at`, unless it is old enough to be forgotten. A time in the future
    /// counts as now: otherwise a node whose clock is ahead would delay the decay.
    pub fn apply_remote(&self, circuit: CircuitTag, event: AnswerEvent, at: Timestamp) {
        let (now, scoring) = (self.clock.now(), self.scoring.load());
        if at.until(now) < scoring.forget {
            self.add(circuit, event, &scoring, at.min(now), now);
        }
    }

    /// How long a circuit is remembered without an answer.
    #[must_use]
    pub fn retention(&self) -> Duration {
        self.scoring.load().forget
    }

    /// Forgets a circuit, because an operator reset it or it was closed.
    pub fn forget(&self, circuit: CircuitTag) {
        self.circuits.forget(circuit);
        if let Some(notes) = &self.notes {
            notes.forget(circuit.into());
        }
    }

    /// The history of a circuit, with its current score.
    #[must_use]
    pub fn get(&self, circuit: CircuitTag) -> Option<AnswerHistory> {
        let (now, scoring) = (self.clock.now(), self.scoring.load());
        let history = self.circuits.get(circuit, |known| known.is_over(&scoring, now))?;
        Some(history.at(&scoring, now))
    }

    /// The reasons why a circuit's answers look automated; empty for most.
    #[must_use]
    pub fn suspicions(&self, circuit: CircuitTag) -> Vec<Suspicion> {
        let (now, scoring) = (self.clock.now(), self.scoring.load());
        let history = self.circuits.get(circuit, |known| known.is_over(&scoring, now));
        let history = history.filter(|_| scoring.suspects);
        history.map_or_else(Vec::new, |history| history.suspicions(&scoring, now).collect())
    }
}

impl fmt::Debug for AnswerHistories {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AnswerHistories").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);
    const SCORING: Scoring = Scoring {
        failure: 1.0,
        bot: 5.0,
        ban: 10.0,
        half_life: Duration::from_secs(1200),
        forget: Duration::from_secs(3600),
        suspects: true,
    };

    fn answers(millis: &[u64]) -> AnswerHistory {
        millis.iter().fold(AnswerHistory::default(), |history, time| {
            history.after(AnswerEvent::Solved(Duration::from_millis(*time)), &SCORING, NOW)
        })
    }

    fn seen(history: &AnswerHistory) -> Vec<Suspicion> {
        history.suspicions(&SCORING, NOW).collect()
    }

    #[test]
    fn the_requirements_patterns_are_seen() {
        assert_eq!(seen(&answers(&[1200, 1900, 2400])), [Suspicion::Quick]);
        // An average of over two seconds, and none of three.
        assert_eq!(seen(&answers(&[2900, 2000, 2500])), [Suspicion::Quick]);
        assert_eq!(seen(&answers(&[400, 9000])), [Suspicion::Instant]);
        assert_eq!(seen(&answers(&[8000; 5])), [Suspicion::Steady]);
        let even = answers(&[6000, 8000, 10_000, 7000, 9000, 8500]);
        assert_eq!(seen(&even), [Suspicion::Unfailing]);
        assert_eq!(seen(&even.after(AnswerEvent::Failed, &SCORING, NOW)), []);
        let bot = AnswerHistory::default().after(AnswerEvent::Bot, &SCORING, NOW);
        assert_eq!(seen(&bot), [Suspicion::Bot]);
    }

    #[test]
    fn abuse_22_a_delay_with_jitter_is_still_a_programs() {
        // Eight seconds, a fifth either way, evenly.
        let jittered = [6400, 9600, 7200, 8800, 8000, 7500, 8700, 9100];
        assert!(seen(&answers(&jittered)).contains(&Suspicion::Steady));
    }

    #[test]
    fn people_are_not_suspected_even_quick_ones() {
        // One or two quick answers say nothing, and people spread.
        assert_eq!(seen(&answers(&[1500])), []);
        assert_eq!(seen(&answers(&[1500, 1800])), []);
        assert_eq!(seen(&answers(&[4000, 6500, 11_000, 5200, 19_000, 7000, 9800])), []);
        assert_eq!(seen(&answers(&[3100, 2100, 5200, 2600, 8000])), []);
    }

    #[test]
    fn an_hour_without_an_answer_forgets_everything() {
        let history = answers(&[400; 10]).after(AnswerEvent::Bot, &SCORING, NOW);
        let later = NOW.after(SCORING.forget);
        assert_eq!(history.suspicions(&SCORING, later).count(), 0);
        assert!(history.points(&SCORING, later) == 0.0);
        assert!((history.points(&SCORING, NOW.after(SCORING.half_life)) - 2.5).abs() < 0.01);
    }

    #[test]
    fn two_answer_events_of_a_program_ban_and_slips_of_a_person_do_not() {
        let histories =
            AnswerHistories::new(Arc::new(fortify_core::clock::ManualClock::at(NOW)), SCORING);
        let [bot, person] = [1, 2].map(|byte| CircuitTag::from_bytes([byte; 16]));
        assert!(!histories.record(bot, AnswerEvent::Bot));
        assert!(histories.record(bot, AnswerEvent::Bot));
        for _ in 0..5 {
            assert!(!histories.record(person, AnswerEvent::Failed));
        }
        histories.forget(bot);
        assert_eq!(histories.suspicions(bot), []);
    }

    #[test]
    fn a_circuit_that_does_not_come_back_is_forgotten_with_all_it_did() {
        let clock = Arc::new(fortify_core::clock::ManualClock::at(NOW));
        let histories = AnswerHistories::new(clock.clone(), SCORING);
        let circuit = CircuitTag::from_bytes([1; 16]);
        histories.record(circuit, AnswerEvent::Bot);
        assert_eq!(histories.suspicions(circuit), [Suspicion::Bot]);
        clock.advance(SCORING.forget);
        assert_eq!((histories.get(circuit), histories.suspicions(circuit)), (None, Vec::new()));
        assert!(!histories.record(circuit, AnswerEvent::Bot), "it starts over");
        // What another node remembers of an hour ago is no more, and what is later than this clock counts.
        histories.apply_remote(circuit, AnswerEvent::Bot, NOW);
        assert!((histories.get(circuit).unwrap().points - 5.0).abs() < 0.01);
        histories.apply_remote(
            circuit,
            AnswerEvent::Bot,
            clock.now().after(Duration::from_secs(1)),
        );
        assert!(histories.get(circuit).unwrap().points > 9.9);
    }

    #[test]
    fn a_node_whose_clock_is_ahead_keeps_no_points_from_decaying() {
        let clock = Arc::new(fortify_core::clock::ManualClock::at(NOW));
        let histories = AnswerHistories::new(clock.clone(), SCORING);
        let circuit = CircuitTag::from_bytes([1; 16]);
        histories.apply_remote(circuit, AnswerEvent::Bot, NOW.after(Duration::from_secs(86_400)));
        clock.advance(SCORING.half_life);
        assert!((histories.get(circuit).unwrap().points - 2.5).abs() < 0.01);
        clock.advance(SCORING.forget);
        assert_eq!(histories.get(circuit), None);
    }

    fn event() -> impl Strategy<Value = AnswerEvent> {
        prop_oneof![
            (0_u64..100_000).prop_map(|millis| AnswerEvent::Solved(Duration::from_millis(millis))),
            Just(AnswerEvent::Failed),
            Just(AnswerEvent::Bot),
        ]
    }

    proptest! {
        // Each writing waits for the disk.
        #![proptest_config(ProptestConfig::with_cases(24))]
        /// Whatever circuits answered: the next process knows it, counts on, and forgets who was forgotten.
        #[test]
        fn a_restart_forgives_nothing(
            events in prop::collection::vec((0_u8..6, event(), 0_u64..300), 0..60), later in 0_u64..4000,
        ) {
            let dir = tempfile::tempdir().unwrap();
            let clock = Arc::new(fortify_core::clock::ManualClock::at(NOW));
            let tag = |number| CircuitTag::from_bytes([number; 16]);
            let histories = AnswerHistories::open(dir.path(), clock.clone(), SCORING);
            for (number, event, gap) in events {
                clock.advance(Duration::from_secs(gap));
                histories.record(tag(number), event);
                histories.keep();
            }
            histories.forget(tag(5));
            histories.keep();
            clock.advance(Duration::from_secs(later));
            let again = AnswerHistories::open(dir.path(), clock.clone(), SCORING);
            prop_assert_eq!(again.damages(), []);
            for number in 0..6 {
                prop_assert_eq!(again.get(tag(number)), histories.get(tag(number)));
            }
            prop_assert_eq!(again.get(tag(5)), None);
        }
    }

    proptest! {
        #[test]
        fn points_are_bounded_rise_with_failures_and_only_time_forgives(
            events in prop::collection::vec((event(), 0_u64..5000), 0..200), later in 0_u64..10_000,
        ) {
            let (mut history, mut now) = (AnswerHistory::default(), NOW);
            for (event, gap) in events {
                now = now.after(Duration::from_secs(gap));
                let before = history.points(&SCORING, now);
                history = history.after(event, &SCORING, now);
                let points = history.points(&SCORING, now);
                prop_assert!((0.0..=MOST_POINTS).contains(&points));
                prop_assert!(points >= before);
                prop_assert_eq!(points > before, !matches!(event, AnswerEvent::Solved(_)) && before < MOST_POINTS);
            }
            let then = now.after(Duration::from_secs(later));
            prop_assert!(history.points(&SCORING, then) <= history.points(&SCORING, now));
            // A clock set back neither forgives nor adds.
            let back = now.before(Duration::from_secs(later));
            prop_assert!(history.points(&SCORING, back) == history.points(&SCORING, now));
        }
    }
}
