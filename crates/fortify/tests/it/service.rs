//! The protected service that is down or closes connections, and what visitors and monitors are told.

use std::net::SocketAddr;

use axum::http::StatusCode;
use fortify_config::UpstreamServer;
use fortify_demo::DemoSite;
use fortify_testkit::TestGate;
use fortify_testkit::wait::eventually;

/// An address where nothing listens.
fn nowhere() -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}

fn http(address: SocketAddr) -> UpstreamServer {
    UpstreamServer::Http(address.to_string().parse().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_is_down_is_said_before_anybody_solves() {
    let down = nowhere();
    let test_gate = TestGate::with(|parts| parts.config.upstream.servers = vec![http(down)]).await;
    let mut monitor = test_gate.visitor();
    assert_eq!(monitor.get("/api/status").await.json()["status"], "ok");

    // Nobody knows yet, so the first visitor solves.
    let mut first = test_gate.admitted().await;
    assert_eq!(first.get("/").await.status, StatusCode::BAD_GATEWAY);

    let mut newcomer = test_gate.visitor();
    for reply in [first.get("/").await, newcomer.get("/").await, newcomer.get("/a?b=c").await] {
        assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(!reply.is_challenge());
        assert!(reply.text().contains("The site is down"), "{}", reply.text());
        assert!(reply.text().contains("http-equiv=\"refresh\""), "{}", reply.text());
        assert_eq!(reply.header("retry-after"), Some("10"));
    }
    let api = newcomer.post_json("/captcha/generate", &serde_json::json!({})).await;
    assert_eq!(api.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(api.json()["success"], false);

    let status = monitor.get("/api/status").await;
    assert_eq!(status.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(status.json()["status"], "degraded");
    let ready = monitor.get("/ready").await;
    assert_eq!(
        (ready.status, ready.json()["upstream"].clone()),
        (StatusCode::OK, "degraded".into())
    );
    assert_eq!(monitor.get("/health").await.status, StatusCode::OK);
    let metrics = monitor.get("/metrics").await.text();
    for line in [
        "fortify_upstream_servers{state=\"down\"} 1",
        "fortify_upstream_servers{state=\"up\"} 0",
        "fortify_upstream_breaker_total{event=\"opened\"} 1",
    ] {
        assert!(metrics.contains(line), "{line} is missing in:\n{metrics}");
    }

    // It heals without anybody's request, and whoever was in is still in.
    let listener = tokio::net::TcpListener::bind(down).await.unwrap();
    let site = axum::Router::new().fallback(async || "the site");
    tokio::spawn(async move { axum::serve(listener, site).await });
    let app = test_gate.app.clone();
    eventually("the service is found again", || !app.service_is_down()).await;
    assert_eq!(monitor.get("/api/status").await.json()["status"], "ok");
    assert_eq!(monitor.get("/ready").await.json()["upstream"], "ok");
    assert_eq!(first.get("/").await.text(), "the site");
    assert!(newcomer.get("/").await.is_challenge());
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_reads_a_challenge_when_the_service_goes_down_keeps_what_it_earns() {
    let down = nowhere();
    let test_gate = TestGate::with(|parts| parts.config.upstream.servers = vec![http(down)]).await;
    let mut visitor = test_gate.visitor();
    let page = visitor.get("/").await;
    let mut first = test_gate.admitted().await;
    assert_eq!(first.get("/").await.status, StatusCode::BAD_GATEWAY);
    assert!(test_gate.app.service_is_down());
    assert_eq!(test_gate.solve(&mut visitor, &page).await.status, StatusCode::SEE_OTHER);
    assert!(visitor.get("/").await.text().contains("The site is down"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_address_takes_over_when_the_first_is_down() {
    let site = DemoSite::start().await.unwrap();
    let servers = vec![http(nowhere()), http(site.address())];
    let test_gate = TestGate::with(|parts| parts.config.upstream.servers = servers).await;
    let mut visitor = test_gate.admitted().await;
    for _ in 0..6 {
        assert_eq!(visitor.get("/").await.status, StatusCode::OK);
    }
    assert!(!test_gate.app.service_is_down());
}
