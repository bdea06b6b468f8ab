//! A store, or randomness, that fails.
//!
//! Case 10; 19 is tested with Redis. SECURITY.md: **A fault admits nobody**.

use fortify_store::StoreError;
use fortify_testkit::store::ProbedStore;

use super::*;

pub(super) async fn faulty_bed() -> (TestGate, Arc<AtomicBool>) {
    let fails = Arc::new(AtomicBool::new(false));
    (test_gate_over(fails.clone(), Arc::default()).await, fails)
}

async fn test_gate_over(fails: Arc<AtomicBool>, panics: Arc<AtomicBool>) -> TestGate {
    let dir = tempfile::tempdir().unwrap();
    let probe = move |_verb: &'static str| {
        assert!(!panics.load(Ordering::SeqCst), "a mistake, made by a test");
        match fails.load(Ordering::SeqCst) {
            true => Err(StoreError::Unavailable("unplugged by a test".to_owned())),
            false => Ok(()),
        }
    };
    let memory = Arc::new(fortify_testkit::memory_store(dir.path()));
    let store = ProbedStore::new(memory, Box::new(probe));
    TestGate::with(|parts| parts.store = Some(store)).await
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
