//! A bounded map of circuits, or of sessions, that evicts the least recently used.
//!
//! Each circuit takes one allocation (the value, the pseudonym and two pointers) and a third of a pointer in
//! a table. Expired values are not returned, and are removed gradually: each change checks the two circuits
//! that were used least recently.

use std::fmt;
use std::hash::{Hash, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};

use hashlink::LruCache;

use crate::pseudonym::{CircuitTag, TAG_BYTES};

/// Parts with a lock each, so that requests of different circuits rarely wait for each other.
const PARTS: usize = 16;

/// Circuits that each change checks for expired values.
const LOOKED_AT: usize = 2;

/// A bounded map of circuits, or of other keys of 16 bytes.
pub struct Recent<T, K = CircuitTag> {
    parts: [Mutex<LruCache<K, T, RandomState>>; PARTS],
}

impl<T, K: Copy + Eq + Hash + Into<[u8; TAG_BYTES]>> Recent<T, K> {
    /// A map for `most` circuits, rounded down to a multiple of 16. Pseudonyms are hashes, so the
    /// parts fill evenly; one is full slightly before all are.
    pub fn new(most: usize) -> Self {
        let part = |_| Mutex::new(LruCache::with_hasher(most / PARTS, RandomState::new()));
        Self { parts: std::array::from_fn(part) }
    }

    /// The value of `circuit`, unless `is_over` says that it has expired.
    pub fn get(&self, circuit: K, is_over: impl FnOnce(&T) -> bool) -> Option<T>
    where
        T: Clone,
    {
        let mut part = self.part(circuit);
        part.get(&circuit).filter(|known| !is_over(known)).cloned()
    }

    /// Replaces the value of `circuit` by the one that `change` makes of it, atomically, and returns the
    /// result of `change`. `is_over` says which values have expired.
    pub fn change<R>(
        &self,
        circuit: K,
        is_over: impl Fn(&T) -> bool,
        change: impl FnOnce(Option<T>) -> (T, R),
    ) -> R {
        let mut part = self.part(circuit);
        for _ in 0..LOOKED_AT {
            if part.iter().next().is_none_or(|(_, oldest)| !is_over(oldest)) {
                break;
            }
            part.remove_lru();
        }
        let known = part.remove(&circuit).filter(|known| !is_over(known));
        let (next, said) = change(known);
        part.insert(circuit, next);
        said
    }

    /// All circuits with their values, the expired ones too. Each part is locked while it is copied: less than a
    /// millisecond for 100,000 circuits in all.
    pub fn all(&self) -> Vec<(K, T)>
    where
        T: Clone,
    {
        let mut all = Vec::new();
        for part in &self.parts {
            let part = part.lock().unwrap_or_else(PoisonError::into_inner);
            all.extend(part.iter().map(|(circuit, value)| (*circuit, value.clone())));
        }
        all
    }

    /// Whether there is a value of `circuit`, expired or not; unlike [`Self::get`], this does not count as asking about it.
    pub fn contains(&self, circuit: K) -> bool {
        self.part(circuit).contains_key(&circuit)
    }

    /// Forgets `circuit`.
    pub fn forget(&self, circuit: K) {
        self.part(circuit).remove(&circuit);
    }

    /// The number of circuits in the map.
    #[cfg(test)]
    fn len(&self) -> usize {
        self.parts.iter().map(|part| part.lock().unwrap().len()).sum()
    }

    /// Whole after any panic: at worst a circuit is forgotten.
    fn part(&self, circuit: K) -> MutexGuard<'_, LruCache<K, T, RandomState>> {
        let [first, ..] = circuit.into();
        self.parts[usize::from(first) % PARTS].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T, K> fmt::Debug for Recent<T, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recent").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn circuit(number: u32) -> CircuitTag {
        let mut bytes = [0; 16];
        bytes[0] = number as u8;
        bytes[1..5].copy_from_slice(&number.to_le_bytes());
        CircuitTag::from_bytes(bytes)
    }

    fn never(_: &u32) -> bool {
        false
    }

    fn add(recent: &Recent<u32>, number: u32) -> u32 {
        recent.change(circuit(number), never, |known| {
            let next = known.unwrap_or(0) + 1;
            (next, next)
        })
    }

    #[test]
    fn the_circuit_that_was_asked_about_least_recently_makes_room() {
        let recent = Recent::new(32 * PARTS);
        for number in 0..(32 * PARTS) as u32 {
            add(&recent, number);
        }
        assert_eq!(recent.get(circuit(0), never), Some(1));
        for number in 1000..1000 + (16 * PARTS) as u32 {
            assert_eq!(add(&recent, number), 1, "who is new is never refused");
        }
        assert_eq!(recent.len(), 32 * PARTS);
        assert_eq!(add(&recent, 0), 2, "asked about recently");
        assert_eq!(recent.get(circuit(1), never), None);
        recent.forget(circuit(0));
        assert_eq!(add(&recent, 0), 1);
    }

    #[test]
    fn what_is_over_is_not_given_and_goes_with_time() {
        let recent = Recent::new(1000 * PARTS);
        for number in 0..100 {
            recent.change(circuit(number * 256), never, |_| (5, ()));
        }
        let over = |known: &u32| *known <= 5;
        assert_eq!(recent.get(circuit(0), over), None);
        let known = recent.change(circuit(256), over, |known| (9, known));
        assert_eq!(known, None);
        for number in 0..50 {
            recent.change(circuit((100 + number) * 256), over, |_| (9, ()));
        }
        assert_eq!(recent.len(), 51, "nothing that is over");
    }

    #[test]
    fn changes_from_many_threads_lose_nothing() {
        let recent = Recent::new(1000);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| (0..1000).for_each(|_| _ = add(&recent, 7)));
            }
        });
        assert_eq!(recent.get(circuit(7), never), Some(8000));
    }
}
