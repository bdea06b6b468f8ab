//! The baseline of what is normal at this service, so that a busy shop does not look like an attack.
//!
//! Three measures of a circuit are learnt: its peak of requests in a minute, its peak of pages in five
//! minutes, and how many distinct pages it asks for. Each has a limit: the value whose robust z-score
//! is [`Z`], never below a floor and never above [`MOST`] times the floor. So a quiet service teaches
//! nothing that could blame people, and nobody teaches a limit away.
//!
//! # How fast an attacker could teach it
//!
//! A sample comes from a circuit with a session that was never found to be anything, at most one in
//! five minutes; one in [`SLOT`] is taken, for all circuits together; and each moves a limit by at most
//! [`SLEW`]. Whoever gives *every* sample doubles a limit in an hour, and never gets further than ten
//! times the floor, which takes three hours and twenty minutes of behaving just below it. Whoever gives
//! less than half of them moves median and deviation only among the values of others: with a third of
//! the samples of the service in the test below, the limit ends at one and a half times the floor.

use std::time::Duration;

use fortify_core::clock::Timestamp;

/// How often a sample is taken, from whichever circuit is first: at most 360 an hour.
pub(super) const SLOT: Duration = Duration::from_secs(10);

/// How far one sample moves a limit at most, in nats: ln 2 in the 360 samples of an hour.
const SLEW: f32 = std::f32::consts::LN_2 / 360.0;

/// From which modified z-score a value is an outlier: Iglewicz and Hoaglin (1993) recommend it.
const Z: f32 = 3.5;

/// What makes the median absolute deviation of a normal distribution its standard deviation.
const MAD_SCALE: f32 = 1.4826;

/// How far one sample moves median and deviation, in nats. Steps of a fixed size towards each value
/// settle where half of the values are on either side, which is the median, however far out the
/// others are (Feldman and Shavitt 2007).
const STEP: f32 = 1.0 / 64.0;

/// The least deviation, in nats: visitors who are all alike must not make the next one an outlier.
const LEAST_DEVIATION: f32 = 0.1;

/// How many times its floor a limit can be.
const MOST: f32 = 10.0;

/// The weight of a sample in the moving averages.
const EWMA_WEIGHT: f32 = 1.0 / 64.0;

/// A sample of one circuit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Sample {
    /// Its peak of requests in about a minute.
    pub(super) rate: f32,
    /// Its peak of pages in about five minutes.
    pub(super) page_rate: f32,
    pub(super) distinct_pages: f32,
    /// The share of assets among its requests, 0 to 1.
    pub(super) asset_share: f32,
    /// The share of missing pages, 0 to 1.
    pub(super) missing_share: f32,
}

/// What is normal at this service.
#[derive(Clone, Copy, Debug)]
pub struct Baseline {
    learnt: Option<Timestamp>,
    rate: Usual,
    page_rate: Usual,
    distinct_pages: Usual,
    asset_share: f32,
    missing_share: f32,
}

impl Default for Baseline {
    /// The floors, which apply until enough was learnt; `docs/behaviour.md` explains them.
    fn default() -> Self {
        Self {
            learnt: None,
            rate: Usual::above(600.0),
            page_rate: Usual::above(100.0),
            distinct_pages: Usual::above(60.0),
            asset_share: 0.0,
            missing_share: 0.0,
        }
    }
}

impl Baseline {
    /// Learns from a sample if one is due, and returns whether it did.
    pub(super) fn learn(&mut self, sample: &Sample, now: Timestamp) -> bool {
        // A clock that was set back must not pause learning.
        let due = |last: Timestamp| now < last || last.until(now) >= SLOT;
        if !self.learnt.is_none_or(due) {
            return false;
        }
        self.learnt = Some(now);
        self.rate.learn(sample.rate);
        self.page_rate.learn(sample.page_rate);
        self.distinct_pages.learn(sample.distinct_pages);
        average(&mut self.asset_share, sample.asset_share);
        average(&mut self.missing_share, sample.missing_share);
        true
    }

    /// Requests in about a minute above which a circuit is an outlier.
    pub(super) fn most_requests(&self) -> f32 {
        self.rate.limit.exp()
    }

    /// Pages in about five minutes above which a circuit is an outlier.
    pub(super) fn most_pages(&self) -> f32 {
        self.page_rate.limit.exp()
    }

    /// Distinct pages in ten to twenty minutes above which a circuit is an outlier.
    pub(super) fn most_distinct_pages(&self) -> f32 {
        self.distinct_pages.limit.exp()
    }

    /// Whether the pages of this service load assets; those of many onion services do not.
    pub(super) fn has_assets(&self) -> bool {
        self.asset_share >= 0.2
    }

    /// Whether so many pages are missing for everybody that missing pages say nothing about a visitor.
    pub(super) fn is_broken(&self) -> bool {
        self.missing_share >= 0.2
    }
}

fn average(average: &mut f32, value: f32) {
    if value.is_finite() {
        *average += (value.clamp(0.0, 1.0) - *average) * EWMA_WEIGHT;
    }
}

/// One measure, in natural logarithms, because people differ by factors.
#[derive(Clone, Copy, Debug)]
struct Usual {
    median: f32,
    deviation: f32,
    floor: f32,
    limit: f32,
}

impl Usual {
    fn above(floor: f32) -> Self {
        let floor = floor.ln();
        // One visitor in ten thousand is near the floor, if nothing else is known.
        Self { median: floor - 3.0, deviation: 0.5, floor, limit: floor }
    }

    fn learn(&mut self, value: f32) {
        if !value.is_finite() {
            return;
        }
        let off = value.max(1.0).ln() - self.median;
        self.deviation += STEP * (off.abs() - self.deviation).signum();
        self.deviation = self.deviation.max(LEAST_DEVIATION);
        self.median += STEP * off.signum();
        let target = self.median + Z * MAD_SCALE * self.deviation;
        let target = target.clamp(self.floor, self.floor + MOST.ln());
        self.limit += (target - self.limit).clamp(-SLEW, SLEW);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

    fn sample(rate: f32) -> Sample {
        Sample { rate, page_rate: 5.0, distinct_pages: 5.0, asset_share: 0.5, missing_share: 0.0 }
    }

    /// A baseline after so many hours of samples, as often as they are taken.
    fn taught(hours: u32, rate: impl Fn(u32) -> f32) -> Baseline {
        let mut baseline = Baseline::default();
        for number in 0..hours * 360 {
            assert!(baseline.learn(&sample(rate(number)), NOW.after(SLOT * number)));
        }
        baseline
    }

    #[test]
    fn a_busy_service_is_normal_to_itself_and_a_quiet_one_blames_nobody_sooner() {
        let quiet = taught(10, |number| 5.0 + (number % 20) as f32);
        assert!(quiet.most_requests() < 601.0, "{}", quiet.most_requests());
        let busy = taught(10, |number| 200.0 + (number % 40) as f32 * 20.0);
        assert!(busy.most_requests() > 1_500.0, "{}", busy.most_requests());
        assert!(busy.has_assets() && !busy.is_broken());
    }

    #[test]
    fn whoever_gives_every_sample_doubles_a_limit_in_an_hour_and_ends_at_ten_times() {
        let hour = taught(1, |_| 1e9).most_requests();
        assert!((600.0..=1_201.0).contains(&hour), "{hour}");
        let ever = taught(24, |_| 1e9).most_requests();
        assert!((5_900.0..=6_001.0).contains(&ever), "{ever}");
    }

    #[test]
    fn a_third_of_the_samples_teaches_little() {
        let usual = |number: u32| 20.0 + (number % 7) as f32 * 5.0;
        let attacked = taught(24, |number| if number % 3 == 0 { 1e9 } else { usual(number) });
        assert!(attacked.most_requests() < 1_200.0, "{}", attacked.most_requests());
    }

    #[test]
    fn samples_are_taken_one_in_ten_seconds() {
        let mut baseline = Baseline::default();
        assert!(baseline.learn(&sample(5.0), NOW));
        assert!(!baseline.learn(&sample(5.0), NOW.after(Duration::from_secs(9))));
        assert!(baseline.learn(&sample(5.0), Timestamp::from_secs(5)), "a clock set back");
    }

    proptest! {
        #[test]
        fn limits_stay_between_floor_and_ten_times(
            rates in prop::collection::vec(any::<f32>(), 0..400),
        ) {
            let mut baseline = Baseline::default();
            for (number, rate) in rates.into_iter().enumerate() {
                baseline.learn(&sample(rate), NOW.after(SLOT * number as u32));
                prop_assert!((599.0..6_001.0).contains(&baseline.most_requests()));
            }
        }
    }
}
