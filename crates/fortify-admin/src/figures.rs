//! Samples of the traffic of the last hour, every ten seconds, for rates and charts.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;
use tokio::time::MissedTickBehavior;

use super::SharedAdmin;
use fortify_core::clock::Timestamp;
use fortify_web::app::App;

/// The time between samples.
const EVERY: Duration = Duration::from_secs(10);

/// The most samples: an hour.
const KEPT: usize = 361;

/// Totals since the start, and the state of the gate, at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Sample {
    /// When it was taken, in ms since the Unix epoch.
    pub at: Timestamp,
    /// Requests admitted since the start.
    pub admitted: u64,
    /// Requests answered with a challenge.
    pub challenged: u64,
    /// Requests refused, of banned circuits and of those that have to wait.
    pub refused: u64,
    /// Challenges solved.
    pub solved: u64,
    /// Challenges without an answer yet.
    pub active_challenges: u64,
    /// The threat level.
    pub level: u8,
}

/// The samples of the last hour.
pub(super) struct Figures(Mutex<VecDeque<Sample>>);

impl Figures {
    pub(super) fn new() -> Self {
        Self(Mutex::default())
    }

    pub(super) fn add(&self, sample: Sample) {
        let mut samples = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if samples.len() >= KEPT {
            samples.pop_front();
        }
        samples.push_back(sample);
    }

    /// All samples, the oldest first.
    pub(super) fn all(&self) -> Vec<Sample> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().copied().collect()
    }

    /// The oldest sample that is at most `within` old.
    pub(super) fn since(&self, now: Timestamp, within: Duration) -> Option<Sample> {
        let samples = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        samples.iter().find(|sample| sample.at.until(now) <= within).copied()
    }
}

/// Takes a sample.
pub(super) async fn now(app: &App) -> Sample {
    let totals = app.metrics.totals();
    Sample {
        at: app.clock.now(),
        admitted: totals.admitted,
        challenged: totals.challenged,
        refused: totals.refused,
        solved: totals.solved,
        active_challenges: app.engine.active_challenges().await.unwrap_or(0),
        level: app.engine.dial().level.get(),
    }
}

/// Takes samples until it is aborted.
pub(super) async fn follow(admin: SharedAdmin) {
    let mut tick = tokio::time::interval(EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        admin.count().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_hour_is_kept_and_no_more() {
        let figures = Figures::new();
        for second in 0..10_000 {
            let at = Timestamp::from_secs(second);
            let zero = Sample {
                at,
                admitted: second,
                challenged: 0,
                refused: 0,
                solved: 0,
                active_challenges: 0,
                level: 1,
            };
            figures.add(zero);
        }
        assert_eq!(figures.all().len(), KEPT);
        let since = figures.since(Timestamp::from_secs(9_999), Duration::from_secs(60)).unwrap();
        assert_eq!(since.admitted, 9_939);
    }
}
