//! A store between the gate and a real one, for tests that watch its verbs or make them fail.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use fortify_core::clock::Timestamp;
use fortify_core::damage::Damage;
use fortify_core::pseudonym::CircuitTag;
use fortify_core::reach::Reach;
use fortify_keys::KeyNote;
use fortify_store::record::{
    ChallengeRecord, ChallengeToken, DialRecord, Failures, Lease, LeaseRequest, MoveOutcome,
    MoveRequest, Place, Quota, Receipt, SessionId, SessionState, Taken, WindowLimit,
};
use fortify_store::{StateStore, StoreError};
use tokio::sync::watch;

/// Called with the name of each verb before it is carried out; what it returns is what the verb fails with.
pub type Probe = Box<dyn Fn(&'static str) -> Result<(), StoreError> + Send + Sync>;

/// A store whose verbs pass a [`Probe`] first.
pub struct ProbedStore {
    store: Arc<dyn StateStore>,
    probe: Probe,
}

impl ProbedStore {
    /// `store`, with `probe` before each verb.
    pub fn new(store: Arc<dyn StateStore>, probe: Probe) -> Arc<Self> {
        Arc::new(Self { store, probe })
    }

    fn step(&self, verb: &'static str) -> Result<(), StoreError> {
        (self.probe)(verb)
    }
}

impl fmt::Debug for ProbedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ProbedStore(..)")
    }
}

#[async_trait]
impl StateStore for ProbedStore {
    async fn put_challenge(
        &self,
        token: &ChallengeToken,
        record: ChallengeRecord,
        place: Place<'_>,
    ) -> Result<Option<ChallengeToken>, StoreError> {
        self.step("put_challenge")?;
        self.store.put_challenge(token, record, place).await
    }
    async fn newest_challenge(
        &self,
        circuit: CircuitTag,
    ) -> Result<Option<ChallengeToken>, StoreError> {
        self.step("newest_challenge")?;
        self.store.newest_challenge(circuit).await
    }
    async fn challenge(
        &self,
        token: &ChallengeToken,
    ) -> Result<Option<ChallengeRecord>, StoreError> {
        self.step("challenge")?;
        self.store.challenge(token).await
    }
    async fn take_challenge(&self, token: &ChallengeToken) -> Result<Taken, StoreError> {
        self.step("take_challenge")?;
        self.store.take_challenge(token).await
    }
    async fn settle_challenge(
        &self,
        token: &ChallengeToken,
        receipt: Option<Receipt>,
    ) -> Result<(), StoreError> {
        self.step("settle_challenge")?;
        self.store.settle_challenge(token, receipt).await
    }
    async fn record_failure(
        &self,
        circuit: CircuitTag,
        decay: Duration,
    ) -> Result<Failures, StoreError> {
        self.step("record_failure")?;
        self.store.record_failure(circuit, decay).await
    }
    async fn failures(&self, circuit: CircuitTag) -> Result<Failures, StoreError> {
        self.step("failures")?;
        self.store.failures(circuit).await
    }
    async fn forget_failures(&self, circuit: CircuitTag) -> Result<(), StoreError> {
        self.step("forget_failures")?;
        self.store.forget_failures(circuit).await
    }
    async fn acquire_quota(
        &self,
        circuit: CircuitTag,
        bounds: [WindowLimit; 2],
        longest: Option<Duration>,
    ) -> Result<Quota, StoreError> {
        self.step("acquire_quota")?;
        self.store.acquire_quota(circuit, bounds, longest).await
    }
    async fn revoke_session(
        &self,
        session: SessionId,
        until: Timestamp,
    ) -> Result<Reach, StoreError> {
        self.step("revoke_session")?;
        self.store.revoke_session(session, until).await
    }
    async fn session_state(&self, session: SessionId) -> Result<SessionState, StoreError> {
        self.step("session_state")?;
        self.store.session_state(session).await
    }
    async fn revoked_until(&self, session: SessionId) -> Result<Option<Timestamp>, StoreError> {
        self.step("revoked_until")?;
        self.store.revoked_until(session).await
    }
    fn left_by(&self, session: SessionId) -> Vec<(CircuitTag, Timestamp)> {
        self.store.left_by(session)
    }
    async fn move_session(
        &self,
        session: SessionId,
        step: MoveRequest,
    ) -> Result<MoveOutcome, StoreError> {
        self.step("move_session")?;
        self.store.move_session(session, step).await
    }
    async fn lease_budget(
        &self,
        session: SessionId,
        request: LeaseRequest,
    ) -> Result<Lease, StoreError> {
        self.step("lease_budget")?;
        self.store.lease_budget(session, request).await
    }
    async fn exchange_key_notes(&self, own: KeyNote) -> Result<Vec<KeyNote>, StoreError> {
        // In the background, at any time.
        self.store.exchange_key_notes(own).await
    }
    fn unwritten(&self) -> usize {
        self.store.unwritten()
    }
    async fn set_dial(&self, dial: DialRecord) -> Result<DialRecord, StoreError> {
        self.step("set_dial")?;
        self.store.set_dial(dial).await
    }
    fn dial(&self) -> watch::Receiver<Option<DialRecord>> {
        self.store.dial()
    }
    fn valid_after(&self) -> Option<Timestamp> {
        self.store.valid_after()
    }
    fn damages(&self) -> Vec<Damage> {
        self.store.damages()
    }
    async fn ping(&self) -> Result<(), StoreError> {
        self.step("ping")?;
        self.store.ping().await
    }
    async fn active_challenges(&self) -> Result<u64, StoreError> {
        self.step("active_challenges")?;
        self.store.active_challenges().await
    }
}
