//! Revoked sessions, and their file.
//!
//! Signing keys and with them sessions survive a restart, so revocations have to as well. Every revocation is
//! flushed to disk before it is acknowledged. An entry has 24 bytes; when the file is opened, it is rewritten
//! without expired entries.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::{Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::StoreError;
use super::journal::Journal;
use super::record::SessionId;
use fortify_core::clock::Timestamp;

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
    journal: Mutex<Option<Journal>>,
}

impl Revocations {
    /// A table of at most `capacity` entries without a file.
    #[cfg(test)]
    pub(super) fn in_memory(capacity: usize) -> Self {
        Self { until: RwLock::default(), capacity, journal: Mutex::new(None) }
    }

    /// The table from the file in `data_dir`.
    ///
    /// # Errors
    ///
    /// When the file cannot be read or written.
    pub(super) fn open(data_dir: &Path, now: Timestamp) -> io::Result<Self> {
        let path = data_dir.join(FILE_NAME);
        let written = Journal::read(&path)?;
        // What a crash left of a last entry was never acknowledged.
        let mut until = HashMap::new();
        for entry in written.chunks_exact(ENTRY_BYTES) {
            if let Some((session, at)) = decode(entry)
                && now < at
            {
                let kept = until.entry(session).or_insert(at);
                *kept = at.max(*kept);
            }
        }
        let journal = Mutex::new(Some(Journal::write(path, &encode_all(&until))?));
        Ok(Self { until: RwLock::new(until), capacity: MAX_REVOCATIONS, journal })
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
            let bytes: Vec<u8> = news.iter().flat_map(|(id, until)| encode(*id, *until)).collect();
            journal.append(&bytes).map_err(|error| {
                StoreError::Unavailable(format!("{}: {error}", journal.path().display()))
            })?;
        }
        {
            let mut table = self.table_mut();
            for (session, until) in news {
                let kept = table.entry(*session).or_insert(*until);
                *kept = (*kept).max(*until);
            }
        }
        self.compact(&mut journal);
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
    fn compact(&self, journal: &mut Option<Journal>) {
        let limit = 2 * self.capacity as u64 * ENTRY_BYTES as u64;
        if let Some(long) = journal.as_ref().filter(|journal| journal.length() > limit) {
            let entries = encode_all(&self.table());
            if let Ok(shorter) = Journal::write(long.path().to_owned(), &entries) {
                *journal = Some(shorter);
            }
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

fn encode_all(entries: &HashMap<SessionId, Timestamp>) -> Vec<u8> {
    entries.iter().flat_map(|(session, until)| encode(*session, *until)).collect()
}

fn encode(session: SessionId, until: Timestamp) -> [u8; ENTRY_BYTES] {
    let mut entry = [0; ENTRY_BYTES];
    entry[..SessionId::BYTES].copy_from_slice(&session.to_bytes());
    entry[SessionId::BYTES..].copy_from_slice(&until.as_millis().to_be_bytes());
    entry
}

fn decode(entry: &[u8]) -> Option<(SessionId, Timestamp)> {
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

    fn session(number: u8) -> SessionId {
        SessionId::from_bytes([number; SessionId::BYTES])
    }

    #[test]
    fn abuse_27_a_revocation_that_was_acknowledged_is_there_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let table = Revocations::open(dir.path(), NOW).unwrap();
        table.insert(session(1), NOW.after(HOUR), NOW).unwrap();
        table.insert(session(2), NOW.after(HOUR * 2), NOW).unwrap();
        // Not dropped: a killed process closes nothing.
        let later = Revocations::open(dir.path(), NOW.after(HOUR)).unwrap();
        assert!(!later.contains(&session(1)), "an expired entry came back");
        assert!(later.contains(&session(2)));
        assert_eq!(fs::metadata(dir.path().join(FILE_NAME)).unwrap().len(), ENTRY_BYTES as u64);
        drop(table);
    }

    #[test]
    fn whoever_asks_does_not_wait_for_the_disk() {
        let dir = tempfile::tempdir().unwrap();
        let table = Revocations::open(dir.path(), NOW).unwrap();
        table.insert(session(1), NOW.after(HOUR), NOW).unwrap();
        // As while another session's end is being flushed.
        let _flushing = table.journal.lock().unwrap();
        assert!(table.contains(&session(1)) && !table.contains(&session(2)));
    }

    #[test]
    fn half_an_entry_at_the_end_harms_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let table = Revocations::open(dir.path(), NOW).unwrap();
        table.insert(session(1), NOW.after(HOUR), NOW).unwrap();
        let path = dir.path().join(FILE_NAME);
        let mut bytes = fs::read(&path).unwrap();
        bytes.extend_from_slice(&encode(session(2), NOW.after(HOUR))[..10]);
        fs::write(&path, bytes).unwrap();
        let again = Revocations::open(dir.path(), NOW).unwrap();
        assert!(again.contains(&session(1)));
        again.insert(session(3), NOW.after(HOUR), NOW).unwrap();
        let last = Revocations::open(dir.path(), NOW).unwrap();
        assert!(last.contains(&session(1)) && last.contains(&session(3)));
        assert!(!last.contains(&session(2)));
    }

    #[test]
    fn a_disk_that_takes_nothing_ends_no_session() {
        let dir = tempfile::tempdir().unwrap();
        let mut table = Revocations::open(dir.path(), NOW).unwrap();
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
        let mut table = Revocations::open(dir.path(), NOW).unwrap();
        table.capacity = 4;
        for round in 0..100 {
            table.insert(session(round % 4), NOW.after(HOUR), NOW).unwrap();
        }
        let length = fs::metadata(dir.path().join(FILE_NAME)).unwrap().len();
        assert!(length <= 9 * ENTRY_BYTES as u64, "{length} bytes");
        let again = Revocations::open(dir.path(), NOW).unwrap();
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
