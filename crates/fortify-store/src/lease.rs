//! The budget of one session, from which nodes take leases: a token bucket and a quota; pure.
//!
//! Amounts are in milli-pages, but the bucket is in sixtieths of one: pages a minute are sixtieths a millisecond, and it
//! fills without rounding.

use std::time::Duration;

use super::record::{Lease, LeaseRequest};
use fortify_core::clock::Timestamp;

/// Sixtieths in a milli-page.
const GRAINS: u64 = 60;

/// How far ahead of now, in milliseconds, the time of the bucket may be: nodes keep time within seconds of each other.
/// One further ahead was written by a clock that was wrong, and would keep the bucket empty until it is reached.
pub(super) const MOST_AHEAD_MS: u64 = 60_000;

/// What is left of a session's budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Remainder {
    /// Pages a minute, and the most that the bucket holds, as the first lease said.
    pub(super) per_minute: u32,
    pub(super) burst: u64,
    /// In the bucket at `filled_at`, in sixtieths of a milli-page.
    pub(super) grains: u64,
    pub(super) filled_at: Timestamp,
    /// Of the quota.
    pub(super) left: u64,
}

impl Remainder {
    /// A whole budget.
    pub(super) const fn new(request: &LeaseRequest, now: Timestamp) -> Self {
        let LeaseRequest { per_minute, burst, quota, .. } = *request;
        Self {
            per_minute,
            burst,
            grains: burst.saturating_mul(GRAINS),
            filled_at: now,
            left: quota,
        }
    }

    /// Takes a lease. The script in `redis/scripts.rs` does the same, and one test holds both to one contract.
    pub(super) fn lease(&mut self, most: u64, now: Timestamp) -> Lease {
        if self.filled_at > now.after(Duration::from_millis(MOST_AHEAD_MS)) {
            self.filled_at = now;
        }
        let millis = u64::try_from(self.filled_at.until(now).as_millis()).unwrap_or(u64::MAX);
        let new = millis.saturating_mul(self.per_minute.into());
        let full = self.burst.saturating_mul(GRAINS);
        self.grains = self.grains.saturating_add(new).min(full);
        self.filled_at = self.filled_at.max(now);
        let granted = most.min(self.grains / GRAINS).min(self.left);
        self.grains -= granted * GRAINS;
        self.left -= granted;
        Lease { granted, left: self.left, per_minute: self.per_minute, burst: self.burst }
    }
}
