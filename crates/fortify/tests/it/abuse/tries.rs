//! Failures that somebody gets rid of, or puts on somebody else.
//!
//! Case 16. SECURITY.md: **One circuit cannot use up what others need**, and **One failure**.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn abuse_16_failures_follow_the_circuit_and_not_the_cookie() {
    let test_gate = TestGate::with(|parts| {
        parts.config.security.identity = IdentityMode::Circuit;
        parts.config.security.max_captcha_failures = 5;
    })
    .await;
    for _ in 0..5 {
        let mut fresh = test_gate.visitor().circuit(CIRCUIT);
        let page = fresh.get("/").await;
        test_gate.submit(&mut fresh, &page, "NO").await;
    }
    let fresh = test_gate.visitor().circuit("fc00:dead:beef:4dad::19").get("/").await;
    assert_eq!(fresh.status, StatusCode::FORBIDDEN);
    assert!(!fresh.is_challenge(), "a new browser starts over");
}

#[tokio::test(flavor = "multi_thread")]
async fn abuse_16_another_sites_page_cannot_use_up_a_visitors_tries() {
    let test_gate = TestGate::with(|parts| parts.config.security.max_captcha_failures = 2).await;
    let mut visitor = test_gate.visitor();
    let page = visitor.get("/").await;
    let body = fortify_testkit::form(&fields(&[("token", &page.field("token")), ("answer", "NO")]));
    for headers in [[("origin", "http://evil.onion")], [("sec-fetch-site", "cross-site")]] {
        for _ in 0..5 {
            let refused = visitor.post_body("/validate-captcha", &body, &headers).await;
            assert_eq!(refused.status, StatusCode::FORBIDDEN);
            assert!(!refused.is_challenge());
        }
    }
    assert!(test_gate.solve(&mut visitor, &page).await.admits(), "the challenge was taken");
}

#[tokio::test(flavor = "multi_thread")]
async fn abuse_16_an_answer_to_nothing_locks_nobody_out() {
    let test_gate = TestGate::with(|parts| {
        parts.config.security.max_captcha_failures = 2;
        parts.config.captcha.max_active_per_circuit = 3;
    })
    .await;
    let mut visitor = test_gate.visitor();
    let mut tabs = Vec::new();
    for _ in 0..8 {
        tabs.push(visitor.get("/").await);
    }
    // Five of eight tabs are older than a circuit may have; the visitor tries those first.
    for tab in &tabs[..5] {
        assert!(test_gate.submit(&mut visitor, tab, "ACDEFH").await.is_challenge());
    }
    assert!(visitor.get("/").await.is_challenge(), "locked out for old tabs");
}
