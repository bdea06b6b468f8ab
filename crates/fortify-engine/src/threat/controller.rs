//! Automatic control of the dial: a pure step function over samples.

use std::time::Duration;

use super::signals::Signals;
use super::{Dial, Mode, ThreatLevel};
use fortify_core::clock::Timestamp;

/// How often a sample is taken.
pub const SAMPLE_INTERVAL: Duration = Duration::from_secs(10);

/// How long a change by hand pauses automatic control.
pub const PAUSE: Duration = Duration::from_secs(1800);

/// The consecutive bad samples that cause a rise.
const BAD_IN_A_ROW: u32 = 3;

/// The consecutive calm samples that cause a fall: a minute. If the attack resumes after a fall, the next fall needs
/// twice as many, up to ten minutes, until the dial rests again, so that an intermittent attack does not make the
/// level oscillate.
const CALM_IN_A_ROW: u32 = 6;
const MOST_CALM_IN_A_ROW: u32 = 60;

/// The least time from a change to a rise, and to a fall.
const TO_RISE: Duration = Duration::from_secs(60);
const TO_FALL: Duration = Duration::from_secs(120);

/// The pressure below which a sample is calm, in percent of the attack threshold. Between the two it is neither.
const CALM: u64 = 50;

/// An automatic change of the level, and its cause.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The level before the change.
    pub from: ThreatLevel,
    /// The level after the change.
    pub to: ThreatLevel,
    /// The sample that caused it.
    pub cause: Signals,
}

/// The control law. It keeps its own time, which advances with samples, so setting the clock affects the length of
/// one interval only.
#[derive(Clone, Debug)]
pub struct DialController {
    /// The level at which the dial rests; it does not fall below it automatically.
    start: ThreatLevel,
    level: ThreatLevel,
    mode: Mode,
    bad: u32,
    calm: u32,
    /// The consecutive calm samples that the next fall needs.
    patience: u32,
    /// Whether the last change was a fall.
    fell: bool,
    since_change: Duration,
    pause: Duration,
    last: Timestamp,
}

impl DialController {
    /// Creates a controller that rests at `start`, for the current state of the dial. The minimum time between changes
    /// starts now, so that a gate that restarts in a loop does not change the level each time.
    #[must_use]
    pub fn new(start: ThreatLevel, dial: &Dial, now: Timestamp) -> Self {
        let (mode, level) = (dial.mode, dial.level);
        Self {
            start,
            level,
            mode,
            bad: 0,
            calm: 0,
            patience: CALM_IN_A_ROW,
            fell: false,
            since_change: Duration::ZERO,
            pause: dial.pause(now),
            last: now,
        }
    }

    /// Adopts the current state of the dial, whoever changed it.
    pub fn adopt(&mut self, dial: &Dial, now: Timestamp) {
        let rested = dial.level <= self.start;
        if rested {
            self.patience = CALM_IN_A_ROW;
        } else if self.fell && dial.level > self.level {
            self.patience = (2 * self.patience).min(MOST_CALM_IN_A_ROW);
        }
        let fell = !rested && dial.level < self.level;
        let (bad, calm, patience) = (self.bad, self.calm, self.patience);
        *self = Self { bad, calm, patience, fell, ..Self::new(self.start, dial, now) };
    }

    /// Processes a sample and returns the change that is due, if any. A change counts once it is adopted, so one that
    /// could not be stored is proposed again.
    pub fn step(&mut self, signals: &Signals, now: Timestamp) -> Option<Change> {
        // A late sample counts as at most two.
        let passed = self.last.until(now).min(2 * SAMPLE_INTERVAL);
        self.last = now;
        self.since_change = self.since_change.saturating_add(passed);
        self.pause = self.pause.saturating_sub(passed);
        (self.bad, self.calm) = match signals.pressure() {
            100.. => (self.bad.saturating_add(1), 0),
            CALM.. => (0, 0),
            _ => (0, self.calm.saturating_add(1)),
        };
        if self.mode != Mode::Auto || !self.pause.is_zero() {
            return None;
        }
        let to = if self.bad >= BAD_IN_A_ROW && self.since_change >= TO_RISE {
            self.level.up().filter(|to| *to <= ThreatLevel::AUTO_MAX)
        } else if self.calm >= self.patience && self.since_change >= TO_FALL {
            self.level.down().filter(|to| *to >= self.start)
        } else {
            None
        };
        to.map(|to| Change { from: self.level, to, cause: signals.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

    fn level(number: u8) -> ThreatLevel {
        ThreatLevel::new(number).unwrap()
    }

    fn dial(number: u8) -> Dial {
        Dial { version: 1, mode: Mode::Auto, level: level(number), paused_until: None }
    }

    fn bad() -> Signals {
        Signals { failing: 200, ..Signals::default() }
    }

    fn between() -> Signals {
        Signals { failing: 90, ..Signals::default() }
    }

    /// Plays samples and adopts each change. Records the seconds since the start at each change, and its level.
    struct Player {
        controller: DialController,
        dial: Dial,
        now: Timestamp,
        turned: Vec<(u64, u8)>,
    }

    impl Player {
        fn at(number: u8) -> Self {
            let dial = dial(number);
            let controller = DialController::new(level(2), &dial, NOW);
            Self { controller, dial, now: NOW, turned: Vec::new() }
        }

        fn play(&mut self, signals: &Signals, samples: usize) -> &mut Self {
            for _ in 0..samples {
                self.now = self.now.after(SAMPLE_INTERVAL);
                self.sample(signals);
            }
            self
        }

        fn sample(&mut self, signals: &Signals) {
            if let Some(change) = self.controller.step(signals, self.now) {
                assert_eq!(change.from, self.dial.level);
                self.dial.level = change.to;
                self.controller.adopt(&self.dial, self.now);
                self.turned.push((NOW.until(self.now).as_secs(), change.to.get()));
            }
        }

        fn set(&mut self, dial: Dial) -> &mut Self {
            self.dial = dial;
            self.controller.adopt(&self.dial, self.now);
            self
        }
    }

    #[test]
    fn a_rise_needs_three_bad_samples_in_a_row_and_a_minute_since_the_last() {
        let mut player = Player::at(2);
        player.play(&Signals::default(), 20);
        for _ in 0..10 {
            player.play(&bad(), 2).play(&between(), 1);
        }
        assert!(player.turned.is_empty());
        player.play(&bad(), 14);
        assert_eq!(player.turned, [(530, 3), (590, 4)]);
    }

    #[test]
    fn abuse_25_it_rises_to_8_by_itself_and_falls_back_when_it_is_calm() {
        let mut player = Player::at(2);
        player.play(&bad(), 200);
        let rises: Vec<_> = (1..=6).map(|step| (60 * step, 2 + step as u8)).collect();
        assert_eq!(player.turned, rises);
        player.turned.clear();
        player.play(&Signals::default(), 200);
        // The first calm minute is long after the last rise; then one step in two minutes.
        let falls: Vec<_> = (0..6).map(|step| (2_060 + 120 * step, 7 - step as u8)).collect();
        assert_eq!(player.turned, falls);
    }

    #[test]
    fn a_fall_needs_a_calm_minute() {
        let mut player = Player::at(5);
        for _ in 0..20 {
            player.play(&Signals::default(), 5).play(&between(), 1);
        }
        assert!(player.turned.is_empty());
        player.play(&Signals::default(), 6);
        assert_eq!(player.turned.len(), 1);
    }

    #[test]
    fn abuse_25_a_fall_that_was_a_mistake_makes_the_next_slower_until_it_rests() {
        let mut player = Player::at(5);
        let falls = |player: &Player| player.turned.len();
        player.play(&Signals::default(), 12).play(&bad(), 6).play(&between(), 12);
        assert_eq!(player.turned, [(120, 4), (180, 5)]);
        player.play(&Signals::default(), 11);
        assert_eq!(falls(&player), 2, "two calm minutes are needed now");
        player.play(&Signals::default(), 1);
        assert_eq!(falls(&player), 3);
        player.play(&Signals::default(), 24);
        assert_eq!(player.dial.level, level(2));
        player.play(&bad(), 6).play(&between(), 12).play(&Signals::default(), 6);
        assert_eq!(player.dial.level, level(2), "a calm minute is enough again");
    }

    #[test]
    fn a_level_above_its_own_reach_is_left_alone_and_falls() {
        let mut player = Player::at(10);
        player.play(&bad(), 50);
        assert!(player.turned.is_empty());
        player.play(&Signals::default(), 30);
        assert_eq!(player.turned.iter().map(|(_, level)| *level).collect::<Vec<_>>(), [9, 8, 7]);
        let mut low = Player::at(1);
        low.play(&Signals::default(), 50);
        assert!(low.turned.is_empty(), "an operator's level below the start is not corrected");
    }

    #[test]
    fn a_change_by_hand_pauses_it_for_half_an_hour_and_a_pin_for_good() {
        let mut player = Player::at(2);
        let paused = Dial { paused_until: Some(NOW.after(PAUSE)), ..dial(4) };
        player.set(paused).play(&bad(), 179);
        assert!(player.turned.is_empty());
        player.play(&bad(), 1);
        assert_eq!(player.turned, [(1_800, 5)]);
        for mode in [Mode::Manual, Mode::Pinned] {
            let mut player = Player::at(2);
            player.set(Dial { mode, ..dial(2) }).play(&bad(), 1_000);
            assert!(player.turned.is_empty());
        }
    }

    #[test]
    fn a_clock_that_jumps_costs_no_more_than_an_interval() {
        let mut player = Player::at(2);
        let paused = Dial { paused_until: Some(NOW.after(PAUSE)), ..dial(4) };
        player.set(paused).play(&bad(), 10);
        player.now = player.now.after(Duration::from_secs(86_400));
        player.play(&bad(), 1);
        assert!(player.turned.is_empty(), "a day forward ended the pause");
        player.play(&bad(), 168);
        assert_eq!(player.turned.len(), 1);
        player.now = Timestamp::from_secs(player.now.as_secs() - 3_600);
        player.play(&bad(), 7);
        assert_eq!(player.turned.len(), 2, "an hour back stopped it");
        player.now = player.now.after(Duration::from_secs(86_400));
        player.play(&Signals::default(), 1);
        assert_eq!(player.turned.len(), 2, "a day forward made it fall");
    }

    #[test]
    fn a_change_that_was_not_kept_is_proposed_again() {
        let mut controller = DialController::new(level(2), &dial(2), NOW);
        let mut now = NOW;
        let mut proposed = 0;
        for _ in 0..10 {
            now = now.after(SAMPLE_INTERVAL);
            proposed += usize::from(controller.step(&bad(), now).is_some());
        }
        assert_eq!(proposed, 5);
    }
}
