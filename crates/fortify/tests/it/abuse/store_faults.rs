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
    async fn ask(&self, circuit: CircuitTag, bounds: [Bound; 2]) -> Result<Asked, StoreError> {
        self.check()?;
        self.store.ask(circuit, bounds).await
    }
    async fn revoke_session(&self, session: SessionId, until: Timestamp) -> Result<(), StoreError> {
        self.check()?;
        self.store.revoke_session(session, until).await
    }
    async fn standing(&self, session: SessionId) -> Result<Standing, StoreError> {
        self.check()?;
        self.store.standing(session).await
    }
    async fn move_session(&self, session: SessionId, step: Move) -> Result<Moved, StoreError> {
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

pub(super) async fn faulty_bed() -> (Bed, Arc<AtomicBool>) {
    let fails = Arc::new(AtomicBool::new(false));
    (bed_over(fails.clone(), Arc::default()).await, fails)
}

async fn bed_over(fails: Arc<AtomicBool>, panics: Arc<AtomicBool>) -> Bed {
    let dir = tempfile::tempdir().unwrap();
    let store = Faulty { store: fortify_testkit::memory_store(dir.path()), fails, panics };
    Bed::with(|parts| parts.store = Some(Arc::new(store))).await
}

#[tokio::test(flavor = "multi_thread")]
async fn abuse_10_a_mistake_of_ours_is_a_503_and_not_the_end() {
    let panics = Arc::new(AtomicBool::new(false));
    let bed = bed_over(Arc::default(), panics.clone()).await;
    let mut member = bed.admitted().await;
    panics.store(true, Ordering::SeqCst);
    let reply = member.get("/").await;
    assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(reply.text().contains("<h1>") && !reply.text().contains("mistake, made"));
    panics.store(false, Ordering::SeqCst);
    assert_eq!(member.get("/").await.status, StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn abuse_10_a_store_that_fails_admits_nobody_and_heals_by_itself() {
    let (bed, fails) = faulty_bed().await;
    let mut member = bed.admitted().await;
    let mut visitor = bed.visitor();
    let page = visitor.get("/").await;
    let answer = bed.answer(&page.field("token")).await;
    let id = page.field("token");
    let solution = serde_json::json!({"challenge_id": id, "solution": answer});

    fails.store(true, Ordering::SeqCst);
    let seen = bed.site.seen().len();
    let refused = [
        visitor.clone().get("/").await,
        member.get("/").await,
        member.get("/_fortify/auth").await,
        bed.submit(&mut visitor.clone(), &page, &answer).await,
        visitor.clone().post_json("/verify-captcha", &solution).await,
        visitor.clone().get("/api/captcha-image?challenge=new").await,
        visitor.clone().send(Method::POST, "/captcha/generate", &[], Body::empty()).await,
        visitor.clone().get(&format!("/captcha/{id}.png")).await,
        member.clone().post_form("/api/session/logout", &[]).await,
        bed.visitor().get("/ready").await,
    ];
    for (step, reply) in refused.iter().enumerate() {
        assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE, "step {step}");
        assert!(!reply.admits(), "step {step}");
        if step < 9 {
            assert_eq!(reply.header("retry-after"), Some("5"), "step {step}");
            assert!(!reply.text().contains("unplugged"), "step {step} tells what happened");
        }
    }
    assert_eq!(bed.site.seen().len(), seen, "the backend saw a request");
    assert_eq!(bed.visitor().get("/health").await.status, StatusCode::OK);

    fails.store(false, Ordering::SeqCst);
    assert_eq!(member.get("/").await.status, StatusCode::OK);
    assert!(bed.submit(&mut visitor, &page, &answer).await.admits());
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
    let (bed, fails) = faulty_bed().await;
    let nginx = fortify_testkit::servers::Nginx::start(bed.address, bed.site.address());
    let mut member = Visitor::at(nginx.address);
    let page = member.get("/").await;
    assert!(bed.solve(&mut member, &page).await.admits());
    assert_eq!(member.get("/").await.status, StatusCode::OK);
    bed.site.seen().clear();
    fails.store(true, Ordering::SeqCst);
    for mut visitor in [member.clone(), Visitor::at(nginx.address)] {
        let refused = visitor.get("/").await;
        assert!(!refused.status.is_success(), "{}", refused.text());
        assert!(bed.site.seen().is_empty());
    }
    assert_eq!(member.get("/").await.status, StatusCode::SERVICE_UNAVAILABLE);
    fails.store(false, Ordering::SeqCst);
    assert_eq!(member.get("/").await.status, StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn abuse_10_without_randomness_there_is_no_session_and_no_challenge() {
    let dry = Arc::new(AtomicBool::new(false));
    let source = Arc::new(Dry(dry.clone()));
    let bed = Bed::with(|parts| parts.entropy = source).await;
    let mut visitor = bed.visitor();
    let page = visitor.get("/").await;
    let answer = bed.answer(&page.field("token")).await;
    dry.store(true, Ordering::SeqCst);
    let right = bed.submit(&mut visitor, &page, &answer).await;
    assert_eq!(right.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(!right.admits());
    assert_eq!(visitor.get("/").await.status, StatusCode::SERVICE_UNAVAILABLE);
}
