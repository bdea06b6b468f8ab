//! The protected service that is down or closes connections, and what visitors and monitors are told.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use axum::Router;
use axum::body::{Body, Bytes, HttpBody};
use axum::http::{StatusCode, Uri};
use axum::routing::get;
use fortify_config::UpstreamServer;
use fortify_demo::DemoSite;
use fortify_testkit::TestGate;
use fortify_testkit::servers::{Process, check, command, free_address};
use fortify_testkit::wait::eventually;
use hyper::body::Frame;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::Semaphore;

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
    let site = Router::new().fallback(async || "the site");
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

/// Makes a certificate and its key in `dir`: for 127.0.0.1 and signed by `by`, or an authority's.
fn certificate(dir: &Path, name: &str, by: Option<&str>) {
    let path = |name: &str, kind: &str| dir.join(format!("{name}.{kind}")).display().to_string();
    let mut openssl = command("openssl");
    openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]);
    openssl.args(["-nodes", "-days", "30", "-subj", &format!("/CN={name}")]);
    openssl.args(["-keyout", &path(name, "key"), "-out", &path(name, "crt")]);
    if let Some(by) = by {
        openssl.args(["-CA", &path(by, "crt"), "-CAkey", &path(by, "key")]);
        openssl.args(["-addext", "basicConstraints=critical,CA:FALSE"]);
        openssl.args(["-addext", "subjectAltName=IP:127.0.0.1"]);
    }
    check(&mut openssl);
}

/// nginx as a service over TLS, with the certificate `server` in `dir`.
fn tls_service(dir: &Path, address: SocketAddr) -> Process {
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("{kind}_temp_path {}/{kind};", dir.display()))
        .concat();
    let config = format!(
        "pid {dir}/pid; events {{}} http {{ access_log off; {temporary} server {{ listen {address} ssl; \
         ssl_certificate {dir}/server.crt; ssl_certificate_key {dir}/server.key; \
         location / {{ return 200 encrypted; }} }} }}",
        dir = dir.display()
    );
    let path = dir.join("nginx.conf");
    std::fs::write(&path, config).unwrap();
    let mut nginx = command("nginx");
    nginx.args(["-e", "stderr", "-g", "daemon off;", "-p"]).arg(dir).arg("-c").arg(path);
    Process::start(&mut nginx, address, &dir.join("log"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_over_tls_is_used_if_its_certificate_is_good_and_down_otherwise() {
    let dir = tempfile::tempdir().unwrap();
    for (name, by) in [("ca", None), ("other", None), ("server", Some("ca"))] {
        certificate(dir.path(), name, by);
    }
    let address = free_address();
    let _service = tls_service(dir.path(), address);
    for (host, ca, good) in
        [("127.0.0.1", "ca", true), ("127.0.0.1", "other", false), ("localhost", "ca", false)]
    {
        let server = format!("{host}:{}", address.port());
        let test_gate = TestGate::with(|parts| {
            parts.config.upstream.servers = vec![UpstreamServer::Https(server.parse().unwrap())];
            parts.config.upstream.tls_ca = Some(dir.path().join(format!("{ca}.crt")));
        })
        .await;
        let mut visitor = test_gate.admitted().await;
        let (first, second) = (visitor.get("/").await, visitor.get("/").await);
        let ready = test_gate.visitor().get("/ready").await.json()["upstream"].clone();
        if good {
            assert_eq!((first.status, second.text()), (StatusCode::OK, "encrypted".to_owned()));
            assert_eq!(ready, "ok");
        } else {
            assert_eq!(first.status, StatusCode::BAD_GATEWAY, "{host}, {ca}");
            assert_eq!(second.status, StatusCode::SERVICE_UNAVAILABLE, "{host}, {ca}");
            assert_eq!(ready, "degraded");
        }
        test_gate.stop().await;
    }
}

/// A body that begins and never goes on.
struct Endless(Option<Bytes>);

impl HttpBody for Endless {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.take().map_or(Poll::Pending, |data| Poll::Ready(Some(Ok(Frame::data(data)))))
    }
}

/// A service whose `/slow` answers once for each permit, and whose `/stream` never ends; it tells the query of every
/// request that reached it.
async fn slow_service() -> (SocketAddr, Arc<Semaphore>, Arc<Mutex<Vec<String>>>) {
    let (permits, seen) = (Arc::new(Semaphore::new(0)), Arc::new(Mutex::new(Vec::new())));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (given, asked) = (permits.clone(), seen.clone());
    let slow = move |uri: Uri| async move {
        asked.lock().unwrap().push(uri.query().unwrap_or_default().to_owned());
        given.acquire().await.unwrap().forget();
        "at last"
    };
    let stream = || async { Body::new(Endless(Some(Bytes::from("data")))) };
    let router = Router::new().route("/slow", get(slow)).route("/stream", get(stream));
    tokio::spawn(async move { axum::serve(listener, router).await });
    (address, permits, seen)
}

#[tokio::test(flavor = "multi_thread")]
async fn abuse_26_a_reader_goes_before_what_one_heavy_session_has_waiting() {
    let (address, permits, seen) = slow_service().await;
    let test_gate = TestGate::with(|parts| {
        parts.service_at(address);
        parts.config.upstream.max_concurrent = 2;
    })
    .await;
    let (heavy, mut reader) = (test_gate.admitted().await, test_gate.admitted().await);
    let figures = || test_gate.app.upstream.as_ref().unwrap().figures().unwrap();
    let scraped: Vec<_> = (0..12)
        .map(|_| {
            let mut heavy = heavy.clone();
            tokio::spawn(async move { heavy.get("/slow?heavy").await.status })
        })
        .collect();
    eventually("the scraper's requests to wait", || figures().waiting == 10).await;
    let read = tokio::spawn(async move { (reader.get("/slow?reader").await.status, reader) });
    eventually("the reader's request to wait", || figures().waiting == 11).await;
    permits.add_permits(1);
    eventually("the next request", || seen.lock().unwrap().len() == 3).await;
    assert_eq!(*seen.lock().unwrap(), ["heavy", "heavy", "reader"]);
    let metrics = test_gate.visitor().get("/metrics").await.text();
    for line in ["limit 2", "in_flight 2", "waiting 10", "refused_total{reason=\"full\"} 0"] {
        assert!(metrics.contains(&format!("fortify_upstream_{line}")), "{line}:\n{metrics}");
    }
    // Whoever has much to ask gets it all the same.
    permits.add_permits(100);
    let (status, _reader) = read.await.unwrap();
    assert_eq!(status, StatusCode::OK);
    for request in scraped {
        assert_eq!(request.await.unwrap(), StatusCode::OK);
    }
    assert_eq!((figures().in_flight, figures().waiting), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_only_streams_holds_no_place() {
    let (address, permits, _seen) = slow_service().await;
    let test_gate = TestGate::with(|parts| {
        parts.service_at(address);
        parts.config.upstream.max_concurrent = 2;
    })
    .await;
    let mut visitor = test_gate.admitted().await;
    let cookie = format!("cerberus_session={}", visitor.cookies["cerberus_session"]);
    let mut streams = Vec::new();
    for _ in 0..5 {
        let mut socket = tokio::net::TcpStream::connect(test_gate.address).await.unwrap();
        let head = format!("GET /stream HTTP/1.1\r\nHost: a\r\nCookie: {cookie}\r\n\r\n");
        socket.write_all(head.as_bytes()).await.unwrap();
        let mut read = Vec::new();
        while !read.windows(4).any(|bytes| bytes == b"data") {
            assert_ne!(socket.read_buf(&mut read).await.unwrap(), 0, "closed");
        }
        streams.push(socket);
    }
    permits.add_permits(1);
    assert_eq!(visitor.get("/slow?x").await.status, StatusCode::OK);
}
