//! How many challenges the service may issue at this moment; pure.
//!
//! Most of the rate is issued evenly. A third of it is kept for bursts: each challenge of a burst becomes available
//! again a minute after it was issued, so that no minute exceeds its rate, however bursts fall, and so that a burst
//! does not close the door for the rest of its minute.

use std::collections::VecDeque;

/// The cost of one challenge: the milliseconds in a minute. Each millisecond earns as many units as challenges are
/// issued evenly in a minute.
const COST: u64 = 60_000;

/// The time after which a challenge of a burst may be issued again, in ms.
const MINUTE: u64 = 60_000;

/// Challenges of bursts are remembered in slots of this many ms; 241 slots make up the minute.
const SLOT: u64 = 250;

/// The rate at which the service may issue challenges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Challenges in any minute.
    pub per_minute: u32,
    /// Challenges in any second.
    pub per_second: u32,
}

impl Rate {
    /// The challenges kept for bursts: a third of the rate per minute, at most half of the rate per second.
    fn reserve(self) -> u64 {
        u64::from((self.per_minute / 3).min(self.per_second / 2))
    }

    /// The challenges that can be saved up beside the reserve: a fiftieth of the rate per minute, at most a quarter
    /// of the rate per second. This much of the rate is lost while everybody waits, so it is small.
    fn saved(self) -> u64 {
        u64::from((self.per_minute / 50).min(self.per_second / 4).max(1))
    }

    /// The challenges issued evenly in a minute: what the other two leave of both rates.
    fn even(self) -> u64 {
        let rest = |rate: u32| u64::from(rate).saturating_sub(self.reserve() + self.saved());
        rest(self.per_minute).min(rest(self.per_second) * 60).max(1)
    }
}

/// The challenges that may be issued.
#[derive(Debug)]
pub struct Allowance {
    rate: Rate,
    /// The credit saved, in units of which a challenge costs [`COST`].
    credit: u64,
    /// The time since the start, in ms.
    age: u64,
    /// The challenges of the reserve that were issued in the last minute, by slot.
    spent: VecDeque<(u64, u64)>,
    spent_in_all: u64,
}

impl Allowance {
    /// Allows `rate`, with everything saved up.
    #[must_use]
    pub fn new(rate: Rate) -> Self {
        let credit = rate.saved() * COST;
        Self { rate, credit, age: 0, spent: VecDeque::new(), spent_in_all: 0 }
    }

    /// Changes the rate. What was issued stays counted.
    pub fn set_rate(&mut self, rate: Rate) {
        self.rate = rate;
        self.credit = self.credit.min(rate.saved() * COST);
    }

    /// Earns what `passed` milliseconds earn.
    pub fn advance(&mut self, passed: u64) {
        self.age = self.age.saturating_add(passed);
        let earned = passed.saturating_mul(self.rate.even());
        self.credit = self.credit.saturating_add(earned).min(self.rate.saved() * COST);
        while let Some((slot, count)) = self.spent.front().copied() {
            if self.age < (slot + 1) * SLOT + MINUTE {
                break;
            }
            self.spent.pop_front();
            self.spent_in_all -= count;
        }
    }

    /// The rate allowed.
    #[must_use]
    pub const fn rate(&self) -> Rate {
        self.rate
    }

    /// The challenges that may be issued now.
    #[must_use]
    pub fn available(&self) -> u64 {
        self.credit / COST + self.rate.reserve().saturating_sub(self.spent_in_all)
    }

    /// The challenges issued in a minute while everybody waits.
    #[must_use]
    pub fn per_minute(&self) -> u64 {
        self.rate.even() + self.rate.reserve()
    }

    /// Issues one, and returns whether that is allowed. The reserve is touched last.
    pub fn take(&mut self) -> bool {
        if let Some(rest) = self.credit.checked_sub(COST) {
            self.credit = rest;
            return true;
        }
        if self.spent_in_all >= self.rate.reserve() {
            return false;
        }
        let slot = self.age / SLOT;
        self.spent_in_all += 1;
        match self.spent.back_mut() {
            Some((last, count)) if *last == slot => *count += 1,
            _ => self.spent.push_back((slot, 1)),
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn no_minute_and_no_second_exceeds_its_rate(
            per_minute in 50_u32..2_000, per_second in 10_u32..2_000,
            steps in prop::collection::vec((0_u64..3_000, 0_u64..200), 1..150),
        ) {
            let mut allowance = Allowance::new(Rate { per_minute, per_second });
            let (mut now, mut issued) = (0_u64, Vec::new());
            for (passed, wanted) in steps {
                now += passed;
                allowance.advance(passed);
                issued.extend((0..wanted).filter(|_| allowance.take()).map(|_| now));
            }
            for (index, first) in issued.iter().enumerate() {
                let within = |ms: u64| {
                    issued.iter().skip(index).take_while(|at| **at < first + ms).count()
                };
                prop_assert!(within(60_000) <= per_minute as usize);
                prop_assert!(within(1_000) <= per_second as usize);
            }
        }
    }

    #[test]
    fn the_rate_is_used_while_everybody_waits() {
        let mut allowance = Allowance::new(Rate { per_minute: 1_000, per_second: 1_000 });
        let mut minute = || {
            (0..600)
                .map(|_| {
                    allowance.advance(100);
                    let mut issued = 0;
                    while allowance.take() {
                        issued += 1;
                    }
                    issued
                })
                .sum::<u32>()
        };
        assert!((950..=1_000).contains(&minute()));
        for _ in 0..5 {
            let issued = minute();
            assert!((950..=1_000).contains(&issued), "{issued}");
        }
        assert!(allowance.available() <= 1);
    }
}
