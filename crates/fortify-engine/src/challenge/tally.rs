//! Statistics of answers by task, rendering and level since the start, in fixed memory and without locks.

use std::array;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use fortify_captcha::{Carrier, Level, Variant};
use schemars::JsonSchema;
use serde::Serialize;

const VARIANTS: usize = Variant::ALL.len();
const CARRIERS: usize = Carrier::ALL.len();
const LEVELS: usize = Level::ALL.len();

/// Upper bounds of the histogram of answer times, in tenths of a second. They are about 25 % apart, which is the
/// precision of the quantiles.
const BOUNDS: [u64; 32] = [
    1, 2, 3, 4, 5, 7, 9, 12, 15, 19, 24, 30, 38, 47, 59, 74, 92, 115, 144, 180, 225, 281, 351, 439,
    549, 686, 858, 1072, 1340, 1675, 2094, 3000,
];

/// The result of a challenge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnswerResult {
    /// A right answer, after this time.
    Solved(Duration),
    /// A wrong answer.
    Failed,
    /// The decoy, which only bots answer.
    Decoy,
}

/// The counters of one task, carrier and level.
#[derive(Default)]
struct Cell {
    issued: AtomicU64,
    solved: AtomicU64,
    failed: AtomicU64,
    decoy: AtomicU64,
    times: [AtomicU64; BOUNDS.len()],
}

/// The statistics of all kinds of challenges.
pub struct Tally(Box<[[[Cell; LEVELS]; CARRIERS]; VARIANTS]>);

/// The statistics of one kind of challenge, or the total.
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct Figures {
    /// The task; null for all.
    pub variant: Option<&'static str>,
    /// The rendering; null for all.
    pub carrier: Option<&'static str>,
    /// The level; null for all.
    pub level: Option<u8>,
    /// Challenges issued.
    pub issued: u64,
    /// Right answers.
    pub solved: u64,
    /// Wrong answers.
    pub failed: u64,
    /// Answers that only bots give.
    pub decoy: u64,
    /// The median time of right answers in seconds; null without any.
    pub seconds_p50: Option<f64>,
    /// The 90th percentile.
    pub seconds_p90: Option<f64>,
    /// The 99th percentile.
    pub seconds_p99: Option<f64>,
}

impl Tally {
    /// Creates empty statistics.
    #[must_use]
    pub fn new() -> Self {
        Self(Box::new(array::from_fn(|_| array::from_fn(|_| array::from_fn(|_| Cell::default())))))
    }

    /// Counts an issued challenge.
    pub fn issued(&self, variant: &str, carrier: &str, level: u8) {
        if let Some(cell) = self.cell(variant, carrier, level) {
            add(&cell.issued);
        }
    }

    /// Counts an answer.
    pub fn answered(&self, variant: &str, carrier: &str, level: u8, result: AnswerResult) {
        let Some(cell) = self.cell(variant, carrier, level) else { return };
        match result {
            AnswerResult::Failed => add(&cell.failed),
            AnswerResult::Decoy => add(&cell.decoy),
            AnswerResult::Solved(took) => {
                add(&cell.solved);
                let tenths = u64::try_from(took.as_millis().div_ceil(100)).unwrap_or(u64::MAX);
                let at = BOUNDS.partition_point(|bound| *bound < tenths).min(BOUNDS.len() - 1);
                cell.times.get(at).into_iter().for_each(add);
            }
        }
    }

    /// The figures of each kind that was issued or answered, and the total.
    #[must_use]
    pub fn figures(&self) -> (Vec<Figures>, Figures) {
        let (mut kinds, mut all, mut all_times) =
            (Vec::new(), Figures::default(), [0; BOUNDS.len()]);
        for (variant, carriers) in Variant::ALL.iter().zip(self.0.iter()) {
            for (carrier, levels) in Carrier::ALL.iter().zip(carriers) {
                for (level, cell) in Level::ALL.iter().zip(levels) {
                    let times = cell.times.each_ref().map(value);
                    let figures = Figures {
                        variant: Some(variant.as_str()),
                        carrier: Some(carrier.as_str()),
                        level: Some(level.get()),
                        issued: value(&cell.issued),
                        solved: value(&cell.solved),
                        failed: value(&cell.failed),
                        decoy: value(&cell.decoy),
                        ..Figures::default()
                    };
                    all.issued += figures.issued;
                    all.solved += figures.solved;
                    all.failed += figures.failed;
                    all.decoy += figures.decoy;
                    all_times.iter_mut().zip(times).for_each(|(sum, count)| *sum += count);
                    if figures.issued + figures.solved + figures.failed + figures.decoy > 0 {
                        kinds.push(figures.with(&times));
                    }
                }
            }
        }
        (kinds, all.with(&all_times))
    }

    fn cell(&self, variant: &str, carrier: &str, level: u8) -> Option<&Cell> {
        let variant = Variant::ALL.iter().position(|one| one.as_str() == variant)?;
        let carrier = Carrier::ALL.iter().position(|one| one.as_str() == carrier)?;
        self.0.get(variant)?.get(carrier)?.get(usize::from(level.checked_sub(1)?))
    }
}

impl Default for Tally {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tally").finish_non_exhaustive()
    }
}

impl Figures {
    fn with(self, times: &[u64]) -> Self {
        let at = |share| quantile(times, share);
        Self { seconds_p50: at(50), seconds_p90: at(90), seconds_p99: at(99), ..self }
    }
}

/// The bound at or below which `percent` of the times are.
fn quantile(times: &[u64], percent: u64) -> Option<f64> {
    let wanted = times.iter().sum::<u64>().saturating_mul(percent).div_ceil(100);
    let mut sum = 0;
    let found = times.iter().zip(BOUNDS).find(|(count, _)| {
        sum += **count;
        wanted > 0 && sum >= wanted
    });
    found.map(|(_, bound)| bound as f64 / 10.0)
}

fn add(count: &AtomicU64) {
    count.fetch_add(1, Ordering::Relaxed);
}

fn value(count: &AtomicU64) -> u64 {
    count.load(Ordering::Relaxed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_counted_separately_and_in_total() {
        let tally = Tally::new();
        for tenths in 1..=100 {
            tally.issued("arithmetic", "ink", 3);
            let took = Duration::from_millis(tenths * 100);
            tally.answered("arithmetic", "ink", 3, AnswerResult::Solved(took));
        }
        tally.issued("distorted_text", "swirl", 10);
        tally.answered("distorted_text", "swirl", 10, AnswerResult::Failed);
        tally.answered("distorted_text", "swirl", 10, AnswerResult::Decoy);
        for (variant, level) in [("nonsense", 3), ("arithmetic", 0), ("arithmetic", 11)] {
            tally.issued(variant, "ink", level);
        }
        let (kinds, all) = tally.figures();
        assert_eq!(kinds.len(), 2);
        assert_eq!((all.issued, all.solved, all.failed, all.decoy), (101, 100, 1, 1));
        // The bounds above 5, 9 and 9.9 seconds.
        let seconds = [all.seconds_p50, all.seconds_p90, all.seconds_p99];
        assert_eq!(seconds, [Some(5.9), Some(9.2), Some(11.5)]);
        assert!(kinds.iter().any(|kind| kind.decoy == 1 && kind.seconds_p50.is_none()));
    }

    #[test]
    fn a_time_beyond_the_last_bound_counts_in_it() {
        let tally = Tally::new();
        tally.answered("arithmetic", "ink", 1, AnswerResult::Solved(Duration::MAX));
        assert_eq!(tally.figures().1.seconds_p50, Some(300.0));
    }
}
