//! Visitors who say themselves which circuit they are.
//!
//! Case 5; 2 is tested beside the code, 3 and 4 with tor. SECURITY.md: **Nothing reaches the protected service
//! without a session**, which lives on one circuit.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn abuse_05_a_circuit_comes_from_a_trusted_peer_once_or_not_at_all() {
    let test_gate = circuit_bed().await;
    let mut visitor = test_gate.visitor();
    assert_eq!(visitor.get("/").await.status, StatusCode::BAD_REQUEST, "no header");
    for odd in ["", "19", "::19", "127.0.0.1", "fc00:dead:beef:4dad::1:0:19", "a, b"] {
        let reply = visitor.get_with("/", &[("x-circuit-id", odd)]).await;
        assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{odd}");
        let api = visitor
            .send(Method::POST, "/captcha/generate", &[("x-circuit-id", odd)], Body::empty())
            .await;
        assert_eq!(api.status, StatusCode::BAD_REQUEST, "{odd}");
    }
    let twice = raw(
        &test_gate,
        format!("GET / HTTP/1.1\r\nHost: x\r\nX-Circuit-ID: {CIRCUIT}\r\nX-Circuit-ID: {CIRCUIT}\r\nConnection: close\r\n\r\n"),
    )
    .await;
    assert!(twice.starts_with("HTTP/1.1 400"), "{twice}");
    assert!(visitor.get_with("/", &[("x-circuit-id", CIRCUIT)]).await.is_challenge());

    let distrustful = TestGate::with(|parts| {
        parts.config.security.identity = IdentityMode::Circuit;
        parts.config.server.trusted_proxies =
            fortify_core::circuit::TrustedProxies::parse(["10.0.0.0/8"]).unwrap();
    })
    .await;
    let mut stranger = distrustful.visitor().circuit(CIRCUIT);
    assert_eq!(stranger.get("/").await.status, StatusCode::BAD_REQUEST, "an untrusted peer");
}

#[tokio::test(flavor = "multi_thread")]
async fn abuse_05_an_address_visitor_cannot_write_itself_a_circuit() {
    let test_gate = TestGate::start().await;
    let mut visitor = test_gate.visitor();
    let page = visitor.get_with("/", &[("x-circuit-id", CIRCUIT)]).await;
    // Answered under another header, and still the same visitor: the header is not looked at.
    let reply = test_gate.solve(&mut visitor, &page).await;
    assert!(reply.admits());
    let seen = visitor.get_with("/echo", &[("x-circuit-id", CIRCUIT)]).await;
    assert_eq!(seen.status, StatusCode::OK);
    assert!(!seen.text().to_lowercase().contains("x-circuit-id"), "{}", seen.text());
}
