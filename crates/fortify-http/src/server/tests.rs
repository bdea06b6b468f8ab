//! The accept loop from the outside, over raw sockets.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::body::Bytes;
use axum::extract::Extension;
use axum::response::IntoResponse;
use axum::routing::{any, get};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::JoinHandle;

use super::*;
use fortify_core::circuit::{
    Connection, IdentityMode, PeerAddress, TorBoot, TrustedProxies, identify,
};

/// Longer than anything here should take.
const PATIENCE: Duration = Duration::from_secs(10);

const SHORT: Duration = Duration::from_millis(400);

fn limits() -> Limits {
    Limits {
        max_connections: 64,
        max_connections_per_circuit: CircuitLimit::new(32),
        header_timeout: Duration::from_secs(5),
        body_timeout: Duration::from_secs(5),
        idle_timeout: Duration::from_secs(5),
        drain: Duration::from_secs(5),
        proxy_protocol: false,
    }
}

struct Server {
    address: LocalAddress,
    seen: Arc<Mutex<Vec<ServerEvent>>>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<DrainReport>,
}

impl Server {
    async fn start(limits: Limits, router: Router) -> Self {
        Self::start_on(ServerConfig { port: 0, ..ServerConfig::default() }, limits, router).await
    }

    async fn start_on(config: ServerConfig, limits: Limits, router: Router) -> Self {
        let listener = Listener::bind(&config).await.unwrap();
        let address = listener.local_addr();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let events: Events = {
            let seen = Arc::clone(&seen);
            Arc::new(move |event| seen.lock().unwrap().push(event))
        };
        let (stop, stopped) = oneshot::channel::<()>();
        let shutdown = async move { drop(stopped.await) };
        let task = tokio::spawn(serve(listener, router, limits, events, shutdown));
        Self { address, seen, stop, task }
    }

    async fn connect(&self) -> TcpStream {
        let LocalAddress::Tcp(address) = &self.address else { panic!("not TCP") };
        TcpStream::connect(address).await.unwrap()
    }

    async fn stop(self) -> DrainReport {
        drop(self.stop);
        within(self.task).await.unwrap()
    }

    fn count(&self, event: ServerEvent) -> usize {
        self.seen.lock().unwrap().iter().filter(|&&seen| seen == event).count()
    }

    /// Sends bytes on a connection of its own and reads to the end of the connection.
    async fn exchange(&self, bytes: impl AsRef<[u8]>) -> String {
        let mut socket = self.connect().await;
        // The server may close before it has read everything.
        drop(socket.write_all(bytes.as_ref()).await);
        to_end(&mut socket).await
    }
}

async fn within<F: Future>(future: F) -> F::Output {
    time::timeout(PATIENCE, future).await.expect("took too long")
}

async fn to_end(socket: &mut (impl AsyncRead + Unpin)) -> String {
    let mut answer = Vec::new();
    drop(within(socket.read_to_end(&mut answer)).await);
    String::from_utf8(answer).unwrap()
}

/// Reads one response with a known length.
async fn response(socket: &mut (impl AsyncRead + Unpin)) -> String {
    let mut answer = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&answer).to_lowercase();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .split("content-length: ")
                .nth(1)
                .map_or(0, |rest| rest.lines().next().unwrap().parse::<usize>().unwrap());
            if body.len() >= length {
                return text;
            }
        }
        let read = within(socket.read_buf(&mut answer)).await.unwrap();
        assert!(read > 0, "closed after {text:?}");
    }
}

fn app() -> Router {
    let who = |Extension(connection): Extension<Connection>, headers: http::HeaderMap| async move {
        let trusted = TrustedProxies::default();
        match identify(IdentityMode::Circuit, &trusted, TorBoot::default(), &connection, &headers) {
            Ok(id) => format!("{:02x?}", id.canonical_bytes()),
            Err(error) => error.label().to_owned(),
        }
    };
    Router::new()
        .route("/", any(|| async { "hello" }))
        .route("/echo", any(|body: Bytes| async { body }))
        .route("/ignore", any(|| async { "not read" }))
        .route("/who", get(who))
        .route("/large", get(|| async { vec![b'x'; 64 << 20] }))
}

/// `/hold` tells that it has begun and answers when it may.
fn holding() -> (Router, Arc<Notify>, Arc<Notify>) {
    let (begun, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let handler = {
        let (begun, go) = (Arc::clone(&begun), Arc::clone(&go));
        move || async move {
            begun.notify_one();
            go.notified().await;
            "held"
        }
    };
    (app().route("/hold", get(handler)), begun, go)
}

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const GET_CLOSE: &str = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

#[tokio::test]
async fn requests_on_one_connection_are_answered_in_turn() {
    let server = Server::start(limits(), app()).await;
    let mut socket = server.connect().await;
    for _ in 0..3 {
        socket.write_all(GET.as_bytes()).await.unwrap();
        assert!(response(&mut socket).await.starts_with("http/1.1 200"));
    }
    let post = "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello";
    socket.write_all(format!("{post}{post}{GET_CLOSE}").as_bytes()).await.unwrap();
    let answers = to_end(&mut socket).await;
    assert_eq!(answers.matches("HTTP/1.1 200").count(), 3, "{answers}");
    drop(socket);
    assert_eq!(server.stop().await, DrainReport { cut: 0 });
}

#[tokio::test]
async fn a_body_that_is_announced_and_waited_for_arrives() {
    let server = Server::start(limits(), app()).await;
    let mut socket = server.connect().await;
    let head =
        "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n";
    socket.write_all(head.as_bytes()).await.unwrap();
    assert!(response(&mut socket).await.starts_with("http/1.1 100"));
    socket.write_all(b"hello").await.unwrap();
    assert!(response(&mut socket).await.ends_with("hello"));
    socket.write_all(GET.as_bytes()).await.unwrap();
    assert!(response(&mut socket).await.starts_with("http/1.1 200"));
}

#[tokio::test]
async fn abuse_24_slow_headers_are_closed() {
    let server = Server::start(Limits { header_timeout: SHORT, ..limits() }, app()).await;
    let mut silent = server.connect().await;
    assert_eq!(to_end(&mut silent).await, "");
    let (mut reader, mut writer) = server.connect().await.into_split();
    let drip = tokio::spawn(async move {
        writer.write_all(b"GET / HTTP/1.1\r\n").await?;
        loop {
            writer.write_all(b"X-A: b\r\n").await?;
            time::sleep(Duration::from_millis(20)).await;
        }
        #[allow(unreachable_code)]
        io::Result::Ok(())
    });
    assert_eq!(to_end(&mut reader).await, "");
    drip.abort();
    assert_eq!(server.count(ServerEvent::HeaderTimeout), 2);
}

#[tokio::test]
async fn abuse_24_slow_headers_of_a_second_request_are_closed() {
    let limits = Limits { header_timeout: SHORT, ..limits() };
    let server = Server::start(limits, app()).await;
    let mut socket = server.connect().await;
    socket.write_all(GET.as_bytes()).await.unwrap();
    response(&mut socket).await;
    socket.write_all(b"GET / HT").await.unwrap();
    assert_eq!(to_end(&mut socket).await, "");
    assert_eq!(server.count(ServerEvent::HeaderTimeout), 1);
    // The same, begun before the first answer was there.
    let answers = server.exchange(format!("{GET}GET / HT")).await;
    assert_eq!(answers.matches("HTTP/1.1 200").count(), 1);
    assert_eq!(server.count(ServerEvent::HeaderTimeout), 2);
}

#[tokio::test]
async fn a_connection_may_idle_longer_than_its_headers_may_take() {
    let server = Server::start(Limits { header_timeout: SHORT, ..limits() }, app()).await;
    let mut socket = server.connect().await;
    socket.write_all(GET.as_bytes()).await.unwrap();
    response(&mut socket).await;
    // It lasts longer than one that was opened later and is closed for its headers.
    let mut silent = server.connect().await;
    assert_eq!(to_end(&mut silent).await, "");
    assert_eq!(server.count(ServerEvent::HeaderTimeout), 1);
    socket.write_all(GET.as_bytes()).await.unwrap();
    assert!(response(&mut socket).await.starts_with("http/1.1 200"));
}

#[tokio::test]
async fn an_idle_connection_is_closed() {
    let server = Server::start(Limits { idle_timeout: SHORT, ..limits() }, app()).await;
    let start = time::Instant::now();
    assert!(server.exchange(GET).await.starts_with("HTTP/1.1 200"));
    assert_eq!(server.count(ServerEvent::IdleTimeout), 1);
    assert!(start.elapsed() < limits().header_timeout, "the timer for the head was waited for");
}

#[tokio::test]
async fn abuse_24_a_slow_body_ends_in_408_and_a_closed_connection() {
    let server = Server::start(Limits { body_timeout: SHORT, ..limits() }, app()).await;
    for head in ["Content-Length: 10\r\n\r\n12345", "Transfer-Encoding: chunked\r\n\r\n5\r\n12345"]
    {
        let answer = server.exchange(format!("POST /echo HTTP/1.1\r\nHost: a\r\n{head}")).await;
        assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
        assert!(answer.contains("connection: close"), "{answer}");
    }
    assert_eq!(server.count(ServerEvent::BodyTimeout), 2);
}

#[tokio::test]
async fn an_answer_given_before_the_body_was_read_is_not_lost() {
    let server = Server::start(limits(), app()).await;
    let mut request =
        b"POST /ignore HTTP/1.1\r\nHost: a\r\nContent-Length: 4194304\r\n\r\n".to_vec();
    request.resize(request.len() + (4 << 20), b'x');
    let mut socket = server.connect().await;
    // A proxy that cannot write any more may not read the answer either.
    within(socket.write_all(&request)).await.expect("reset while sending");
    let answer = to_end(&mut socket).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("not read"), "{answer}");
}

#[tokio::test]
async fn a_peer_that_stops_reading_is_dropped() {
    let server = Server::start(Limits { idle_timeout: SHORT, ..limits() }, app()).await;
    let mut socket = server.connect().await;
    socket.write_all(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    within(async {
        while server.count(ServerEvent::Closed) == 0 {
            time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    assert_eq!(server.count(ServerEvent::WriteTimeout), 1);
}

/// Waits until the peer has sent all that fits on the way, and stands.
async fn all_that_fits(socket: &TcpStream) {
    let (mut bytes, mut before) = (vec![0; 16 << 20], 0);
    within(async {
        loop {
            let there = socket.peek(&mut bytes).await.unwrap();
            if there > 0 && there == before {
                return;
            }
            before = there;
            time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_connection_that_read_slowly_and_then_idles_is_closed() {
    let server = Server::start(Limits { idle_timeout: SHORT, ..limits() }, app()).await;
    let mut socket = server.connect().await;
    socket.write_all(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    all_that_fits(&socket).await;
    assert!(to_end(&mut socket).await.len() > 64 << 20);
    assert_eq!(server.count(ServerEvent::IdleTimeout), 1);
}

#[tokio::test]
async fn http_2_is_closed_without_an_answer() {
    let server = Server::start(limits(), app()).await;
    assert_eq!(server.exchange("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await, "");
}

#[tokio::test]
async fn a_peer_that_reads_slowly_gets_everything() {
    let server = Server::start(Limits { idle_timeout: SHORT * 5, ..limits() }, app()).await;
    let mut socket = server.connect().await;
    let request = b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n";
    socket.write_all(request).await.unwrap();
    let mut buffer = vec![0; 1 << 20];
    let start = time::Instant::now();
    for _ in 0..64 {
        within(socket.read_exact(&mut buffer)).await.unwrap();
        time::sleep(Duration::from_millis(10)).await;
    }
    assert!(start.elapsed() > SHORT);
    assert_eq!(server.count(ServerEvent::WriteTimeout), 0);
    // Idling begins only now, and ends.
    socket.write_all(GET.as_bytes()).await.unwrap();
    assert!(to_end(&mut socket).await.ends_with("hello"));
    assert_eq!(server.count(ServerEvent::IdleTimeout), 1);
}

/// A tunnel that the client reads from, or not, and to which the server writes without end and without reading.
async fn endless_tunnel(vectored: bool, client_reads: bool) {
    let (cutters, mut cutter) = mpsc::channel(1);
    let (ended, ends) = oneshot::channel();
    let ended = Arc::new(Mutex::new(Some(ended)));
    let switch = move |Extension(cut): Extension<Cutter>, mut request: Request<Body>| async move {
        let upgraded = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            let mut io = hyper_util::rt::TokioIo::new(upgraded.await.unwrap());
            let bytes = [b'x'; 4096];
            let error = loop {
                let written = match vectored {
                    false => io.write(&bytes).await,
                    true => io.write_vectored(&[io::IoSlice::new(&bytes); 2]).await,
                };
                if let Err(error) = written {
                    break error;
                }
            };
            ended.lock().unwrap().take().unwrap().send(error.kind()).unwrap();
        });
        cutters.send(cut).await.unwrap();
        (http::StatusCode::SWITCHING_PROTOCOLS, [("connection", "upgrade"), ("upgrade", "x")])
    };
    let limits = Limits { idle_timeout: PATIENCE * 6, ..limits() };
    let server = Server::start(limits, app().route("/switch", any(switch))).await;
    let mut socket = server.connect().await;
    let head = "GET /switch HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n";
    socket.write_all(head.as_bytes()).await.unwrap();
    let cutter = within(cutter.recv()).await.unwrap();
    all_that_fits(&socket).await;
    let reading = client_reads.then(|| {
        tokio::spawn(async move { tokio::io::copy(&mut socket, &mut tokio::io::sink()).await })
    });
    cutter.cut();
    assert_eq!(within(ends).await.unwrap(), io::ErrorKind::ConnectionAborted);
    if let Some(reading) = reading {
        drop(within(reading).await);
    }
}

#[tokio::test]
async fn abuse_17_a_tunnel_that_is_only_written_to_is_cut_as_well() {
    for vectored in [false, true] {
        for client_reads in [false, true] {
            endless_tunnel(vectored, client_reads).await;
        }
    }
}

#[tokio::test]
async fn past_the_connection_limit_clients_wait() {
    let (router, begun, go) = holding();
    let server = Server::start(Limits { max_connections: 2, ..limits() }, router).await;
    let hold = "GET /hold HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut socket = server.connect().await;
        socket.write_all(hold.as_bytes()).await.unwrap();
        within(begun.notified()).await;
        held.push(socket);
    }
    let mut waiting = server.connect().await;
    waiting.write_all(GET_CLOSE.as_bytes()).await.unwrap();
    let early = time::timeout(SHORT, waiting.read_u8()).await;
    assert!(early.is_err(), "served past the limit");
    assert_eq!(server.count(ServerEvent::Opened), 2);
    go.notify_one();
    assert!(to_end(&mut waiting).await.starts_with("HTTP/1.1 200"));
    go.notify_one();
    for socket in &mut held {
        assert!(to_end(socket).await.ends_with("held"));
    }
}

#[tokio::test]
async fn a_drain_finishes_the_request_in_flight_and_refuses_new_ones() {
    let (router, begun, go) = holding();
    let server = Server::start(limits(), router).await;
    let mut idle = server.connect().await;
    idle.write_all(GET.as_bytes()).await.unwrap();
    response(&mut idle).await;
    let mut busy = server.connect().await;
    busy.write_all(b"GET /hold HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    within(begun.notified()).await;
    let LocalAddress::Tcp(address) = server.address.clone() else { panic!("not TCP") };
    let stopping = tokio::spawn(server.stop());
    // The idle connection closes at once, although the other is still busy.
    assert_eq!(to_end(&mut idle).await, "");
    assert!(TcpStream::connect(address).await.is_err());
    assert!(!stopping.is_finished());
    go.notify_one();
    let answer = to_end(&mut busy).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("held"), "{answer}");
    assert_eq!(stopping.await.unwrap(), DrainReport { cut: 0 });
}

#[tokio::test]
async fn a_drain_cuts_what_does_not_finish() {
    let (router, begun, _go) = holding();
    let server = Server::start(Limits { drain: SHORT, ..limits() }, router).await;
    let mut busy = server.connect().await;
    busy.write_all(b"GET /hold HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    within(begun.notified()).await;
    let seen = Arc::clone(&server.seen);
    assert_eq!(server.stop().await, DrainReport { cut: 1 });
    assert_eq!(to_end(&mut busy).await, "");
    assert_eq!(seen.lock().unwrap().last(), Some(&ServerEvent::Closed));
}

#[tokio::test]
async fn abuse_26_requests_with_lengths_in_doubt_get_400_and_a_closed_connection() {
    let served = Arc::new(AtomicUsize::new(0));
    let router = {
        let served = Arc::clone(&served);
        Router::new().fallback(move || {
            served.fetch_add(1, Ordering::Relaxed);
            async { "served" }
        })
    };
    let server = Server::start(limits(), router).await;
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    for (version, headers) in [
        ("1.1", "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"),
        ("1.1", "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n"),
        ("1.1", "Content-Length: 5\r\nContent-Length: 5\r\n"),
        ("1.1", "Content-Length: 5\r\nContent-Length: 6\r\n"),
        ("1.1", "Content-Length: 5, 5\r\n"),
        ("1.1", "Content-Length: +5\r\n"),
        ("1.1", "Content-Length: \r\n"),
        ("1.1", "Content-Length : 5\r\n"),
        ("1.1", "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n"),
        ("1.1", "Transfer-Encoding: gzip, chunked\r\n"),
        ("1.1", "Transfer-Encoding: xchunked\r\n"),
        ("1.1", "Transfer-Encoding: chunked\r\n x\r\n"),
        ("1.0", "Transfer-Encoding: chunked\r\n"),
        ("1.0", "Connection: keep-alive\r\nTransfer-Encoding: chunked\r\n"),
    ] {
        let request =
            format!("POST / HTTP/{version}\r\nHost: a\r\n{headers}\r\n0\r\n\r\n{smuggled}");
        let answer = server.exchange(request).await;
        assert!(answer.contains(" 400 Bad Request\r\n"), "{headers:?}: {answer:?}");
        assert_eq!(answer.matches("HTTP/1.").count(), 1, "{headers:?}: {answer:?}");
    }
    assert_eq!(served.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn abuse_26_a_doubtful_request_behind_a_sound_one_is_refused_too() {
    let server = Server::start(limits(), app()).await;
    let doubtful =
        "POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    let answers = server.exchange(format!("{GET}{doubtful}{GET}")).await;
    assert_eq!(answers.matches("HTTP/1.1 200").count(), 1, "{answers}");
    assert_eq!(answers.matches("HTTP/1.1 400").count(), 1, "{answers}");
    // Nothing is read behind a chunked body.
    let chunked =
        "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n";
    let answers = server.exchange(format!("{chunked}{GET}")).await;
    assert_eq!(answers.matches("HTTP/1.1 200").count(), 1, "{answers}");
}

#[tokio::test]
async fn abuse_24_odd_heads_get_a_4xx() {
    let server = Server::start(limits(), app()).await;
    let long_header = format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "a".repeat(64 * 1024));
    let endless = format!("GET / HTTP/1.1\r\nX: {}", "a".repeat(64 * 1024));
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(101));
    let long_path = format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(64 * 1024));
    let largest =
        format!("GET / HTTP/1.1\r\nConnection: close\r\nX: {}\r\n\r\n", "a".repeat(15 * 1024));
    for (request, status) in [
        (long_header.as_bytes(), "431"),
        (endless.as_bytes(), "431"),
        (many.as_bytes(), "431"),
        (long_path.as_bytes(), "431"),
        (b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03\r\n\r\n", "400"),
        (b"GET / HTTP/1.1\r\nX\xff: y\r\n\r\n", "400"),
        (b"GET / HTTP/1.1\r\nX: y\0\r\n\r\n", "400"),
        (b"GET / HTTP/9.9\r\n\r\n", "400"),
        (b"GET /\xff\xfe HTTP/1.1\r\nConnection: close\r\n\r\n", "4"),
        (largest.as_bytes(), "200"),
    ] {
        let answer = server.exchange(request).await;
        let line: String = answer.lines().next().unwrap_or_default().chars().take(40).collect();
        let shown = String::from_utf8_lossy(&request[..request.len().min(30)]).into_owned();
        assert!(line.split(' ').nth(1).is_some_and(|s| s.starts_with(status)), "{shown:?}: {line}");
    }
}

fn with_proxy_lines() -> Limits {
    Limits { proxy_protocol: true, ..limits() }
}

const WHO: &str = "GET /who HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
const TOR_LINE: &str = "PROXY TCP6 fc00:dead:beef:4dad::0:19 ::1 25 81\r\n";

#[tokio::test]
async fn a_proxy_line_names_the_circuit_however_it_arrives() {
    let server = Server::start(with_proxy_lines(), app()).await;
    let at_once = server.exchange(format!("{TOR_LINE}{WHO}")).await;
    assert!(at_once.ends_with("[02, 01, 00, 00, 00, 00, 00, 00, 00, 00, 00, 19]"), "{at_once}");
    let mut socket = server.connect().await;
    socket.set_nodelay(true).unwrap();
    for byte in TOR_LINE.as_bytes() {
        socket.write_all(&[*byte]).await.unwrap();
        tokio::task::yield_now().await;
    }
    socket.write_all(WHO.as_bytes()).await.unwrap();
    let in_pieces = to_end(&mut socket).await;
    assert_eq!(in_pieces.lines().last(), at_once.lines().last());
    let forged = WHO.replace("Host", "X-Circuit-ID: fc00:dead:beef:4dad::19\r\nHost");
    let forged = server.exchange(format!("{TOR_LINE}{forged}")).await;
    assert!(forged.ends_with("header_beside_proxy_line"), "{forged}");
}

#[tokio::test]
async fn abuse_05_a_connection_without_a_proxy_line_is_closed() {
    let server = Server::start(with_proxy_lines(), app()).await;
    let long = "P".repeat(108);
    for opening in [
        WHO,
        "PROXY UNKNOWN\r\n",
        "PROXY TCP6 nonsense ::1 1 2\r\n",
        "\r\n",
        &long,
        "PROXY TCP6 fc00:dead:beef:4dad::0:19 ::1 25 81\n",
    ] {
        assert_eq!(server.exchange(format!("{opening}{WHO}")).await, "", "{opening:?}");
    }
    within(async {
        while server.count(ServerEvent::ProxyLineRefused) < 6 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn abuse_24_a_slow_proxy_line_is_closed() {
    let server = Server::start(Limits { header_timeout: SHORT, ..with_proxy_lines() }, app()).await;
    assert_eq!(server.exchange("PROXY TCP6").await, "");
    assert_eq!(server.count(ServerEvent::HeaderTimeout), 1);
}

#[tokio::test]
async fn abuse_05_the_header_counts_without_proxy_lines() {
    let server = Server::start(limits(), app()).await;
    let header = WHO.replace("Host", "X-Circuit-ID: fc00:dead:beef:4dad::0:19\r\nHost");
    let answer = server.exchange(header).await;
    assert!(answer.ends_with("[01, 01, 00, 00, 00, 00, 00, 00, 00, 00, 00, 19]"), "{answer}");
    assert!(server.exchange(WHO).await.ends_with("missing"));
}

fn unix_config(path: std::path::PathBuf) -> ServerConfig {
    ServerConfig { socket: Some(path), socket_mode: 0o600, ..ServerConfig::default() }
}

#[tokio::test]
async fn a_unix_socket_serves_with_its_mode_and_goes_with_the_server() {
    use std::os::unix::fs::PermissionsExt;

    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("fortify.sock");
    let who = |Extension(connection): Extension<Connection>| async move {
        (connection.peer == PeerAddress::Unix).to_string().into_response()
    };
    let router = Router::new().route("/who", get(who));
    let server = Server::start_on(unix_config(path.clone()), limits(), router).await;
    assert_eq!(server.address, LocalAddress::Unix(path.clone()));
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let mut socket = UnixStream::connect(&path).await.unwrap();
    socket.write_all(WHO.as_bytes()).await.unwrap();
    assert!(to_end(&mut socket).await.ends_with("true"));
    server.stop().await;
    assert!(!path.exists());
}

#[tokio::test]
async fn a_dead_socket_file_is_replaced_and_a_live_one_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("fortify.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let first = Listener::bind(&unix_config(path.clone())).await.unwrap();
    let second = Listener::bind(&unix_config(path.clone())).await.unwrap_err();
    assert!(second.to_string().contains("is in use, stop what listens there"), "{second}");
    drop(first);
    assert!(!path.exists());
    std::fs::write(&path, "precious").unwrap();
    let file = Listener::bind(&unix_config(path.clone())).await.unwrap_err();
    assert!(file.to_string().contains("is not a socket, move it away"), "{file}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
    let nowhere = unix_config(directory.path().join("none/fortify.sock"));
    let nowhere = Listener::bind(&nowhere).await.unwrap_err();
    assert!(nowhere.to_string().contains("does not exist, create it"), "{nowhere}");
}

#[tokio::test]
async fn a_port_that_cannot_be_bound_says_what_to_do() {
    let config = ServerConfig { port: 0, ..ServerConfig::default() };
    let listener = Listener::bind(&config).await.unwrap();
    let LocalAddress::Tcp(address) = listener.local_addr() else { panic!("not TCP") };
    let taken = ServerConfig { port: address.port(), ..config.clone() };
    let error = Listener::bind(&taken).await.unwrap_err().to_string();
    assert!(error.starts_with(&format!("{address} is in use, stop what listens")), "{error}");
    let foreign = ServerConfig { host: "192.0.2.1".parse().unwrap(), ..config };
    let error = Listener::bind(&foreign).await.unwrap_err().to_string();
    assert!(error.contains("is not an address of this machine"), "{error}");
}

#[test]
fn the_pause_after_a_failed_accept_grows_and_is_bounded() {
    assert_eq!(pause(0), Duration::from_millis(5));
    assert_eq!(pause(1), Duration::from_millis(10));
    assert_eq!(pause(u32::MAX), MAX_ACCEPT_PAUSE);
    assert!(of_the_peer(&io::ErrorKind::ConnectionAborted.into()));
    // 24 is EMFILE: no file descriptors left.
    assert!(!of_the_peer(&io::Error::from_raw_os_error(24)));
}

fn of_circuit(number: u16, request: &str) -> String {
    format!("PROXY TCP6 fc00:dead:beef:4dad::0:{number:x} ::1 25 80\r\n{request}")
}

/// A server for tor, of few connections. `/admit` is for who is let in.
async fn behind_tor(max_connections: usize) -> Server {
    let admit = |Extension(slot): Extension<SlotHandle>| async move {
        slot.admit();
        "admitted"
    };
    let limits = Limits {
        max_connections,
        max_connections_per_circuit: CircuitLimit::new(4),
        proxy_protocol: true,
        header_timeout: PATIENCE * 6,
        idle_timeout: PATIENCE * 6,
        ..limits()
    };
    Server::start(limits, app().route("/admit", any(admit))).await
}

#[tokio::test]
async fn abuse_24_a_circuit_that_opens_more_connections_than_it_may_keeps_those_it_had() {
    let server = behind_tor(64).await;
    let mut held = Vec::new();
    for _ in 0..4 {
        let mut socket = server.connect().await;
        socket.write_all(of_circuit(1, GET).as_bytes()).await.unwrap();
        assert!(response(&mut socket).await.starts_with("http/1.1 200"));
        held.push(socket);
    }
    assert_eq!(server.exchange(of_circuit(1, GET_CLOSE)).await, "");
    assert_eq!(server.count(ServerEvent::CircuitFull), 1);
    assert!(server.exchange(of_circuit(2, GET_CLOSE)).await.starts_with("HTTP/1.1 200"));
    for mut socket in held {
        socket.write_all(GET_CLOSE.as_bytes()).await.unwrap();
        assert!(to_end(&mut socket).await.starts_with("HTTP/1.1 200"));
    }
    within(async {
        while server.count(ServerEvent::Closed) < 6 {
            time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    assert!(server.exchange(of_circuit(1, GET_CLOSE)).await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn abuse_24_many_circuits_that_dawdle_shut_nobody_out() {
    let server = behind_tor(20).await;
    let mut member = server.connect().await;
    let enter = of_circuit(9, "GET /admit HTTP/1.1\r\nHost: a\r\n\r\n");
    member.write_all(enter.as_bytes()).await.unwrap();
    assert!(response(&mut member).await.ends_with("admitted"));
    let mut dawdling = Vec::new();
    for circuit in 100..200 {
        let mut socket = server.connect().await;
        // A part of a head, or not even a PROXY line.
        let sent =
            if circuit % 2 == 0 { of_circuit(circuit, "GET / HT") } else { "PRO".to_owned() };
        socket.write_all(sent.as_bytes()).await.unwrap();
        dawdling.push(socket);
        if circuit % 10 == 0 {
            let answer = server.exchange(of_circuit(circuit + 1000, GET_CLOSE)).await;
            assert!(answer.starts_with("HTTP/1.1 200"), "a newcomer was shut out: {answer}");
        }
    }
    assert!(server.count(ServerEvent::Displaced) >= 80);
    // Who is in, and idles meanwhile, is there still.
    member.write_all(GET.as_bytes()).await.unwrap();
    assert!(response(&mut member).await.starts_with("http/1.1 200"));
}

#[tokio::test]
async fn abuse_24_idle_strangers_make_room_before_those_who_are_in() {
    let server = behind_tor(8).await;
    let mut members = Vec::new();
    for circuit in 1..=4 {
        let mut socket = server.connect().await;
        let enter = of_circuit(circuit, "GET /admit HTTP/1.1\r\nHost: a\r\n\r\n");
        socket.write_all(enter.as_bytes()).await.unwrap();
        response(&mut socket).await;
        members.push(socket);
    }
    let mut strangers = Vec::new();
    for circuit in 0..20 {
        let mut socket = server.connect().await;
        socket.write_all(of_circuit(100 + circuit / 2, GET).as_bytes()).await.unwrap();
        assert!(response(&mut socket).await.starts_with("http/1.1 200"));
        strangers.push(socket);
    }
    for member in &mut members {
        member.write_all(GET.as_bytes()).await.unwrap();
        assert!(response(member).await.starts_with("http/1.1 200"));
    }
}

#[tokio::test]
async fn a_head_is_read_at_once_however_it_arrives() {
    let events: Events = Arc::new(drop);
    let slot = Arc::new(Slots::new(&limits(), Arc::clone(&events))).take().await;
    let (mut client, socket) = tokio::io::duplex(128 * 1024);
    let (_serving, stage) = watch::channel(Stage::Serving);
    let progress = stream::Progress::new(slot.handle());
    let (shared, ends) = ((limits(), events), (stage, std::future::pending()));
    let (first, rest) = GET.split_at(5);
    let ahead = Bytes::from_static(first.as_bytes());
    let mut stream =
        stream::GuardedStream::new(Box::new(socket), ahead, progress, shared, slot, ends);
    let is_whole = async |stream: &mut stream::GuardedStream| {
        time::timeout(Duration::ZERO, stream.head()).await.is_ok_and(|head| head.is_ok())
    };
    assert!(!is_whole(&mut stream).await);
    client.write_all(rest.as_bytes()).await.unwrap();
    assert!(is_whole(&mut stream).await);
    let mut buffer = vec![0; 8 * 1024];
    let length = stream.read(&mut buffer).await.unwrap();
    assert_eq!(&buffer[..length], GET.as_bytes());
    let mut read = async |bytes: &str| {
        client.write_all(bytes.as_bytes()).await.unwrap();
        // What is there is read in the first poll.
        let read = time::timeout(Duration::ZERO, stream.read(&mut buffer)).await.ok()?.unwrap();
        Some(String::from_utf8_lossy(&buffer[..read]).into_owned())
    };
    let (middle, last) = rest.split_at(rest.len() - 1);
    for byte in [first, middle].concat().split("").filter(|byte| !byte.is_empty()) {
        assert_eq!(read(byte).await, None);
    }
    assert_eq!(read(last).await.as_deref(), Some(GET));
    // Empty lines before one are of it.
    assert_eq!(read("\r\n\r\n").await, None);
    assert_eq!(read(GET).await, Some(format!("\r\n\r\n{GET}")));
    // A whole one is not kept waiting by part of the next.
    let both = format!("{GET}{first}");
    assert_eq!(read(&both).await, Some(both));
    assert_eq!(read(middle).await, None);
    assert_eq!(read(last).await.as_deref(), Some(rest));
    // Neither is one that is longer than any may be, which has to be refused.
    let endless = "a".repeat(MAX_HEAD - 4);
    assert_eq!(read("GET /").await, None);
    assert!(read(&endless).await.is_some_and(|part| part.starts_with("GET /aaa")));
}

#[tokio::test]
async fn part_of_a_head_is_read_when_no_more_can_come() {
    let server = Server::start(limits(), app()).await;
    let mut socket = server.connect().await;
    socket.write_all(b"GET / HT").await.unwrap();
    socket.shutdown().await.unwrap();
    assert_eq!(to_end(&mut socket).await, "");
    assert_eq!(server.count(ServerEvent::HeaderTimeout), 0);
}

#[tokio::test]
async fn what_is_sent_before_a_tunnel_is_open_arrives() {
    let (begun, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (has_begun, may_go) = (Arc::clone(&begun), Arc::clone(&go));
    let switch = async move |mut request: Request<Body>| {
        let upgraded = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            let io = hyper_util::rt::TokioIo::new(upgraded.await.unwrap());
            let (mut from, mut to) = tokio::io::split(io);
            drop(tokio::io::copy(&mut from, &mut to).await);
        });
        has_begun.notify_one();
        may_go.notified().await;
        (http::StatusCode::SWITCHING_PROTOCOLS, [("connection", "upgrade"), ("upgrade", "x")])
    };
    let server = Server::start(limits(), app().route("/switch", any(switch))).await;
    let mut socket = server.connect().await;
    let head = "GET /switch HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n";
    socket.write_all(head.as_bytes()).await.unwrap();
    within(begun.notified()).await;
    // No head, and nothing that ends one.
    socket.write_all(b"early").await.unwrap();
    go.notify_one();
    assert!(response(&mut socket).await.starts_with("http/1.1 101"));
    let mut back = [0; 5];
    within(socket.read_exact(&mut back)).await.unwrap();
    assert_eq!(&back, b"early");
}

/// A body without an end, in parts of 1 KiB, that counts how many were taken.
struct Endless(Arc<AtomicUsize>);

impl http_body::Body for Endless {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, Self::Error>>> {
        self.0.fetch_add(1, Ordering::Relaxed);
        let part = Bytes::from_static(&[b'x'; 1024]);
        std::task::Poll::Ready(Some(Ok(http_body::Frame::data(part))))
    }
}

/// A connection to `service` whose way to the client holds 1 KiB, unlike a kernel's.
async fn narrow(service: Router) -> (tokio::io::DuplexStream, watch::Sender<Stage>) {
    let events: Events = Arc::new(drop);
    let slot = Arc::new(Slots::new(&limits(), Arc::clone(&events))).take().await;
    let context = Arc::new(Context { service, limits: limits(), events });
    let (client, socket) = tokio::io::duplex(1024);
    let (serving, stage) = watch::channel(Stage::Serving);
    tokio::spawn(connection::run(context, Box::new(socket), PeerAddress::Unix, slot, stage));
    (client, serving)
}

#[tokio::test]
async fn of_an_answer_that_is_not_read_little_is_taken() {
    let taken = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&taken);
    let service = Router::new().fallback(move || async move { Body::new(Endless(count)) });
    let (mut client, _serving) = narrow(service).await;
    client.write_all(GET.as_bytes()).await.unwrap();
    let settled = async || {
        let mut last = usize::MAX;
        while last != taken.load(Ordering::Relaxed) || last == 0 {
            last = taken.load(Ordering::Relaxed);
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
        }
        last
    };
    let before = within(settled()).await;
    assert!(before <= 12, "{before} KiB are held");
    within(client.read_exact(&mut [0; 256 * 1024])).await.unwrap();
    let after = within(settled()).await;
    assert!((256..=268).contains(&after), "{after} KiB were taken");
}

#[tokio::test]
async fn of_a_head_that_comes_while_another_request_is_answered_little_is_read() {
    let (service, begun, go) = holding();
    let (mut client, _serving) = narrow(service).await;
    client.write_all(b"GET /hold HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    within(begun.notified()).await;
    let (next, mut sent) = (format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}", "x".repeat(30_000)), 0);
    for _ in 0..1000 {
        let write = client.write(&next.as_bytes()[sent..]);
        if let Ok(written) = time::timeout(Duration::ZERO, write).await {
            sent += written.unwrap();
        }
        tokio::task::yield_now().await;
    }
    assert!(sent <= 12 * 1024, "{sent} bytes were read");
    go.notify_one();
    assert!(response(&mut client).await.ends_with("held"));
    client.write_all(&next.as_bytes()[sent..]).await.unwrap();
    client.write_all(b"\r\n\r\n").await.unwrap();
    assert!(response(&mut client).await.ends_with("hello"));
}

#[tokio::test]
async fn what_cannot_be_a_request_is_refused_at_once() {
    let server = Server::start(limits(), app()).await;
    // The beginning of TLS, as from a browser that was given https, and what looks like no method.
    for bytes in [&b"\x16\x03\x01\x02\x00\x01\x00"[..], b"{\"a\":1"] {
        assert!(server.exchange(bytes).await.starts_with("HTTP/1.1 400"), "{bytes:?}");
    }
    assert_eq!(server.count(ServerEvent::HeaderTimeout), 0);
}
