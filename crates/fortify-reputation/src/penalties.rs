//! Circuits that get stricter limits in `HAProxy` for a while, because their answers look automated.
//!
//! Kept in memory only: a penalty lost in a restart is set again with the next suspicious answer.

use std::collections::{BTreeMap, BTreeSet};

use fortify_core::circuit::TorCircuit;
use fortify_core::clock::Timestamp;

/// The most circuits, about 100 bytes each; the one whose penalty ends first is evicted. Each penalty is sent to
/// `HAProxy` again once a minute, which takes 64 batches at the limit.
const MAX: usize = 16_384;

/// Penalties, by circuit and by when they end.
#[derive(Default)]
pub(super) struct Penalties {
    until: BTreeMap<TorCircuit, Timestamp>,
    ends: BTreeSet<(Timestamp, TorCircuit)>,
    /// Numbers whose penalty counter in `HAProxy` has yet to be cleared. Beyond the limit, a counter stays until its
    /// entry expires.
    to_clear: BTreeSet<u32>,
}

/// The update of the penalty counter of a number in `HAProxy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PenaltyUpdate {
    /// Leave it.
    Unchanged,
    /// Clear it.
    Clear,
    /// Set it high enough for stricter limits.
    Set,
}

impl Penalties {
    /// Penalises `circuit` until `until`. Returns the circuits whose penalty began or ended by that, an evicted one
    /// included.
    pub(super) fn set(&mut self, circuit: TorCircuit, until: Timestamp) -> Vec<TorCircuit> {
        let before = self.until.insert(circuit, until);
        if let Some(before) = before {
            self.ends.remove(&(before, circuit));
        }
        self.ends.insert((until, circuit));
        self.to_clear.remove(&circuit.number());
        let mut changed: Vec<_> = before.is_none().then_some(circuit).into_iter().collect();
        if self.until.len() > MAX
            && let Some((_, first)) = self.ends.pop_first()
        {
            self.until.remove(&first);
            self.clear(first);
            changed.push(first);
        }
        changed
    }

    /// Removes the penalty of `circuit`, and returns whether it had one.
    pub(super) fn remove(&mut self, circuit: TorCircuit) -> bool {
        let until = self.until.remove(&circuit);
        let had = until.is_some_and(|until| self.ends.remove(&(until, circuit)));
        if had {
            self.clear(circuit);
        }
        had
    }

    /// Schedules the penalty counter of a circuit to be cleared.
    pub(super) fn clear(&mut self, circuit: TorCircuit) {
        if self.to_clear.len() < MAX {
            self.to_clear.insert(circuit.number());
        }
    }

    /// Confirms that `HAProxy` has cleared these counters.
    pub(super) fn mark_cleared(&mut self, numbers: &[u32]) {
        numbers.iter().for_each(|number| {
            self.to_clear.remove(number);
        });
    }

    /// Shifts all times by as much as the clock was set.
    pub(super) fn shift(&mut self, millis: i64) {
        self.until.values_mut().for_each(|until| *until = until.shifted(millis));
        self.ends = self.until.iter().map(|(circuit, until)| (*until, *circuit)).collect();
    }

    /// Removes one penalty that has ended, and returns its circuit.
    pub(super) fn pop_ended(&mut self, now: Timestamp) -> Option<TorCircuit> {
        let (until, circuit) = *self.ends.first()?;
        (until <= now).then(|| self.remove(circuit)).map(|_| circuit)
    }

    /// The update for a number.
    pub(super) fn update_for(&self, number: u32, now: Timestamp) -> PenaltyUpdate {
        if self.until.range(TorCircuit::all_of(number)).any(|(_, until)| now < *until) {
            return PenaltyUpdate::Set;
        }
        if self.to_clear.contains(&number) {
            PenaltyUpdate::Clear
        } else {
            PenaltyUpdate::Unchanged
        }
    }

    /// The penalised circuits.
    pub(super) fn circuits(&self) -> impl Iterator<Item = TorCircuit> {
        self.until.keys().copied()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

    fn circuit(number: u32) -> TorCircuit {
        TorCircuit::from_parts(0, 1, number)
    }

    fn seconds(count: u64) -> Timestamp {
        NOW.after(Duration::from_secs(count))
    }

    #[test]
    fn a_penalty_ends_when_its_time_has_come_or_it_is_taken_back() {
        let mut penalties = Penalties::default();
        assert_eq!(penalties.set(circuit(7), seconds(10)), [circuit(7)]);
        assert_eq!(penalties.set(circuit(7), seconds(20)), [], "it had one");
        assert_eq!(penalties.update_for(7, seconds(19)), PenaltyUpdate::Set);
        assert_eq!(penalties.update_for(8, NOW), PenaltyUpdate::Unchanged);
        assert_eq!(penalties.pop_ended(seconds(19)), None);
        penalties.shift(-5000);
        assert_eq!(penalties.update_for(7, seconds(14)), PenaltyUpdate::Set);
        assert_ne!(penalties.update_for(7, seconds(15)), PenaltyUpdate::Set);
        penalties.shift(5000);
        assert_eq!(penalties.pop_ended(seconds(20)), Some(circuit(7)));
        assert_eq!(penalties.pop_ended(seconds(20)), None);
        assert_eq!(penalties.update_for(7, seconds(20)), PenaltyUpdate::Clear);
        penalties.mark_cleared(&[7]);
        assert_eq!(penalties.update_for(7, seconds(20)), PenaltyUpdate::Unchanged);
        penalties.set(circuit(8), seconds(10));
        assert!(penalties.remove(circuit(8)) && !penalties.remove(circuit(8)));
        assert_eq!(penalties.circuits().count(), 0);
        assert!(penalties.ends.is_empty());
    }

    #[test]
    fn at_the_bound_the_one_that_ends_first_makes_room() {
        let mut penalties = Penalties::default();
        for number in 0..MAX as u32 {
            penalties.set(circuit(number), seconds(1000 + u64::from(number)));
        }
        assert_eq!(penalties.set(circuit(99_999), seconds(9)), [circuit(99_999), circuit(99_999)]);
        let changed = penalties.set(circuit(88_888), seconds(99_999));
        assert_eq!(changed, [circuit(88_888), circuit(0)]);
        assert_eq!(penalties.circuits().count(), MAX);
    }
}
