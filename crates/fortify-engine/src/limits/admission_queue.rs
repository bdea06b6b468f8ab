//! The queue for challenges when more are requested than the service may issue.
//!
//! Requests queue instead of failing, because with a limit that refuses, an attacker could shut people out. A
//! request over the limit gets a number, and numbers are called in order as fast as challenges may be issued. Each
//! number has a [`Priority`], and higher priorities are called first: trusted circuits and first requests do not
//! wait behind a thousand repeated ones. One call in eight (`FAIR`) starts with the lowest priority, so that nobody
//! waits forever.
//!
//! Visitors keep their numbers in signed tickets. The queue keeps only the last number issued and called of each
//! priority, and which of the recently called numbers were used: a number is valid for one challenge.

use std::time::Duration;

use fortify_core::clock::Timestamp;

/// One call in this many starts with the lowest priority.
const FAIR: u64 = 8;

/// The longest wait, well within the lifetime of a ticket; beyond it the queue is full.
const LONGEST: Duration = Duration::from_secs(1200);

/// The number of recently called numbers that stay valid: as many as are called in a minute, within these bounds.
/// All of them may be used at once, so hoarding gains at most one minute's worth per priority.
const MAX_KEPT: u64 = 4096;
const LEAST_KEPT: u64 = 16;

/// The cost of one challenge: the milliseconds in a minute. Each millisecond earns as many units as challenges may
/// be issued per minute.
const COST: u64 = 60_000;

/// The rate at which the service may issue challenges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Challenges in any minute.
    pub per_minute: u32,
    /// Challenges in any second.
    pub per_second: u32,
}

impl Rate {
    /// The burst: a third of the rate per minute, at most half of the rate per second. The rest is issued evenly, so
    /// that no minute and no second exceeds its rate.
    fn burst(self) -> u64 {
        u64::from((self.per_minute / 3).min(self.per_second / 2).max(1))
    }

    /// The number issued evenly, per minute.
    fn evenly(self) -> u64 {
        let minute = u64::from(self.per_minute).saturating_sub(self.burst());
        minute.min(u64::from(self.per_second) * 30).max(1)
    }
}

/// The priority of a request in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Priority {
    /// Circuits that recently solved a challenge.
    Trusted,
    /// Circuits that request their first challenge in an hour.
    First,
    /// Circuits that requested two or three, for example after a slip.
    Repeat,
    /// All others.
    Frequent,
}

impl Priority {
    /// All priorities, the highest first.
    pub const ALL: [Self; 4] = [Self::Trusted, Self::First, Self::Repeat, Self::Frequent];

    /// The priority of a circuit with `recent` requests in the last hour, this one included.
    #[must_use]
    pub const fn of(trusted: bool, recent: u32) -> Self {
        match recent {
            _ if trusted => Self::Trusted,
            ..=1 => Self::First,
            2..=3 => Self::Repeat,
            _ => Self::Frequent,
        }
    }

    /// The index in [`Self::ALL`].
    #[must_use]
    pub const fn index(self) -> u8 {
        match self {
            Self::Trusted => 0,
            Self::First => 1,
            Self::Repeat => 2,
            Self::Frequent => 3,
        }
    }

    /// The priority at this index.
    #[must_use]
    pub fn at(index: u8) -> Option<Self> {
        Self::ALL.get(usize::from(index)).copied()
    }
}

/// A place in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueuePosition {
    /// The priority.
    pub priority: Priority,
    /// The number.
    pub number: u64,
    /// The number of places called before it, those of higher priorities included.
    pub ahead: u64,
    /// The estimated wait, if no request of a higher priority arrives.
    pub estimate: Duration,
}

/// The result of entering the queue or redeeming a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueueOutcome {
    /// A challenge may be issued now.
    Admitted,
    /// The place has not been called yet.
    Wait(QueuePosition),
    /// The number was already used, or was called too long ago.
    Expired,
}

/// The state of the queue.
#[derive(Debug)]
pub struct AdmissionQueue {
    /// The most credit that can be saved, in units of which a challenge costs [`COST`].
    burst: u64,
    /// The credit earned per millisecond.
    earned: u64,
    credit: u64,
    at: Timestamp,
    calls: u64,
    lines: [NumberedLine; Priority::ALL.len()],
}

/// The numbers of one priority. They start at 1.
#[derive(Debug)]
struct NumberedLine {
    issued: u64,
    called: u64,
    /// Which of the recently called numbers were used, indexed by number modulo the length.
    used: Box<[bool]>,
}

impl NumberedLine {
    fn new(kept: u64) -> Self {
        Self { issued: 0, called: 0, used: vec![false; kept as usize].into() }
    }

    /// The number of recently called numbers that stay valid, at least 1.
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

    /// Uses a called number, and returns whether it was valid.
    fn use_up(&mut self, number: u64) -> bool {
        let kept = number > self.called.saturating_sub(self.kept()) && number != 0;
        let slot = (number % self.kept()) as usize;
        let used = self.used.get_mut(slot);
        kept && used.is_some_and(|used| !std::mem::replace(used, true))
    }
}

impl AdmissionQueue {
    /// Creates a queue that admits at `rate`.
    #[must_use]
    pub fn new(rate: Rate, now: Timestamp) -> Self {
        let burst = rate.burst() * COST;
        let kept = rate.evenly().clamp(LEAST_KEPT, MAX_KEPT);
        let lines = std::array::from_fn(|_| NumberedLine::new(kept));
        Self { burst, earned: rate.evenly(), credit: burst, at: now, calls: 0, lines }
    }

    /// Changes the rate. The number of called numbers that stay valid does not change.
    pub fn set_rate(&mut self, rate: Rate, now: Timestamp) {
        self.advance(now);
        // Credit beyond the new burst is dropped by the next advance.
        (self.burst, self.earned) = (rate.burst() * COST, rate.evenly());
    }

    /// Enters the queue: admitted at once, or given a place; `None` if the queue is full.
    pub fn enter(&mut self, priority: Priority, now: Timestamp) -> Option<QueueOutcome> {
        self.advance(now);
        // Credit remains after the calls only if nobody waits.
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

    /// Redeems the number of a place.
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

    /// The number of places not called yet.
    #[must_use]
    pub fn waiting(&self) -> u64 {
        self.lines.iter().map(NumberedLine::waiting).sum()
    }

    /// Calls as many numbers as the credit earned since the last call permits.
    fn advance(&mut self, now: Timestamp) {
        let passed = self.at.until(now).as_millis().min(u128::from(COST)) as u64;
        self.at = now;
        self.credit = self.burst.min(self.credit + passed * self.earned);
        while self.credit >= COST && self.call() {
            self.credit -= COST;
        }
    }

    /// Calls the next number, and returns whether there was one.
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

    fn place(outcome: Option<QueueOutcome>) -> QueuePosition {
        match outcome {
            Some(QueueOutcome::Wait(place)) => place,
            other => panic!("{other:?}"),
        }
    }

    fn rate(per_minute: u32) -> Rate {
        Rate { per_minute, per_second: u32::MAX }
    }

    /// A queue whose burst is used up.
    fn drained(per_minute: u32) -> AdmissionQueue {
        let mut queue = AdmissionQueue::new(rate(per_minute), START);
        for _ in 0..per_minute / 3 {
            assert_eq!(queue.enter(Priority::First, START), Some(QueueOutcome::Admitted));
        }
        queue
    }

    #[test]
    fn no_minute_and_no_second_exceeds_its_rate() {
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
            // A called number is redeemed at once.
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
    fn first_come_first_served_within_a_priority() {
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
    fn a_number_can_be_used_once() {
        let mut queue = drained(60);
        let place = place(queue.enter(Priority::First, START));
        assert!(matches!(queue.redeem(place.priority, place.number, START), QueueOutcome::Wait(_)));
        assert_eq!(queue.redeem(place.priority, place.number, seconds(10)), QueueOutcome::Admitted);
        assert_eq!(queue.redeem(place.priority, place.number, seconds(10)), QueueOutcome::Expired);
        // Nor can a number that was never issued, or one of another priority.
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
    fn numbers_called_long_ago_expire() {
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
    fn higher_priorities_are_called_first_and_the_lowest_is_not_starved() {
        let mut queue = drained(60);
        let often: Vec<QueuePosition> =
            (0..100).map(|_| place(queue.enter(Priority::Frequent, START))).collect();
        let newcomer = place(queue.enter(Priority::First, START));
        assert_eq!(newcomer.ahead, 0);
        assert_eq!(
            queue.redeem(newcomer.priority, newcomer.number, seconds(3)),
            QueueOutcome::Admitted
        );
        // With an endless stream of newcomers, one call in eight is for the others.
        for second in 3..300 {
            for _ in 0..5 {
                let _place = queue.enter(Priority::First, seconds(second));
            }
        }
        let served = queue.lines[3].called;
        assert!((20..30).contains(&served), "{served} of {}", often.len());
    }

    #[test]
    fn a_clock_that_jumps_admits_at_most_a_burst() {
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
        assert_eq!(kept, 4 * 40, "a minute's numbers for each priority");
    }

    #[test]
    fn hoarded_numbers_are_worth_at_most_one_minute() {
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
    fn a_new_rate_applies_at_once_drops_saved_credit_and_keeps_places() {
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
