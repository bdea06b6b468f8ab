//! Gate mode with the real servers: nginx, and `HAProxy` in front of it, as `deploy/` sets them up.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, Method, StatusCode};
use axum::response::{IntoResponse as _, Response};
use fortify_core::circuit::IdentityMode;
use fortify_demo::DemoSite;
use fortify_testkit::servers::{Haproxy, Nginx};
use fortify_testkit::wait::{eventually, until};
use fortify_testkit::{TestGate, Visitor, fields};
use fortify_web::maintenance::Maintenance;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// What `HAProxy` writes for tor's circuit 25.
const CIRCUIT: &str = "fc00:dead:beef:4dad::19";

/// A gate without a service of its own, and nginx that asks it.
async fn behind_nginx() -> (TestGate, Nginx) {
    let test_gate = TestGate::with(|parts| {
        parts.config.security.identity = IdentityMode::Circuit;
        parts.config.upstream.servers = Vec::new();
    })
    .await;
    let nginx = Nginx::start(test_gate.address, test_gate.site.address());
    (test_gate, nginx)
}

fn visitor(nginx: &Nginx) -> Visitor {
    Visitor::at(nginx.address).circuit(CIRCUIT)
}

async fn admitted(test_gate: &TestGate, nginx: &Nginx) -> Visitor {
    let mut visitor = visitor(nginx);
    let page = visitor.get("/").await;
    let landed = test_gate.solve(&mut visitor, &page).await;
    assert_eq!(landed.status, StatusCode::SEE_OTHER, "{}", landed.text());
    visitor
}

/// Sends bytes as they are and reads until the other side closes.
fn raw(address: SocketAddr, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(request).unwrap();
    let mut answer = Vec::new();
    // A refused connection may be reset after its answer.
    let _closed_or_reset = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_visitor_solves_behind_nginx_and_lands_on_the_page_first_asked_for() {
    let (test_gate, nginx) = behind_nginx().await;
    let mut visitor = visitor(&nginx);
    let page = visitor.get("/articles/1?from=link").await;
    assert_eq!(page.status, StatusCode::FORBIDDEN);
    assert!(page.is_challenge());
    let again = test_gate.submit(&mut visitor, &page, "WRONG-ANSWER").await;
    assert!(again.is_challenge() && !again.admits());
    let landed = test_gate.solve(&mut visitor, &again).await;
    assert_eq!(landed.header("location"), Some("/articles/1?from=link"));
    assert!(test_gate.site.seen().is_empty(), "the service saw a stranger");
    assert_eq!(visitor.get("/articles/1?from=link").await.status, StatusCode::OK);
    assert_eq!(visitor.get("/api/session").await.json()["status"], "admitted");
    assert_eq!(test_gate.site.seen().len(), 1);
    let other = &mut visitor.clone().circuit("fc00:dead:beef:4dad::1a");
    let moved = other.get("/").await;
    assert_eq!(moved.status, StatusCode::OK, "a session moves with its visitor");
    let cookie = moved.header("set-cookie").unwrap_or_default();
    assert!(cookie.starts_with("cerberus_session="), "nginx kept the new cookie to itself");
    assert_eq!(other.get("/").await.status, StatusCode::OK);
    assert!(visitor.get("/").await.is_challenge(), "one session on two circuits");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_passes_with_method_address_and_body_intact() {
    let (test_gate, nginx) = behind_nginx().await;
    let mut visitor = admitted(&test_gate, &nginx).await;
    visitor.cookies.insert("theme".into(), "dark".into());
    visitor.cookies.insert("a".into(), "first".into());
    let body = "x".repeat(40_000);
    for (method, path) in [
        (Method::GET, "/echo?a=1&b=%2F%20"),
        (Method::PUT, "/echo?x"),
        (Method::POST, "/echo"),
        (Method::DELETE, "/echo"),
        (Method::GET, "/validate-captcha2/%2e%2e/a//b/./c?x"),
        (Method::GET, "/%C3%A9?q=%00"),
    ] {
        test_gate.site.seen().clear();
        let sent = if method == Method::GET { String::new() } else { body.clone() };
        let headers = [("x-own", "kept"), ("content-type", "text/plain")];
        visitor.send(method.clone(), path, &headers, Body::from(sent.clone())).await;
        let seen = test_gate.site.seen().last().unwrap();
        assert_eq!((seen.method, seen.uri.to_string()), (method, path.to_owned()));
        assert_eq!(seen.body, sent.as_bytes(), "{path}");
        let header = |name: &str| seen.headers.get(name).map(|value| value.to_str().unwrap());
        assert_eq!(header("x-own"), Some("kept"));
        assert_eq!(header("cookie"), Some("a=first; theme=dark"), "{path}");
        assert_eq!(header("host"), Some(nginx.address.to_string().as_str()));
        assert_eq!(header("x-forwarded-host"), header("host"));
        assert_eq!(header("x-forwarded-proto"), Some("http"));
        assert_eq!(header("x-circuit-id"), None);
        assert_eq!(header("x-forwarded-for"), None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_passes_with_a_session_and_not_without() {
    let (test_gate, nginx) = behind_nginx().await;
    let visitor = admitted(&test_gate, &nginx).await;
    let cookie = format!("cookie: cerberus_session={}\r\n", visitor.cookies["cerberus_session"]);
    for (cookie, status) in [("", "403"), (cookie.as_str(), "101")] {
        let request = format!(
            "GET /ws HTTP/1.1\r\nhost: a.onion\r\nx-circuit-id: {CIRCUIT}\r\n{cookie}\
             connection: keep-alive, Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
             sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        let mut stream = TcpStream::connect(nginx.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut start = [0; 12];
        stream.read_exact(&mut start).unwrap();
        assert_eq!(&start, format!("HTTP/1.1 {status}").as_bytes());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn our_cookies_never_reach_the_service_and_others_always() {
    let (test_gate, nginx) = behind_nginx().await;
    let session = admitted(&test_gate, &nginx).await.cookies["cerberus_session"].clone();
    for (sent, kept) in [
        ("a=1; SESSION; b=\"x y\"", Some("a=1; b=\"x y\"")),
        ("SESSION", None),
        ("cerberus_hint=member; SESSION; cerberus_hint=seen;cerberus_session=x", None),
        (
            "xcerberus_session=1; SESSION; cerberus_session2=2",
            Some("xcerberus_session=1; cerberus_session2=2"),
        ),
        ("a=cerberus_session=1; SESSION", Some("a=cerberus_session=1")),
        ("cerberus_hint; SESSION; c=3", Some("c=3")),
        ("a=1; captcha_stage_1=x; SESSION; captcha_stage_2=y", Some("a=1")),
        ("a=1; SESSION; SESSION; SESSION; SESSION; SESSION; SESSION; SESSION", Some("a=1")),
    ] {
        test_gate.site.seen().clear();
        let cookies = sent.replace("SESSION", &format!("cerberus_session={session}"));
        let mut visitor = visitor(&nginx);
        let page = visitor.get_with("/", &[("cookie", &cookies)]).await;
        assert_eq!(page.status, StatusCode::OK, "{sent}");
        assert_eq!(test_gate.site.seen().last().unwrap().header("cookie"), kept, "{sent}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_let_in_without_a_session_shows_the_service_none_of_our_cookies_either() {
    let test_gate = TestGate::with(|parts| {
        parts.config.security.identity = IdentityMode::Circuit;
        parts.config.upstream.servers = Vec::new();
        parts.config.threat.levels.clear();
    })
    .await;
    let nginx = Nginx::start(test_gate.address, test_gate.site.address());
    admitted(&test_gate, &nginx).await;
    // The circuit is trusted a moment after the session was earned.
    until("the circuit to be trusted", async || {
        visitor(&nginx).get("/").await.status == StatusCode::OK
    })
    .await;
    for (sent, kept) in
        [("a=1; cerberus_hint=member; captcha_stage_1=x", Some("a=1")), ("cerberus_hint=x", None)]
    {
        let page = visitor(&nginx).get_with("/", &[("cookie", sent)]).await;
        assert_eq!(page.status, StatusCode::OK, "{sent}");
        assert_eq!(test_gate.site.seen().last().unwrap().header("cookie"), kept, "{sent}");
    }
}

/// What nginx computes for one request, at the least of some rounds.
fn cost(nginx: &Nginx, request: &[u8]) -> Duration {
    const REQUESTS: u32 = 100;
    let round = || {
        let before = nginx.cpu_time();
        for _ in 0..REQUESTS {
            let answer = raw(nginx.address, request);
            assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        }
        (nginx.cpu_time() - before) / REQUESTS
    };
    (0..3).map(|_| round()).min().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn abuse_24_cookies_of_blanks_cost_nginx_no_more_than_others() {
    let (test_gate, nginx) = behind_nginx().await;
    let session = admitted(&test_gate, &nginx).await.cookies["cerberus_session"].clone();
    let request = move |more: &str| {
        format!(
            "GET /echo HTTP/1.1\r\nhost: a.onion\r\nx-circuit-id: {CIRCUIT}\r\nconnection: close\r\n\
             cookie: cerberus_session={session}\r\n{more}\r\n"
        )
    };
    let plain = request("x-plain: 1\r\n");
    let blanks = " ".repeat(8_000);
    let (one, two) = (format!("cookie: a=1;{blanks}x\r\n"), format!("cookie:;{blanks};=\r\n"));
    tokio::task::spawn_blocking(move || {
        let plain = cost(&nginx, plain.as_bytes());
        for line in [one, two] {
            let blank = cost(&nginx, request(&line).as_bytes());
            println!("nginx: {plain:?} for a plain request, {blank:?} with {} bytes", line.len());
            assert!(blank < 3 * plain, "{blank:?} beside {plain:?}");
        }
    })
    .await
    .unwrap();
    assert_eq!(
        test_gate.site.seen().last().unwrap().headers.get_all("cookie").iter().count(),
        1,
        "one line"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn long_request_lines_heads_and_answers_pass_haproxy_and_nginx() {
    let (test_gate, nginx) = behind_nginx().await;
    let session = admitted(&test_gate, &nginx).await.cookies["cerberus_session"].clone();
    let service = stub(|| {
        let mut response = StatusCode::OK.into_response();
        for number in 0..8 {
            let name: HeaderName = format!("x-{number}").parse().unwrap();
            response.headers_mut().insert(name, "y".repeat(4000).parse().unwrap());
        }
        response
    })
    .await;
    let large = Nginx::start(test_gate.address, service);
    let haproxy = Haproxy::start(large.address);
    let ask = |path: &str, more: &str| {
        let request = format!(
            "PROXY TCP6 fc00:dead:beef:4dad::0:19 ::1 25 80\r\nGET {path} HTTP/1.1\r\nHost: a.onion\r\n\
             Connection: close\r\nCookie: cerberus_session={session}\r\n{more}\r\n"
        );
        raw(haproxy.address, request.as_bytes())
    };
    let line = format!("/?{}", "q".repeat(16_000));
    let head: String = (0..4).map(|n| format!("x-{n}: {}\r\n", "h".repeat(7_500))).collect();
    let cookie = format!("Cookie: c={}\r\n", "c".repeat(30_000));
    let both: String = (0..4).map(|n| format!("x-{n}: {}\r\n", "h".repeat(3_800))).collect();
    for (path, more) in [(&*line, ""), ("/", &head), ("/", &cookie), (&line, &both)] {
        let answer = ask(path, more);
        assert!(answer.starts_with("HTTP/1.1 200"), "{}", &answer[..answer.len().min(200)]);
        assert!(answer.len() > 32_000, "the answer's head is not whole: {}", answer.len());
    }
    // An upload is as large as the service likes; it refuses or takes it before all of it has come.
    let upload = format!("Content-Length: 99999999999\r\n\r\n{}", "u".repeat(100_000));
    let answer = ask("/", &upload);
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn abuse_23_the_service_behind_nginx_gives_nobody_a_cookie_of_ours() {
    let (test_gate, nginx) = behind_nginx().await;
    let session = admitted(&test_gate, &nginx).await.cookies["cerberus_session"].clone();
    let service = stub(|| {
        let mut response = StatusCode::OK.into_response();
        for (name, value) in [
            ("set-cookie", "theme=dark; Path=/"),
            ("set-cookie", "cerberus_session=planted; Path=/"),
            ("set-cookie", "=cerberus_session=planted"),
            ("set-cookie", " = cerberus_hint =planted"),
            ("set-cookie", "captcha_stage_2=planted; Path=/a"),
            ("set-cookie", "b=cerberus_session=kept"),
            ("set-cookie", "cerberus_sessions=kept"),
            ("cache-control", "public, max-age=600"),
            ("x-fortify-moved", "cerberus_session=planted"),
            ("x-fortify-served", "nobody"),
        ] {
            let name = HeaderName::from_static(name);
            response.headers_mut().append(name, value.parse().unwrap());
        }
        response
    })
    .await;
    let nginx = Nginx::start(test_gate.address, service);
    let haproxy = Haproxy::start(nginx.address);
    let ask = |circuit: u8| {
        let request = format!(
            "PROXY TCP6 fc00:dead:beef:4dad::0:{circuit:x} ::1 25 80\r\nGET / HTTP/1.1\r\n\
             Host: a.onion\r\nConnection: close\r\nCookie: cerberus_session={session}\r\n\r\n"
        );
        raw(haproxy.address, request.as_bytes())
    };
    let stays = ask(0x19).to_lowercase();
    assert!(stays.starts_with("http/1.1 200"), "{stays}");
    assert!(stays.contains("cache-control: public"), "{stays}");
    let moved_answer = ask(0x1a);
    let moved = moved_answer.to_lowercase();
    assert_eq!(moved.matches("set-cookie: cerberus_session=").count(), 1, "{moved}");
    assert!(moved.contains("; httponly; samesite=strict"), "{moved}");
    assert!(moved.contains("cache-control: no-store") && !moved.contains("public"), "{moved}");
    for answer in [stays, moved] {
        assert!(answer.contains("set-cookie: theme=dark; path=/\r\n"), "{answer}");
        assert!(answer.contains("set-cookie: b=cerberus_session=kept\r\n"), "{answer}");
        assert!(answer.contains("set-cookie: cerberus_sessions=kept\r\n"), "{answer}");
        assert!(!answer.contains("planted") && !answer.contains("x-fortify"), "{answer}");
    }
    // nginx alone says no-store as well. By now the session is on the second circuit.
    let cookie = moved_cookie(&moved_answer);
    let request = format!(
        "GET / HTTP/1.1\r\nHost: a.onion\r\nX-Circuit-ID: fc00:dead:beef:4dad::1b\r\n\
         Connection: close\r\nCookie: {cookie}\r\n\r\n"
    );
    let alone = raw(nginx.address, request.as_bytes());
    assert!(alone.starts_with("HTTP/1.1 200"), "{alone}");
    assert!(alone.contains("\r\nCache-Control: no-store\r\n"), "{alone}");
}

/// The cookie of a session in an answer that sets it.
fn moved_cookie(answer: &str) -> String {
    let line = answer.lines().find_map(|line| line.split_once(": cerberus_session="));
    let value = line.expect("no cookie").1.split(';').next().unwrap();
    format!("cerberus_session={value}")
}

#[tokio::test(flavor = "multi_thread")]
async fn haproxy_asks_the_gate_through_nginx_whether_it_is_there() {
    let (mut test_gate, nginx) = behind_nginx().await;
    let haproxy = Haproxy::start(nginx.address);
    let check = "GET /health HTTP/1.1\r\nHost: health\r\nConnection: close\r\n\r\n";
    assert!(raw(nginx.address, check.as_bytes()).starts_with("HTTP/1.1 200"));
    test_gate.stop_gate().await;
    assert!(raw(nginx.address, check.as_bytes()).starts_with("HTTP/1.1 503"));
    eventually("HAProxy knows that the gate is gone", || !haproxy.is_served()).await;
    assert!(test_gate.site.seen().is_empty(), "the service was asked for the gate");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_that_met_the_challenge_goes_on_behind_nginx() {
    let (test_gate, nginx) = behind_nginx().await;
    let mut visitor = visitor(&nginx);
    let sent = fields(&[("name", "A & B"), ("message", "\u{e9}\"<")]);
    let page = visitor.post_form("/guestbook", &sent).await;
    let resume = test_gate.solve(&mut visitor, &page).await;
    assert_eq!(resume.status, StatusCode::OK, "{}", resume.text());
    let received: Vec<_> =
        sent.iter().map(|(name, _)| (name.clone(), resume.field(name))).collect();
    assert_eq!(received, sent);
    let done = visitor.post_form("/guestbook", &received).await;
    assert_eq!(done.status, StatusCode::SEE_OTHER);
    // A stranger's large upload is not collected on the way to its refusal.
    let large = Body::from(vec![b'x'; 3 << 20]);
    let mut stranger = Visitor::at(nginx.address).circuit("fc00:dead:beef:4dad::1b");
    let refused = stranger.send(Method::POST, "/upload", &[], large).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN, "{}", refused.text());
    assert_eq!(test_gate.site.seen().len(), 1, "only the form");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_static_page_shows_a_challenge_without_a_script() {
    let (test_gate, nginx) = behind_nginx().await;
    let mut visitor = visitor(&nginx);
    let page = visitor.get("/_fortify/challenge.html").await;
    assert_eq!(page.status, StatusCode::OK, "{}", page.text());
    assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
    assert_eq!(page.header("cache-control"), Some("no-store"));
    let (text, token) = (page.text(), page.field("token"));
    assert!(!text.contains("<script") && !text.contains("<!--#"), "{text}");
    assert!(text.contains(">Type the 6 characters that you see</label>"), "{text}");
    let picture = format!("/captcha/{token}.png");
    assert!(text.contains(&format!("src=\"{picture}\"")), "{text}");
    assert_eq!(visitor.get(&picture).await.header("content-type"), Some("image/png"));
    let landed = test_gate.solve(&mut visitor, &page).await;
    assert!(landed.admits());
    // The page set no cookie, so one more step tells a jar that is off from this page.
    let to = landed.header("location").unwrap().to_owned();
    assert_eq!(visitor.get(&to).await.header("location"), Some("/"));
    assert_eq!(visitor.get("/").await.status, StatusCode::OK);
    for inside in ["/_fortify/new-challenge", "/challenge.html"] {
        assert_ne!(Visitor::at(nginx.address).circuit(CIRCUIT).get(inside).await.status, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_static_page_says_so_when_there_is_no_challenge() {
    let (mut test_gate, nginx) = behind_nginx().await;
    test_gate.stop_gate().await;
    let page = visitor(&nginx).get("/_fortify/challenge.html").await;
    assert_eq!(page.try_field("token"), None);
    assert!(page.text().contains("try again"), "{}", page.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn abuse_05_a_visitors_own_circuit_never_reaches_the_gate() {
    // A site that keeps what it is asked stands in for the gate: it never admits.
    let (gate, service) = (DemoSite::start().await.unwrap(), DemoSite::start().await.unwrap());
    let nginx = Nginx::start(gate.address(), service.address());
    let haproxy = Haproxy::start(nginx.address);
    for (forged, wanted) in [
        ("", ""),
        ("X-Circuit-ID: fc00:dead:beef:4dad::7\r\n", ""),
        ("x-circuit-id: fc00:dead:beef:4dad::7\r\nX-CIRCUIT-ID: fc00:dead:beef:4dad::8\r\n", ""),
        ("X_Circuit_ID: fc00:dead:beef:4dad::7\r\n", ""),
        ("X-Circuit_Id: fc00:dead:beef:4dad::7\r\n", ""),
        ("X-Circuit-ID : fc00:dead:beef:4dad::7\r\n", "400"),
        ("X-Circuit-ID\t: fc00:dead:beef:4dad::7\r\n", "400"),
        (" X-Circuit-ID: fc00:dead:beef:4dad::7\r\n", ""),
        ("X-Circuit-Id:\tfc00:dead:beef:4dad::7 , fc00:dead:beef:4dad::8\r\n", ""),
        ("X-Own: a\r\n X-Circuit-ID: fc00:dead:beef:4dad::7\r\n", ""),
        ("X-Forwarded-For: fc00:dead:beef:4dad::7\r\nX-Real-IP: fc00:dead:beef:4dad::7\r\n", ""),
        ("Connection: close, X-Circuit-ID\r\n", ""),
    ] {
        gate.seen().clear();
        // With the spelling of tor, which is not the canonical one.
        let request = format!(
            "PROXY TCP6 fc00:dead:beef:4dad::0:19 ::1 25 80\r\n\
             GET /_fortify/x HTTP/1.1\r\nHost: a.onion\r\nX-First: 1\r\n{forged}Connection: close\r\n\r\n"
        );
        let answer = raw(haproxy.address, request.as_bytes());
        if wanted == "400" {
            assert!(answer.starts_with("HTTP/1.1 400"), "{forged:?}: {answer}");
        } else {
            assert!(!answer.starts_with("HTTP/1.1 400"), "{forged:?}: {answer}");
            let seen = gate.seen().at("/_fortify/x").pop().unwrap();
            let circuits: Vec<_> = seen.headers.get_all("x-circuit-id").iter().collect();
            assert_eq!(circuits, [CIRCUIT], "{forged:?}");
        }
        for request in gate.seen().requests() {
            let said = format!("{:?}", request.headers);
            assert!(!said.contains("4dad::7") && !said.contains("4dad::8"), "{said}");
        }
    }
    for (line, why) in [
        ("", "no PROXY line"),
        ("PROXY TCP6 fc00:dead:beef:4dae::19 ::1 25 80\r\n", "another prefix"),
        ("PROXY TCP4 127.0.0.1 127.0.0.1 25 80\r\n", "an address"),
        ("PROXY UNKNOWN\r\n", "unknown"),
    ] {
        gate.seen().clear();
        let request = format!(
            "{line}GET /_fortify/x HTTP/1.1\r\nHost: a\r\nConnection: close\r\nX-Circuit-ID: {CIRCUIT}\r\n\r\n"
        );
        let answer = raw(haproxy.address, request.as_bytes());
        // HAProxy's own checks arrive.
        let seen = gate.seen().at("/_fortify/x");
        assert!(!answer.contains(" 200 ") && seen.is_empty(), "{why}: {answer}");
    }
    assert!(service.seen().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn abuse_05_without_a_circuit_nobody_passes() {
    let (test_gate, nginx) = behind_nginx().await;
    let member = admitted(&test_gate, &nginx).await;
    for circuit in ["", "127.0.0.1", "fc00:dead:beef:4dae::19", "unix:", "x"] {
        let mut visitor = member.clone();
        visitor.headers.clear();
        if !circuit.is_empty() {
            visitor = visitor.circuit(circuit);
        }
        let refused = visitor.get("/").await;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{circuit}: {}", refused.text());
    }
    assert!(test_gate.site.seen().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn abuse_06_without_a_session_nothing_reaches_the_service_behind_nginx() {
    let (test_gate, nginx) = behind_nginx().await;
    let alter = |session: &str| {
        let (head, signature) = session.rsplit_once('.').unwrap();
        let first = if signature.starts_with('A') { 'B' } else { 'A' };
        format!("{head}.{first}{}", &signature[1..])
    };
    type Alter<'a> = &'a dyn Fn(&str) -> String;
    let cases: [(&str, Alter<'_>); 6] = [
        ("no cookie", &|_| String::new()),
        ("not a session", &|_| "x".to_owned()),
        ("alg none", &|_| "eyJhbGciOiJub25lIn0.e30.".to_owned()),
        ("tampered", &alter),
        ("cut off", &|session| session.rsplit_once('.').unwrap().0.to_owned()),
        ("expired", &str::to_owned),
    ];
    for (number, (why, alter)) in cases.into_iter().enumerate() {
        // A circuit of its own for each, because nginx limits what one may ask for in a second.
        let mut visitor =
            Visitor::at(nginx.address).circuit(&format!("fc00:dead:beef:4dad::{number:x}"));
        let page = visitor.get("/").await;
        assert!(test_gate.solve(&mut visitor, &page).await.admits());
        let session = visitor.cookies["cerberus_session"].clone();
        assert_eq!(visitor.get("/").await.status, StatusCode::OK, "{why}");
        test_gate.site.seen().clear();
        if why == "expired" {
            test_gate.clock.advance(Duration::from_secs(3601));
        }
        visitor.cookies.clear();
        if why != "no cookie" {
            visitor.cookies.insert("cerberus_session".into(), alter(&session));
        }
        visitor.keeps_cookies = false;
        for method in ["GET", "POST", "PUT", "HEAD", "DELETE", "PROPFIND"] {
            for path in ["/", "/guestbook?x=1", "/ws", "/validate-captcha/", "//api/x", "/_fortif"]
            {
                let body = Body::from(if method == "POST" { "a=b" } else { "" });
                let reply = visitor.send(method.parse().unwrap(), path, &[], body).await;
                assert_eq!(reply.status, StatusCode::FORBIDDEN, "{why}: {method} {path}");
            }
        }
        assert!(test_gate.site.seen().is_empty(), "{why}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn abuse_12_the_question_is_not_there_for_visitors() {
    let (test_gate, nginx) = behind_nginx().await;
    let mut member = admitted(&test_gate, &nginx).await;
    for path in [
        "/_fortify/auth",
        "/_fortify/auth?x=1",
        "//_fortify/auth",
        "/_fortify//auth",
        "/./_fortify/auth",
        "/a/../_fortify/auth",
        "/_fortify/x/../auth",
        "/_fortify/%61uth",
        "/%5ffortify/auth",
        "/_fortify%2fauth",
        "/a/..%2f_fortify/auth",
    ] {
        let answer = member.get(path).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{path}");
    }
    for path in ["/_fortify/auth/", "/_fortify/AUTH", "/_fortify/auth;x", "/_fortify/auth%00"] {
        assert_ne!(member.get(path).await.status, StatusCode::NO_CONTENT, "{path}");
    }
    let absolute = format!(
        "GET http://a.onion/_fortify/auth HTTP/1.1\r\nhost: a.onion\r\nx-circuit-id: {CIRCUIT}\r\n\
         connection: close\r\n\r\n"
    );
    assert!(raw(nginx.address, absolute.as_bytes()).starts_with("HTTP/1.1 404"));
    for path in ["/metrics", "/ready", "/health", "/health?x", "//health"] {
        assert_eq!(member.get(path).await.status, StatusCode::NOT_FOUND, "{path}");
    }
    assert!(test_gate.site.seen().is_empty());
}

/// Something at an address that answers every question alike, at once. It goes on reading the body: closing with bytes
/// unread would reset the connection, and the answer could be lost with it.
async fn stub(answer: impl Fn() -> Response + Clone + Send + Sync + 'static) -> SocketAddr {
    let router = Router::new().fallback(move |body: Body| {
        tokio::spawn(axum::body::to_bytes(body, 1024 * 1024));
        let answer = answer.clone();
        async move { answer() }
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn abuse_12_only_a_204_lets_anybody_in() {
    let service = DemoSite::start().await.unwrap();
    for (status, wanted) in [
        (200, StatusCode::BAD_GATEWAY),
        (201, StatusCode::BAD_GATEWAY),
        (206, StatusCode::BAD_GATEWAY),
        (302, StatusCode::SERVICE_UNAVAILABLE),
        (400, StatusCode::SERVICE_UNAVAILABLE),
        (404, StatusCode::SERVICE_UNAVAILABLE),
        (429, StatusCode::SERVICE_UNAVAILABLE),
        (500, StatusCode::SERVICE_UNAVAILABLE),
        (503, StatusCode::SERVICE_UNAVAILABLE),
        (599, StatusCode::SERVICE_UNAVAILABLE),
    ] {
        let status = StatusCode::from_u16(status).unwrap();
        let gate = stub(move || (status, "anything").into_response()).await;
        let nginx = Nginx::start(gate, service.address());
        for method in [Method::GET, Method::POST, Method::HEAD] {
            let reply = visitor(&nginx).send(method, "/", &[], Body::from("a=b")).await;
            assert_eq!(reply.status, wanted, "{status}");
        }
        assert!(service.seen().is_empty(), "{status} let somebody in");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn abuse_12_a_gate_that_is_stopped_silent_or_broken_lets_nobody_in() {
    let (mut test_gate, nginx) = behind_nginx().await;
    let mut member = admitted(&test_gate, &nginx).await;
    assert_eq!(member.get("/").await.status, StatusCode::OK);
    test_gate.site.seen().clear();
    test_gate.stop_gate().await;
    for (method, path) in
        [(Method::GET, "/"), (Method::POST, "/guestbook"), (Method::GET, "/captcha/x.png")]
    {
        let reply = member.send(method, path, &[], Body::from("a=b")).await;
        assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE, "{path}");
        assert_eq!(reply.header("retry-after"), Some("5"));
    }
    assert!(test_gate.site.seen().is_empty());

    // It takes the connection and never answers.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let nginx = Nginx::start(silent.local_addr().unwrap(), test_gate.site.address());
    let reply = visitor(&nginx).get("/").await;
    assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(test_gate.site.seen().is_empty());
}

const NO: &[u8] = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n";

/// What stands between nginx and the gate, and says no by itself whenever `denies` is set, once.
async fn denying(gate: SocketAddr, denies: Arc<AtomicBool>) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((nginx, _)) = listener.accept().await {
            let denies = denies.clone();
            tokio::spawn(async move {
                let (mut from_nginx, mut to_nginx) = nginx.into_split();
                let gate = tokio::net::TcpStream::connect(gate).await.unwrap();
                let (mut from_gate, mut to_gate) = gate.into_split();
                let (mut asked, mut said) = (vec![0; 64 * 1024], vec![0; 64 * 1024]);
                loop {
                    let (read, sent) = tokio::select! {
                        read = from_nginx.read(&mut asked) => {
                            let bytes = &asked[..*read.as_ref().unwrap_or(&0)];
                            let asks = bytes.starts_with(b"GET /_fortify/auth");
                            (read, match asks && denies.swap(false, Ordering::SeqCst) {
                                true => to_nginx.write_all(NO).await,
                                false => to_gate.write_all(bytes).await,
                            })
                        }
                        read = from_gate.read(&mut said) => {
                            let bytes = &said[..*read.as_ref().unwrap_or(&0)];
                            let sent = to_nginx.write_all(bytes).await;
                            (read, sent)
                        }
                    };
                    if !matches!((read, sent), (Ok(1..), Ok(()))) {
                        return;
                    }
                }
            });
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_let_in_after_nginx_was_told_no_sends_the_same_request_again() {
    let (test_gate, nginx) = behind_nginx().await;
    let mut member = admitted(&test_gate, &nginx).await;
    let denies = Arc::new(AtomicBool::new(false));
    let between = denying(test_gate.address, denies.clone()).await;
    let nginx = Nginx::start(between, test_gate.site.address());
    member.address = nginx.address;
    for (method, body) in [(Method::GET, ""), (Method::POST, "a=b"), (Method::HEAD, "")] {
        denies.store(true, Ordering::SeqCst);
        let path = "/echo?a=1&b=%2F";
        let denied = member.send(method.clone(), path, &[], Body::from(body)).await;
        assert_eq!(denied.status, StatusCode::TEMPORARY_REDIRECT, "{method}: {}", denied.text());
        assert_eq!(denied.header("location"), Some(path));
        assert_eq!(denied.header("cache-control"), Some("no-store"));
        let passed = member.send(method, path, &[], Body::from(body)).await;
        assert_eq!(passed.status, StatusCode::OK);
        assert_eq!(test_gate.site.seen().last().unwrap().body, body.as_bytes());
    }
    // Whoever nginx was told nothing of, and whoever asks for an address that could lead elsewhere, stay.
    let mut direct = member.clone();
    direct.address = test_gate.address;
    assert_eq!(direct.get("/echo").await.status, StatusCode::NOT_FOUND);
    let elsewhere = direct.get_with("//evil.example/", &[("x-fortify-denied", "401")]).await;
    assert_eq!((elsewhere.status, elsewhere.header("location")), (StatusCode::NOT_FOUND, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_gate_says_beside_its_yes_arrives_where_it_belongs() {
    let gate = stub(|| {
        let said = [
            ("set-cookie", "cerberus_session=moved; HttpOnly; SameSite=Strict; Path=/; Max-Age=60"),
            ("x-fortify-subject", "somebody"),
            ("x-fortify-level", "5"),
        ];
        (StatusCode::NO_CONTENT, said).into_response()
    })
    .await;
    let service = DemoSite::start().await.unwrap();
    let nginx = Nginx::start(gate, service.address());
    let forged = [("x-fortify-subject", "forged"), ("x-fortify-level", "9")];
    let reply = visitor(&nginx).get_with("/", &forged).await;
    assert_eq!(reply.status, StatusCode::OK);
    assert_eq!(
        reply.set_cookies(),
        ["cerberus_session=moved; HttpOnly; SameSite=Strict; Path=/; Max-Age=60"]
    );
    let values = |headers: &HeaderMap, name: &str| {
        headers.get_all(name).iter().map(|v| v.to_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let seen = service.seen().last().unwrap();
    assert_eq!(values(&seen.headers, "x-fortify-subject"), ["somebody"]);
    assert_eq!(values(&seen.headers, "x-fortify-level"), ["5"]);
    assert_eq!(reply.header("x-fortify-subject"), None);
    // A service that does not answer is no fault of the gate's.
    service.stop().await.unwrap();
    assert_eq!(visitor(&nginx).get("/").await.status, StatusCode::BAD_GATEWAY);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_visitor_says_in_a_proxys_name_reaches_neither_gate_nor_service() {
    let (test_gate, nginx) = behind_nginx().await;
    let haproxy = Haproxy::start(nginx.address);
    let session = admitted(&test_gate, &nginx).await.cookies["cerberus_session"].clone();
    let forged: String = [
        "X-Forwarded-For",
        "X-Forwarded-Host",
        "X-Forwarded-Proto",
        "X-Forwarded-Port",
        "X-Forwarded-Anything",
        "X_Forwarded_For",
        "Forwarded",
        "X-Real-IP",
        "Via",
        "Proxy",
        "X-Fortify-Subject",
        "X-Fortify-Anything",
        "X_Fortify_Level",
        "X-Circuit-Class",
        "X-Original-URL",
        "X-Rewrite-URL",
        "True-Client-IP",
    ]
    .map(|name| format!("{name}: forged\r\n"))
    .concat();
    let request = format!(
        "PROXY TCP6 fc00:dead:beef:4dad::0:19 ::1 25 80\r\nGET / HTTP/1.1\r\nHost: a.onion\r\n\
         Connection: close\r\nCookie: cerberus_session={session}\r\n{forged}\r\n"
    );
    let answer = raw(haproxy.address, request.as_bytes());
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let seen = test_gate.site.seen().last().unwrap();
    assert!(!format!("{:?}", seen.headers).contains("forged"), "{:?}", seen.headers);
    assert_eq!(seen.header("x-forwarded-host"), Some("a.onion"));
}

#[tokio::test(flavor = "multi_thread")]
async fn during_maintenance_nobody_reaches_the_service_through_nginx() {
    let (test_gate, nginx) = behind_nginx().await;
    let mut member = admitted(&test_gate, &nginx).await;
    assert_eq!(member.get("/").await.status, StatusCode::OK);
    let seen = test_gate.site.seen().len();
    let since = test_gate.app.clock.now();
    let maintenance = Maintenance { since, until: None, message: None };
    test_gate.app.maintenance.set(Some(maintenance)).unwrap();
    for reply in [member.get("/").await, visitor(&nginx).get("/articles/1").await] {
        assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(reply.text().contains("The site is being worked on"), "{}", reply.text());
        assert_eq!(reply.header("retry-after"), Some("120"));
    }
    assert_eq!(test_gate.site.seen().len(), seen);
    test_gate.app.maintenance.set(None).unwrap();
    assert_eq!(member.get("/").await.status, StatusCode::OK);
}
