//! Sessions of operators: in memory, bounded, and lost with the process.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};

use fortify_core::clock::Timestamp;
use fortify_core::entropy::{Entropy, EntropyError, random_bytes};
use fortify_store::record::Secret;

/// The most sessions; the longest idle one is dropped.
const MOST: usize = 1000;

/// The key of a session: a hash of its ID, so that neither timing nor a memory dump reveals the ID.
type Key = [u8; 32];

/// A session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct AdminSession {
    /// The account.
    pub(super) user: i64,
    /// The account's generation when the session began. It ends when password, codes or role change.
    pub(super) generation: i64,
    began: Timestamp,
    last: Timestamp,
}

/// All sessions.
pub(super) struct AdminSessions {
    idle: Duration,
    longest: Duration,
    sessions: Mutex<HashMap<Key, AdminSession>>,
}

impl AdminSessions {
    pub(super) fn new(idle: Duration, longest: Duration) -> Self {
        Self { idle, longest, sessions: Mutex::default() }
    }

    /// Begins a session and returns its ID for the cookie. The ID is always new: one that came with the log-in is
    /// never adopted.
    pub(super) fn begin(
        &self,
        user: i64,
        generation: i64,
        entropy: &dyn Entropy,
        now: Timestamp,
    ) -> Result<Secret<String>, EntropyError> {
        let id = Secret::new(URL_SAFE_NO_PAD.encode(random_bytes::<32>(entropy)?));
        let mut sessions = self.lock();
        if sessions.len() >= MOST {
            sessions.retain(|_, session| self.is_live(session, now));
        }
        if sessions.len() >= MOST {
            let idlest = sessions.iter().min_by_key(|(_, session)| session.last);
            if let Some(idlest) = idlest.map(|(key, _)| *key) {
                sessions.remove(&idlest);
            }
        }
        sessions.insert(key(id.expose()), AdminSession { user, generation, began: now, last: now });
        Ok(id)
    }

    /// The session with this ID, which is now in use.
    pub(super) fn find(&self, id: &str, now: Timestamp) -> Option<AdminSession> {
        let (key, mut sessions) = (key(id), self.lock());
        let session = sessions.get_mut(&key)?;
        if !self.is_live(session, now) {
            sessions.remove(&key);
            return None;
        }
        session.last = session.last.max(now);
        Some(*session)
    }

    /// Ends the session with this ID.
    pub(super) fn end(&self, id: &str) {
        self.lock().remove(&key(id));
    }

    /// Ends every session of an account.
    pub(super) fn end_all_of(&self, user: i64) {
        self.lock().retain(|_, session| session.user != user);
    }

    /// The number of sessions.
    pub(super) fn count(&self) -> usize {
        self.lock().len()
    }

    fn is_live(&self, session: &AdminSession, now: Timestamp) -> bool {
        session.last.until(now) < self.idle && session.began.until(now) < self.longest
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, AdminSession>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for AdminSessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdminSessions").finish_non_exhaustive()
    }
}

fn key(id: &str) -> Key {
    Sha256::digest(id.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use fortify_core::entropy::SystemEntropy;

    const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

    fn at(seconds: u64) -> Timestamp {
        NOW.after(Duration::from_secs(seconds))
    }

    fn sessions() -> AdminSessions {
        AdminSessions::new(Duration::from_secs(900), Duration::from_secs(3600))
    }

    #[test]
    fn a_session_ends_when_idle_and_at_its_age_limit() {
        let all = sessions();
        let id = all.begin(1, 1, &SystemEntropy, NOW).unwrap();
        for seconds in [899, 1798, 2697, 3596] {
            assert!(all.find(id.expose(), at(seconds)).is_some(), "{seconds}");
        }
        assert!(all.find(id.expose(), at(3600)).is_none());
        let idle = all.begin(1, 1, &SystemEntropy, NOW).unwrap();
        assert!(all.find(idle.expose(), at(900)).is_none());
        assert!(all.find(idle.expose(), NOW).is_none(), "it came back");
        assert!(all.find("", NOW).is_none());
    }

    #[test]
    fn ending_one_leaves_the_others() {
        let all = sessions();
        let [one, two, other] =
            [1, 1, 2].map(|user| all.begin(user, 1, &SystemEntropy, NOW).unwrap());
        all.end(one.expose());
        assert!(all.find(one.expose(), NOW).is_none() && all.find(two.expose(), NOW).is_some());
        all.end_all_of(1);
        assert!(all.find(two.expose(), NOW).is_none() && all.find(other.expose(), NOW).is_some());
    }

    #[test]
    fn the_number_of_sessions_is_bounded() {
        let all = sessions();
        let first = all.begin(1, 1, &SystemEntropy, NOW).unwrap();
        for _ in 0..MOST {
            all.begin(2, 1, &SystemEntropy, at(1)).unwrap();
        }
        assert_eq!(all.count(), MOST);
        assert!(all.find(first.expose(), at(1)).is_none());
    }
}
