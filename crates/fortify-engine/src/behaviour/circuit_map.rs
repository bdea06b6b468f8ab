//! The records of many circuits, bounded.

use std::array;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::features::Features;
use fortify_core::circuit::TorCircuit;
use fortify_core::clock::Timestamp;
use fortify_core::pseudonym::CircuitTag;

/// The number of shards, each with its own lock, so that requests rarely wait for each other.
const SHARDS: usize = 64;

/// The most circuits in all shards, about 20 MB.
const MOST: usize = 100_000;

/// How long an idle circuit is remembered.
const FORGOTTEN: Duration = Duration::from_secs(3600);

/// How often idle circuits are removed from a shard.
const SWEEP_EVERY: Duration = Duration::from_secs(600);

pub(super) struct Circuits([Mutex<Shard>; SHARDS]);

struct Shard {
    records: HashMap<CircuitTag, Features>,
    swept: Timestamp,
}

impl Circuits {
    pub(super) fn new(now: Timestamp) -> Self {
        let shard = |_| Mutex::new(Shard { records: HashMap::new(), swept: now });
        Self(array::from_fn(shard))
    }

    /// Updates the record of a circuit, creating it if necessary.
    pub(super) fn update<T>(
        &self,
        circuit: CircuitTag,
        now: Timestamp,
        change: impl FnOnce(&mut Features) -> T,
    ) -> Option<T> {
        let mut shard = self.shard(circuit)?;
        shard.make_room(circuit, now);
        Some(change(shard.records.entry(circuit).or_insert_with(|| Features::new(now))))
    }

    pub(super) fn get(&self, circuit: CircuitTag) -> Option<Features> {
        self.shard(circuit)?.records.get(&circuit).copied()
    }

    /// Every remembered circuit, its Tor circuit if known, and when it was last seen.
    pub(super) fn all(&self) -> Vec<(CircuitTag, Option<TorCircuit>, Timestamp)> {
        let shards = self.0.iter().map(|shard| {
            let shard = lock(shard);
            let all = shard.records.iter().map(|(tag, it)| (*tag, it.circuit(), it.last()));
            all.collect::<Vec<_>>()
        });
        shards.flatten().collect()
    }

    pub(super) fn forget(&self, circuit: CircuitTag) {
        if let Some(mut shard) = self.shard(circuit) {
            shard.records.remove(&circuit);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.0.iter().map(|shard| lock(shard).records.len()).sum()
    }

    /// A tag is a keyed hash, so nobody can choose a circuit's shard.
    fn shard(&self, circuit: CircuitTag) -> Option<MutexGuard<'_, Shard>> {
        let [byte, ..] = circuit.to_bytes();
        self.0.get(usize::from(byte) % SHARDS).map(lock)
    }
}

fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shard {
    /// Removes circuits idle for an hour from time to time. If the shard is still full, removes the idlest sixteenth,
    /// so that 1,562 records are scanned once per hundred new ones.
    fn make_room(&mut self, circuit: CircuitTag, now: Timestamp) {
        let full = self.records.len() >= MOST / SHARDS && !self.records.contains_key(&circuit);
        if full || self.swept.until(now) >= SWEEP_EVERY {
            self.records.retain(|_, features| features.idle(now) < FORGOTTEN);
            self.swept = now;
        }
        if full && self.records.len() >= MOST / SHARDS {
            let mut lasts: Vec<_> = self.records.values().map(Features::last).collect();
            let sixteenth = lasts.len() / 16;
            let (_, cut, _) = lasts.select_nth_unstable(sixteenth);
            let (cut, mut going) = (*cut, sixteenth);
            // Many may have been seen in the same millisecond.
            self.records.retain(|_, features| {
                let goes = going > 0 && features.last() <= cut;
                going -= usize::from(goes);
                !goes
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::features::Outcome;
    use super::super::features::tests::request;
    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

    fn tag(number: u64) -> CircuitTag {
        let mut bytes = [0; 16];
        // As evenly spread as hashes are.
        let spread = number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes();
        bytes[..8].copy_from_slice(&spread);
        bytes[8..].copy_from_slice(&number.to_be_bytes());
        CircuitTag::from_bytes(bytes)
    }

    fn see(circuits: &Circuits, number: u64, now: Timestamp) {
        let asked = request("/", Outcome::Challenged);
        circuits.update(tag(number), now, |features| features.record(&asked, now));
    }

    #[test]
    fn a_flood_of_circuits_evicts_the_idlest_and_memory_stays_bounded() {
        let circuits = Circuits::new(NOW);
        let at = |number: u64| NOW.after(Duration::from_millis(number));
        for number in 0..250_000 {
            see(&circuits, number, at(number));
            if number % 1000 == 0 {
                see(&circuits, 3, at(number));
            }
        }
        assert!(circuits.len() <= MOST, "{}", circuits.len());
        assert!(circuits.len() > MOST * 9 / 10, "{}", circuits.len());
        assert!(circuits.get(tag(3)).is_some(), "one that comes again was forgotten");
        assert!(circuits.get(tag(4)).is_none() && circuits.get(tag(249_999)).is_some());
    }

    #[test]
    fn circuits_seen_at_once_do_not_evict_each_other_all() {
        let circuits = Circuits::new(NOW);
        (0..250_000).for_each(|number| see(&circuits, number, NOW));
        assert!((MOST * 9 / 10..=MOST).contains(&circuits.len()), "{}", circuits.len());
    }

    #[test]
    fn circuits_idle_for_an_hour_are_forgotten() {
        let circuits = Circuits::new(NOW);
        (0..1000).for_each(|number| see(&circuits, number, NOW));
        (1000..2000).for_each(|number| see(&circuits, number, NOW.after(FORGOTTEN)));
        assert_eq!(circuits.len(), 1000);
        circuits.forget(tag(1500));
        assert!(circuits.get(tag(1500)).is_none());
    }
}
