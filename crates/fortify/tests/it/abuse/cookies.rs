//! Cookies that are off, badly guarded, or signed by a key that is gone.
//!
//! Case 23. SECURITY.md, threat model: another site in the visitor's browser.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn abuse_23_a_visitor_with_cookies_off_is_told_and_not_looped() {
    let test_gate = TestGate::start().await;
    let mut visitor = test_gate.visitor();
    visitor.keeps_cookies = false;
    let page = visitor.get("/articles/1").await;
    let solved = test_gate.solve(&mut visitor, &page).await;
    assert_eq!(solved.status, StatusCode::SEE_OTHER);
    let enter = solved.header("location").unwrap().to_owned();
    assert!(enter.starts_with("/_fortify/enter?to="), "{enter}");
    let told = visitor.get(&enter).await;
    assert!(told.text().contains("Cookies are off"));
    assert!(!told.is_challenge());
    assert!(told.header("location").is_none() && !told.text().contains("refresh"), "a loop");
    assert!(told.text().contains("href=\"/articles/1\""));

    // A page of somebody else's, in a browser that keeps cookies: the same step lets in.
    let test_gate = circuit_bed().await;
    let mut embedded = test_gate.visitor().circuit(CIRCUIT);
    let image = embedded.get("/api/captcha-image?challenge=new").await;
    let id = image.header("x-challenge-id").unwrap().to_owned();
    let sent = fields(&[("token", &id), ("answer", &test_gate.answer(&id).await)]);
    let solved = embedded.post_form("/validate-captcha", &sent).await;
    let entered = embedded.get(solved.header("location").unwrap()).await;
    assert_eq!((entered.status, entered.header("location")), (StatusCode::SEE_OTHER, Some("/")));
}

#[tokio::test(flavor = "multi_thread")]
async fn abuse_23_the_cookies_are_guarded_as_the_configuration_says() {
    for (secure, host, expected) in [
        (SecureCookie::On, "abc.onion", true),
        (SecureCookie::On, "example.org", true),
        (SecureCookie::Off, "abc.onion", false),
        (SecureCookie::Auto, "abc.onion", true),
        (SecureCookie::Auto, "example.org", false),
    ] {
        let test_gate = TestGate::with(|parts| parts.config.session.secure = secure).await;
        let mut visitor = test_gate.visitor();
        visitor.headers.insert("host", host.parse().unwrap());
        let page = visitor.get("/").await;
        let reply = test_gate.solve(&mut visitor, &page).await;
        assert!(reply.admits());
        for cookie in reply.set_cookies() {
            assert_eq!(cookie.contains("; Secure"), expected, "{secure:?} {host}: {cookie}");
            assert!(cookie.contains("; HttpOnly"), "{cookie}");
            assert!(cookie.contains("; Path=/"), "{cookie}");
            assert!(!cookie.contains("Domain") && !cookie.contains("Partitioned"), "{cookie}");
            let strict = cookie.starts_with("cerberus_session=");
            assert_eq!(cookie.contains("SameSite=Strict"), strict, "{cookie}");
            assert!(cookie.contains("Max-Age=3600"), "{cookie}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn abuse_23_a_changed_key_is_a_challenge_and_not_a_fault() {
    let test_gate = TestGate::start().await;
    let mut member = test_gate.admitted().await;
    let lifetime = test_gate.app.engine.parts().sessions.lifetime();
    test_gate.app.engine.parts().keys.rotate(lifetime, &*test_gate.clock, &SystemEntropy).unwrap();
    assert_eq!(member.get("/").await.status, StatusCode::OK, "a rotation logged somebody out");
    test_gate
        .app
        .engine
        .parts()
        .keys
        .rotate(Duration::ZERO, &*test_gate.clock, &SystemEntropy)
        .unwrap();
    let challenged = member.get("/").await;
    assert!(challenged.is_challenge());
    assert!(test_gate.solve(&mut member, &challenged).await.admits(), "the way in is open");
    assert_eq!(member.get("/").await.status, StatusCode::OK);
}
