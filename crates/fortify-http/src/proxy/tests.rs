//! The proxy between real sockets: a service behind it, and visitors through the accept loop.

mod places;
mod tls;

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::response::IntoResponse;
use http::HeaderMap;
use http_body::Frame;
use http_body_util::BodyExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::*;
use crate::config::{ServerConfig, UpstreamServer};
use crate::server::{DrainReport, Limits, Listener, LocalAddress, serve};

/// Longer than anything here should take.
const PATIENCE: Duration = Duration::from_secs(20);

const SHORT: Duration = Duration::from_millis(400);

async fn within<F: Future>(future: F) -> F::Output {
    timeout(PATIENCE, future).await.expect("took too long")
}

/// A service behind the gate.
async fn service(router: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

/// A service that gives every connection this answer and closes, and tells the head it was sent.
async fn raw_service(answer: impl Into<Vec<u8>>) -> (SocketAddr, mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (heads, seen) = mpsc::channel(16);
    let answer = answer.into();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let mut head = Vec::new();
            while !head.windows(4).any(|window| window == b"\r\n\r\n") {
                if !matches!(socket.read_buf(&mut head).await, Ok(1..)) {
                    break;
                }
            }
            drop(heads.send(String::from_utf8_lossy(&head).into_owned()).await);
            drop(socket.write_all(&answer).await);
            drop(socket.shutdown().await);
            // Closing with unread bytes would reset the connection.
            drop(socket.read_to_end(&mut head).await);
        }
    });
    (address, seen)
}

fn upstream(address: SocketAddr) -> Upstream {
    with_timeout(address, PATIENCE)
}

fn with_timeout(address: SocketAddr, response_timeout: Duration) -> Upstream {
    let server = UpstreamServer::Http(address.to_string().parse().unwrap());
    to_servers([server], response_timeout)
}

fn to_servers(
    servers: impl IntoIterator<Item = UpstreamServer>,
    response_timeout: Duration,
) -> Upstream {
    let servers = servers.into_iter().collect();
    let config = UpstreamConfig { servers, response_timeout, ..UpstreamConfig::default() };
    Upstream::new(&config, UpstreamMetrics::default()).unwrap().unwrap()
}

fn forwarded() -> Forwarded {
    Forwarded { proto: Proto::Http, host: Some("site.onion".parse().unwrap()), for_: None }
}

fn request(method: &str, uri: &str, body: impl Into<Body>) -> Request<Body> {
    Request::builder()
        .method(method)
        .uri(uri)
        .header("host", "site.onion")
        .body(body.into())
        .unwrap()
}

async fn text(response: Response<Body>) -> String {
    String::from_utf8(within(response.collect()).await.unwrap().to_bytes().into()).unwrap()
}

/// The gate itself, with the proxy as its only page.
struct Gate {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    task: JoinHandle<DrainReport>,
}

impl Gate {
    async fn start(upstream: Upstream, limits: impl FnOnce(&mut Limits)) -> Self {
        let page = |State(upstream): State<Upstream>, request: Request<Body>| async move {
            match upstream.forward(request, forwarded()).await {
                Ok(response) => response,
                Err(error) => (StatusCode::IM_A_TEAPOT, error.label()).into_response(),
            }
        };
        let config = ServerConfig { port: 0, ..ServerConfig::default() };
        let mut given = Limits::from(&config);
        limits(&mut given);
        let listener = Listener::bind(&config).await.unwrap();
        let LocalAddress::Tcp(address) = listener.local_addr() else { panic!("not TCP") };
        let (stop, stopped) = oneshot::channel::<()>();
        let shutdown = async move { drop(stopped.await) };
        let router = Router::new().fallback(page).with_state(upstream);
        let task = tokio::spawn(serve(listener, router, given, Arc::new(|_| {}), shutdown));
        Self { address, stop, task }
    }

    async fn exchange(&self, bytes: impl AsRef<[u8]>) -> String {
        let mut socket = TcpStream::connect(self.address).await.unwrap();
        socket.write_all(bytes.as_ref()).await.unwrap();
        let mut answer = String::new();
        drop(within(socket.read_to_string(&mut answer)).await);
        answer
    }
}

/// A body of so many frames of 64 KiB that counts how many were taken.
struct Counted {
    left: usize,
    taken: Arc<AtomicUsize>,
}

impl http_body::Body for Counted {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        self.left -= 1;
        self.taken.fetch_add(1, Ordering::Relaxed);
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&[b'x'; 64 * 1024])))))
    }
}

/// Waits until the count has stopped rising, and gives it.
async fn settled(taken: &AtomicUsize) -> usize {
    let mut last = usize::MAX;
    loop {
        sleep(Duration::from_millis(100)).await;
        let now = taken.load(Ordering::Relaxed);
        if now == last && now > 0 {
            return now;
        }
        last = now;
    }
}

/// What the service got, as the body of its answer.
async fn mirror(request: Request<Body>) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let mut response = Response::new(body);
    let line = format!("{} {}", parts.method, parts.uri);
    response.headers_mut().insert("x-line", line.parse().unwrap());
    response
}

#[tokio::test]
async fn methods_paths_and_bodies_arrive_as_they_were_sent() {
    let upstream = upstream(service(Router::new().fallback(mirror)).await);
    for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND", "TRACE"] {
        let path = "/a%2Fb//c/../d;e?x=%00&y=+";
        let response = within(upstream.forward(request(method, path, "body"), forwarded())).await;
        let response = response.unwrap();
        assert_eq!(response.headers()["x-line"], format!("{method} {path}"));
        assert_eq!(text(response).await, "body");
    }
    let all = upstream.forward(request("OPTIONS", "*", ""), forwarded()).await.unwrap();
    assert_eq!(all.headers()["x-line"], "OPTIONS *");
}

#[tokio::test]
async fn statuses_and_headers_of_the_service_are_passed_on() {
    for status in ["200 OK", "204 No Content", "302 Found", "404 Not Found", "500 Oops", "599 Odd"]
    {
        let head = format!("HTTP/1.1 {status}\r\nX-A: 1\r\nX-A: 2\r\nConnection: close\r\n\r\n");
        let (address, _seen) = raw_service(head).await;
        let response =
            upstream(address).forward(request("GET", "/", ""), forwarded()).await.unwrap();
        assert!(status.starts_with(response.status().as_str()));
        assert_eq!(response.headers().get_all("x-a").iter().count(), 2);
        assert!(!response.headers().contains_key("connection"));
    }
}

#[tokio::test]
async fn the_service_sees_the_visitors_host_and_nothing_of_the_gate() {
    let (address, mut seen) = raw_service("HTTP/1.1 204 No Content\r\n\r\n").await;
    let gate = Gate::start(upstream(address), |_| {}).await;
    let head = "GET /x HTTP/1.1\r\nHost: site.onion\r\nCookie: a=1; cerberus_session=s; b=2\r\n\
                X-Forwarded-For: 1.2.3.4\r\nX_Forwarded_For: 1.2.3.4\r\nX-Real-IP: 1.2.3.4\r\n\
                X-Circuit-ID: fc00:dead:beef:4dad::19\r\nX-Forwarded-Proto: https\r\n\
                Forwarded: for=1.2.3.4\r\nVia: x\r\nX-Fortify-Admit: 1\r\n\
                Connection: close, X-Forwarded-Proto, X-Hop\r\nX-Hop: 1\r\n\r\n";
    assert!(gate.exchange(head).await.starts_with("HTTP/1.1 204"));
    let mut lines: Vec<_> = within(seen.recv()).await.unwrap().lines().map(str::to_owned).collect();
    lines.sort();
    assert_eq!(
        lines,
        [
            "",
            "GET /x HTTP/1.1",
            "cookie: a=1; b=2",
            "host: site.onion",
            "x-forwarded-host: site.onion",
            "x-forwarded-proto: http",
        ]
    );
}

#[tokio::test]
async fn eight_mebibytes_go_through_both_ways_intact() {
    let gate = Gate::start(upstream(service(Router::new().fallback(mirror)).await), |_| {}).await;
    let data: Vec<u8> = (0..8_usize << 20).map(|n| (n % 251) as u8).collect();
    let (mut reader, mut writer) = TcpStream::connect(gate.address).await.unwrap().into_split();
    let head = format!(
        "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        data.len()
    );
    let sent = data.clone();
    tokio::spawn(async move {
        writer.write_all(head.as_bytes()).await.unwrap();
        writer.write_all(&sent).await.unwrap();
        // The connection stays open until the answer is read.
        std::future::pending::<()>().await;
    });
    let mut answer = Vec::new();
    within(reader.read_to_end(&mut answer)).await.unwrap();
    let start = answer.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
    let head = String::from_utf8_lossy(&answer[..start]).into_owned();
    assert!(head.contains("content-length: 8388608"), "{head}");
    assert!(answer[start..] == data[..]);
}

#[tokio::test]
async fn an_upload_waits_for_a_service_that_does_not_read() {
    let (go, wait) = oneshot::channel::<()>();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let upstream = upstream(listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        wait.await.unwrap();
        let (mut buffer, mut total) = (vec![0; 1 << 20], 0);
        while total < 128 << 20 {
            total += socket.read(&mut buffer).await.unwrap();
        }
        socket.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.unwrap();
    });
    let taken = Arc::new(AtomicUsize::new(0));
    let body = Body::new(Counted { left: 2048, taken: Arc::clone(&taken) });
    let forwarding =
        tokio::spawn(async move { upstream.forward(request("PUT", "/", body), forwarded()).await });
    let held = within(settled(&taken)).await;
    // Less than 2 MB: the kernel would hold 4 by itself.
    assert!(held < 32, "{held} of 2048 frames were taken");
    go.send(()).unwrap();
    assert_eq!(within(forwarding).await.unwrap().unwrap().status(), StatusCode::OK);
    assert_eq!(taken.load(Ordering::Relaxed), 2048);
}

#[tokio::test]
async fn abuse_26_an_endless_answer_waits_for_a_visitor_who_does_not_read() {
    let taken = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&taken);
    let endless = move || async move { Body::new(Counted { left: usize::MAX, taken: count }) };
    let upstream = upstream(service(Router::new().fallback(endless)).await);
    let gate = Gate::start(upstream, |_| {}).await;
    let mut socket = TcpStream::connect(gate.address).await.unwrap();
    socket.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    within(socket.read_exact(&mut [0; 64 * 1024])).await.unwrap();
    let held = within(settled(&taken)).await;
    // The kernel holds up to 4 MB for the service, and would hold as much again for the visitor.
    assert!(held < 96, "{held} frames of 64 KiB are held somewhere");
}

#[tokio::test]
async fn an_answer_comes_in_parts_that_do_not_grow() {
    let large = || async { vec![b'x'; 8 << 20] };
    let upstream = upstream(service(Router::new().fallback(large)).await);
    let answer = upstream.forward(request("GET", "/", ""), forwarded()).await.unwrap();
    let (mut body, mut total) = (answer.into_body(), 0);
    while let Some(frame) = within(body.frame()).await {
        let part = frame.unwrap().into_data().unwrap().len();
        assert!(part < 16 * 1024, "a part of {part} bytes");
        total += part;
    }
    assert_eq!(total, 8 << 20);
}

#[tokio::test]
async fn head_and_http_1_0_visitors_are_served() {
    let page = || async { ([("x-page", "1")], "hello") };
    let gate = Gate::start(upstream(service(Router::new().fallback(page)).await), |_| {}).await;
    let head = gate.exchange("HEAD / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 200") && head.contains("content-length: 5"), "{head}");
    assert!(head.ends_with("\r\n\r\n"), "{head}");
    let old = gate.exchange("GET / HTTP/1.0\r\n\r\n").await;
    assert!(old.starts_with("HTTP/1.0 200") && old.ends_with("\r\n\r\nhello"), "{old}");
    let streamed = Router::new().fallback(|| async {
        Body::new(Counted { left: 2, taken: Arc::new(AtomicUsize::new(0)) })
    });
    let gate = Gate::start(upstream(service(streamed).await), |_| {}).await;
    let old = gate.exchange("GET / HTTP/1.0\r\n\r\n").await;
    assert!(old.starts_with("HTTP/1.0 200") && old.ends_with(&"x".repeat(128 * 1024)));
    assert!(!old.to_lowercase().contains("chunked"));
}

/// A service that switches to an echo.
async fn echo(mut request: Request<Body>) -> Response<Body> {
    assert_eq!(request.headers()["connection"], "Upgrade");
    assert_eq!(request.headers()["upgrade"], "websocket");
    assert_eq!(request.headers()["sec-websocket-key"], "k");
    let upgraded = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let mut io = hyper_util::rt::TokioIo::new(upgraded.await.unwrap());
        let (mut buffer, mut open) = (vec![0; 1024], true);
        while open {
            let read = io.read(&mut buffer).await.unwrap_or(0);
            open = read > 0 && io.write_all(&buffer[..read]).await.is_ok();
        }
    });
    Response::builder()
        .status(101)
        .header("connection", "upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-accept", "v")
        .body(Body::empty())
        .unwrap()
}

const UPGRADE: &str = "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\n\
                       Upgrade: websocket\r\nSec-WebSocket-Key: k\r\n\r\n";

async fn open_websocket(gate: &Gate) -> TcpStream {
    let mut socket = TcpStream::connect(gate.address).await.unwrap();
    socket.write_all(UPGRADE.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(within(socket.read_u8()).await.unwrap());
    }
    let head = String::from_utf8(head).unwrap();
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    assert!(head.contains("upgrade: websocket") && head.contains("sec-websocket-accept: v"));
    socket
}

#[tokio::test]
async fn a_websocket_goes_through_and_outlives_the_timeouts_of_requests() {
    let address = service(Router::new().fallback(echo)).await;
    let gate = Gate::start(with_timeout(address, SHORT), |limits| {
        limits.header_timeout = SHORT;
        limits.body_timeout = SHORT;
        limits.idle_timeout = SHORT;
    })
    .await;
    let mut socket = open_websocket(&gate).await;
    for round in 0..3 {
        // Bytes that look like a request in doubt are nobody's business here.
        let message = format!("POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n{round}");
        socket.write_all(message.as_bytes()).await.unwrap();
        let mut back = vec![0; message.len()];
        within(socket.read_exact(&mut back)).await.unwrap();
        assert_eq!(back, message.as_bytes());
        sleep(SHORT).await;
    }
    socket.shutdown().await.unwrap();
    let mut rest = Vec::new();
    within(socket.read_to_end(&mut rest)).await.unwrap();
    drop(gate.stop);
    assert_eq!(within(gate.task).await.unwrap(), DrainReport { cut: 0 });
}

#[tokio::test]
async fn an_open_websocket_is_cut_at_shutdown_and_counted() {
    let upstream = upstream(service(Router::new().fallback(echo)).await);
    let gate = Gate::start(upstream, |limits| limits.drain = SHORT).await;
    let mut socket = open_websocket(&gate).await;
    drop(gate.stop);
    assert_eq!(within(gate.task).await.unwrap(), DrainReport { cut: 1 });
    let mut rest = Vec::new();
    drop(within(socket.read_to_end(&mut rest)).await);
    assert_eq!(rest, b"");
}

#[tokio::test]
async fn a_refused_websocket_is_an_ordinary_answer() {
    let refuse = || async { (StatusCode::FORBIDDEN, "no") };
    let gate = Gate::start(upstream(service(Router::new().fallback(refuse)).await), |limits| {
        limits.idle_timeout = SHORT;
    })
    .await;
    let answer = gate.exchange(UPGRADE).await;
    assert!(answer.starts_with("HTTP/1.1 403") && answer.ends_with("no"), "{answer}");
}

#[tokio::test]
async fn other_upgrades_are_not_passed_on() {
    let (address, mut seen) = raw_service("HTTP/1.1 204 No Content\r\n\r\n").await;
    for (method, upgrade) in [("POST", "websocket"), ("GET", "h2c")] {
        let mut asked = request(method, "/", "");
        asked.headers_mut().insert("connection", "upgrade".parse().unwrap());
        asked.headers_mut().insert("upgrade", upgrade.parse().unwrap());
        upstream(address).forward(asked, forwarded()).await.unwrap();
        let head = within(seen.recv()).await.unwrap();
        assert!(!head.contains("upgrade"), "{head}");
    }
}

#[tokio::test]
async fn a_switch_to_something_that_was_not_asked_for_is_a_bad_response() {
    let head = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n";
    let (address, _seen) = raw_service(head).await;
    let gate = Gate::start(upstream(address), |limits| limits.idle_timeout = SHORT).await;
    let answer = gate.exchange(UPGRADE).await;
    assert!(answer.ends_with("bad_response"), "{answer}");
}

async fn failure(answer: impl Into<Vec<u8>>) -> &'static str {
    let (address, _seen) = raw_service(answer).await;
    let result = within(upstream(address).forward(request("GET", "/", ""), forwarded())).await;
    result.map_or_else(|error| error.label(), |_| "answered")
}

#[tokio::test]
async fn abuse_26_an_answer_that_is_none_is_a_bad_response() {
    let large = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "a".repeat(1 << 20));
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "X-Header: 0123456789\r\n".repeat(50_000));
    let endless = "HTTP/1.1 200 OK\r\nX: ".to_owned() + &"a".repeat(1 << 20);
    for answer in [
        "",
        "HTTP/1.1 200 O",
        "HTTP/1.1 200 OK\r\nContent-Le",
        "nonsense\r\n\r\n",
        "HTTP/1.1 999999 X\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
        &large,
        &many,
        &endless,
    ] {
        assert_eq!(failure(answer).await, "bad_response", "{:.60}", answer);
    }
}

#[tokio::test]
async fn abuse_26_an_answer_that_breaks_off_does_not_look_whole() {
    let (address, _seen) = raw_service("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf").await;
    let response = upstream(address).forward(request("GET", "/", ""), forwarded()).await.unwrap();
    assert!(within(response.collect()).await.is_err());
    let gate = Gate::start(upstream(address), |_| {}).await;
    let answer = gate.exchange("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(answer.contains("content-length: 10") && !answer.ends_with("\r\n0\r\n\r\n"));
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n";
    let (address, _seen) = raw_service(chunked).await;
    let gate = Gate::start(upstream(address), |_| {}).await;
    let answer = gate.exchange("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(!answer.ends_with("0\r\n\r\n"), "{answer}");
}

#[tokio::test]
async fn abuse_26_an_answer_with_two_lengths_has_the_chunked_one() {
    let both = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n\
                5\r\nwhole\r\n0\r\n\r\n";
    let (address, _seen) = raw_service(both).await;
    let response = upstream(address).forward(request("GET", "/", ""), forwarded()).await.unwrap();
    assert!(!response.headers().contains_key("content-length"));
    assert_eq!(text(response).await, "whole");
}

#[tokio::test]
async fn abuse_26_a_chunked_request_stays_chunked_and_gets_no_length() {
    let (address, mut seen) = raw_service("HTTP/1.1 204 No Content\r\n\r\n").await;
    let gate = Gate::start(upstream(address), |_| {}).await;
    let head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert!(gate.exchange(format!("{head}1\r\nx\r\n0\r\n\r\n")).await.starts_with("HTTP/1.1 204"));
    let seen = within(seen.recv()).await.unwrap();
    assert!(seen.contains("transfer-encoding: chunked"), "{seen}");
    assert!(!seen.contains("content-length"), "{seen}");
}

#[tokio::test]
async fn a_service_that_is_down_is_unreachable() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let error = upstream(address).forward(request("GET", "/", ""), forwarded()).await.unwrap_err();
    assert!(matches!(error, ProxyError::Unreachable(_)), "{error:?}");
}

#[tokio::test]
async fn abuse_26_a_service_that_does_not_answer_is_a_timeout() {
    let silent = Router::new().fallback(std::future::pending::<&str>);
    let upstream = with_timeout(service(silent).await, SHORT);
    let result = within(upstream.forward(request("POST", "/", "x"), forwarded())).await;
    assert!(matches!(result, Err(ProxyError::Timeout)));
}

#[tokio::test]
async fn a_long_upload_does_not_use_up_the_time_for_the_answer() {
    let count = |body: Bytes| async move { body.len().to_string() };
    let address = service(Router::new().fallback(count)).await;
    let gate = Gate::start(with_timeout(address, SHORT), |_| {}).await;
    let mut socket = TcpStream::connect(gate.address).await.unwrap();
    let head = "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 8\r\n\r\n";
    socket.write_all(head.as_bytes()).await.unwrap();
    for _ in 0..8 {
        sleep(SHORT / 4).await;
        socket.write_all(b"x").await.unwrap();
    }
    let mut answer = String::new();
    within(socket.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.ends_with("\r\n\r\n8"), "{answer}");
}

#[tokio::test]
async fn a_visitors_body_that_breaks_off_is_the_visitors_fault() {
    let address = service(Router::new().fallback(mirror_whole)).await;
    let gate = Gate::start(upstream(address), |limits| limits.body_timeout = SHORT).await;
    let head = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 8\r\n\r\nhalf";
    let answer = gate.exchange(head).await;
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
}

async fn mirror_whole(body: Bytes) -> Bytes {
    body
}

#[tokio::test]
async fn abuse_26_requests_with_two_names_for_the_site_are_refused() {
    let upstream = upstream(service(Router::new().fallback(mirror)).await);
    let label = |request: Request<Body>| {
        let upstream = upstream.clone();
        async move {
            let result = upstream.forward(request, forwarded()).await;
            result.map_or_else(|error| error.label(), |_| "answered")
        }
    };
    let mut two = request("GET", "/", "");
    two.headers_mut().append("host", "other.onion".parse().unwrap());
    assert_eq!(label(two).await, "bad_request");
    assert_eq!(label(request("GET", "http://other.onion/", "")).await, "bad_request");
    assert_eq!(label(request("GET", "http://Site.onion/", "")).await, "answered");
    assert_eq!(label(request("CONNECT", "site.onion:80", "")).await, "bad_request");
}

#[tokio::test]
async fn cookies_of_the_gate_do_not_come_from_the_service() {
    let set = || async {
        let mut headers = HeaderMap::new();
        for cookie in ["a=1", "cerberus_session=forged", "cerberus_hint=1", "b=2"] {
            headers.append("set-cookie", cookie.parse().unwrap());
        }
        headers
    };
    let upstream = upstream(service(Router::new().fallback(set)).await);
    let response = upstream.forward(request("GET", "/", ""), forwarded()).await.unwrap();
    assert_eq!(response.headers().get_all("set-cookie").iter().collect::<Vec<_>>(), ["a=1", "b=2"]);
}

#[test]
fn without_a_url_there_is_no_upstream() {
    let none = Upstream::new(&UpstreamConfig::default(), UpstreamMetrics::default());
    assert!(none.unwrap().is_none());
}

/// A service whose connections bring this many answers each. At the next request it closes without a word, as a
/// service does that closed a moment before. Tells the method of every request that it read.
async fn service_that_closes_after(
    answers: usize,
) -> (SocketAddr, mpsc::UnboundedReceiver<(String, bool)>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (requests, seen) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let requests = requests.clone();
            tokio::spawn(async move {
                for number in 0..=answers {
                    let mut head = Vec::new();
                    while !head.windows(4).any(|window| window == b"\r\n\r\n") {
                        if !matches!(socket.read_buf(&mut head).await, Ok(1..)) {
                            return;
                        }
                    }
                    let head = String::from_utf8_lossy(&head).into_owned();
                    let method = head.split(' ').next().unwrap_or_default().to_owned();
                    let answered = number < answers;
                    drop(requests.send((method, answered)));
                    if answered {
                        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
                        drop(socket.write_all(answer).await);
                    }
                }
            });
        }
    });
    (address, seen)
}

#[tokio::test]
async fn a_request_that_changes_nothing_is_sent_again_once_when_its_connection_was_stale() {
    for answers in 1..4 {
        let (address, mut seen) = service_that_closes_after(answers).await;
        let upstream = upstream(address);
        for round in 0..40 {
            let method = ["GET", "HEAD", "OPTIONS"][round % 3];
            let response = within(upstream.forward(request(method, "/", ""), forwarded())).await;
            drop(response.unwrap().collect().await);
        }
        let mut all = Vec::new();
        while let Ok(one) = seen.try_recv() {
            all.push(one);
        }
        assert_eq!(all.iter().filter(|(_, answered)| *answered).count(), 40, "{all:?}");
        assert!(all.iter().any(|(_, answered)| !answered), "no connection was stale: {all:?}");
        let twice = all.windows(2).any(|pair| !pair[0].1 && !pair[1].1);
        assert!(!twice, "sent a third time: {all:?}");
    }
}

#[tokio::test]
async fn abuse_26_a_request_that_may_change_something_reaches_the_service_once() {
    let (address, mut seen) = service_that_closes_after(1).await;
    let upstream = upstream(address);
    for round in 0..20 {
        // What the pool holds is stale.
        let get = within(upstream.forward(request("GET", "/", ""), forwarded())).await.unwrap();
        drop(get.collect().await);
        let method = ["POST", "PUT", "DELETE", "PATCH"][round % 4];
        let response = within(upstream.forward(request(method, "/", "x"), forwarded())).await;
        drop(response.unwrap().collect().await);
    }
    let mut changes = 0;
    while let Ok((method, answered)) = seen.try_recv() {
        if method != "GET" {
            assert!(answered, "{method} was sent on a connection of the pool");
            changes += 1;
        }
    }
    assert_eq!(changes, 20);
}

#[tokio::test]
async fn a_service_that_breaks_every_request_gets_each_once() {
    let (address, mut seen) = service_that_closes_after(0).await;
    let upstream = upstream(address);
    for sent in 1..=3 {
        let result = within(upstream.forward(request("GET", "/", ""), forwarded())).await;
        assert!(matches!(result, Err(ProxyError::BadResponse)), "{result:?}");
        assert!(seen.try_recv().is_ok() && seen.try_recv().is_err(), "at request {sent}");
    }
    assert!(!upstream.is_down(), "it accepts connections");
}

/// Waits until the condition holds.
async fn until(condition: impl Fn() -> bool) {
    within(async {
        while !condition() {
            sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_service_that_is_down_is_asked_no_more_and_found_again_by_itself() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let upstream = upstream(address);
    assert!(!upstream.is_down());
    let error = upstream.forward(request("GET", "/", ""), forwarded()).await.unwrap_err();
    assert!(matches!(error, ProxyError::Unreachable(_)), "{error:?}");
    assert!(upstream.is_down());
    for method in ["GET", "POST"] {
        let error = upstream.forward(request(method, "/", ""), forwarded()).await.unwrap_err();
        assert!(matches!(error, ProxyError::Down), "{error:?}");
    }
    let listener = TcpListener::bind(address).await.unwrap();
    tokio::spawn(async move { axum::serve(listener, Router::new().fallback(mirror)).await });
    // Nobody asks for anything meanwhile.
    until(|| !upstream.is_down()).await;
    assert!(upstream.forward(request("GET", "/", ""), forwarded()).await.is_ok());
}

#[tokio::test]
async fn an_answer_says_that_the_service_is_there_whatever_became_of_new_connections() {
    let (go, wait) = oneshot::channel::<()>();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (accepted, accepts) = oneshot::channel();
    let serving = tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        // Whoever comes next is refused.
        drop(listener);
        accepted.send(()).unwrap();
        wait.await.unwrap();
        socket.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.unwrap();
        socket
    });
    let upstream = upstream(address);
    let first = upstream.clone();
    let first =
        tokio::spawn(async move { first.forward(request("POST", "/", "x"), forwarded()).await });
    within(accepts).await.unwrap();
    let error = upstream.forward(request("GET", "/", ""), forwarded()).await.unwrap_err();
    assert!(matches!(error, ProxyError::Unreachable(_)), "{error:?}");
    assert!(upstream.is_down());
    go.send(()).unwrap();
    assert_eq!(within(first).await.unwrap().unwrap().status(), StatusCode::OK);
    assert!(!upstream.is_down());
    drop(within(serving).await);
}

#[tokio::test]
async fn a_full_queue_of_a_unix_socket_does_not_make_a_service_one_that_is_down() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("app.sock");
    // The service takes nothing yet.
    let socket = tokio::net::UnixSocket::new_stream().unwrap();
    socket.bind(&path).unwrap();
    let _listener = socket.listen(1).unwrap();
    let mut queued = Vec::new();
    let connect = || async { tokio::net::UnixStream::connect(&path).await };
    let full = loop {
        match connect().await {
            Ok(stream) => queued.push(stream),
            Err(error) => break error,
        }
    };
    assert_eq!(full.kind(), std::io::ErrorKind::WouldBlock);
    let upstream = to_servers([UpstreamServer::Unix(path.clone())], PATIENCE);
    for _ in 0..3 {
        let error = upstream.forward(request("GET", "/", ""), forwarded()).await.unwrap_err();
        assert!(matches!(error, ProxyError::Unreachable(_)), "{error:?}");
        assert!(!upstream.is_down(), "{error}");
    }
}

#[tokio::test]
async fn answers_that_are_errors_do_not_make_a_service_one_that_is_down() {
    let fail = || async { StatusCode::INTERNAL_SERVER_ERROR };
    let upstream = upstream(service(Router::new().fallback(fail)).await);
    for _ in 0..20 {
        let response = upstream.forward(request("GET", "/", ""), forwarded()).await.unwrap();
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
        assert!(!upstream.is_down());
    }
}

#[tokio::test]
async fn a_service_on_a_unix_socket_is_reached() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("app.sock");
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    tokio::spawn(async move { axum::serve(listener, Router::new().fallback(mirror)).await });
    let upstream = to_servers([UpstreamServer::Unix(path)], PATIENCE);
    for method in ["GET", "POST", "GET"] {
        let response = within(upstream.forward(request(method, "/a?b", "x"), forwarded())).await;
        let response = response.unwrap();
        assert_eq!(response.headers()["x-line"], format!("{method} /a?b"));
        assert_eq!(text(response).await, "x");
    }
    let gate = Gate::start(upstream, |_| {}).await;
    let old = gate.exchange("GET / HTTP/1.0\r\n\r\n").await;
    assert!(old.starts_with("HTTP/1.0 200"), "{old}");
}

#[tokio::test]
async fn servers_take_turns_and_one_that_is_down_gets_nothing() {
    let name = |name: &'static str| service(Router::new().fallback(move || async move { name }));
    let (first, second) = (name("first").await, name("second").await);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let down = listener.local_addr().unwrap();
    drop(listener);
    let address = |address: SocketAddr| UpstreamServer::Http(address.to_string().parse().unwrap());
    let upstream = to_servers([down, first, second].map(address), PATIENCE);
    let mut answers = [0, 0];
    for round in 0..30 {
        // What can be sent again goes to another server, and what cannot finds one that accepts.
        let (method, body) = if round % 2 == 0 { ("GET", "") } else { ("POST", "x") };
        let response = within(upstream.forward(request(method, "/", body), forwarded())).await;
        answers[usize::from(text(response.unwrap()).await == "second")] += 1;
    }
    assert!(answers.iter().all(|count| *count >= 10), "{answers:?}");
    assert!(!upstream.is_down());
}
