//! A circuit breaker that switches to plain pictures when drawing takes too long. Pure.

use std::time::Duration;

/// A render that takes longer than this is slow, as the requirements say.
pub const SLOW: Duration = Duration::from_millis(500);

/// The number of consecutive slow renders that open the breaker, and of consecutive quick ones that close it, as
/// the requirements say.
pub const IN_A_ROW: u32 = 10;

/// Counts slow and quick renders.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Breaker {
    open: bool,
    /// Consecutive renders that contradict the current state.
    against: u32,
}

/// A change of state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Only plain pictures are drawn from now on.
    Opened,
    /// All kinds of pictures are drawn again.
    Closed,
}

impl Breaker {
    /// Whether only plain pictures are to be drawn.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        self.open
    }

    /// Observes the duration of a render.
    pub fn observe(&mut self, took: Duration) -> Option<Change> {
        if (took > SLOW) == self.open {
            self.against = 0;
            return None;
        }
        self.against += 1;
        if self.against < IN_A_ROW {
            return None;
        }
        (self.open, self.against) = (!self.open, 0);
        Some(if self.open { Change::Opened } else { Change::Closed })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUICK: Duration = Duration::from_millis(500);
    const LONG: Duration = Duration::from_millis(501);

    fn changes(times: impl IntoIterator<Item = Duration>) -> Vec<(usize, Change)> {
        let mut breaker = Breaker::default();
        let observed = times.into_iter().enumerate();
        observed.filter_map(|(at, took)| Some((at, breaker.observe(took)?))).collect()
    }

    #[test]
    fn ten_slow_renders_in_a_row_open_it_and_ten_quick_ones_close_it() {
        let times = [LONG; 10].into_iter().chain([QUICK; 10]).chain([LONG; 10]);
        let expected = [(9, Change::Opened), (19, Change::Closed), (29, Change::Opened)];
        assert_eq!(changes(times), expected);
    }

    #[test]
    fn one_render_of_the_other_kind_restarts_the_count() {
        let mut times = [LONG; 19];
        times[9] = QUICK;
        assert_eq!(changes(times), []);
        let mut times = [LONG; 10].into_iter().chain([QUICK; 19]).collect::<Vec<_>>();
        times[19] = LONG;
        assert_eq!(changes(times), [(9, Change::Opened)]);
    }
}
