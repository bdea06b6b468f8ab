//! The embedded store: everything in this process's memory, for one node.
//!
//! Challenges and failures live in bounded caches that forget the least recently used first.
//! Revocations do not: a forgotten revocation would let a session back in, so their table has a
//! bound of its own, and at that bound a further revocation is refused.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use moka::policy::EvictionPolicy;
use moka::sync::Cache;

use super::record::{ChallengeRecord, ChallengeToken, Failures, SessionId};
use super::{StateStore, StoreError};
use crate::clock::{Clock, Timestamp};
use crate::pseudonym::CircuitTag;

/// Circuits whose failures are remembered: about 100 bytes each, 20 MB in all. Who can bring more
/// circuits than this can also bring each of them once.
const MAX_FAILURE_RECORDS: u64 = 200_000;

/// Sessions that can be revoked at one time: about 50 bytes each. Each costs a solved challenge,
/// and is dropped when its token has expired.
const MAX_REVOCATIONS: usize = 1_000_000;

/// The longest that the caches keep anything: the configuration allows no longer lifetime
/// (a day of `security.reputation_decay_seconds`).
const MAX_LIFETIME: Duration = Duration::from_secs(86_400);

/// The embedded implementation of [`StateStore`].
pub struct MemoryStore {
    clock: Arc<dyn Clock>,
    challenges: Cache<ChallengeToken, Arc<ChallengeRecord>>,
    failures: Cache<CircuitTag, Failures>,
    revocations: Mutex<Revocations>,
}

impl MemoryStore {
    /// A store that keeps at most `max_challenges` challenges and judges age by `clock`.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, max_challenges: u64) -> Self {
        Self::with_bounds(clock, max_challenges, MAX_REVOCATIONS)
    }

    fn with_bounds(clock: Arc<dyn Clock>, max_challenges: u64, max_revocations: usize) -> Self {
        Self {
            clock,
            challenges: bounded(max_challenges),
            failures: bounded(MAX_FAILURE_RECORDS),
            revocations: Mutex::new(Revocations {
                until: HashMap::new(),
                capacity: max_revocations,
            }),
        }
    }

    fn revocations(&self) -> std::sync::MutexGuard<'_, Revocations> {
        // A map of plain values is whole after any panic, and refusing to look would admit nobody.
        self.revocations.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn live(&self, record: Option<Arc<ChallengeRecord>>) -> Option<ChallengeRecord> {
        record.filter(|r| self.clock.now() < r.expires_at).map(Arc::unwrap_or_clone)
    }
}

/// A cache that makes room by forgetting the least recently used entry. The library's default
/// policy would refuse the new entry instead, which under a flood is every visitor's.
fn bounded<K, V>(capacity: u64) -> Cache<K, V>
where
    K: std::hash::Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    Cache::builder()
        .max_capacity(capacity)
        .eviction_policy(EvictionPolicy::lru())
        .time_to_live(MAX_LIFETIME)
        .build()
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore").finish_non_exhaustive()
    }
}

#[async_trait]
impl StateStore for MemoryStore {
    async fn put_challenge(
        &self,
        token: &ChallengeToken,
        record: ChallengeRecord,
    ) -> Result<(), StoreError> {
        self.challenges.insert(token.clone(), Arc::new(record));
        Ok(())
    }

    async fn challenge(
        &self,
        token: &ChallengeToken,
    ) -> Result<Option<ChallengeRecord>, StoreError> {
        Ok(self.live(self.challenges.get(token)))
    }

    async fn take_challenge(
        &self,
        token: &ChallengeToken,
    ) -> Result<Option<ChallengeRecord>, StoreError> {
        Ok(self.live(self.challenges.remove(token)))
    }

    async fn record_failure(
        &self,
        circuit: CircuitTag,
        decay: Duration,
    ) -> Result<Failures, StoreError> {
        let now = self.clock.now();
        let entry = self.failures.entry(circuit).and_upsert_with(|previous| {
            let counted = match previous.map(moka::Entry::into_value) {
                Some(failures) if now < failures.until => failures.count,
                _ => 0,
            };
            Failures { count: counted.saturating_add(1), until: now.after(decay) }
        });
        Ok(entry.into_value())
    }

    async fn failures(&self, circuit: CircuitTag) -> Result<Failures, StoreError> {
        let now = self.clock.now();
        Ok(self.failures.get(&circuit).filter(|f| now < f.until).unwrap_or(Failures::NONE))
    }

    async fn revoke_session(&self, session: SessionId, until: Timestamp) -> Result<(), StoreError> {
        self.revocations().insert(session, until, self.clock.now())
    }

    async fn is_revoked(&self, session: SessionId) -> Result<bool, StoreError> {
        // An entry counts for as long as it is there: past its time the token is dead by itself,
        // and a clock that was set back must not bring a session back.
        Ok(self.revocations().until.contains_key(&session))
    }

    async fn ping(&self) -> Result<(), StoreError> {
        Ok(())
    }

    async fn active_challenges(&self) -> Result<u64, StoreError> {
        // The count is kept up by upkeep that otherwise waits for the next few operations.
        self.challenges.run_pending_tasks();
        Ok(self.challenges.entry_count())
    }
}

/// Sessions that were ended, each with the time when its token ends by itself.
struct Revocations {
    until: HashMap<SessionId, Timestamp>,
    capacity: usize,
}

impl Revocations {
    fn insert(
        &mut self,
        session: SessionId,
        until: Timestamp,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        if self.until.len() >= self.capacity {
            self.until.retain(|_, until| now < *until);
        }
        if self.until.len() >= self.capacity && !self.until.contains_key(&session) {
            return Err(StoreError::Full("revocations"));
        }
        let kept = self.until.entry(session).or_insert(until);
        *kept = (*kept).max(until);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;
    use crate::entropy::SystemEntropy;
    use crate::store::contract;

    fn store(max_challenges: u64, max_revocations: usize) -> (Arc<ManualClock>, MemoryStore) {
        let clock = Arc::new(ManualClock::at(contract::START));
        let store = MemoryStore::with_bounds(clock.clone(), max_challenges, max_revocations);
        (clock, store)
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn passes_the_contract() {
        let (clock, store) = store(100_000, MAX_REVOCATIONS);
        contract::check(Arc::new(store), |by| clock.advance(by)).await;
    }

    #[tokio::test]
    async fn abuse_18_a_flood_of_challenges_stays_within_the_bound() {
        let (_, store) = store(1_000, 10);
        let session = SessionId::random(&SystemEntropy).unwrap();
        let until = contract::START.after(Duration::from_secs(60));
        store.revoke_session(session, until).await.unwrap();
        for _ in 0..20_000 {
            let token = ChallengeToken::random(&SystemEntropy).unwrap();
            store.put_challenge(&token, contract::record(until)).await.unwrap();
        }
        store.challenges.run_pending_tasks();
        assert!(store.active_challenges().await.unwrap() <= 1_000);
        assert!(store.is_revoked(session).await.unwrap(), "the flood dropped a revocation");
    }

    #[tokio::test]
    async fn the_newest_challenge_is_the_one_that_stays_when_the_store_is_full() {
        let (_, store) = store(10, 10);
        let until = contract::START.after(Duration::from_secs(60));
        let mut newest = ChallengeToken::random(&SystemEntropy).unwrap();
        for _ in 0..1_000 {
            newest = ChallengeToken::random(&SystemEntropy).unwrap();
            store.put_challenge(&newest, contract::record(until)).await.unwrap();
        }
        store.challenges.run_pending_tasks();
        assert!(store.take_challenge(&newest).await.unwrap().is_some());
    }

    #[tokio::test]
    async fn a_full_revocation_table_refuses_instead_of_forgetting() {
        let (clock, store) = store(10, 2);
        let until = contract::START.after(Duration::from_secs(60));
        let sessions: Vec<_> = (0..3).map(|_| SessionId::random(&SystemEntropy).unwrap()).collect();
        store.revoke_session(sessions[0], until).await.unwrap();
        store.revoke_session(sessions[1], until).await.unwrap();
        assert!(matches!(store.revoke_session(sessions[2], until).await, Err(StoreError::Full(_))));
        assert!(store.is_revoked(sessions[0]).await.unwrap());

        clock.advance(Duration::from_secs(61));
        let later = until.after(Duration::from_secs(60));
        store.revoke_session(sessions[2], later).await.expect("expired entries make room");
        assert!(store.is_revoked(sessions[2]).await.unwrap());
    }
}
