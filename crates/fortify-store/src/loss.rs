//! What was lost of a table's file, and what follows from it.
//!
//! A lost record may have ended a session, or may have said that it left a circuit. Nobody knows which, but it
//! was written at a known time at the latest, so only sessions issued until then are affected: they are earned
//! again. That costs people one challenge, and lets no ended session in.

use std::time::Duration;

use super::StoreError;
use fortify_core::clock::Timestamp;
use fortify_core::damage::Damage;
use fortify_core::journal::{Journal, Recovered};

/// How long a record can matter: a session lasts at most a day (`session.ttl_seconds`), and an hour covers
/// differences of clocks.
pub(super) const RECORD_LIFETIME: Duration = Duration::from_secs(90_000);

/// How far from now the end of a session in a file without checksums may be. A file that was not written for
/// longer has no entry that matters.
const PLAUSIBLE: Duration = Duration::from_secs(400 * 86_400);

/// The most records in the file of a table of `capacity` entries: it is rewritten once it has twice as many, and where
/// that fails it goes on growing until the disk is full.
pub(super) const fn most_records(capacity: usize) -> u64 {
    4 * capacity as u64
}

/// What was lost of a file.
#[derive(Debug, Default)]
pub(super) struct LossReport {
    /// Records that were written until then may be missing.
    pub(super) lost_until: Option<Timestamp>,
    /// What was found damaged at this start.
    damages: Vec<Damage>,
}

impl LossReport {
    /// What was lost of two files.
    pub(super) fn and(&self, other: &Self) -> Vec<Damage> {
        Damage::by_file(self.damages.iter().chain(&other.damages).copied())
    }
}

/// Rewrites a file that was just read with `entries`, those that still count. If the disk does not take them, the
/// old file stays, and the next record tries again.
pub(super) fn recover<const N: usize>(
    found: &mut Recovered<N>,
    entries: &[[u8; N]],
    now: Timestamp,
) -> LossReport {
    if let Err(error) = found.journal.rewrite(entries, now) {
        tracing::error!(
            %error,
            file = found.journal.name(),
            "cannot be written; until it can, nobody can log out or move to another circuit; check free space, \
             and that the user that runs Fortify may write there"
        );
    }
    if found.lost_until.is_some() {
        tracing::warn!(
            file = found.journal.name(),
            "records of ended or moved sessions were lost; sessions from before are not accepted: their holders \
             solve another challenge"
        );
    }
    LossReport { lost_until: found.lost_until, damages: found.damages.clone() }
}

/// Appends `news` to a file; `all` is what it has to hold if it must be rewritten first.
pub(super) fn append<const N: usize>(
    journal: &mut Journal<N>,
    news: &[[u8; N]],
    all: impl FnOnce() -> Vec<[u8; N]>,
    now: Timestamp,
) -> Result<(), StoreError> {
    let rewritten = if journal.needs_rewrite() { journal.rewrite(&all(), now) } else { Ok(()) };
    rewritten
        .and_then(|()| journal.append(news, now))
        .map_err(|error| StoreError::Unavailable(format!("{}: {error}", journal.path().display())))
}

/// Whether a session can end at `end`, in a file without checksums that is read at `now`.
pub(super) fn is_plausible_end(end: Timestamp, now: Timestamp) -> bool {
    now.before(PLAUSIBLE) <= end && end <= now.after(RECORD_LIFETIME)
}
