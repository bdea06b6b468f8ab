//! Revocations that Redis, or as many replicas as `storage.wait_replicas` says, have not taken yet.
//!
//! They are in force at this node from the moment they are asked for: whoever is banned or logged out while Redis does
//! not answer is out, and the other nodes learn of it as soon as Redis answers again. They are in this node's file too,
//! from which the next process writes them back.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::record::SessionId;
use fortify_core::clock::Timestamp;

/// The most of them. Whoever ends more has to ask again once Redis answers.
const MOST: usize = 10_000;

/// A revocation that is not acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Owed {
    pub(super) session: SessionId,
    pub(super) until: Timestamp,
    /// Whether it is in the log, though perhaps on too few replicas.
    pub(super) is_logged: bool,
}

/// The revocations by session.
#[derive(Debug, Default)]
pub(super) struct Unwritten(RwLock<HashMap<SessionId, Owed>>);

impl Unwritten {
    /// Revokes `session` until `until` at this node; returns false if there is no room.
    pub(super) fn hold(&self, session: SessionId, until: Timestamp) -> bool {
        let mut held = self.write();
        if held.len() >= MOST && !held.contains_key(&session) {
            return false;
        }
        let owed = Owed { session, until, is_logged: false };
        let kept = held.entry(session).or_insert(owed);
        if kept.until < until {
            *kept = owed;
        }
        true
    }

    /// Notes that the log says that `session` is revoked until `until`.
    pub(super) fn logged(&self, session: SessionId, until: Timestamp) {
        if self.read().is_empty() {
            return;
        }
        if let Some(kept) = self.write().get_mut(&session).filter(|kept| kept.until <= until) {
            kept.is_logged = true;
        }
    }

    /// Forgets that `session` is revoked until `until`: it is acknowledged, or refused.
    pub(super) fn release(&self, session: SessionId, until: Timestamp) {
        let mut held = self.write();
        if held.get(&session).is_some_and(|kept| kept.until <= until) {
            held.remove(&session);
        }
    }

    /// Until when `session` is revoked.
    pub(super) fn until(&self, session: &SessionId) -> Option<Timestamp> {
        self.read().get(session).map(|kept| kept.until)
    }

    /// How many they are.
    pub(super) fn len(&self) -> usize {
        self.read().len()
    }

    /// Those that count at `now`, at most `most`. The others are forgotten.
    pub(super) fn owed(&self, now: Timestamp, most: usize) -> Vec<Owed> {
        if self.read().is_empty() {
            return Vec::new();
        }
        let mut held = self.write();
        held.retain(|_, kept| now < kept.until);
        held.values().take(most).copied().collect()
    }

    /// Whole after any panic.
    fn read(&self) -> RwLockReadGuard<'_, HashMap<SessionId, Owed>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, HashMap<SessionId, Owed>> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}
