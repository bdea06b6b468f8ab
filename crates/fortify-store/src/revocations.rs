//! Revoked sessions, and their file.
//!
//! Signing keys and with them sessions survive a restart, so revocations have to as well. Every revocation is
//! flushed to disk before it is acknowledged. When the file is opened, it is rewritten without expired entries.
//! If entries were lost, [`LossReport::lost_until`] says until when.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::StoreError;
use super::loss::{LossReport, RECORD_LIFETIME, append, is_plausible_end, most_records, recover};
use super::record::SessionId;
use fortify_core::clock::Timestamp;
use fortify_core::journal::Journal;

/// The most revoked sessions: about 50 bytes each. Each costs a solved challenge, and its entry is removed when
/// the token has expired.
pub(super) const MAX_REVOCATIONS: usize = 1_000_000;

/// The file's name in `storage.data_dir`.
const FILE_NAME: &str = "revocations";

/// Bytes of an entry: the session's id, then when its token expires, milliseconds, big-endian.
const ENTRY_BYTES: usize = SessionId::BYTES + 8;

/// The table of revocations, and the journal behind it.
///
/// Two locks, so that readers never wait for the disk: every admitted request reads, and a flush takes
/// milliseconds. Writers hold the journal's lock throughout, and the table's only briefly.
pub(super) struct Revocations {
    until: RwLock<HashMap<SessionId, Timestamp>>,
    capacity: usize,
    journal: Mutex<Option<Journal<ENTRY_BYTES>>>,
    loss: LossReport,
}

impl Revocations {
    /// A table of at most `capacity` entries without a file.
    #[cfg(test)]
    pub(super) fn in_memory(capacity: usize) -> Self {
        Self {
            until: RwLock::default(),
            capacity,
            journal: Mutex::new(None),
            loss: LossReport::default(),
        }
    }

    /// The table from the file in `data_dir`. A file that is damaged or cannot be read keeps nothing down:
    /// [`Self::loss`] says what is missing.
    pub(super) fn open(data_dir: &Path, now: Timestamp) -> Self {
        let is_plausible = |entry: &[u8; ENTRY_BYTES]| {
            decode(entry).is_some_and(|(_, at)| is_plausible_end(at, now))
        };
        let most = most_records(MAX_REVOCATIONS);
        let mut found =
            Journal::open(data_dir, FILE_NAME, now, RECORD_LIFETIME, most, is_plausible);
        let mut until = HashMap::new();
        for (session, at) in found.entries.iter().filter_map(decode).filter(|(_, at)| now < *at) {
            let kept = until.entry(session).or_insert(at);
            *kept = at.max(*kept);
        }
        let loss = recover(&mut found, &encode_all(&until), now);
        Self {
            until: RwLock::new(until),
            capacity: MAX_REVOCATIONS,
            journal: Mutex::new(Some(found.journal)),
            loss,
        }
    }

    /// What was lost of the file.
    pub(super) const fn loss(&self) -> &LossReport {
        &self.loss
    }

    /// Whether `session` was ended. An entry counts for as long as it is there: past its time the
    /// token is dead by itself.
    pub(super) fn contains(&self, session: &SessionId) -> bool {
        self.table().contains_key(session)
    }

    /// Until when `session` is ended, where it is.
    pub(super) fn until(&self, session: &SessionId) -> Option<Timestamp> {
        self.table().get(session).copied()
    }

    /// The entries that still count at `now`.
    pub(super) fn in_force(&self, now: Timestamp) -> Vec<(SessionId, Timestamp)> {
        let table = self.table();
        table.iter().filter(|(_, until)| now < **until).map(|(id, until)| (*id, *until)).collect()
    }

    /// Ends all of `sessions` that still count at `now` and are not ended already, with one flush.
    ///
    /// # Errors
    ///
    /// As [`Self::insert`]; some of them may then be ended.
    pub(super) fn insert_all(
        &self,
        sessions: &[(SessionId, Timestamp)],
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let news: Vec<_> = (sessions.iter())
            .filter(|(id, until)| now < *until && self.until(id).is_none_or(|held| held < *until))
            .copied()
            .collect();
        if news.is_empty() { Ok(()) } else { self.write(&news, now) }
    }

    /// Ends `session` until `until`.
    ///
    /// # Errors
    ///
    /// When the table is full of entries that still count, or the file did not take it: the session
    /// is then not ended.
    pub(super) fn insert(
        &self,
        session: SessionId,
        until: Timestamp,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.write(&[(session, until)], now)
    }

    fn write(&self, news: &[(SessionId, Timestamp)], now: Timestamp) -> Result<(), StoreError> {
        let mut journal = self.journal.lock().unwrap_or_else(PoisonError::into_inner);
        self.make_room(news, now)?;
        if let Some(journal) = journal.as_mut() {
            let entries: Vec<_> = news.iter().map(|(id, until)| encode(*id, *until)).collect();
            append(journal, &entries, || encode_all(&self.table()), now)?;
        }
        {
            let mut table = self.table_mut();
            for (session, until) in news {
                let kept = table.entry(*session).or_insert(*until);
                *kept = (*kept).max(*until);
            }
        }
        self.compact(&mut journal, now);
        Ok(())
    }

    fn make_room(&self, news: &[(SessionId, Timestamp)], now: Timestamp) -> Result<(), StoreError> {
        let mut table = self.table_mut();
        if table.len() + news.len() > self.capacity {
            table.retain(|_, until| now < *until);
        }
        let new = news.iter().filter(|(session, _)| !table.contains_key(session)).count();
        if new > 0 && table.len() + new > self.capacity {
            return Err(StoreError::Full("revocations"));
        }
        Ok(())
    }

    /// Rewrites the file when it has grown to twice what the table can hold. A failure leaves
    /// the longer file, which says the same.
    fn compact(&self, journal: &mut Option<Journal<ENTRY_BYTES>>, now: Timestamp) {
        let limit = 2 * self.capacity as u64 * Journal::<ENTRY_BYTES>::RECORD_BYTES;
        if let Some(long) = journal.as_mut().filter(|journal| journal.length() > limit) {
            let _still_long = long.rewrite(&encode_all(&self.table()), now);
        }
    }

    /// The table is whole after any panic, and refusing to look would admit nobody.
    fn table(&self) -> RwLockReadGuard<'_, HashMap<SessionId, Timestamp>> {
        self.until.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn table_mut(&self) -> RwLockWriteGuard<'_, HashMap<SessionId, Timestamp>> {
        self.until.write().unwrap_or_else(PoisonError::into_inner)
    }
}

fn encode_all(entries: &HashMap<SessionId, Timestamp>) -> Vec<[u8; ENTRY_BYTES]> {
    entries.iter().map(|(session, until)| encode(*session, *until)).collect()
}

fn encode(session: SessionId, until: Timestamp) -> [u8; ENTRY_BYTES] {
    let mut entry = [0; ENTRY_BYTES];
    entry[..SessionId::BYTES].copy_from_slice(&session.to_bytes());
    entry[SessionId::BYTES..].copy_from_slice(&until.as_millis().to_be_bytes());
    entry
}

fn decode(entry: &[u8; ENTRY_BYTES]) -> Option<(SessionId, Timestamp)> {
    let (session, until) = entry.split_first_chunk()?;
    let until = u64::from_be_bytes(until.try_into().ok()?);
    Some((SessionId::from_bytes(*session), Timestamp::from_millis(until)))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Duration;

    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);
    const HOUR: Duration = Duration::from_secs(3600);
    const RECORD: u64 = Journal::<ENTRY_BYTES>::RECORD_BYTES;

    fn session(number: u8) -> SessionId {
        SessionId::from_bytes([number; SessionId::BYTES])
    }

    #[test]
    fn abuse_27_a_revocation_that_was_acknowledged_is_there_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let table = Revocations::open(dir.path(), NOW);
        table.insert(session(1), NOW.after(HOUR), NOW).unwrap();
        table.insert(session(2), NOW.after(HOUR * 2), NOW).unwrap();
        // Not dropped: a killed process closes nothing.
        let later = Revocations::open(dir.path(), NOW.after(HOUR));
        assert!(!later.contains(&session(1)), "an expired entry came back");
        assert!(later.contains(&session(2)));
        let length = fs::metadata(dir.path().join(FILE_NAME)).unwrap().len();
        assert_eq!(length, 2 * RECORD, "the head and one entry");
        drop(table);
    }

    #[test]
    fn whoever_asks_does_not_wait_for_the_disk() {
        let dir = tempfile::tempdir().unwrap();
        let table = Revocations::open(dir.path(), NOW);
        table.insert(session(1), NOW.after(HOUR), NOW).unwrap();
        // As while another session's end is being flushed.
        let _flushing = table.journal.lock().unwrap();
        assert!(table.contains(&session(1)) && !table.contains(&session(2)));
    }

    #[test]
    fn half_an_entry_at_the_end_harms_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let table = Revocations::open(dir.path(), NOW);
        table.insert(session(1), NOW.after(HOUR), NOW).unwrap();
        let path = dir.path().join(FILE_NAME);
        let mut bytes = fs::read(&path).unwrap();
        bytes.extend_from_slice(&encode(session(2), NOW.after(HOUR))[..10]);
        fs::write(&path, bytes).unwrap();
        let again = Revocations::open(dir.path(), NOW);
        assert!(again.contains(&session(1)));
        again.insert(session(3), NOW.after(HOUR), NOW).unwrap();
        let last = Revocations::open(dir.path(), NOW);
        assert!(last.contains(&session(1)) && last.contains(&session(3)));
        assert!(!last.contains(&session(2)));
    }

    #[test]
    fn a_disk_that_takes_nothing_ends_no_session() {
        let dir = tempfile::tempdir().unwrap();
        let mut table = Revocations::open(dir.path(), NOW);
        if let Some(journal) = table.journal.get_mut().unwrap() {
            journal.fail_writes().unwrap();
        }
        let refused = table.insert(session(1), NOW.after(HOUR), NOW);
        assert!(matches!(refused, Err(StoreError::Unavailable(_))));
        assert!(!table.contains(&session(1)));
    }

    #[test]
    fn the_file_does_not_grow_past_twice_the_table() {
        let dir = tempfile::tempdir().unwrap();
        let mut table = Revocations::open(dir.path(), NOW);
        table.capacity = 4;
        for round in 0..100 {
            table.insert(session(round % 4), NOW.after(HOUR), NOW).unwrap();
        }
        let length = fs::metadata(dir.path().join(FILE_NAME)).unwrap().len();
        assert!(length <= 10 * RECORD, "{length} bytes");
        let again = Revocations::open(dir.path(), NOW);
        assert!((0..4).all(|number| again.contains(&session(number))));
    }

    #[test]
    fn a_shorter_revocation_does_not_shorten_a_longer_one() {
        let table = Revocations::in_memory(2);
        table.insert(session(1), NOW.after(HOUR * 2), NOW).unwrap();
        table.insert(session(1), NOW.after(HOUR), NOW).unwrap();
        table.insert(session(2), NOW.after(HOUR), NOW).unwrap();
        let later = NOW.after(HOUR);
        table.insert(session(3), later.after(HOUR), later).expect("the second makes room");
        assert!(table.contains(&session(1)), "the session is back after an hour");
    }

    #[test]
    fn a_full_table_refuses_instead_of_forgetting() {
        let table = Revocations::in_memory(2);
        table.insert(session(1), NOW.after(HOUR), NOW).unwrap();
        table.insert(session(2), NOW.after(HOUR), NOW).unwrap();
        let refused = table.insert(session(3), NOW.after(HOUR), NOW);
        assert!(matches!(refused, Err(StoreError::Full(_))));
        assert!(table.contains(&session(1)) && table.contains(&session(2)));
        let later = NOW.after(HOUR);
        table.insert(session(3), later.after(HOUR), later).expect("expired entries make room");
        assert!(table.contains(&session(3)));
    }
}
