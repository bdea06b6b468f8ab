//! Requests without a session that holds, at the gate and at nginx's question.
//!
//! Cases 6 and 12. SECURITY.md: **Nothing reaches the protected service without a session**.

use super::store_faults::faulty_bed;
use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn abuse_06_without_a_session_nothing_reaches_the_backend() {
    let test_gate = TestGate::start().await;
    let admitted = test_gate.admitted().await;
    let good = admitted.cookies["cerberus_session"].clone();
    let tampered: String = {
        let mut bytes = good.clone().into_bytes();
        let middle = bytes.len() / 2;
        bytes[middle] = if bytes[middle] == b'A' { b'B' } else { b'A' };
        String::from_utf8(bytes).unwrap()
    };
    let other_gate = TestGate::start().await;
    let foreign = other_gate.admitted().await.cookies["cerberus_session"].clone();
    let cookies = [
        String::new(),
        "other=1".to_owned(),
        "cerberus_session=".to_owned(),
        format!("cerberus_session={tampered}"),
        format!("cerberus_session={foreign}"),
        format!("CERBERUS_SESSION={good}"),
        format!("cerberus_session={}", &good[..good.len() - 1]),
        format!("cerberus_hint={good}"),
    ];
    for cookie in &cookies {
        for method in ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "PROPFIND"] {
            for path in
                ["/", "/guestbook", "/%2e%2e/guestbook", "//guestbook", "/captcha", "/api/x"]
            {
                let method: Method = method.parse().unwrap();
                let headers = [("cookie", cookie.as_str())];
                let reply = test_gate
                    .visitor()
                    .send(method.clone(), path, &headers, Body::from("a=b"))
                    .await;
                assert!(
                    reply.status.is_client_error(),
                    "{method} {path} with {cookie:.30}: {}",
                    reply.status
                );
            }
        }
    }
    test_gate.clock.advance(Duration::from_secs(3600));
    let expired = admitted.clone().get("/").await;
    assert!(expired.is_challenge(), "an expired cookie");
    assert!(test_gate.site.seen().is_empty(), "{:?}", test_gate.site.seen().last());
}

#[tokio::test(flavor = "multi_thread")]
async fn abuse_12_a_denial_to_auth_request_is_401_and_a_fault_is_no_2xx() {
    let (test_gate, fails) = faulty_bed().await;
    let mut member = test_gate.admitted().await;
    assert_eq!(member.get("/_fortify/auth").await.status, StatusCode::NO_CONTENT);
    for cookie in ["", "cerberus_session=x", "cerberus_session=a.b.c", "cerberus_hint=member"] {
        let denied = test_gate.visitor().get_with("/_fortify/auth", &[("cookie", cookie)]).await;
        assert_eq!(denied.status, StatusCode::UNAUTHORIZED, "{cookie}");
    }
    fails.store(true, Ordering::SeqCst);
    assert_eq!(member.get("/_fortify/auth").await.status, StatusCode::SERVICE_UNAVAILABLE);

    let circuits = circuit_bed().await;
    for odd in ["", "19"] {
        let denied = circuits.visitor().get_with("/_fortify/auth", &[("x-circuit-id", odd)]).await;
        assert_eq!(denied.status, StatusCode::FORBIDDEN, "no circuit");
    }
}
