//! Recent requests of one circuit: exact times, as many as the largest bound, 4 bytes each.

use std::time::Duration;

use super::record::{Quota, WindowLimit};
use fortify_core::clock::Timestamp;

/// The times of one circuit as they are kept: the newest, and how long before it the others were.
#[derive(Clone, Debug)]
pub(super) struct RequestTimes {
    newest: Timestamp,
    /// Milliseconds, the oldest first: 49 days, which is more than any bound.
    before: Box<[u32]>,
}

impl RequestTimes {
    /// `newest` after `times`, which are in their order.
    fn of(times: &[Timestamp], newest: Timestamp) -> Self {
        let before = times.iter().map(|time| time.until(newest).as_millis());
        let before = before.map(|millis| u32::try_from(millis).unwrap_or(u32::MAX));
        Self { newest, before: before.collect() }
    }

    /// All of them, the oldest first.
    pub(super) fn all(&self) -> Vec<Timestamp> {
        let ago = |millis: &u32| self.newest.before(Duration::from_millis((*millis).into()));
        self.before.iter().map(ago).chain([self.newest]).collect()
    }

    /// The last of them.
    pub(super) const fn newest(&self) -> Timestamp {
        self.newest
    }
}

/// Asks once more at `now`, after `times`, which are in their order.
///
/// Times that a clock set back has left in the future count like the newest.
pub(super) fn check(
    times: &[Timestamp],
    bounds: &[WindowLimit],
    longest: Option<Duration>,
    now: Timestamp,
) -> Quota {
    let mut wait = Duration::ZERO;
    for bound in bounds {
        // The place that is free first is the one that was taken first of the newest `most`.
        let first = times.len().checked_sub(bound.most as usize).and_then(|at| times.get(at));
        if let Some(first) = first {
            wait = wait.max(now.until(first.after(bound.within)).min(bound.within));
        }
    }
    if let (Some(longest), Some(newest)) = (longest, times.last()) {
        wait = wait.min(now.until(newest.after(longest)).min(longest));
    }
    if !wait.is_zero() {
        return Quota::Exceeded(wait);
    }
    let widest = bounds.iter().map(|bound| bound.within).max().unwrap_or_default();
    let recent = times.iter().filter(|time| now < time.after(widest)).count();
    Quota::Granted { recent: u32::try_from(recent + 1).unwrap_or(u32::MAX) }
}

/// What has to be remembered of `times` once `now` is one of them.
pub(super) fn add(times: &[Timestamp], bounds: &[WindowLimit], now: Timestamp) -> RequestTimes {
    let most = bounds.iter().map(|bound| bound.most).max().unwrap_or_default() as usize;
    let widest = bounds.iter().map(|bound| bound.within).max().unwrap_or_default();
    let mut kept: Vec<Timestamp> =
        times.iter().copied().filter(|time| now < time.after(widest)).collect();
    kept.drain(..kept.len().saturating_sub(most.saturating_sub(1)));
    RequestTimes::of(&kept, now)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BOUNDS: [WindowLimit; 2] = [
        WindowLimit { within: Duration::from_secs(60), most: 3 },
        WindowLimit { within: Duration::from_secs(3600), most: 5 },
    ];

    proptest! {
        /// Against the plain meaning of the bounds, whatever the times.
        #[test]
        fn no_window_ever_has_more_than_its_bound(gaps in prop::collection::vec(0_u64..200, 1..200)) {
            let mut now = Timestamp::from_secs(1_800_000_000);
            let (mut kept, mut granted) = (Vec::new(), Vec::<Timestamp>::new());
            for gap in gaps {
                now = now.after(Duration::from_secs(gap));
                let within = |bound: &WindowLimit| {
                    granted.iter().filter(|at| now < at.after(bound.within)).count() as u32
                };
                let free = BOUNDS.iter().all(|bound| within(bound) < bound.most);
                match check(&kept, &BOUNDS, None, now) {
                    Quota::Granted { recent } => {
                        prop_assert!(free);
                        prop_assert_eq!(recent, within(&BOUNDS[1]) + 1);
                        kept = add(&kept, &BOUNDS, now).all();
                        granted.push(now);
                    }
                    Quota::Exceeded(wait) => {
                        prop_assert!(!free);
                        let then = now.after(wait);
                        let granted = matches!(check(&kept, &BOUNDS, None, then), Quota::Granted { .. });
                        prop_assert!(granted);
                    }
                }
                prop_assert!(kept.len() <= 5);
            }
        }
    }

    #[test]
    fn a_clock_set_back_makes_nobody_wait_longer_than_a_window() {
        let now = Timestamp::from_secs(1_800_000_000);
        let times = [now.after(Duration::from_secs(86_400)); 5];
        assert_eq!(check(&times, &BOUNDS, None, now), Quota::Exceeded(Duration::from_secs(3600)));
    }
}
