//! The generator's arithmetic: percentiles, paces, and when a run is void.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// The share of late starts beyond which a run says nothing about the gate: the generator was the one who was slow.
pub const MOST_LATE: f64 = 0.05;

/// A start that comes this much after its time is late. Twice what a person would call a moment; timers of a busy
/// core are exact to a few milliseconds.
const LATE: Duration = Duration::from_millis(250);

/// The value that a share `q` of `values` does not exceed, by nearest rank; `None` of nothing.
#[must_use]
pub fn percentile(values: &[f64], q: f64) -> Option<f64> {
    let mut sorted: Vec<f64> = values.iter().copied().filter(|value| value.is_finite()).collect();
    sorted.sort_by(f64::total_cmp);
    let rank = (q.clamp(0.0, 1.0) * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.max(1) - 1).copied()
}

/// The share of `values` that `holds`; `None` of nothing.
#[must_use]
pub fn share<T>(values: &[T], holds: impl Fn(&T) -> bool) -> Option<f64> {
    let held = values.iter().filter(|value| holds(value)).count();
    (!values.is_empty()).then(|| held as f64 / values.len() as f64)
}

/// The chance of each of `asked` to get one of `given`.
#[must_use]
pub fn fair_chance(given: f64, asked: f64) -> f64 {
    if asked <= given { 1.0 } else { (given / asked).max(0.0) }
}

/// How punctual the generator is: starts, and how many of them were late.
#[derive(Debug, Default)]
pub struct Punctuality {
    starts: AtomicU64,
    late: AtomicU64,
}

impl Punctuality {
    /// Counts a start that came `after` its time.
    pub fn count(&self, after: Duration) {
        self.starts.fetch_add(1, Ordering::Relaxed);
        if after > LATE {
            self.late.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The share of starts that were late.
    #[must_use]
    pub fn late(&self) -> f64 {
        let starts = self.starts.load(Ordering::Relaxed);
        self.late.load(Ordering::Relaxed) as f64 / starts.max(1) as f64
    }
}

/// Why a run with this share of late starts is void, if it is.
#[must_use]
pub fn too_late(late: f64) -> Option<String> {
    (late > MOST_LATE).then(|| {
        format!("the generator was late for {:.0} % of what it had to start", late * 100.0)
    })
}

/// Starts at an even rate, whatever becomes of what was started before.
#[derive(Debug)]
pub struct Pacer<'a> {
    begun: Instant,
    rate: f64,
    started: u64,
    punctuality: &'a Punctuality,
}

impl<'a> Pacer<'a> {
    /// `rate` starts a second, from now on.
    #[must_use]
    pub fn new(rate: f64, punctuality: &'a Punctuality) -> Self {
        Self { begun: Instant::now(), rate, started: 0, punctuality }
    }

    /// Waits until the next start is due. One that is overdue is due at once, so the rate holds.
    pub async fn next(&mut self) {
        let due = self.begun + due(self.started, self.rate);
        self.started += 1;
        // Many a second: a timer for each would cost more than what it starts.
        if due > Instant::now() {
            tokio::time::sleep_until(due).await;
        } else if self.started.is_multiple_of(64) {
            tokio::task::yield_now().await;
        }
        self.punctuality.count(Instant::now().saturating_duration_since(due));
    }
}

/// When start number `n`, from 0, is due.
fn due(n: u64, rate: f64) -> Duration {
    Duration::try_from_secs_f64(n as f64 / rate.max(1e-9)).unwrap_or(Duration::MAX)
}

/// Random numbers (`SplitMix64`): the same seed gives the same people.
#[derive(Clone, Debug)]
pub struct Dice(pub u64);

impl Dice {
    /// Any number.
    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number from 0 to 1, 1 excluded.
    pub fn unit(&mut self) -> f64 {
        (self.roll() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Whether something happens that has this chance.
    pub fn chance(&mut self, chance: f64) -> bool {
        self.unit() < chance
    }

    /// A time between two, in seconds.
    pub fn seconds(&mut self, (least, most): (f64, f64)) -> Duration {
        Duration::from_secs_f64(least + self.unit() * (most - least))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_nearest_ranks() {
        let hundred: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        for (q, value) in [(0.0, 1.0), (0.5, 50.0), (0.95, 95.0), (0.99, 99.0), (1.0, 100.0)] {
            assert_eq!(percentile(&hundred, q), Some(value), "{q}");
        }
        assert_eq!(percentile(&[7.0], 0.95), Some(7.0));
        assert_eq!(percentile(&[], 0.5), None);
        assert_eq!(percentile(&[f64::NAN, 2.0], 1.0), Some(2.0));
    }

    #[test]
    fn a_fair_chance_is_what_is_given_by_who_asks() {
        assert_eq!(fair_chance(10.0, 5.0), 1.0);
        assert_eq!(fair_chance(10.0, 40.0), 0.25);
        assert_eq!(fair_chance(0.0, 40.0), 0.0);
        assert_eq!(share(&[1, 2, 3, 4], |n| *n > 1), Some(0.75));
        assert_eq!(share::<u8>(&[], |_| true), None);
    }

    #[test]
    fn a_run_is_void_beyond_one_late_start_in_twenty() {
        let punctuality = Punctuality::default();
        (0..95).for_each(|_| punctuality.count(Duration::ZERO));
        (0..5).for_each(|_| punctuality.count(Duration::from_millis(251)));
        assert_eq!(too_late(punctuality.late()), None);
        punctuality.count(Duration::from_secs(9));
        assert!(too_late(punctuality.late()).is_some_and(|why| why.contains("6 %")));
        assert_eq!(too_late(Punctuality::default().late()), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_pacer_keeps_its_rate_and_counts_who_holds_it_up() {
        let punctuality = Punctuality::default();
        let mut pacer = Pacer::new(100.0, &punctuality);
        let begun = Instant::now();
        for _ in 0..101 {
            pacer.next().await;
        }
        assert_eq!(begun.elapsed().as_millis(), 1000);
        assert_eq!(punctuality.late(), 0.0);
        // Two seconds in which the generator does nothing: what was due in them is caught up, late but for
        // the last quarter of a second.
        tokio::time::advance(Duration::from_secs(2)).await;
        for _ in 0..200 {
            pacer.next().await;
        }
        assert_eq!(begun.elapsed().as_millis(), 3000);
        let late = (punctuality.late() * 301.0).round();
        assert!((174.0..=176.0).contains(&late), "{late}");
    }

    #[test]
    fn dice_stay_within_what_they_are_asked_for() {
        let mut dice = Dice(1);
        for _ in 0..1000 {
            let seconds = dice.seconds((5.0, 25.0)).as_secs_f64();
            assert!((5.0..25.0).contains(&seconds));
        }
        let heads = (0..12_000).filter(|_| dice.chance(1.0 / 12.0)).count();
        assert!((850..1150).contains(&heads), "{heads}");
    }
}
