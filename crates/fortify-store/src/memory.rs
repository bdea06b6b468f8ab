//! The embedded store: state in the memory of this process, for one node.
//!
//! Challenges and failures are in bounded caches that evict the least recently used entries. A circuit at its
//! own limit loses its oldest challenge first, so that a flood from a few circuits does not affect others.
//! Revocations and moves are never evicted; they have their own tables and files (`revocations`,
//! `binding_table`).

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use moka::Expiry;
use moka::ops::compute::Op;
use moka::policy::EvictionPolicy;
use moka::sync::{Cache, CacheBuilder};
use tokio::sync::watch;

use super::binding_table::BindingTable;
use super::lease::Remainder;
use super::record::{
    ChallengeRecord, ChallengeToken, DialRecord, Failures, Lease, LeaseRequest, MoveOutcome,
    MoveRequest, Place, Quota, Receipt, SessionId, SessionState, Taken, WindowLimit,
};
use super::revocations::Revocations;
use super::window::{self, RequestTimes};
use super::{PENDING_LIFETIME, StateStore, StoreError};
use fortify_core::clock::{Clock, Timestamp};
use fortify_core::damage::Damage;
use fortify_core::pseudonym::CircuitTag;
use fortify_core::reach::Reach;
use fortify_core::recent::Recent;

/// Circuits whose failures are remembered: about 80 bytes each, 16 MB in all. An attacker with more circuits
/// than this could also use each of them only once.
const MAX_FAILURE_RECORDS: usize = 200_000;

/// Circuits whose requests for challenges are remembered: 137 bytes each for ten requests (`cargo bench -p fortify
/// --bench judging`), and 4 for each further one; 70 MB in all with 60 requests each, the default per hour. The
/// least recently used are evicted.
const MAX_REQUEST_RECORDS: usize = 200_000;

/// Right answers that are remembered, and answers that are being checked: about 700 bytes each, 14 MB in all. Those of a
/// minute at the rate of the requirements, a thousand challenges, are a twentieth.
const MAX_RECEIPTS: u64 = 20_000;

/// How long a right answer is remembered at most; [`Receipt::expires_at`] may be earlier.
const LONGEST_RECEIPT: Duration = Duration::from_secs(60);
/// Sessions whose budgets are remembered, about 120 bytes each; the least recently used are evicted and start again. Only
/// a shared store is asked for leases while visitors are served.
const MAX_BUDGETS: usize = 100_000;

/// The bounds of the store.
#[derive(Clone, Copy, Debug)]
pub struct MemoryBounds {
    /// Challenges of all circuits together.
    pub challenges: u64,
    /// Challenges of one circuit; a further one replaces the oldest.
    pub challenges_per_circuit: usize,
}

/// The embedded implementation of [`StateStore`].
pub struct MemoryStore {
    clock: Arc<dyn Clock>,
    challenges: Cache<ChallengeToken, Arc<ChallengeRecord>>,
    /// The tokens of each circuit's live challenges, the oldest first.
    active: Cache<CircuitTag, Arc<[ChallengeToken]>>,
    challenges_per_circuit: usize,
    /// The state of challenges that were taken.
    taken: Cache<ChallengeToken, Arc<TakenState>>,
    /// Wrong answers, and until when they count, by the time that passed: a clock that is set changes
    /// nothing about a wait.
    failures: Recent<(u32, Duration)>,
    /// When each circuit asked for a challenge.
    requests: Recent<RequestTimes>,
    /// What is left of sessions' budgets, and when they expire.
    budgets: Recent<(Remainder, Timestamp), SessionId>,
    revocations: Arc<Revocations>,
    bindings: Arc<BindingTable>,
    dial: watch::Sender<Option<DialRecord>>,
}

impl MemoryStore {
    /// Opens a store with these `bounds` that checks expiry by `clock` and keeps revocations and moves in
    /// `data_dir`. It works whatever the state of their files; [`StateStore::damages`] says what was lost.
    #[must_use]
    pub fn open(clock: Arc<dyn Clock>, bounds: MemoryBounds, data_dir: &Path) -> Self {
        let revocations = Revocations::open(data_dir, clock.now());
        let moves = BindingTable::open(data_dir, clock.now());
        Self::over(clock, bounds, revocations, moves)
    }

    fn over(
        clock: Arc<dyn Clock>,
        bounds: MemoryBounds,
        revocations: Revocations,
        moves: BindingTable,
    ) -> Self {
        Self {
            challenges: bounded(bounds.challenges)
                .expire_after(ExpireAtRecordEnd { clock: clock.clone() })
                .build(),
            // A circuit without a challenge needs no entry, so there are never more.
            active: bounded(bounds.challenges).build(),
            challenges_per_circuit: bounds.challenges_per_circuit,
            taken: bounded(MAX_RECEIPTS).time_to_live(LONGEST_RECEIPT).build(),
            failures: Recent::new(MAX_FAILURE_RECORDS),
            requests: Recent::new(MAX_REQUEST_RECORDS),
            budgets: Recent::new(MAX_BUDGETS),
            revocations: Arc::new(revocations),
            bindings: Arc::new(moves),
            dial: watch::Sender::default(),
            clock,
        }
    }

    /// The time that what is asked for is kept by, the one that passed: a clock that is set changes nothing
    /// about what may be asked for.
    fn passed(&self) -> Timestamp {
        Timestamp::from_millis(0).after(self.clock.elapsed())
    }

    fn live(&self, record: Option<Arc<ChallengeRecord>>) -> Option<ChallengeRecord> {
        record.filter(|r| self.clock.now() < r.expires_at).map(Arc::unwrap_or_clone)
    }

    /// Adds `token` to its circuit's and drops what it replaces and what is too much; or returns the circuit's one
    /// challenge, which stays.
    fn enlist(
        &self,
        circuit: CircuitTag,
        token: &ChallengeToken,
        place: Place<'_>,
    ) -> Option<ChallengeToken> {
        let (mut dropped, mut stays) = (Vec::new(), None);
        self.active.entry(circuit).and_compute_with(|previous| {
            let mut tokens = previous.map_or_else(Vec::new, |entry| entry.into_value().to_vec());
            let replaced = place.replaces();
            if !place.accepts(tokens.last()) {
                stays = tokens.last().cloned();
                return Op::Nop;
            }
            dropped.extend(replaced.cloned());
            tokens.retain(|other| Some(other) != replaced);
            tokens.push(token.clone());
            let surplus = tokens.len().saturating_sub(self.challenges_per_circuit);
            dropped.extend(tokens.drain(..surplus));
            Op::Put(tokens.into())
        });
        for token in dropped.iter().chain(stays.is_some().then_some(token)) {
            self.challenges.invalidate(token);
        }
        stays
    }

    /// Takes the challenge of `token`, and marks it as being checked before anybody can see that it is gone.
    fn take(&self, token: &ChallengeToken) -> Option<Arc<ChallengeRecord>> {
        let mut taken = None;
        self.challenges.entry_by_ref(token).and_compute_with(|entry| {
            taken = entry.map(moka::Entry::into_value);
            if taken.is_none() {
                return Op::Nop;
            }
            let until = self.passed().after(PENDING_LIFETIME);
            self.taken.insert(token.clone(), Arc::new(TakenState::Pending { until }));
            Op::Remove
        });
        taken
    }

    /// Takes `token` out of its circuit's.
    fn unlist(&self, circuit: CircuitTag, token: &ChallengeToken) {
        self.active.entry(circuit).and_compute_with(|previous| {
            let tokens = previous.map_or_else(Vec::new, |entry| entry.into_value().to_vec());
            let rest: Vec<_> = tokens.into_iter().filter(|other| other != token).collect();
            if rest.is_empty() { Op::Remove } else { Op::Put(rest.into()) }
        });
    }
}

/// A cache that evicts the least recently used entry. The library's default policy may refuse the new entry
/// instead, which during a flood would affect every visitor.
fn bounded<K, V>(capacity: u64) -> CacheBuilder<K, V, Cache<K, V>>
where
    K: std::hash::Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    Cache::builder().max_capacity(capacity).eviction_policy(EvictionPolicy::lru())
}

/// The state of a challenge that was taken.
enum TakenState {
    /// It is being checked, until this time, by the time that passed.
    Pending { until: Timestamp },
    /// It was answered rightly.
    Answered(Receipt),
}

/// Removes a challenge from memory when it expires.
struct ExpireAtRecordEnd {
    clock: Arc<dyn Clock>,
}

impl Expiry<ChallengeToken, Arc<ChallengeRecord>> for ExpireAtRecordEnd {
    fn expire_after_create(
        &self,
        _token: &ChallengeToken,
        record: &Arc<ChallengeRecord>,
        _created: Instant,
    ) -> Option<Duration> {
        Some(self.clock.now().until(record.expires_at))
    }
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
        place: Place<'_>,
    ) -> Result<Option<ChallengeToken>, StoreError> {
        let circuit = record.circuit;
        self.challenges.insert(token.clone(), Arc::new(record));
        Ok(self.enlist(circuit, token, place))
    }

    async fn newest_challenge(
        &self,
        circuit: CircuitTag,
    ) -> Result<Option<ChallengeToken>, StoreError> {
        Ok(self.active.get(&circuit).and_then(|tokens| tokens.last().cloned()))
    }

    async fn challenge(
        &self,
        token: &ChallengeToken,
    ) -> Result<Option<ChallengeRecord>, StoreError> {
        Ok(self.live(self.challenges.get(token)))
    }

    async fn take_challenge(&self, token: &ChallengeToken) -> Result<Taken, StoreError> {
        if let Some(record) = self.take(token) {
            self.unlist(record.circuit, token);
            let live = self.live(Some(record));
            if live.is_none() {
                self.taken.invalidate(token);
            }
            return Ok(live.map_or(Taken::Absent, Taken::Challenge));
        }
        Ok(match self.taken.get(token).as_deref() {
            Some(TakenState::Pending { until }) if self.passed() < *until => Taken::Pending,
            Some(TakenState::Answered(receipt)) if self.clock.now() < receipt.expires_at => {
                Taken::Answered(receipt.clone())
            }
            _ => Taken::Absent,
        })
    }

    async fn settle_challenge(
        &self,
        token: &ChallengeToken,
        receipt: Option<Receipt>,
    ) -> Result<(), StoreError> {
        match receipt {
            Some(receipt) => {
                self.taken.insert(token.clone(), Arc::new(TakenState::Answered(receipt)));
            }
            None => self.taken.invalidate(token),
        }
        Ok(())
    }

    async fn record_failure(
        &self,
        circuit: CircuitTag,
        decay: Duration,
    ) -> Result<Failures, StoreError> {
        let passed = self.clock.elapsed();
        let is_over = |(_, until): &(u32, Duration)| passed >= *until;
        let count = self.failures.change(circuit, is_over, |known| {
            let count = known.map_or(0, |(count, _)| count).saturating_add(1);
            ((count, passed.saturating_add(decay)), count)
        });
        Ok(Failures { count, until: self.clock.now().after(decay) })
    }

    async fn failures(&self, circuit: CircuitTag) -> Result<Failures, StoreError> {
        let passed = self.clock.elapsed();
        let known = self.failures.get(circuit, |(_, until)| passed >= *until);
        Ok(known.map_or(Failures::NONE, |(count, until)| Failures {
            count,
            until: self.clock.now().after(until.saturating_sub(passed)),
        }))
    }

    async fn forget_failures(&self, circuit: CircuitTag) -> Result<(), StoreError> {
        self.failures.forget(circuit);
        Ok(())
    }

    async fn acquire_quota(
        &self,
        circuit: CircuitTag,
        bounds: [WindowLimit; 2],
        longest: Option<Duration>,
    ) -> Result<Quota, StoreError> {
        let now = self.passed();
        let widest = bounds.iter().map(|bound| bound.within).max().unwrap_or_default();
        let is_over = |known: &RequestTimes| known.newest().after(widest) <= now;
        Ok(self.requests.change(circuit, is_over, |known| {
            let times = known.as_ref().map(RequestTimes::all).unwrap_or_default();
            let asked = window::check(&times, &bounds, longest, now);
            match (asked, known) {
                (Quota::Exceeded(_), Some(known)) => (known, asked),
                _ => (window::add(&times, &bounds, now), asked),
            }
        }))
    }

    async fn quota_usage(
        &self,
        circuit: CircuitTag,
        within: [Duration; 2],
    ) -> Result<Option<[u32; 2]>, StoreError> {
        let (now, times) = (self.passed(), self.requests.get(circuit, |_| false));
        let times = times.as_ref().map(RequestTimes::all).unwrap_or_default();
        let count = |within| times.iter().filter(|at| now < at.after(within)).count();
        Ok(Some(within.map(|within| u32::try_from(count(within)).unwrap_or(u32::MAX))))
    }

    async fn revoke_session(
        &self,
        session: SessionId,
        until: Timestamp,
    ) -> Result<Reach, StoreError> {
        // Disk writes run outside the threads that serve requests.
        let (revocations, now) = (self.revocations.clone(), self.clock.now());
        tokio::task::spawn_blocking(move || revocations.insert(session, until, now))
            .await
            .map_err(|ended| StoreError::Unavailable(ended.to_string()))??;
        Ok(Reach::Cluster)
    }

    async fn session_state(&self, session: SessionId) -> Result<SessionState, StoreError> {
        if self.revocations.contains(&session) {
            return Ok(SessionState::Revoked);
        }
        Ok(self.bindings.bound_to(&session).map_or(SessionState::Unmoved, SessionState::BoundTo))
    }

    async fn revoked_until(&self, session: SessionId) -> Result<Option<Timestamp>, StoreError> {
        Ok(self.revocations.until(&session))
    }

    fn left_by(&self, session: SessionId) -> Vec<(CircuitTag, Timestamp)> {
        self.bindings.left_by(&session)
    }

    async fn move_session(
        &self,
        session: SessionId,
        step: MoveRequest,
    ) -> Result<MoveOutcome, StoreError> {
        let now = self.clock.now();
        if self.revocations.contains(&session) {
            return Ok(MoveOutcome::Revoked);
        }
        if let Some(settled) = self.bindings.decide_from_memory(&session, &step, now) {
            return Ok(settled);
        }
        let (moves, revocations) = (self.bindings.clone(), self.revocations.clone());
        tokio::task::spawn_blocking(move || moves.apply_move(session, &step, now, &revocations))
            .await
            .map_err(|ended| StoreError::Unavailable(ended.to_string()))?
    }

    async fn lease_budget(
        &self,
        session: SessionId,
        request: LeaseRequest,
    ) -> Result<Lease, StoreError> {
        let now = self.clock.now();
        Ok(self.budgets.change(
            session,
            |(_, until)| *until <= now,
            |known| {
                let (mut left, until) =
                    known.unwrap_or_else(|| (Remainder::new(&request, now), request.until));
                let lease = left.lease(request.most, now);
                ((left, until), lease)
            },
        ))
    }

    async fn set_dial(&self, dial: DialRecord) -> Result<DialRecord, StoreError> {
        let mut kept = dial;
        self.dial.send_if_modified(|before| match before {
            Some(before) if before.version >= kept.version => {
                kept.clone_from(before);
                false
            }
            _ => {
                *before = Some(kept.clone());
                true
            }
        });
        Ok(kept)
    }

    fn dial(&self) -> watch::Receiver<Option<DialRecord>> {
        self.dial.subscribe()
    }

    fn valid_after(&self) -> Option<Timestamp> {
        self.revocations.loss().lost_until.max(self.bindings.loss().lost_until)
    }

    fn damages(&self) -> Vec<Damage> {
        self.revocations.loss().and(self.bindings.loss())
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract;
    use fortify_core::clock::ManualClock;
    use fortify_core::entropy::{SystemEntropy, random_bytes};

    fn store(challenges: u64, challenges_per_circuit: usize) -> (Arc<ManualClock>, MemoryStore) {
        let clock = Arc::new(ManualClock::at(contract::START));
        let bounds = MemoryBounds { challenges, challenges_per_circuit };
        let store = MemoryStore::over(
            clock.clone(),
            bounds,
            Revocations::in_memory(1_000),
            BindingTable::in_memory(1_000),
        );
        (clock, store)
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn passes_the_contract() {
        let (clock, store) = store(100_000, 100);
        let store: Arc<dyn StateStore> = Arc::new(store);
        contract::check(store.clone(), |by| clock.advance(by)).await;
        contract::check_moves(store.clone(), |by| clock.advance(by)).await;
        contract::check_dial(&store, &store).await;
    }

    #[tokio::test]
    async fn a_clock_set_back_empties_no_budget_for_hours() {
        let (clock, store) = store(100, 1);
        let set = |now| clock.set(now);
        contract::check_a_clock_set_back(Arc::new(store), set, contract::START).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn abuse_18_a_circuit_has_no_more_challenges_than_it_may() {
        for most in [1, 3, 100] {
            contract::check_bound(Arc::new(store(100_000, most).1), most).await;
        }
    }

    /// Puts a challenge for a circuit of its own.
    async fn put_new(store: &MemoryStore, circuit: Option<CircuitTag>) -> ChallengeToken {
        let token = ChallengeToken::random(&SystemEntropy).unwrap();
        let random = CircuitTag::from_bytes(random_bytes(&SystemEntropy).unwrap());
        let until = contract::START.after(Duration::from_secs(60));
        let record =
            ChallengeRecord { circuit: circuit.unwrap_or(random), ..contract::record(until) };
        let placed = store.put_challenge(&token, record, Place::Beside(None)).await;
        assert_eq!(placed.unwrap(), None);
        token
    }

    #[tokio::test]
    async fn abuse_18_a_flood_from_many_circuits_stays_within_the_bound() {
        let (_, store) = store(1_000, 3);
        let session = SessionId::random(&SystemEntropy).unwrap();
        let until = contract::START.after(Duration::from_secs(60));
        store.revoke_session(session, until).await.unwrap();
        let mut newest = put_new(&store, None).await;
        for _ in 0..20_000 {
            newest = put_new(&store, None).await;
        }
        assert!(store.active_challenges().await.unwrap() <= 1_000);
        store.active.run_pending_tasks();
        assert!(store.active.entry_count() <= 1_000);
        let status = store.session_state(session).await.unwrap();
        assert_eq!(status, SessionState::Revoked, "the flood dropped a revocation");
        assert!(
            store.take_challenge(&newest).await.unwrap().challenge().is_some(),
            "the newest was refused"
        );
    }

    #[tokio::test]
    async fn abuse_18_a_flood_from_one_circuit_costs_nobody_else_a_challenge() {
        let (_, store) = store(100, 3);
        let victim = put_new(&store, None).await;
        let loud = CircuitTag::from_bytes([7; 16]);
        let mut flood = Vec::new();
        for _ in 0..10_000 {
            flood.push(put_new(&store, Some(loud)).await);
        }
        assert!(
            store.take_challenge(&victim).await.unwrap().challenge().is_some(),
            "the victim lost its own"
        );
        let mut live = 0;
        for token in &flood {
            live += u32::from(store.take_challenge(token).await.unwrap().challenge().is_some());
        }
        assert_eq!(live, 3, "a circuit has at most three, the newest");
    }

    #[tokio::test]
    async fn an_answered_challenge_makes_room_for_the_next_of_its_circuit() {
        let (_, store) = store(100, 2);
        let circuit = Some(CircuitTag::from_bytes([7; 16]));
        let first = put_new(&store, circuit).await;
        let second = put_new(&store, circuit).await;
        store.take_challenge(&second).await.unwrap().challenge().unwrap();
        put_new(&store, circuit).await;
        assert!(
            store.take_challenge(&first).await.unwrap().challenge().is_some(),
            "dropped without need"
        );
    }
}
