//! A store, or randomness, that fails.
//!
//! Case 10; 19 is tested with Redis. SECURITY.md: **A fault admits nobody**.

use super::*;

/// A store that can be made to fail, over one that works.
#[derive(Debug)]
struct Faulty {
    store: MemoryStore,
    fails: Arc<AtomicBool>,
    panics: Arc<AtomicBool>,
}

impl Faulty {
    fn check(&self) -> Result<(), StoreError> {
        assert!(!self.panics.load(Ordering::SeqCst), "a mistake, made by a test");
        if self.fails.load(Ordering::SeqCst) {
            return Err(StoreError::Unavailable("unplugged by a test".to_owned()));
        }
        Ok(())
    }
}

#[async_trait]
impl StateStore for Faulty {
    async fn put_challenge(
        &self,
        token: &ChallengeToken,
        record: ChallengeRecord,
    ) -> Result<(), StoreError> {
        self.check()?;
        self.store.put_challenge(token, record).await
    }
    async fn challenge(
        &self,
        token: &ChallengeToken,
    ) -> Result<Option<ChallengeRecord>, StoreError> {
        self.check()?;
        self.store.challenge(token).await
    }
    async fn take_challenge(
        &self,
        token: &ChallengeToken,
    ) -> Result<Option<ChallengeRecord>, StoreError> {
        self.check()?;
        self.store.take_challenge(token).await
    }
    async fn record_failure(
        &self,
        circuit: CircuitTag,
        decay: Duration,
    ) -> Result<Failures, StoreError> {
        self.check()?;
        self.store.record_failure(circuit, decay).await
    }
    async fn failures(&self, circuit: CircuitTag) -> Result<Failures, StoreError> {
        self.check()?;
        self.store.failures(circuit).await
    }
    async fn forget_failures(&self, circuit: CircuitTag) -> Result<(), StoreError> {
        self.check()?;
        self.store.forget_failures(circuit).await
    }
    async fn acquire_quota(
        &self,
        circuit: CircuitTag,
        bounds: [WindowLimit; 2],
    ) -> Result<Quota, StoreError> {
        self.check()?;
        self.store.acquire_quota(circuit, bounds).await
    }
    async fn revoke_session(&self, session: SessionId, until: Timestamp) -> Result<(), StoreError> {
        self.check()?;
        self.store.revoke_session(session, until).await
    }
    async fn session_state(&self, session: SessionId) -> Result<SessionState, StoreError> {
        self.check()?;
        self.store.session_state(session).await
    }
    async fn move_session(
        &self,
        session: SessionId,
        step: MoveRequest,
    ) -> Result<MoveOutcome, StoreError> {
        self.check()?;
        self.store.move_session(session, step).await
    }
    async fn set_dial(&self, dial: DialRecord) -> Result<DialRecord, StoreError> {
        self.check()?;
        self.store.set_dial(dial).await
    }
    fn dial(&self) -> watch::Receiver<Option<DialRecord>> {
        self.store.dial()
    }
    async fn ping(&self) -> Result<(), StoreError> {
        self.check()
    }
    async fn active_challenges(&self) -> Result<u64, StoreError> {
        self.check()?;
        self.store.active_challenges().await
    }
}

pub(super) async fn faulty_bed() -> (TestGate, Arc<AtomicBool>) {
    let fails = Arc::new(AtomicBool::new(false));
    (test_gate_over(fails.clone(), Arc::default()).await, fails)
}

async fn test_gate_over(fails: Arc<AtomicBool>, panics: Arc<AtomicBool>) -> TestGate {
    let dir = tempfile::tempdir().unwrap();
    let store = Faulty { store: fortify_testkit::memory_store(dir.path()), fails, panics };
    TestGate::with(|parts| parts.store = Some(Arc::new(store))).await
}

#[tokio::test(flavor = "multi_thread")]
async fn abuse_10_a_mistake_of_ours_is_a_503_and_not_the_end() {
    let panics = Arc::new(AtomicBool::new(false));
    let test_gate = test_gate_over(Arc::default(), panics.clone()).await;
    let mut member = test_gate.admitted().await;
    panics.store(true, Ordering::SeqCst);
    let reply = member.get("/").await;
    assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(reply.text().contains("<h1>") && !reply.text().contains("mistake, made"));
    panics.store(false, Ordering::SeqCst);
    assert_eq!(member.get("/").await.status, StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn abuse_10_a_store_that_fails_admits_nobody_and_heals_by_itself() {
    let (test_gate, fails) = faulty_bed().await;
    let mut member = test_gate.admitted().await;
    let mut visitor = test_gate.visitor();
    let page = visitor.get("/").await;
    let answer = test_gate.answer(&page.field("token")).await;
    let id = page.field("token");
    let solution = serde_json::json!({"challenge_id": id, "solution": answer});

    fails.store(true, Ordering::SeqCst);
    let seen = test_gate.site.seen().len();
    let refused = [
        visitor.clone().get("/").await,
        member.get("/").await,
        member.get("/_fortify/auth").await,
        test_gate.submit(&mut visitor.clone(), &page, &answer).await,
        visitor.clone().post_json("/verify-captcha", &solution).await,
        visitor.clone().get("/api/captcha-image?challenge=new").await,
        visitor.clone().send(Method::POST, "/captcha/generate", &[], Body::empty()).await,
        visitor.clone().get(&format!("/captcha/{id}.png")).await,
        member.clone().post_form("/api/session/logout", &[]).await,
        test_gate.visitor().get("/ready").await,
    ];
    for (step, reply) in refused.iter().enumerate() {
        assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE, "step {step}");
        assert!(!reply.admits(), "step {step}");
        if step < 9 {
            assert_eq!(reply.header("retry-after"), Some("5"), "step {step}");
            assert!(!reply.text().contains("unplugged"), "step {step} tells what happened");
        }
    }
    assert_eq!(test_gate.site.seen().len(), seen, "the backend saw a request");
    assert_eq!(test_gate.visitor().get("/health").await.status, StatusCode::OK);

    fails.store(false, Ordering::SeqCst);
    assert_eq!(member.get("/").await.status, StatusCode::OK);
    assert!(test_gate.submit(&mut visitor, &page, &answer).await.admits());
}

/// Randomness that can run out.
#[derive(Debug)]
struct Dry(Arc<AtomicBool>);

impl Entropy for Dry {
    fn fill(&self, buffer: &mut [u8]) -> Result<(), EntropyError> {
        if self.0.load(Ordering::SeqCst) { Err(EntropyError) } else { SystemEntropy.fill(buffer) }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn abuse_10_a_store_that_fails_lets_nobody_in_behind_nginx() {
    let (test_gate, fails) = faulty_bed().await;
    let nginx = fortify_testkit::servers::Nginx::start(test_gate.address, test_gate.site.address());
    let mut member = Visitor::at(nginx.address);
    let page = member.get("/").await;
    assert!(test_gate.solve(&mut member, &page).await.admits());
    assert_eq!(member.get("/").await.status, StatusCode::OK);
    test_gate.site.seen().clear();
    fails.store(true, Ordering::SeqCst);
    for mut visitor in [member.clone(), Visitor::at(nginx.address)] {
        let refused = visitor.get("/").await;
        assert!(!refused.status.is_success(), "{}", refused.text());
        assert!(test_gate.site.seen().is_empty());
    }
    assert_eq!(member.get("/").await.status, StatusCode::SERVICE_UNAVAILABLE);
    fails.store(false, Ordering::SeqCst);
    assert_eq!(member.get("/").await.status, StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn abuse_10_without_randomness_there_is_no_session_and_no_challenge() {
    let dry = Arc::new(AtomicBool::new(false));
    let source = Arc::new(Dry(dry.clone()));
    let test_gate = TestGate::with(|parts| parts.entropy = source).await;
    let mut visitor = test_gate.visitor();
    let page = visitor.get("/").await;
    let answer = test_gate.answer(&page.field("token")).await;
    dry.store(true, Ordering::SeqCst);
    let right = test_gate.submit(&mut visitor, &page, &answer).await;
    assert_eq!(right.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(!right.admits());
    assert_eq!(visitor.get("/").await.status, StatusCode::SERVICE_UNAVAILABLE);
}
