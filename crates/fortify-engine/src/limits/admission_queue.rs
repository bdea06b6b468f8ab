//! Whose turn it is when more challenges are wanted than the service draws.
//!
//! Nobody is refused for that: a limit that refuses is one by which an attacker shuts people out. Who
//! comes when nothing is left gets a number, and numbers are called in their order, as fast as the
//! service draws. Numbers are of a [`Priority`], and a better lane is called first: one who is trusted, and
//! one who asks for the first time, need not stand behind a thousand of those who ask again and again.
//! One call in eight (`FAIR`) begins with the last lane, so that nobody waits for ever.
//!
//! The numbers are with those who wait, signed, so that nothing is kept for them here but how far each
//! lane has got, and which of the numbers called last were used: a number is good for one challenge.

use std::time::Duration;

use fortify_core::clock::Timestamp;

/// One call in this many begins with the last lane.
const FAIR: u64 = 8;

/// The longest that anybody is asked to wait: well within what a ticket is good for.
const LONGEST: Duration = Duration::from_secs(1200);

/// Numbers behind the one called last that are still good: as many as a minute calls, and never more than
/// this. They may all be used at once, so that those who hoard them get a minute's at most in each lane.
const MAX_KEPT: u64 = 4096;
const LEAST_KEPT: u64 = 16;

/// Milliseconds in a minute, which is what one challenge costs: each millisecond earns as many units as
/// there are challenges in a minute.
const COST: u64 = 60_000;

/// How many challenges the service draws.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// In any minute.
    pub per_minute: u32,
    /// In any second.
    pub per_second: u32,
}

impl Rate {
    /// How many may come at once: a third of a minute's, and half of a second's. The rest is given out
    /// evenly, so that no minute and no second has more than its number.
    fn burst(self) -> u64 {
        u64::from((self.per_minute / 3).min(self.per_second / 2).max(1))
    }

    /// How many a minute are given out evenly.
    fn evenly(self) -> u64 {
        let minute = u64::from(self.per_minute).saturating_sub(self.burst());
        minute.min(u64::from(self.per_second) * 30).max(1)
    }
}

/// Which line one stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Priority {
    /// Circuits that solved a challenge lately.
    Trusted,
    /// Circuits that ask for the first time in an hour.
    First,
    /// Circuits that asked two or three times: a slip, and another picture.
    Repeat,
    /// All others.
    Frequent,
}

impl Priority {
    /// Every lane, the best first.
    pub const ALL: [Self; 4] = [Self::Trusted, Self::First, Self::Repeat, Self::Frequent];

    /// The lane of a circuit that has asked `recent` times in the last hour, this time included.
    #[must_use]
    pub const fn of(trusted: bool, recent: u32) -> Self {
        match recent {
            _ if trusted => Self::Trusted,
            ..=1 => Self::First,
            2..=3 => Self::Repeat,
            _ => Self::Frequent,
        }
    }

    /// Its place in [`Self::ALL`].
    #[must_use]
    pub const fn index(self) -> u8 {
        match self {
            Self::Trusted => 0,
            Self::First => 1,
            Self::Repeat => 2,
            Self::Frequent => 3,
        }
    }

    /// The lane at this place.
    #[must_use]
    pub fn at(index: u8) -> Option<Self> {
        Self::ALL.get(usize::from(index)).copied()
    }
}

/// A place in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueuePosition {
    /// The line.
    pub priority: Priority,
    /// The number.
    pub number: u64,
    /// How many are called before it, those of better lanes included.
    pub ahead: u64,
    /// How long that takes, if nobody comes into a better lane meanwhile.
    pub estimate: Duration,
}

/// What one who comes is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueueOutcome {
    /// Come in.
    Admitted,
    /// Wait here.
    Wait(QueuePosition),
    /// This number was used, or called too long ago.
    Expired,
}

/// The state of the queue.
#[derive(Debug)]
pub struct AdmissionQueue {
    /// Units of [`COST`] that may be saved up.
    burst: u64,
    /// Units that a millisecond earns.
    earned: u64,
    credit: u64,
    at: Timestamp,
    calls: u64,
    lines: [NumberedLine; Priority::ALL.len()],
}

/// How far one lane has got. Numbers start at 1.
#[derive(Debug)]
struct NumberedLine {
    issued: u64,
    called: u64,
    /// Which of the numbers called last were used, by number modulo their count.
    used: Box<[bool]>,
}

impl NumberedLine {
    fn new(kept: u64) -> Self {
        Self { issued: 0, called: 0, used: vec![false; kept as usize].into() }
    }

    /// How many numbers behind the one called last are good, at least 1.
    fn kept(&self) -> u64 {
        (self.used.len() as u64).max(1)
    }

    const fn waiting(&self) -> u64 {
        self.issued - self.called
    }

    fn call(&mut self) {
        self.called += 1;
        let slot = (self.called % self.kept()) as usize;
        if let Some(used) = self.used.get_mut(slot) {
            *used = false;
        }
    }

    /// Uses a number that was called; whether it was good.
    fn use_up(&mut self, number: u64) -> bool {
        let kept = number > self.called.saturating_sub(self.kept()) && number != 0;
        let slot = (number % self.kept()) as usize;
        let used = self.used.get_mut(slot);
        kept && used.is_some_and(|used| !std::mem::replace(used, true))
    }
}

impl AdmissionQueue {
    /// A queue that lets in at this rate.
    #[must_use]
    pub fn new(rate: Rate, now: Timestamp) -> Self {
        let burst = rate.burst() * COST;
        let kept = rate.evenly().clamp(LEAST_KEPT, MAX_KEPT);
        let lines = std::array::from_fn(|_| NumberedLine::new(kept));
        Self { burst, earned: rate.evenly(), credit: burst, at: now, calls: 0, lines }
    }

    /// Lets in at another rate from now on. As many called numbers stay good as at first.
    pub fn set_rate(&mut self, rate: Rate, now: Timestamp) {
        self.advance(now);
        // What was saved up beyond the new burst goes with the next advance.
        (self.burst, self.earned) = (rate.burst() * COST, rate.evenly());
    }

    /// One without a number comes: in at once, or a place in the queue; `None` when that is full.
    pub fn enter(&mut self, priority: Priority, now: Timestamp) -> Option<QueueOutcome> {
        self.advance(now);
        // What is left after the calls is left because nobody waits.
        if let Some(rest) = self.credit.checked_sub(COST) {
            self.credit = rest;
            return Some(QueueOutcome::Admitted);
        }
        let line = self.lines.get(usize::from(priority.index()))?;
        let place = self.position(priority, line.issued + 1);
        if place.estimate > LONGEST {
            return None;
        }
        if let Some(line) = self.lines.get_mut(usize::from(priority.index())) {
            line.issued = place.number;
        }
        Some(QueueOutcome::Wait(place))
    }

    /// One with a number comes back.
    pub fn redeem(&mut self, priority: Priority, number: u64, now: Timestamp) -> QueueOutcome {
        self.advance(now);
        match self.lines.get_mut(usize::from(priority.index())) {
            Some(line) if number > line.issued => QueueOutcome::Expired,
            Some(line) if number > line.called => {
                QueueOutcome::Wait(self.position(priority, number))
            }
            Some(line) => {
                if line.use_up(number) {
                    QueueOutcome::Admitted
                } else {
                    QueueOutcome::Expired
                }
            }
            None => QueueOutcome::Expired,
        }
    }

    /// How many numbers wait.
    #[must_use]
    pub fn waiting(&self) -> u64 {
        self.lines.iter().map(NumberedLine::waiting).sum()
    }

    /// Calls as many numbers as were earned since the last time.
    fn advance(&mut self, now: Timestamp) {
        let passed = self.at.until(now).as_millis().min(u128::from(COST)) as u64;
        self.at = now;
        self.credit = self.burst.min(self.credit + passed * self.earned);
        while self.credit >= COST && self.call() {
            self.credit -= COST;
        }
    }

    /// Calls the next number; whether there was one.
    fn call(&mut self) -> bool {
        let waits = |line: &&mut NumberedLine| line.waiting() > 0;
        let line = match self.calls % FAIR {
            0 => self.lines.iter_mut().rev().find(waits),
            _ => self.lines.iter_mut().find(waits),
        };
        let Some(line) = line else { return false };
        line.call();
        self.calls += 1;
        true
    }

    fn position(&self, priority: Priority, number: u64) -> QueuePosition {
        let better =
            self.lines.iter().take(usize::from(priority.index())).map(NumberedLine::waiting);
        let own = self.lines.get(usize::from(priority.index())).map_or(0, |line| line.called);
        let ahead = number.saturating_sub(own + 1) + better.sum::<u64>();
        let estimate = Duration::from_millis((ahead + 1).saturating_mul(COST) / self.earned.max(1));
        QueuePosition { priority, number, ahead, estimate }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Timestamp = Timestamp::from_secs(1_800_000_000);

    fn seconds(count: u64) -> Timestamp {
        START.after(Duration::from_secs(count))
    }

    fn place(knock: Option<QueueOutcome>) -> QueuePosition {
        match knock {
            Some(QueueOutcome::Wait(place)) => place,
            other => panic!("{other:?}"),
        }
    }

    fn rate(per_minute: u32) -> Rate {
        Rate { per_minute, per_second: u32::MAX }
    }

    /// Lets in all that may come at once.
    fn drained(per_minute: u32) -> AdmissionQueue {
        let mut queue = AdmissionQueue::new(rate(per_minute), START);
        for _ in 0..per_minute / 3 {
            assert_eq!(queue.enter(Priority::First, START), Some(QueueOutcome::Admitted));
        }
        queue
    }

    #[test]
    fn no_minute_and_no_second_has_more_than_its_number() {
        let rate = Rate { per_minute: 1000, per_second: 100 };
        let mut queue = AdmissionQueue::new(rate, START);
        let mut entered = Vec::new();
        for step in 0..3 * 60 * 100_u64 {
            let now = START.after(Duration::from_millis(step * 10));
            match queue.enter(Priority::Frequent, now) {
                Some(QueueOutcome::Admitted) => entered.push(now),
                Some(QueueOutcome::Wait(_)) => {}
                other => panic!("{other:?}"),
            }
            // Whoever is called comes in at once.
            let called = queue.lines[3].called;
            if called > 0 && queue.redeem(Priority::Frequent, called, now) == QueueOutcome::Admitted
            {
                entered.push(now);
            }
        }
        for first in &entered {
            let within = |seconds| {
                let near =
                    |at: &&Timestamp| **at >= *first && first.until(**at).as_secs() < seconds;
                entered.iter().filter(near).count()
            };
            assert!(within(60) <= 1000 && within(1) <= 100);
        }
        assert!(entered.len() > 2000, "{}", entered.len());
    }

    #[test]
    fn first_come_first_served_within_a_lane() {
        let mut queue = drained(60);
        let places: Vec<QueuePosition> =
            (0..10).map(|_| place(queue.enter(Priority::First, START))).collect();
        assert!(places.windows(2).all(|pair| pair[0].ahead + 1 == pair[1].ahead));
        // 40 a minute are called evenly: one in one and a half seconds.
        let mut order = Vec::new();
        for second in 1..=30 {
            for place in places.iter().rev() {
                if queue.redeem(place.priority, place.number, seconds(second))
                    == QueueOutcome::Admitted
                {
                    order.push(place.number);
                }
            }
        }
        assert_eq!(order, (1..=10).collect::<Vec<_>>());
        assert_eq!(queue.waiting(), 0);
    }

    #[test]
    fn a_number_lets_in_once() {
        let mut queue = drained(60);
        let place = place(queue.enter(Priority::First, START));
        assert!(matches!(queue.redeem(place.priority, place.number, START), QueueOutcome::Wait(_)));
        assert_eq!(queue.redeem(place.priority, place.number, seconds(10)), QueueOutcome::Admitted);
        assert_eq!(queue.redeem(place.priority, place.number, seconds(10)), QueueOutcome::Expired);
        // Nor does one that nobody was given, or of another lane.
        for (priority, number) in [
            (Priority::First, 0),
            (Priority::First, 2),
            (Priority::First, u64::MAX),
            (Priority::Frequent, 1),
        ] {
            assert_eq!(
                queue.redeem(priority, number, seconds(10)),
                QueueOutcome::Expired,
                "{number}"
            );
        }
    }

    #[test]
    fn numbers_that_were_called_long_ago_are_gone() {
        let mut queue = drained(60_000);
        let first = place(queue.enter(Priority::First, START));
        for _ in 0..MAX_KEPT {
            place(queue.enter(Priority::First, START));
        }
        queue.advance(seconds(30));
        assert_eq!(queue.waiting(), 0);
        assert_eq!(queue.redeem(first.priority, first.number, seconds(30)), QueueOutcome::Expired);
        assert_eq!(
            queue.redeem(first.priority, first.number + 1, seconds(30)),
            QueueOutcome::Admitted
        );
    }

    #[test]
    fn the_better_lane_is_called_first_and_the_last_one_is_not_forgotten() {
        let mut queue = drained(60);
        let often: Vec<QueuePosition> =
            (0..100).map(|_| place(queue.enter(Priority::Frequent, START))).collect();
        let newcomer = place(queue.enter(Priority::First, START));
        assert_eq!(newcomer.ahead, 0);
        assert_eq!(
            queue.redeem(newcomer.priority, newcomer.number, seconds(3)),
            QueueOutcome::Admitted
        );
        // With newcomers without end, one call in eight is for the others.
        for second in 3..300 {
            for _ in 0..5 {
                let _place = queue.enter(Priority::First, seconds(second));
            }
        }
        let served = queue.lines[3].called;
        assert!((20..30).contains(&served), "{served} of {}", often.len());
    }

    #[test]
    fn a_clock_that_jumps_lets_nobody_in_beyond_a_burst() {
        let mut queue = drained(600);
        for now in
            [START.after(Duration::from_secs(86_400)), START.before(Duration::from_secs(3600))]
        {
            let entered = (0..1000)
                .filter(|_| queue.enter(Priority::First, now) == Some(QueueOutcome::Admitted))
                .count();
            assert!(entered <= 200, "{entered}");
        }
    }

    #[test]
    fn abuse_18_memory_is_flat_and_nobody_is_asked_to_wait_for_ever() {
        let mut queue = drained(60);
        let mut last = Duration::ZERO;
        while let Some(QueueOutcome::Wait(place)) = queue.enter(Priority::Frequent, START) {
            assert!(place.estimate <= LONGEST);
            last = place.estimate;
        }
        assert!(last > LONGEST - Duration::from_secs(5), "{last:?}");
        assert!(queue.enter(Priority::First, START).is_some(), "a newcomer was turned away");
        let kept: usize = queue.lines.iter().map(|line| line.used.len()).sum();
        assert_eq!(kept, 4 * 40, "a minute's numbers for each lane");
    }

    #[test]
    fn numbers_that_were_hoarded_are_a_minutes_at_most() {
        let mut queue = drained(60);
        let hoard: Vec<QueuePosition> =
            (0..300).map(|_| place(queue.enter(Priority::First, START))).collect();
        for second in (30..=600).step_by(30) {
            queue.advance(seconds(second));
        }
        let mut used = |place: &QueuePosition| {
            queue.redeem(place.priority, place.number, seconds(600)) == QueueOutcome::Admitted
        };
        assert_eq!(hoard.iter().map(|place| u32::from(used(place))).sum::<u32>(), 40);
    }

    #[test]
    fn another_rate_holds_from_then_on_saves_nothing_up_and_keeps_places() {
        let mut queue = AdmissionQueue::new(rate(6000), START);
        // What a high rate has saved up is more than the low one may have.
        queue.set_rate(rate(60), START);
        let at_once = (0..100)
            .take_while(|_| queue.enter(Priority::First, START) == Some(QueueOutcome::Admitted));
        assert_eq!(at_once.count(), 20);
        let held = place(queue.enter(Priority::First, START));
        queue.set_rate(rate(600), START);
        let later = START.after(held.estimate);
        assert_eq!(
            queue.redeem(held.priority, held.number, later),
            QueueOutcome::Admitted,
            "a place was lost"
        );
    }
}
