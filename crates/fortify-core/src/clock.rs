//! Time, as a trait that callers pass in.
//!
//! Expiry, decay and session lifetimes are checked against a [`Clock`], so that a test can move on by an
//! hour without waiting.
//!
//! The wall clock can be set, and timeouts inside this process must not be affected: [`SteadyClock`]
//! continues evenly when the wall clock jumps, and [`Jumps`] reports the jump.

use std::fmt;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How far ahead of this node's clock a signed value may have been made. Nodes of a cluster keep time by NTP and stay
/// within about a second of each other; more means a clock that was set back, or a forgery.
pub const MAX_CLOCK_SKEW: Duration = Duration::from_secs(5);

/// A point in time: milliseconds since the Unix epoch.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    JsonSchema,
)]
#[serde(transparent)]
pub struct Timestamp(u64);

impl Timestamp {
    /// From milliseconds since the Unix epoch.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// From whole seconds since the Unix epoch; saturates.
    #[must_use]
    pub const fn from_secs(secs: u64) -> Self {
        Self(secs.saturating_mul(1000))
    }

    /// Milliseconds since the Unix epoch.
    #[must_use]
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// Whole seconds since the Unix epoch, rounded down.
    #[must_use]
    pub const fn as_secs(self) -> u64 {
        self.0 / 1000
    }

    /// This time plus `duration`; saturates.
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)))
    }

    /// This time less `duration`; saturates.
    #[must_use]
    pub fn before(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)))
    }

    /// This time on a clock that was set forward by `millis`, or back if that is negative; saturates.
    #[must_use]
    pub const fn shifted(self, millis: i64) -> Self {
        Self(self.0.saturating_add_signed(millis))
    }

    /// The duration from `self` to `later`; zero if `later` is earlier.
    #[must_use]
    pub fn until(self, later: Self) -> Duration {
        Duration::from_millis(later.0.saturating_sub(self.0))
    }
}

/// The time of a calendar date and a time of day, in UTC; `None` if it is no date since 1970.
///
/// For dates from elsewhere: a `Date` header, tor's consensus.
#[must_use]
pub fn civil(
    year: u64,
    month: u64,
    day: u64,
    [hour, minute, second]: [u64; 3],
) -> Option<Timestamp> {
    let fits = (1970..=9999).contains(&year)
        && (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && hour < 24
        && minute < 60
        && second <= 60;
    if !fits {
        return None;
    }
    // Years that begin in March end with the day that leap years add.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1;
    // Of the same count, the first of January 1970.
    let days = days.checked_sub(719_468)?;
    Some(Timestamp::from_secs(((days * 24 + hour) * 60 + minute) * 60 + second))
}

/// A source of the current time.
pub trait Clock: Send + Sync + fmt::Debug {
    /// The wall-clock time, which can be set back or forward.
    fn now(&self) -> Timestamp;

    /// The time since some moment in the past. It cannot be set.
    fn elapsed(&self) -> Duration;
}

/// The operating system's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the system's clock")]
    fn now(&self) -> Timestamp {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp(u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX))
    }

    fn elapsed(&self) -> Duration {
        // Any moment will do, as long as all callers share it.
        static FIRST_ASKED: LazyLock<Instant> = LazyLock::new(Instant::now);
        FIRST_ASKED.elapsed()
    }
}

/// The difference between wall clock and elapsed time up to which the wall clock is followed silently: it
/// covers the corrections of a time service on a running machine, and inexact timers.
pub const JUMP: Duration = Duration::from_secs(60);

/// The wall clock was set, or the machine slept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Jump {
    /// The distance in milliseconds; negative is back.
    pub millis: i64,
}

impl Jump {
    /// The label in metrics and in the log.
    #[must_use]
    pub const fn direction(self) -> &'static str {
        if self.millis < 0 { "back" } else { "forward" }
    }

    /// The distance.
    #[must_use]
    pub const fn size(self) -> Duration {
        Duration::from_millis(self.millis.unsigned_abs())
    }
}

/// Detects that a wall clock was set: it then differs by more than [`JUMP`] from the elapsed time.
#[derive(Debug)]
pub struct Jumps {
    /// How far the wall clock is ahead of the elapsed time, in milliseconds.
    ahead: AtomicI64,
}

impl Jumps {
    /// Starts to compare now.
    #[must_use]
    pub fn of(clock: &dyn Clock) -> Self {
        Self { ahead: AtomicI64::new(ahead(clock)) }
    }

    /// The jump since the last call, if there was one. Each jump is returned once.
    pub fn look(&self, clock: &dyn Clock) -> Option<Jump> {
        let now = ahead(clock);
        let millis = now.saturating_sub(self.ahead.swap(now, Ordering::SeqCst));
        (u128::from(millis.unsigned_abs()) > JUMP.as_millis()).then_some(Jump { millis })
    }
}

/// A clock that continues evenly when the wall clock is set, so that deadlines neither end at once nor last
/// longer.
///
/// [`Self::follow`] adopts the wall clock's time; its caller then has to shift all times that were kept by
/// this clock by the jump that it returns.
#[derive(Debug)]
pub struct SteadyClock {
    wall: Arc<dyn Clock>,
    jumps: Jumps,
}

impl SteadyClock {
    /// A clock that starts at the time of `wall`.
    #[must_use]
    pub fn over(wall: Arc<dyn Clock>) -> Self {
        Self { jumps: Jumps::of(&*wall), wall }
    }

    /// Adopts the wall clock's time. Returns the jump, if that clock was set.
    pub fn follow(&self) -> Option<Jump> {
        self.jumps.look(&*self.wall)
    }

    /// Converts a time of the wall clock into a time of this clock.
    #[must_use]
    pub fn translate(&self, then: Timestamp) -> Timestamp {
        self.now().after(self.wall.now().until(then))
    }
}

impl Clock for SteadyClock {
    fn now(&self) -> Timestamp {
        let passed = signed(self.wall.elapsed().as_millis());
        let now = passed.saturating_add(self.jumps.ahead.load(Ordering::SeqCst));
        Timestamp(u64::try_from(now).unwrap_or(0))
    }

    fn elapsed(&self) -> Duration {
        self.wall.elapsed()
    }
}

fn ahead(clock: &dyn Clock) -> i64 {
    let passed = signed(clock.elapsed().as_millis());
    signed(u128::from(clock.now().as_millis())).saturating_sub(passed)
}

fn signed(millis: u128) -> i64 {
    i64::try_from(millis).unwrap_or(i64::MAX)
}

/// A clock that is moved by hand: for tests, benches and simulations.
#[derive(Debug)]
pub struct ManualClock {
    now: AtomicU64,
    elapsed: AtomicU64,
}

impl ManualClock {
    /// A clock that shows `now`.
    #[must_use]
    pub fn at(now: Timestamp) -> Self {
        Self { now: AtomicU64::new(now.0), elapsed: AtomicU64::new(0) }
    }

    /// Moves the clock forward.
    pub fn advance(&self, by: Duration) {
        let millis = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
        self.elapsed.fetch_add(millis, Ordering::SeqCst);
        self.now.fetch_add(millis, Ordering::SeqCst);
    }

    /// Lets time pass until `now`. A time in the past is a jump back, as by [`Self::jump`].
    pub fn set(&self, now: Timestamp) {
        let before = self.now.swap(now.0, Ordering::SeqCst);
        self.elapsed.fetch_add(now.0.saturating_sub(before), Ordering::SeqCst);
    }

    /// Sets the wall clock, back or forward, without letting time pass.
    pub fn jump(&self, now: Timestamp) {
        self.now.store(now.0, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.now.load(Ordering::SeqCst))
    }

    fn elapsed(&self) -> Duration {
        Duration::from_millis(self.elapsed.load(Ordering::SeqCst))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);
    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn a_jump_is_told_once_and_what_passes_or_is_corrected_is_none() {
        let clock = ManualClock::at(NOW);
        let jumps = Jumps::of(&clock);
        clock.advance(HOUR * 24);
        assert_eq!(jumps.look(&clock), None);
        clock.jump(clock.now().after(JUMP));
        assert_eq!(jumps.look(&clock), None);
        for (to, millis) in [(clock.now().before(HOUR), -3_600_000), (clock.now(), 3_600_000)] {
            clock.jump(to);
            let jump = jumps.look(&clock).unwrap();
            assert_eq!((jump.millis, jump.size()), (millis, HOUR));
            assert_eq!(jumps.look(&clock), None);
        }
    }

    #[test]
    fn a_steady_clock_goes_on_where_the_other_is_set_and_follows_when_told() {
        let wall = Arc::new(ManualClock::at(NOW));
        let steady = SteadyClock::over(wall.clone());
        for to in [NOW.after(HOUR * 24), NOW.before(HOUR)] {
            let before = steady.now();
            wall.jump(to);
            assert_eq!(steady.now(), before);
            wall.advance(HOUR);
            assert_eq!(steady.now(), before.after(HOUR));
            assert_eq!(steady.translate(wall.now().after(HOUR)), before.after(HOUR * 2));
            assert!(steady.follow().is_some());
            assert_eq!(steady.now(), wall.now());
        }
    }

    #[test]
    fn a_date_has_its_second() {
        for (year, month, day, time, secs) in [
            (1970, 1, 1, [0, 0, 0], Some(0)),
            (1999, 12, 31, [23, 59, 59], Some(946_684_799)),
            (2000, 2, 29, [12, 0, 0], Some(951_825_600)),
            (2027, 1, 15, [8, 0, 0], Some(1_800_000_000)),
            (1969, 12, 31, [0, 0, 0], None),
            (2027, 0, 1, [0, 0, 0], None),
            (2027, 1, 32, [0, 0, 0], None),
            (2027, 1, 1, [24, 0, 0], None),
            (u64::MAX, 1, 1, [0, 0, 0], None),
        ] {
            assert_eq!(civil(year, month, day, time), secs.map(Timestamp::from_secs), "{year}");
        }
    }
}
