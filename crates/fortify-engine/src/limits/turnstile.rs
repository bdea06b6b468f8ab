//! Whose turn it is when more challenges are wanted than the service draws.
//!
//! Nobody is refused for that: a limit that refuses is one by which an attacker shuts people out. Who
//! comes when nothing is left gets a number, and numbers are called in their order, as fast as the
//! service draws. Numbers are of a [`Lane`], and a better lane is called first: one who is favoured, and
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
pub enum Lane {
    /// Circuits that solved a challenge lately.
    Favoured,
    /// Circuits that ask for the first time in an hour.
    First,
    /// Circuits that asked two or three times: a slip, and another picture.
    Again,
    /// All others.
    Often,
}

impl Lane {
    /// Every lane, the best first.
    pub const ALL: [Self; 4] = [Self::Favoured, Self::First, Self::Again, Self::Often];

    /// The lane of a circuit that has asked `lately` times in the last hour, this time included.
    #[must_use]
    pub const fn of(favoured: bool, lately: u32) -> Self {
        match lately {
            _ if favoured => Self::Favoured,
            ..=1 => Self::First,
            2..=3 => Self::Again,
            _ => Self::Often,
        }
    }

    /// Its place in [`Self::ALL`].
    #[must_use]
    pub const fn index(self) -> u8 {
        match self {
            Self::Favoured => 0,
            Self::First => 1,
            Self::Again => 2,
            Self::Often => 3,
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
pub struct Place {
    /// The line.
    pub lane: Lane,
    /// The number.
    pub number: u64,
    /// How many are called before it, those of better lanes included.
    pub ahead: u64,
    /// How long that takes, if nobody comes into a better lane meanwhile.
    pub estimate: Duration,
}

/// What one who comes is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Knock {
    /// Come in.
    In,
    /// Wait here.
    Wait(Place),
    /// This number was used, or called too long ago.
    Gone,
}

/// The state of the queue.
#[derive(Debug)]
pub struct Turnstile {
    /// Units of [`COST`] that may be saved up.
    burst: u64,
    /// Units that a millisecond earns.
    earned: u64,
    credit: u64,
    at: Timestamp,
    calls: u64,
    lines: [Line; Lane::ALL.len()],
}

/// How far one lane has got. Numbers start at 1.
#[derive(Debug)]
struct Line {
    issued: u64,
    called: u64,
    /// Which of the numbers called last were used, by number modulo their count.
    used: Box<[bool]>,
}

impl Line {
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

impl Turnstile {
    /// A queue that lets in at this rate.
    #[must_use]
    pub fn new(rate: Rate, now: Timestamp) -> Self {
        let burst = rate.burst() * COST;
        let kept = rate.evenly().clamp(LEAST_KEPT, MAX_KEPT);
        let lines = std::array::from_fn(|_| Line::new(kept));
        Self { burst, earned: rate.evenly(), credit: burst, at: now, calls: 0, lines }
    }

    /// Lets in at another rate from now on. As many called numbers stay good as at first.
    pub fn set_rate(&mut self, rate: Rate, now: Timestamp) {
        self.advance(now);
        // What was saved up beyond the new burst goes with the next advance.
        (self.burst, self.earned) = (rate.burst() * COST, rate.evenly());
    }

    /// One without a number comes: in at once, or a place in the queue; `None` when that is full.
    pub fn enter(&mut self, lane: Lane, now: Timestamp) -> Option<Knock> {
        self.advance(now);
        // What is left after the calls is left because nobody waits.
        if let Some(rest) = self.credit.checked_sub(COST) {
            self.credit = rest;
            return Some(Knock::In);
        }
        let line = self.lines.get(usize::from(lane.index()))?;
        let place = self.place(lane, line.issued + 1);
        if place.estimate > LONGEST {
            return None;
        }
        if let Some(line) = self.lines.get_mut(usize::from(lane.index())) {
            line.issued = place.number;
        }
        Some(Knock::Wait(place))
    }

    /// One with a number comes back.
    pub fn knock(&mut self, lane: Lane, number: u64, now: Timestamp) -> Knock {
        self.advance(now);
        match self.lines.get_mut(usize::from(lane.index())) {
            Some(line) if number > line.issued => Knock::Gone,
            Some(line) if number > line.called => Knock::Wait(self.place(lane, number)),
            Some(line) => {
                if line.use_up(number) {
                    Knock::In
                } else {
                    Knock::Gone
                }
            }
            None => Knock::Gone,
        }
    }

    /// How many numbers wait.
    #[must_use]
    pub fn waiting(&self) -> u64 {
        self.lines.iter().map(Line::waiting).sum()
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
        let waits = |line: &&mut Line| line.waiting() > 0;
        let line = match self.calls % FAIR {
            0 => self.lines.iter_mut().rev().find(waits),
            _ => self.lines.iter_mut().find(waits),
        };
        let Some(line) = line else { return false };
        line.call();
        self.calls += 1;
        true
    }

    fn place(&self, lane: Lane, number: u64) -> Place {
        let better = self.lines.iter().take(usize::from(lane.index())).map(Line::waiting);
        let own = self.lines.get(usize::from(lane.index())).map_or(0, |line| line.called);
        let ahead = number.saturating_sub(own + 1) + better.sum::<u64>();
        let estimate = Duration::from_millis((ahead + 1).saturating_mul(COST) / self.earned.max(1));
        Place { lane, number, ahead, estimate }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Timestamp = Timestamp::from_secs(1_800_000_000);

    fn seconds(count: u64) -> Timestamp {
        START.after(Duration::from_secs(count))
    }

    fn place(knock: Option<Knock>) -> Place {
        match knock {
            Some(Knock::Wait(place)) => place,
            other => panic!("{other:?}"),
        }
    }

    fn rate(per_minute: u32) -> Rate {
        Rate { per_minute, per_second: u32::MAX }
    }

    /// Lets in all that may come at once.
    fn drained(per_minute: u32) -> Turnstile {
        let mut queue = Turnstile::new(rate(per_minute), START);
        for _ in 0..per_minute / 3 {
            assert_eq!(queue.enter(Lane::First, START), Some(Knock::In));
        }
        queue
    }

    #[test]
    fn no_minute_and_no_second_has_more_than_its_number() {
        let rate = Rate { per_minute: 1000, per_second: 100 };
        let mut queue = Turnstile::new(rate, START);
        let mut entered = Vec::new();
        for step in 0..3 * 60 * 100_u64 {
            let now = START.after(Duration::from_millis(step * 10));
            match queue.enter(Lane::Often, now) {
                Some(Knock::In) => entered.push(now),
                Some(Knock::Wait(_)) => {}
                other => panic!("{other:?}"),
            }
            // Whoever is called comes in at once.
            let called = queue.lines[3].called;
            if called > 0 && queue.knock(Lane::Often, called, now) == Knock::In {
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
        let places: Vec<Place> = (0..10).map(|_| place(queue.enter(Lane::First, START))).collect();
        assert!(places.windows(2).all(|pair| pair[0].ahead + 1 == pair[1].ahead));
        // 40 a minute are called evenly: one in one and a half seconds.
        let mut order = Vec::new();
        for second in 1..=30 {
            for place in places.iter().rev() {
                if queue.knock(place.lane, place.number, seconds(second)) == Knock::In {
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
        let place = place(queue.enter(Lane::First, START));
        assert!(matches!(queue.knock(place.lane, place.number, START), Knock::Wait(_)));
        assert_eq!(queue.knock(place.lane, place.number, seconds(10)), Knock::In);
        assert_eq!(queue.knock(place.lane, place.number, seconds(10)), Knock::Gone);
        // Nor does one that nobody was given, or of another lane.
        for (lane, number) in
            [(Lane::First, 0), (Lane::First, 2), (Lane::First, u64::MAX), (Lane::Often, 1)]
        {
            assert_eq!(queue.knock(lane, number, seconds(10)), Knock::Gone, "{number}");
        }
    }

    #[test]
    fn numbers_that_were_called_long_ago_are_gone() {
        let mut queue = drained(60_000);
        let first = place(queue.enter(Lane::First, START));
        for _ in 0..MAX_KEPT {
            place(queue.enter(Lane::First, START));
        }
        queue.advance(seconds(30));
        assert_eq!(queue.waiting(), 0);
        assert_eq!(queue.knock(first.lane, first.number, seconds(30)), Knock::Gone);
        assert_eq!(queue.knock(first.lane, first.number + 1, seconds(30)), Knock::In);
    }

    #[test]
    fn the_better_lane_is_called_first_and_the_last_one_is_not_forgotten() {
        let mut queue = drained(60);
        let often: Vec<Place> = (0..100).map(|_| place(queue.enter(Lane::Often, START))).collect();
        let newcomer = place(queue.enter(Lane::First, START));
        assert_eq!(newcomer.ahead, 0);
        assert_eq!(queue.knock(newcomer.lane, newcomer.number, seconds(3)), Knock::In);
        // With newcomers without end, one call in eight is for the others.
        for second in 3..300 {
            for _ in 0..5 {
                let _place = queue.enter(Lane::First, seconds(second));
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
            let entered =
                (0..1000).filter(|_| queue.enter(Lane::First, now) == Some(Knock::In)).count();
            assert!(entered <= 200, "{entered}");
        }
    }

    #[test]
    fn abuse_18_memory_is_flat_and_nobody_is_asked_to_wait_for_ever() {
        let mut queue = drained(60);
        let mut last = Duration::ZERO;
        while let Some(Knock::Wait(place)) = queue.enter(Lane::Often, START) {
            assert!(place.estimate <= LONGEST);
            last = place.estimate;
        }
        assert!(last > LONGEST - Duration::from_secs(5), "{last:?}");
        assert!(queue.enter(Lane::First, START).is_some(), "a newcomer was turned away");
        let kept: usize = queue.lines.iter().map(|line| line.used.len()).sum();
        assert_eq!(kept, 4 * 40, "a minute's numbers for each lane");
    }

    #[test]
    fn numbers_that_were_hoarded_are_a_minutes_at_most() {
        let mut queue = drained(60);
        let hoard: Vec<Place> = (0..300).map(|_| place(queue.enter(Lane::First, START))).collect();
        for second in (30..=600).step_by(30) {
            queue.advance(seconds(second));
        }
        let mut used =
            |place: &Place| queue.knock(place.lane, place.number, seconds(600)) == Knock::In;
        assert_eq!(hoard.iter().map(|place| u32::from(used(place))).sum::<u32>(), 40);
    }

    #[test]
    fn another_rate_holds_from_then_on_saves_nothing_up_and_keeps_places() {
        let mut queue = Turnstile::new(rate(6000), START);
        // What a high rate has saved up is more than the low one may have.
        queue.set_rate(rate(60), START);
        let at_once = (0..100).take_while(|_| queue.enter(Lane::First, START) == Some(Knock::In));
        assert_eq!(at_once.count(), 20);
        let held = place(queue.enter(Lane::First, START));
        queue.set_rate(rate(600), START);
        let later = START.after(held.estimate);
        assert_eq!(queue.knock(held.lane, held.number, later), Knock::In, "a place was lost");
    }
}
