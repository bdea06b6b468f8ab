//! Maintenance: what visitors, monitors and operators get meanwhile, and that it ends.

use std::time::Duration;

use axum::http::{Method, StatusCode};
use fortify_testkit::{NOW, TestGate};
use fortify_web::maintenance::Maintenance;

fn ten_minutes(message: Option<&str>) -> Option<Maintenance> {
    Some(Maintenance {
        since: NOW,
        until: Some(NOW.after(Duration::from_secs(600))),
        message: message.map(str::to_owned),
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn visitors_are_told_so_and_nobody_is_challenged_or_thrown_out() {
    let test_gate = TestGate::start().await;
    let (mut member, mut newcomer) = (test_gate.admitted().await, test_gate.visitor());
    let page = newcomer.get("/").await;
    assert!(page.is_challenge());
    let seen = test_gate.site.seen().len();

    test_gate.app.maintenance.set(ten_minutes(None)).unwrap();
    for reply in [
        member.get("/").await,
        newcomer.get("/articles/1").await,
        test_gate.visitor().get("/_fortify/enter?to=/").await,
        test_gate.submit(&mut newcomer, &page, "WRONG-ANSWER").await,
        member.post_form("/guestbook", &[]).await,
    ] {
        assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(reply.text().contains("The site is being worked on"), "{}", reply.text());
        assert!(reply.text().contains("http-equiv=\"refresh\""), "{}", reply.text());
        assert_eq!(reply.header("retry-after"), Some("300"));
        assert!(!reply.is_challenge() && reply.set_cookies().is_empty());
    }
    let program = member.get_with("/", &[("accept", "application/json")]).await;
    assert_eq!(program.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(program.json()["success"], false);
    assert_eq!(test_gate.site.seen().len(), seen, "the service was asked");

    let mut monitor = test_gate.visitor();
    assert_eq!(monitor.get("/health").await.status, StatusCode::OK);
    assert_eq!(monitor.get("/ready").await.status, StatusCode::OK);
    assert!(monitor.get("/metrics").await.text().contains("fortify_maintenance 1\n"));
    let status = monitor.get("/api/status").await;
    assert_eq!(status.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(status.json()["status"], "maintenance");

    let message = "We move house. <b>Back</b> at noon.";
    test_gate.app.maintenance.set(ten_minutes(Some(message))).unwrap();
    let text = member.get("/").await.text();
    assert!(text.contains("We move house.") && !text.contains("<b>"), "{text}");

    // At its end, and before if an operator ends it, everything is as it was.
    test_gate.clock.advance(Duration::from_secs(601));
    assert_eq!(member.get("/").await.status, StatusCode::OK);
    assert!(newcomer.get("/").await.is_challenge());
    test_gate
        .app
        .maintenance
        .set(Some(Maintenance { until: None, ..ten_minutes(None).unwrap() }))
        .unwrap();
    assert_eq!(member.get("/").await.status, StatusCode::SERVICE_UNAVAILABLE);
    test_gate.app.maintenance.set(None).unwrap();
    assert_eq!(member.get("/").await.status, StatusCode::OK);
    assert!(monitor.get("/metrics").await.text().contains("fortify_maintenance 0\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn nginx_is_answered_so_that_it_shows_the_page() {
    let test_gate = TestGate::with(|parts| parts.config.upstream.servers = Vec::new()).await;
    let mut member = test_gate.admitted().await;
    assert_eq!(member.get("/_fortify/auth").await.status, StatusCode::NO_CONTENT);
    test_gate.app.maintenance.set(ten_minutes(None)).unwrap();
    let asked = member.send(Method::GET, "/_fortify/auth", &[], axum::body::Body::empty()).await;
    assert_eq!(asked.status, StatusCode::UNAUTHORIZED);
    assert!(member.get("/").await.text().contains("The site is being worked on"));
}
