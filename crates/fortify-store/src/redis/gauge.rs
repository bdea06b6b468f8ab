//! The number of unanswered challenges, without asking Redis.
//!
//! Redis can count only all keys of a database or walk through them. So each node counts the challenges that it stored
//! less those that it took, by the second in which they expire. The count is exact for one node, right in the sum over
//! several nodes, and off for at most one challenge lifetime after a restart.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use fortify_core::clock::Timestamp;

/// Seconds that are counted separately; the configuration allows challenges no longer lifetime (`captcha.ttl_seconds`).
const MAX_SECONDS: usize = 3600 + 60;

/// The count.
#[derive(Debug, Default)]
pub(super) struct Gauge(Mutex<BTreeMap<u64, i64>>);

impl Gauge {
    /// Counts a stored challenge that expires at `expires_at`.
    pub(super) fn put(&self, expires_at: Timestamp) {
        self.change(expires_at, 1);
    }

    /// Uncounts a taken challenge that expires at `expires_at`.
    pub(super) fn taken(&self, expires_at: Timestamp) {
        self.change(expires_at, -1);
    }

    /// Uncounts `count` evicted challenges. Their expiry is not known, so they are subtracted from the seconds that
    /// come first.
    pub(super) fn dropped(&self, count: u64, now: Timestamp) {
        let mut seconds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut rest = i64::try_from(count).unwrap_or(i64::MAX);
        for (_, waiting) in seconds.range_mut(now.as_secs()..) {
            let less = rest.min((*waiting).max(0));
            *waiting -= less;
            rest -= less;
        }
    }

    /// The number of unanswered challenges at `now`.
    pub(super) fn count(&self, now: Timestamp) -> u64 {
        let mut seconds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *seconds = seconds.split_off(&now.as_secs());
        u64::try_from(seconds.values().sum::<i64>()).unwrap_or(0)
    }

    fn change(&self, expires_at: Timestamp, by: i64) {
        let mut seconds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = seconds.entry(expires_at.as_secs()).or_default();
        *waiting = waiting.saturating_add(by);
        if seconds.len() > MAX_SECONDS {
            seconds.pop_first();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

    #[test]
    fn what_was_put_counts_until_it_is_taken_dropped_or_expired() {
        let gauge = Gauge::default();
        let in_secs = |secs| NOW.after(Duration::from_secs(secs));
        for secs in [10, 10, 20, 30] {
            gauge.put(in_secs(secs));
        }
        assert_eq!(gauge.count(NOW), 4);
        gauge.taken(in_secs(30));
        assert_eq!(gauge.count(NOW), 3);
        gauge.dropped(1, NOW);
        assert_eq!(gauge.count(NOW), 2);
        assert_eq!(gauge.count(in_secs(11)), 1);
        // Stored by another node, or before a restart.
        gauge.taken(in_secs(25));
        gauge.taken(in_secs(25));
        assert_eq!(gauge.count(in_secs(11)), 0);
    }

    #[test]
    fn it_stays_small() {
        let gauge = Gauge::default();
        for secs in 0..100_000 {
            gauge.put(NOW.after(Duration::from_secs(secs)));
        }
        assert!(gauge.0.lock().unwrap().len() <= MAX_SECONDS);
    }
}
