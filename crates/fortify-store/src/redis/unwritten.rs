//! Revocations that Redis has not taken yet.
//!
//! They are in force at this node from the moment they are asked for: whoever is banned or logged out while Redis does
//! not answer is out, and the other nodes learn of it as soon as Redis answers again.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::record::SessionId;
use crate::revocations::Revocations;
use fortify_core::clock::Timestamp;

/// The most of them. Whoever ends more has to ask again once Redis answers.
const MOST: usize = 10_000;

/// The sessions, and until when each is revoked.
#[derive(Debug, Default)]
pub(super) struct Unwritten(RwLock<HashMap<SessionId, Timestamp>>);

impl Unwritten {
    /// Revokes `session` until `until` at this node, if there is room.
    pub(super) fn hold(&self, session: SessionId, until: Timestamp) {
        let mut held = self.write();
        if held.len() < MOST || held.contains_key(&session) {
            let kept = held.entry(session).or_insert(until);
            *kept = until.max(*kept);
        }
    }

    /// Forgets that `session` is revoked until `until`: Redis has it, or refused it.
    pub(super) fn release(&self, session: SessionId, until: Timestamp) {
        let mut held = self.write();
        if held.get(&session).is_some_and(|kept| *kept <= until) {
            held.remove(&session);
        }
    }

    /// Until when `session` is revoked.
    pub(super) fn until(&self, session: &SessionId) -> Option<Timestamp> {
        self.read().get(session).copied()
    }

    /// How many they are.
    pub(super) fn len(&self) -> usize {
        self.read().len()
    }

    /// Those that count at `now` and that the log does not say. The others are forgotten.
    pub(super) fn lacking(&self, log: &Revocations, now: Timestamp) -> Vec<(SessionId, Timestamp)> {
        if self.read().is_empty() {
            return Vec::new();
        }
        let mut held = self.write();
        held.retain(|session, until| now < *until && log.until(session) < Some(*until));
        held.iter().map(|(session, until)| (*session, *until)).collect()
    }

    /// Whole after any panic.
    fn read(&self) -> RwLockReadGuard<'_, HashMap<SessionId, Timestamp>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, HashMap<SessionId, Timestamp>> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}
