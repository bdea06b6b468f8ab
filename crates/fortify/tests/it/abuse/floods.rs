//! Challenges asked for without end.
//!
//! Case 18. SECURITY.md: **One circuit cannot use up what others need**.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn abuse_18_a_flood_of_challenge_requests_costs_another_circuit_nothing() {
    let test_gate = TestGate::with(|parts| {
        parts.config.security.identity = IdentityMode::Circuit;
        parts.config.captcha.max_active = 100;
        parts.config.captcha.max_active_per_circuit = 3;
    })
    .await;
    let mut victim = test_gate.visitor().circuit(CIRCUIT);
    let page = victim.get("/").await;
    let mut loud = test_gate.visitor().circuit("fc00:dead:beef:4dad::bad");
    for _ in 0..500 {
        loud.send(Method::POST, "/captcha/generate", &[], Body::empty()).await;
    }
    assert!(test_gate.app.engine.parts().store.active_challenges().await.unwrap() <= 4);
    assert!(test_gate.solve(&mut victim, &page).await.admits());
}
