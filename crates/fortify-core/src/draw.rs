//! The draw for places in a full queue; pure.
//!
//! Whoever finds the queue full takes part in a draw, again at each refresh of its page. Draws last [`INTERVAL`]
//! each. Every number has one lot in each draw, a keyed hash, so that presenting a ticket twice wins nothing and
//! nobody knows which numbers will win. The smallest lots win the places that became free. Only as many lots are
//! kept as can win, so a flood costs no memory.

use std::collections::{BTreeSet, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};

/// The time from one draw to the next, in ms.
pub const INTERVAL: u64 = 6_000;

/// The draws whose winners are still known: a page comes back after one refresh, a slow one after two.
const REMEMBERED: usize = 3;

/// The draws of one lane.
#[derive(Debug)]
pub struct Draw {
    key: u64,
    /// The most lots kept, and so the most winners of a draw.
    most: usize,
    on: bool,
    epoch: u64,
    /// The smallest lots of the current draw.
    lots: BTreeSet<u64>,
    /// The largest winning lot of the last draws, the latest first; `None` if nobody won.
    won: VecDeque<(u64, Option<u64>)>,
}

impl Draw {
    /// No draw yet. `key` is random and secret.
    #[must_use]
    pub const fn new(key: u64, most: usize) -> Self {
        Self { key, most, on: false, epoch: 1, lots: BTreeSet::new(), won: VecDeque::new() }
    }

    /// Whether places are drawn for.
    #[must_use]
    pub const fn is_on(&self) -> bool {
        self.on
    }

    /// Keeps at most `most` lots from now on.
    pub fn set_most(&mut self, most: usize) {
        self.most = most;
        while self.lots.len() > most {
            self.lots.pop_last();
        }
    }

    /// Begins to draw for places.
    pub const fn begin(&mut self) {
        self.on = true;
    }

    /// Ends the draws: whoever took part gets a place.
    pub fn end(&mut self) {
        self.on = false;
        self.lots.clear();
    }

    /// Moves to the draw at `age` ms. If the last one is over, the smallest lots win the `free` places. The draws
    /// end with one in which everybody won.
    pub fn advance(&mut self, age: u64, free: usize) {
        let epoch = age / INTERVAL + 1;
        if epoch == self.epoch {
            return;
        }
        if self.on {
            let free = free.min(self.most);
            let everybody = self.lots.len() < free;
            let last = match everybody {
                true => Some(u64::MAX),
                false => free.checked_sub(1).and_then(|last| self.lots.iter().nth(last).copied()),
            };
            self.won.push_front((self.epoch, last));
            self.won.truncate(REMEMBERED);
            self.on = !everybody;
        }
        self.lots.clear();
        self.epoch = epoch;
    }

    /// Takes part in the current draw, and returns its number.
    pub fn enter(&mut self, number: u64) -> u64 {
        let lot = self.lot(self.epoch, number);
        if self.lots.len() < self.most {
            self.lots.insert(lot);
        } else if self.lots.last().is_some_and(|last| lot < *last) && self.lots.insert(lot) {
            self.lots.pop_last();
        }
        self.epoch
    }

    /// Whether `number` won in the draw `epoch`, in which it took part.
    #[must_use]
    pub fn has_won(&self, epoch: u64, number: u64) -> bool {
        let last = self.won.iter().find(|(drawn, _)| *drawn == epoch).and_then(|(_, last)| *last);
        epoch != 0 && last.is_some_and(|last| self.lot(epoch, number) <= last)
    }

    /// The odds: one in this many wins, as in the last draw, or if `calls` places become free in this one.
    #[must_use]
    pub fn odds(&self, calls: u64) -> u64 {
        let last = self.won.front().and_then(|(_, last)| *last).filter(|last| *last < u64::MAX);
        if let Some(last) = last {
            return (u64::MAX / last.max(1)).max(1);
        }
        // The k smallest of n evenly spread lots reach up to k / n of the range.
        let kept = self.lots.len() as u64;
        let reach = self.lots.last().copied().unwrap_or(u64::MAX).max(1);
        let all = if kept < self.most as u64 { kept } else { kept * (u64::MAX / reach).max(1) };
        (all / calls.max(1)).max(1)
    }

    fn lot(&self, epoch: u64, number: u64) -> u64 {
        let mut hasher = DefaultHasher::new();
        (self.key, epoch, number).hash(&mut hasher);
        hasher.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Draws for `free` places among the numbers up to `count`; the winners.
    fn drawn(draw: &mut Draw, at: u64, count: u64, free: usize) -> Vec<u64> {
        draw.begin();
        draw.advance(at, 0);
        let mut epoch = 0;
        for number in (0..count).chain(0..count) {
            epoch = draw.enter(number);
        }
        draw.advance(at + INTERVAL, free);
        (0..count).filter(|number| draw.has_won(epoch, *number)).collect()
    }

    #[test]
    fn as_many_win_as_places_are_free_each_time_others() {
        let mut draw = Draw::new(7, 500);
        let first = drawn(&mut draw, 0, 10_000, 100);
        assert_eq!(first.len(), 100);
        assert!((80..125).contains(&draw.odds(100)), "{}", draw.odds(100));
        let second = drawn(&mut draw, 2 * INTERVAL, 10_000, 100);
        assert_eq!(second.len(), 100);
        let both = first.iter().filter(|number| second.contains(number)).count();
        assert!(both < 10, "{both} won twice");
        assert_ne!(drawn(&mut Draw::new(8, 500), 0, 10_000, 100), first, "the key decides");
    }

    #[test]
    fn more_can_win_once_more_places_are_there() {
        let mut draw = Draw::new(7, 10);
        draw.set_most(100);
        assert_eq!(drawn(&mut draw, 0, 1_000, 100).len(), 100);
        draw.begin();
        for number in 0..1_000 {
            draw.enter(number);
        }
        draw.set_most(10);
        assert_eq!(draw.lots.len(), 10);
    }

    #[test]
    fn everybody_wins_when_there_is_room_and_the_draws_end() {
        let mut draw = Draw::new(7, 500);
        assert_eq!(drawn(&mut draw, 0, 50, 100).len(), 50);
        assert!(!draw.is_on());
    }

    #[test]
    fn old_draws_are_not_won_and_no_more_lots_are_kept_than_can_win() {
        let mut draw = Draw::new(7, 500);
        let winners = drawn(&mut draw, 0, 100_000, 100_000);
        assert_eq!(winners.len(), 500);
        assert_eq!(draw.lots.len(), 0);
        for later in 2..=4 {
            draw.begin();
            for number in 0..1_000 {
                draw.enter(number);
            }
            assert_eq!(draw.lots.len(), 500);
            draw.advance(later * INTERVAL, 1);
        }
        assert!(!winners.iter().any(|number| draw.has_won(1, *number)));
        assert!(!draw.has_won(0, 1), "no draw");
    }
}
