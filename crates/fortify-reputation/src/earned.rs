//! How many sessions circuits earned in the last hour.
//!
//! A circuit that earned as many as it may gets further ones at a tenth of the rate. What was counted outlasts a restart
//! of a single node ([`Notes`]).

use std::path::Path;

use fortify_core::clock::Timestamp;
use fortify_core::damage::Damage;
use fortify_core::notes::{HEAD_BYTES, Notes, head_of};
use fortify_core::pseudonym::CircuitTag;
use fortify_core::recent::Recent;

/// The most circuits whose earned sessions are counted.
const MOST_CIRCUITS: usize = 100_000;

/// Parts of the hour of `sessions_per_hour` in which earned sessions are counted together.
const SLOTS: u64 = 12;
const SLOT_MILLIS: u64 = 3_600_000 / SLOTS;

/// The file in `storage.data_dir`.
const FILE_NAME: &str = "earned";

/// Bytes of a fact: the head, the latest slot, the counts.
const FACT_BYTES: usize = HEAD_BYTES + 8 + 2 * SLOTS as usize;

/// The sessions that a circuit earned, in parts of an hour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Earned {
    /// The number of the latest slot since the Unix epoch.
    latest: u64,
    /// How many in each slot, by its number modulo [`SLOTS`].
    counts: [u16; SLOTS as usize],
}

impl Earned {
    /// The same at `now`, without what is older than an hour.
    fn at(mut self, now: Timestamp) -> Self {
        let slot = now.as_millis() / SLOT_MILLIS;
        for passed in self.latest.saturating_add(1)..=slot.min(self.latest.saturating_add(SLOTS)) {
            self.counts[(passed % SLOTS) as usize] = 0;
        }
        self.latest = self.latest.max(slot);
        self
    }

    fn sum(&self) -> u32 {
        self.counts.iter().map(|count| u32::from(*count)).sum()
    }

    /// When the first of them is an hour old.
    fn eases_at(&self) -> Timestamp {
        let oldest = self.latest.saturating_sub(SLOTS - 1)..=self.latest;
        let mut some = oldest.filter(|slot| self.counts[(slot % SLOTS) as usize] > 0);
        let slot = some.next().unwrap_or(self.latest);
        Timestamp::from_millis(slot.saturating_add(SLOTS).saturating_mul(SLOT_MILLIS))
    }

    fn is_over(&self, now: Timestamp) -> bool {
        self.at(now).sum() == 0
    }

    fn encode(&self, circuit: CircuitTag) -> [u8; FACT_BYTES] {
        let mut fact = [0; FACT_BYTES];
        let end = self.latest.saturating_add(SLOTS).saturating_mul(SLOT_MILLIS);
        let (head, value) = fact.split_at_mut(HEAD_BYTES);
        head.copy_from_slice(&head_of(circuit.into(), Timestamp::from_millis(end)));
        let (latest, counts) = value.split_at_mut(8);
        latest.copy_from_slice(&self.latest.to_be_bytes());
        for (bytes, count) in counts.as_chunks_mut::<2>().0.iter_mut().zip(self.counts) {
            *bytes = count.to_be_bytes();
        }
        fact
    }

    fn decode(fact: &[u8; FACT_BYTES]) -> Option<(CircuitTag, Self)> {
        let (circuit, rest) = fact.split_first_chunk()?;
        let (latest, counts) = rest.get(8..)?.split_first_chunk()?;
        let mut earned = Self { latest: u64::from_be_bytes(*latest), ..Self::default() };
        for (count, bytes) in earned.counts.iter_mut().zip(counts.as_chunks::<2>().0) {
            *count = u16::from_be_bytes(*bytes);
        }
        Some((CircuitTag::from_bytes(*circuit), earned))
    }
}

/// The counts of all circuits.
#[derive(Debug)]
pub struct EarnedSessions {
    circuits: Recent<Earned>,
    notes: Option<Notes<FACT_BYTES>>,
}

impl Default for EarnedSessions {
    /// None, and without a file.
    fn default() -> Self {
        Self { circuits: Recent::new(MOST_CIRCUITS), notes: None }
    }
}

impl EarnedSessions {
    /// What the file in `data_dir` says.
    #[must_use]
    pub fn open(data_dir: &Path, now: Timestamp) -> Self {
        let notes = Notes::open(data_dir, FILE_NAME, MOST_CIRCUITS, now);
        let all = Self { notes: Some(notes), ..Self::default() };
        let facts = all.notes.iter().flat_map(|notes| notes.all(now));
        for (circuit, earned) in facts.filter_map(|fact| Earned::decode(&fact)) {
            // The clock may have been set back.
            if earned.latest <= now.as_millis() / SLOT_MILLIS {
                all.circuits.change(circuit, |_| false, |_| (earned, ()));
            }
        }
        all
    }

    /// Counts a session that `circuit` earned. Returns when it may earn one of the full rate again, if it earned `most`
    /// in the last hour before this one.
    pub fn earn(&self, circuit: CircuitTag, most: u32, now: Timestamp) -> Option<Timestamp> {
        self.circuits.change(
            circuit,
            |earned| earned.is_over(now),
            |known| {
                let mut earned = known.unwrap_or_default().at(now);
                let before = earned.sum();
                let eases = earned.eases_at();
                let count = &mut earned.counts[(earned.latest % SLOTS) as usize];
                *count = count.saturating_add(1);
                (earned, (before >= most).then_some(eases))
            },
        )
    }

    /// Counts what `from` earned for `to` too, because a session moved from there: otherwise each new circuit would
    /// earn as many again.
    pub fn moved(&self, from: CircuitTag, to: CircuitTag, now: Timestamp) {
        let is_over = |earned: &Earned| earned.is_over(now);
        let Some(before) = self.circuits.get(from, is_over) else { return };
        let before = before.at(now);
        self.circuits.change(to, is_over, |known| {
            let mut earned = known.unwrap_or_default().at(now);
            for (count, more) in earned.counts.iter_mut().zip(before.counts) {
                *count = count.saturating_add(more);
            }
            (earned, ())
        });
    }

    /// Writes what was counted since the last time. Blocks.
    pub fn keep(&self, now: Timestamp) {
        let Some(notes) = &self.notes else { return };
        for (circuit, earned) in self.circuits.all() {
            if !earned.is_over(now) {
                notes.note(earned.encode(circuit));
            }
        }
        notes.write(now);
    }

    /// What was lost of the file.
    #[must_use]
    pub fn damages(&self) -> &[Damage] {
        self.notes.as_ref().map_or(&[], Notes::damages)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_a_circuit_earned_counts_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let now = Timestamp::from_secs(1_800_000_000);
        let (circuit, other) = (CircuitTag::from_bytes([1; 16]), CircuitTag::from_bytes([2; 16]));
        let earned = EarnedSessions::open(dir.path(), now);
        assert_eq!(earned.earn(circuit, 2, now), None);
        assert_eq!(earned.earn(circuit, 2, now), None);
        earned.keep(now);
        let again = EarnedSessions::open(dir.path(), now);
        assert_eq!(again.earn(other, 2, now), None);
        assert!(again.earn(circuit, 2, now).is_some(), "the third of two");
        let hours_later = now.after(Duration::from_secs(7200));
        let later = EarnedSessions::open(dir.path(), hours_later);
        assert_eq!(later.earn(circuit, 2, hours_later), None);
    }
}
