//! A table of facts that is written in the background: one fact for each key, and the latest counts.
//!
//! [`Notes::note`] only remembers a fact; [`Notes::write`], to be called every few seconds, appends those that changed
//! to a [`journal`](crate::journal). So nobody waits for the disk, and a process that is killed loses what was noted
//! since the last writing. A disk that takes nothing loses nothing while the process lives.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::clock::Timestamp;
use crate::damage::Damage;
use crate::journal::{Journal, Recovered};

/// Bytes of a key.
pub const KEY_BYTES: usize = 16;

/// Bytes of a fact before its value: its key, and until when it counts, milliseconds, big-endian.
pub const HEAD_BYTES: usize = KEY_BYTES + 8;

/// How long a fact can count: a session lasts at most a day, and an hour covers differences of clocks.
const LONGEST: Duration = Duration::from_secs(90_000);

/// The file is rewritten once it has this many records, and four times as many as there are facts.
const FEW_RECORDS: u64 = 10_000;

type Key = [u8; KEY_BYTES];

/// A table of facts with `N` bytes each, of which [`HEAD_BYTES`] are key and end.
#[derive(Debug)]
pub struct Notes<const N: usize> {
    table: Mutex<Table<N>>,
    journal: Mutex<Journal<N>>,
    most: usize,
    lost_until: Option<Timestamp>,
    damages: Vec<Damage>,
    /// Whether the last writing failed.
    failing: AtomicBool,
}

#[derive(Debug)]
struct Table<const N: usize> {
    facts: HashMap<Key, [u8; N]>,
    /// Those that are not on disk yet.
    changed: HashSet<Key>,
}

impl<const N: usize> Notes<N> {
    /// Opens the file `name` in `data_dir`, whatever is in it or is not, for at most `most` facts.
    #[must_use]
    pub fn open(data_dir: &Path, name: &'static str, most: usize, now: Timestamp) -> Self {
        // Rewriting may fail for a while, and the file grows on.
        let records = (8 * most as u64).max(4 * FEW_RECORDS);
        let found = Journal::open(data_dir, name, now, LONGEST, records, |_| false);
        let Recovered { journal, entries, lost_until, damages } = found;
        let mut facts = HashMap::new();
        for fact in entries {
            let (key, until) = head(&fact);
            // One that ends too late was written by a clock that was ahead.
            if now < until && until <= now.after(LONGEST) {
                facts.insert(key, fact);
            } else {
                facts.remove(&key);
            }
        }
        let table = Mutex::new(Table { facts, changed: HashSet::new() });
        let journal = Mutex::new(journal);
        Self { table, journal, most, lost_until, damages, failing: AtomicBool::new(false) }
    }

    /// Remembers a fact, unless as many others are remembered as may be.
    pub fn note(&self, fact: [u8; N]) {
        let (key, _) = head(&fact);
        let mut table = self.table();
        let known = table.facts.get(&key);
        if known == Some(&fact) || (known.is_none() && table.facts.len() >= self.most) {
            return;
        }
        table.facts.insert(key, fact);
        table.changed.insert(key);
    }

    /// Forgets the fact of a key.
    pub fn forget(&self, key: Key) {
        let mut table = self.table();
        if let Some(fact) = table.facts.get_mut(&key) {
            // One that has ended takes the place of the one on disk.
            fact[KEY_BYTES..].fill(0);
            table.changed.insert(key);
        }
    }

    /// The fact of a key, if it counts at `now`.
    #[must_use]
    pub fn get(&self, key: Key, now: Timestamp) -> Option<[u8; N]> {
        let fact = self.table().facts.get(&key).copied();
        fact.filter(|fact| now < head(fact).1)
    }

    /// All facts that count at `now`.
    #[must_use]
    pub fn all(&self, now: Timestamp) -> Vec<[u8; N]> {
        self.table().facts.values().filter(|fact| now < head(fact).1).copied().collect()
    }

    /// Writes what has changed, and waits until it is on disk. What the disk does not take is tried again next time; the
    /// first failure is logged.
    pub fn write(&self, now: Timestamp) {
        let mut journal = self.journal.lock().unwrap_or_else(PoisonError::into_inner);
        let (changed, live) = {
            let mut table = self.table();
            let changed = std::mem::take(&mut table.changed);
            let facts = &table.facts;
            let changed: Vec<_> =
                changed.iter().filter_map(|key| facts.get(key)).copied().collect();
            (changed, facts.len() as u64)
        };
        let limit = FEW_RECORDS.max(4 * live) * Journal::<N>::RECORD_BYTES;
        let is_long = journal.length() > limit;
        if changed.is_empty() && !is_long && !journal.needs_rewrite() {
            return;
        }
        let written = if is_long || journal.needs_rewrite() {
            let facts = self.all(now);
            journal.rewrite(&facts, now)
        } else {
            journal.append(&changed, now)
        };
        let failed = written.is_err();
        {
            let mut table = self.table();
            if failed {
                table.changed.extend(changed.iter().map(|fact| head(fact).0));
            }
            let Table { facts, changed } = &mut *table;
            facts.retain(|key, fact| now < head(fact).1 || changed.contains(key));
        }
        let failed_before = self.failing.swap(failed, Ordering::Relaxed);
        match written {
            Err(error) if !failed_before => tracing::error!(
                %error,
                file = journal.name(),
                "cannot be written; what it keeps would be lost by a restart; check free space, and that the user \
                 that runs Fortify may write there"
            ),
            Ok(()) if failed_before => {
                tracing::info!(
                    file = journal.name(),
                    "is written again, with all that was missing"
                );
            }
            _ => {}
        }
    }

    /// The time until which facts were lost, if any were.
    #[must_use]
    pub const fn lost_until(&self) -> Option<Timestamp> {
        self.lost_until
    }

    /// What was found damaged when it was opened.
    #[must_use]
    pub fn damages(&self) -> &[Damage] {
        &self.damages
    }

    /// Whole after any panic: each change is one call.
    fn table(&self) -> MutexGuard<'_, Table<N>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The head of a fact.
#[must_use]
pub fn head_of(key: Key, until: Timestamp) -> [u8; HEAD_BYTES] {
    let mut head = [0; HEAD_BYTES];
    head[..KEY_BYTES].copy_from_slice(&key);
    head[KEY_BYTES..].copy_from_slice(&until.as_millis().to_be_bytes());
    head
}

fn head<const N: usize>(fact: &[u8; N]) -> (Key, Timestamp) {
    let number = |at: usize| fact.get(at..).and_then(|rest| rest.first_chunk().copied());
    let key = fact.first_chunk().copied().unwrap_or_default();
    (key, Timestamp::from_millis(number(KEY_BYTES).map_or(0, u64::from_be_bytes)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);
    const NAME: &str = "budgets";
    const HOUR: Duration = Duration::from_secs(3600);

    fn fact(key: u8, value: u8) -> [u8; 25] {
        let mut fact = [value; 25];
        fact[..HEAD_BYTES].copy_from_slice(&head_of([key; 16], NOW.after(HOUR)));
        fact
    }

    fn open(dir: &Path, now: Timestamp) -> Notes<25> {
        Notes::open(dir, NAME, 50, now)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        /// Of a process that is killed at any time, what was written last is there, and no more.
        #[test]
        fn what_was_written_is_there_after_a_restart(steps in prop::collection::vec((0_u8..12, any::<u8>(), 0_u8..6), 1..60)) {
            let dir = tempfile::tempdir().unwrap();
            let mut notes = open(dir.path(), NOW);
            let (mut noted, mut written) = (HashMap::new(), HashMap::new());
            for (key, value, step) in steps {
                match step {
                    0 => {
                        notes.write(NOW);
                        written.clone_from(&noted);
                    }
                    1 => {
                        // Not closed: a killed process closes nothing.
                        notes = open(dir.path(), NOW);
                        noted.clone_from(&written);
                    }
                    2 => {
                        notes.forget([key; 16]);
                        noted.remove(&key);
                    }
                    _ => {
                        notes.note(fact(key, value));
                        noted.insert(key, fact(key, value));
                    }
                }
                for key in 0..12 {
                    prop_assert_eq!(notes.get([key; 16], NOW), noted.get(&key).copied());
                }
                prop_assert_eq!((notes.lost_until(), notes.damages()), (None, &[][..]));
            }
        }
    }

    #[test]
    fn what_is_lost_is_named_and_dated() {
        let dir = tempfile::tempdir().unwrap();
        let notes = open(dir.path(), NOW);
        notes.write(NOW);
        notes.note(fact(1, 1));
        notes.write(NOW);
        notes.note(fact(2, 2));
        notes.write(NOW);
        let path = dir.path().join(NAME);
        let mut bytes = std::fs::read(&path).unwrap();
        let record = Journal::<25>::RECORD_BYTES as usize;
        bytes[record + 30] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        let later = NOW.after(Duration::from_secs(60));
        let notes = open(dir.path(), later);
        assert_eq!(notes.damages(), [Damage { file: NAME, lost: Some(1) }]);
        assert_eq!(notes.lost_until(), Some(NOW));
        assert_eq!(
            (notes.get([1; 16], later), notes.get([2; 16], later)),
            (None, Some(fact(2, 2)))
        );
    }

    #[test]
    fn a_disk_that_takes_nothing_loses_nothing_while_the_process_lives() {
        let dir = tempfile::tempdir().unwrap();
        let mut notes = open(dir.path(), NOW);
        notes.write(NOW);
        notes.journal.get_mut().unwrap().fail_writes().unwrap();
        notes.note(fact(1, 1));
        notes.write(NOW);
        assert!(notes.failing.load(Ordering::Relaxed));
        assert_eq!(open(dir.path(), NOW).get([1; 16], NOW), None);
        // The journal gave the file up, or writes it as a whole.
        notes.write(NOW);
        assert!(!notes.failing.load(Ordering::Relaxed));
        assert_eq!(open(dir.path(), NOW).get([1; 16], NOW), Some(fact(1, 1)));
    }

    #[test]
    fn neither_the_table_nor_the_file_grows_past_its_bound() {
        let dir = tempfile::tempdir().unwrap();
        let notes = open(dir.path(), NOW);
        for round in 0..250_u8 {
            (0..100).for_each(|key| notes.note(fact(key, round)));
            notes.write(NOW);
        }
        assert_eq!(notes.all(NOW).len(), 50, "further ones are not kept");
        let most = (FEW_RECORDS + 51) * Journal::<25>::RECORD_BYTES;
        assert!(std::fs::metadata(dir.path().join(NAME)).unwrap().len() <= most);
        let later = NOW.after(HOUR);
        notes.note({
            let mut fact = fact(1, 1);
            fact[..HEAD_BYTES].copy_from_slice(&head_of([1; 16], later.after(HOUR)));
            fact
        });
        notes.write(later);
        assert_eq!(notes.table().facts.len(), 1, "what has ended makes room");
    }
}
