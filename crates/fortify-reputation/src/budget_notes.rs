//! What sessions have left of their budgets, over a restart of a single node.

use std::path::Path;

use fortify_core::clock::Timestamp;
use fortify_core::damage::Damage;
use fortify_core::notes::{HEAD_BYTES, Notes, head_of};
use fortify_store::record::{Session, SessionId};

/// The most sessions.
const MOST_SESSIONS: usize = 100_000;

/// The file in `storage.data_dir`.
const FILE_NAME: &str = "budgets";

/// Bytes of a fact: the head, what is left, until when the circuit earns none of the full rate.
const FACT_BYTES: usize = HEAD_BYTES + 8 + 8;

/// What outlasts a restart of a session's budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BudgetNote {
    /// Milli-pages left of the quota.
    pub left: u64,
    /// When the session expires.
    pub until: Timestamp,
    /// If it is of a tenth of the rate, when its circuit may earn one of the full rate again.
    pub full_rate_at: Option<Timestamp>,
}

/// The file, or nothing where nodes share budgets.
#[derive(Debug, Default)]
pub struct BudgetNotes {
    notes: Option<Notes<FACT_BYTES>>,
}

impl BudgetNotes {
    /// What the file in `data_dir` says.
    #[must_use]
    pub fn open(data_dir: &Path, now: Timestamp) -> Self {
        Self { notes: Some(Notes::open(data_dir, FILE_NAME, MOST_SESSIONS, now)) }
    }

    /// What `session` has left, if it is known. If its last record may be among those that were lost, nothing is left,
    /// whatever an earlier one says: its holder solves another challenge.
    #[must_use]
    pub fn of(&self, session: &Session, now: Timestamp) -> Option<BudgetNote> {
        let notes = self.notes.as_ref()?;
        // Issued in whole seconds, so one of the second of the loss may be from before it.
        if notes.lost_until().is_some_and(|lost| session.issued_at <= lost) {
            return Some(BudgetNote { left: 0, until: session.expires_at, full_rate_at: None });
        }
        decode(&notes.get(session.id.to_bytes(), now)?)
    }

    /// Writes those of `all` that have changed since the last time. Blocks.
    pub fn keep(&self, all: impl IntoIterator<Item = (SessionId, BudgetNote)>, now: Timestamp) {
        let Some(notes) = &self.notes else { return };
        for (session, note) in all {
            notes.note(encode(session, &note));
        }
        notes.write(now);
    }

    /// Whether there is a file.
    #[must_use]
    pub const fn are_kept(&self) -> bool {
        self.notes.is_some()
    }

    /// What was lost of the file.
    #[must_use]
    pub fn damages(&self) -> &[Damage] {
        self.notes.as_ref().map_or(&[], Notes::damages)
    }
}

fn encode(session: SessionId, note: &BudgetNote) -> [u8; FACT_BYTES] {
    let mut fact = [0; FACT_BYTES];
    let (head, value) = fact.split_at_mut(HEAD_BYTES);
    head.copy_from_slice(&head_of(session.to_bytes(), note.until));
    let (left, full_rate_at) = value.split_at_mut(8);
    left.copy_from_slice(&note.left.to_be_bytes());
    let at = note.full_rate_at.map_or(0, Timestamp::as_millis);
    full_rate_at.copy_from_slice(&at.to_be_bytes());
    fact
}

fn decode(fact: &[u8; FACT_BYTES]) -> Option<BudgetNote> {
    let number = |at: usize| fact.get(at..)?.first_chunk().copied().map(u64::from_be_bytes);
    let at = number(HEAD_BYTES + 8)?;
    Some(BudgetNote {
        left: number(HEAD_BYTES)?,
        until: Timestamp::from_millis(number(HEAD_BYTES - 8)?),
        full_rate_at: (at > 0).then_some(Timestamp::from_millis(at)),
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_is_left_is_known_after_a_restart_and_what_was_lost_counts_as_used_up() {
        let dir = tempfile::tempdir().unwrap();
        let now = Timestamp::from_secs(1_800_000_000);
        let until = now.after(Duration::from_secs(3600));
        let session = |number| Session {
            id: SessionId::from_bytes([number; SessionId::BYTES]),
            threat_level: 2,
            issued_at: now,
            expires_at: until,
        };
        let note = |left| BudgetNote { left, until, full_rate_at: Some(until) };
        let notes = BudgetNotes::open(dir.path(), now);
        notes.keep([], now);
        notes.keep([(session(1).id, note(7)), (session(2).id, note(8))], now);
        notes.keep([(session(1).id, note(5))], now);
        let later = now.after(Duration::from_secs(60));
        let again = BudgetNotes::open(dir.path(), later);
        assert_eq!(again.of(&session(1), later), Some(note(5)));
        assert_eq!(again.of(&session(2), later), Some(note(8)));
        assert_eq!(again.of(&session(3), later), None);
        let path = dir.path().join(FILE_NAME);
        let length = std::fs::metadata(&path).unwrap().len();
        std::fs::OpenOptions::new().write(true).open(path).unwrap().set_len(length / 2).unwrap();
        let damaged = BudgetNotes::open(dir.path(), later);
        assert_eq!(damaged.damages().len(), 1);
        for number in 1..=3 {
            let left = damaged.of(&session(number), later).map(|note| note.left);
            assert_eq!(left, Some(0), "its last record may be lost");
        }
        let fresh = Session { issued_at: later.after(Duration::from_secs(1)), ..session(4) };
        assert_eq!(damaged.of(&fresh, later), None, "whoever solves again has a whole one");
    }
}
