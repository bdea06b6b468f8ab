//! How long a circuit waits after wrong answers.

use std::fmt;
use std::time::Duration;

use fortify_core::clock::Timestamp;
use fortify_store::record::Failures;

/// The waits after the first, second, third, ... wrong answer; the last one applies to all further answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailureWaits(Vec<Duration>);

impl Default for FailureWaits {
    /// None, none, 30 s, 2 min, 5 min, and 15 min from then on, as the requirements say.
    fn default() -> Self {
        Self([0, 0, 30, 120, 300, 900].map(Duration::from_secs).to_vec())
    }
}

impl FailureWaits {
    /// Creates a list of waits; `None` if it is empty or a wait is shorter than the one before it.
    #[must_use]
    pub fn new(waits: Vec<Duration>) -> Option<Self> {
        (!waits.is_empty() && waits.is_sorted()).then_some(Self(waits))
    }

    /// The wait after this number of wrong answers.
    #[must_use]
    pub fn after(&self, failures: u32) -> Duration {
        let index = (failures as usize).min(self.0.len()).checked_sub(1);
        index.and_then(|index| self.0.get(index)).copied().unwrap_or(Duration::ZERO)
    }

    /// The rest of the wait for `failures` at `now`; `None` if it is over. Failures are forgotten `decay` after the
    /// last of them, and the wait with them.
    ///
    /// A clock that is set back never makes a wait longer.
    #[must_use]
    pub fn remaining(
        &self,
        failures: Failures,
        decay: Duration,
        now: Timestamp,
    ) -> Option<Duration> {
        let wait = self.after(failures.count);
        let last = failures.until.before(decay);
        let left = now.until(last.after(wait)).min(now.until(failures.until)).min(wait);
        (!left.is_zero()).then_some(left)
    }
}

impl fmt::Display for FailureWaits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds: Vec<_> = self.0.iter().map(|wait| wait.as_secs().to_string()).collect();
        f.write_str(&seconds.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DECAY: Duration = Duration::from_secs(3600);
    const LAST: Timestamp = Timestamp::from_secs(1_800_000_000);

    fn failures(count: u32) -> Failures {
        Failures { count, until: LAST.after(DECAY) }
    }

    #[test]
    fn each_wrong_answer_has_the_wait_of_the_requirement() {
        let waits = FailureWaits::default();
        for (count, seconds) in [(0, 0), (1, 0), (2, 0), (3, 30), (4, 120), (5, 300), (6, 900)] {
            assert_eq!(waits.after(count), Duration::from_secs(seconds), "{count}");
        }
        for count in [7, 100, u32::MAX] {
            assert_eq!(waits.after(count), Duration::from_secs(900));
        }
    }

    #[test]
    fn a_wait_runs_from_the_last_wrong_answer_and_ends() {
        let waits = FailureWaits::default();
        let left = |count, seconds| {
            waits.remaining(failures(count), DECAY, LAST.after(Duration::from_secs(seconds)))
        };
        assert_eq!(left(2, 0), None);
        assert_eq!(left(3, 0), Some(Duration::from_secs(30)));
        assert_eq!(left(3, 29), Some(Duration::from_secs(1)));
        assert_eq!(left(3, 30), None);
        assert_eq!(left(6, 899), Some(Duration::from_secs(1)));
        assert_eq!(left(6, 900), None);
        assert_eq!(waits.remaining(Failures::NONE, DECAY, LAST), None);
    }

    #[test]
    fn a_clock_that_jumps_makes_no_wait_longer() {
        let waits = FailureWaits::default();
        let an_hour_back = LAST.before(DECAY);
        assert_eq!(
            waits.remaining(failures(3), DECAY, an_hour_back),
            Some(Duration::from_secs(30))
        );
        let a_day_on = LAST.after(DECAY * 24);
        assert_eq!(waits.remaining(failures(6), DECAY, a_day_on), None);
    }

    #[test]
    fn waits_that_shrink_are_none() {
        let seconds =
            |all: &[u64]| FailureWaits::new(all.iter().copied().map(Duration::from_secs).collect());
        assert!(seconds(&[]).is_none());
        assert!(seconds(&[30, 10]).is_none());
        assert!(seconds(&[0]).is_some());
    }

    proptest! {
        #[test]
        fn more_failures_never_wait_less_and_time_only_forgives(
            count in 0_u32..1000, at in 0_u64..10_000, later in 0_u64..10_000,
        ) {
            let waits = FailureWaits::default();
            let left = |count, at| {
                waits.remaining(failures(count), DECAY, LAST.after(Duration::from_secs(at)))
            };
            prop_assert!(left(count, at) <= left(count + 1, at));
            prop_assert!(left(count, at + later) <= left(count, at));
        }
    }
}
