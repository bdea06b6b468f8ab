//! One cookie on several circuits: sessions that move between circuits, over real sockets; and gate mode,
//! through which they do so behind nginx.
//!
//! Case 17, and of 12 and 16 what concerns moves. SECURITY.md: **A session lives on one circuit at a time**.

use std::sync::Arc;
use std::time::Duration;

use axum::http::{Method, StatusCode};
use fortify_core::circuit::IdentityMode;
use fortify_testkit::{Reply, TestGate, Visitor, fields};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;

const HOUR: Duration = Duration::from_secs(3600);

/// A gate for circuits whose sessions last three hours.
async fn test_gate_with(change: impl FnOnce(&mut fortify_testkit::Parts)) -> TestGate {
    TestGate::with(|parts| {
        parts.config.security.identity = IdentityMode::Circuit;
        parts.config.session.ttl = HOUR * 3;
        change(parts);
    })
    .await
}

/// As nginx uses it: nothing behind the gate, and whoever is denied comes with the same address.
async fn gate_bed() -> TestGate {
    test_gate_with(|parts| parts.config.upstream.servers = Vec::new()).await
}

/// A visitor with a session on circuit 1.
async fn member(test_gate: &TestGate) -> Visitor {
    let mut visitor = test_gate.visitor().circuit(&address(1));
    let page = visitor.get("/").await;
    assert!(test_gate.solve(&mut visitor, &page).await.admits());
    visitor
}

fn address(circuit: usize) -> String {
    format!("fc00:dead:beef:4dad::{circuit:x}")
}

/// The same browser on another circuit.
fn on(visitor: &Visitor, circuit: usize) -> Visitor {
    visitor.clone().circuit(&address(circuit))
}

async fn metric(test_gate: &TestGate, line: &str) -> bool {
    let metrics = test_gate.visitor().get("/metrics").await;
    assert_eq!(metrics.status, StatusCode::OK);
    metrics.text().lines().any(|found| found == line)
}

fn session_cookie(reply: &Reply) -> Option<String> {
    let cookies = reply.set_cookies().into_iter();
    let mut ours = cookies.filter(|cookie| cookie.starts_with("cerberus_session="));
    let first = ours.next().map(str::to_owned);
    assert_eq!(ours.next(), None, "two session cookies in one answer");
    first
}

#[tokio::test(flavor = "multi_thread")]
async fn abuse_17_a_session_moves_along_and_is_over_where_it_is_used_twice() {
    let test_gate = test_gate_with(|_| {}).await;
    let first = member(&test_gate).await;
    test_gate.clock.advance(HOUR);

    // A page load from the new circuit: all of it goes with the cookie that the browser still has.
    let mut loads = Vec::new();
    for path in ["/", "/guestbook", "/articles/1", "/echo", "/", "/echo"] {
        let mut browser = on(&first, 2);
        loads.push(tokio::spawn(async move { browser.get(path).await }));
    }
    let mut renewed = Vec::new();
    for load in loads {
        let reply = load.await.unwrap();
        assert_eq!(reply.status, StatusCode::OK);
        assert_eq!(reply.header("cache-control"), Some("no-store"), "a cache keeps the cookie");
        renewed.push(session_cookie(&reply).expect("a new cookie"));
    }
    renewed.dedup();
    assert_eq!(renewed.len(), 1, "one session, and more than one cookie");
    assert!(renewed[0].ends_with("Max-Age=7200"), "a move prolonged: {}", renewed[0]);
    assert!(metric(&test_gate, "fortify_session_moves_total 1").await);

    let mut second = on(&first, 2);
    second.get("/").await;
    assert_ne!(second.cookies["cerberus_session"], first.cookies["cerberus_session"]);
    let settled = second.get("/").await;
    assert_eq!((settled.status, session_cookie(&settled)), (StatusCode::OK, None));

    let seen = test_gate.site.seen().len();
    let mut thief = on(&second, 1);
    assert!(thief.get("/").await.is_challenge(), "two circuits share one session");
    assert!(second.get("/").await.is_challenge(), "the session goes on on the other circuit");
    assert!(on(&first, 1).get("/").await.is_challenge());
    assert_eq!(test_gate.site.seen().len(), seen, "the backend saw it");
    assert!(metric(&test_gate, "fortify_sessions_rejected_total{reason=\"shared\"} 1").await);
    assert!(metric(&test_gate, "fortify_sessions_rejected_total{reason=\"revoked\"} 2").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn abuse_17_a_cookie_on_many_circuits_admits_a_few_and_then_none() {
    let test_gate = test_gate_with(|_| {}).await;
    let first = member(&test_gate).await;
    for circuit in 2..=4 {
        assert_eq!(on(&first, circuit).get("/").await.status, StatusCode::OK);
    }
    let seen = test_gate.site.seen().len();
    for circuit in 5..=50 {
        assert!(on(&first, circuit).get("/").await.is_challenge(), "circuit {circuit}");
    }
    assert_eq!(test_gate.site.seen().len(), seen);
    assert_eq!(on(&first, 4).get("/").await.status, StatusCode::OK, "a refused move ended it");
    test_gate.clock.advance(HOUR - Duration::from_millis(1));
    assert!(on(&first, 5).get("/").await.is_challenge(), "the hour is short");
    test_gate.clock.advance(Duration::from_millis(1));
    assert_eq!(on(&first, 5).get("/").await.status, StatusCode::OK, "the hour does not end");
    assert!(on(&first, 2).get("/").await.is_challenge());
    assert!(on(&first, 5).get("/").await.is_challenge(), "used where it had left, and goes on");
}

#[tokio::test(flavor = "multi_thread")]
async fn abuse_17_of_64_simultaneous_circuits_one_holds_the_session() {
    let test_gate = test_gate_with(|_| {}).await;
    let first = member(&test_gate).await;
    let barrier = Arc::new(tokio::sync::Barrier::new(64));
    let tries: Vec<_> = (2..66)
        .map(|circuit| {
            let (mut visitor, barrier) = (on(&first, circuit), barrier.clone());
            tokio::spawn(async move {
                // The connection stands before the race begins.
                visitor.get("/health").await;
                barrier.wait().await;
                (circuit, visitor.get("/_fortify/auth").await.status)
            })
        })
        .collect();
    let mut admitted = Vec::new();
    for one in tries {
        let (circuit, status) = one.await.unwrap();
        if status == StatusCode::NO_CONTENT {
            admitted.push(circuit);
        }
    }
    assert_eq!(admitted.len(), 3, "max_moves is 3");
    assert!(metric(&test_gate, "fortify_session_moves_total 3").await);
    // Looked at one by one, because the first that it left ends it.
    let mut found = 0;
    for circuit in admitted {
        let holds = on(&first, circuit).get("/_fortify/auth").await.status;
        found += usize::from(holds == StatusCode::NO_CONTENT);
    }
    assert!(found <= 1, "{found} circuits hold one session");
}

#[tokio::test(flavor = "multi_thread")]
async fn abuse_17_with_no_moves_a_cookie_is_its_circuits_alone() {
    let test_gate = test_gate_with(|parts| parts.config.session.max_moves = 0).await;
    let mut first = member(&test_gate).await;
    assert!(on(&first, 2).get("/").await.is_challenge());
    let stayed = first.get("/").await;
    assert_eq!((stayed.status, session_cookie(&stayed)), (StatusCode::OK, None));
    assert!(metric(&test_gate, "fortify_sessions_rejected_total{reason=\"circuit\"} 1").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn abuse_17_after_a_restart_the_circuit_that_was_left_still_is() {
    let test_gate = test_gate_with(|_| {}).await;
    let first = member(&test_gate).await;
    assert_eq!(on(&first, 2).get("/").await.status, StatusCode::OK);
    let data_dir = test_gate.app.config.storage.data_dir.clone();
    // The first gate is not stopped: a killed one would not have closed anything either.
    let again = test_gate_with(|parts| parts.config.storage.data_dir = data_dir).await;
    let (mut left, mut lives) = (first.clone(), on(&first, 2));
    (left.address, lives.address) = (again.address, again.address);
    assert!(left.get("/").await.is_challenge(), "the move was forgotten");
    assert!(lives.get("/").await.is_challenge(), "two circuits used one session");
    assert!(metric(&again, "fortify_sessions_rejected_total{reason=\"shared\"} 1").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn abuse_16_a_session_that_moves_lifts_no_ban() {
    let test_gate = test_gate_with(|parts| parts.config.security.max_captcha_failures = 2).await;
    let first = member(&test_gate).await;
    let mut guesser = test_gate.visitor().circuit(&address(2));
    for _ in 0..2 {
        let page = guesser.get("/").await;
        test_gate.submit(&mut guesser, &page, "NO").await;
    }
    let banned = guesser.get("/").await;
    assert!(banned.status == StatusCode::FORBIDDEN && !banned.is_challenge());
    let mut moved = on(&first, 2);
    let generate = moved.send(Method::POST, "/captcha/generate", &[], "".into()).await;
    for refused in [moved.get("/").await, generate, guesser.get("/").await] {
        assert_eq!(refused.status, StatusCode::FORBIDDEN, "a session took the ban off");
        assert_eq!(session_cookie(&refused), None, "it moved to a banned circuit");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn abuse_17_a_clearnet_address_is_what_a_circuit_is() {
    let test_gate = TestGate::with(|parts| parts.config.session.max_moves = 1).await;
    let visitor = test_gate.admitted().await;
    let cookie = visitor.cookies["cerberus_session"].clone();
    for (from, status) in [("127.0.0.2", "204"), ("127.0.0.3", "401"), ("127.0.0.2", "204")] {
        let reply = auth_from(&test_gate, from, &cookie).await;
        assert!(reply.starts_with(&format!("HTTP/1.1 {status}")), "{from}: {reply}");
    }
    assert!(visitor.clone().get("/").await.is_challenge(), "two addresses share one session");
    assert!(auth_from(&test_gate, "127.0.0.2", &cookie).await.starts_with("HTTP/1.1 401"));
}

/// Asks from another address of this machine.
async fn auth_from(test_gate: &TestGate, from: &str, session: &str) -> String {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(format!("{from}:0").parse().unwrap()).unwrap();
    let mut stream = socket.connect(test_gate.address).await.unwrap();
    let request = format!(
        "GET /_fortify/auth HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
         Cookie: cerberus_session={session}\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).await.unwrap();
    reply
}

#[tokio::test(flavor = "multi_thread")]
async fn a_move_adds_to_the_cookies_of_the_service_and_to_every_answer_of_the_gate() {
    let test_gate = test_gate_with(|parts| parts.config.session.max_moves = 60).await;
    let first = member(&test_gate).await;
    let page = on(&first, 2).get("/cookie-check").await;
    assert!(session_cookie(&page).is_some());
    let others = page.set_cookies().iter().filter(|c| !c.starts_with("cerberus_")).count();
    assert_eq!(others, 2, "the service's own cookies: {:?}", page.set_cookies());

    let shown = on(&first, 3).get("/api/session").await;
    assert_eq!(shown.json()["expires_in"], 3 * 3600);
    assert!(session_cookie(&shown).unwrap().ends_with("Max-Age=10800"));
    let entered = on(&first, 4).get("/_fortify/enter?to=/echo").await;
    assert_eq!(entered.header("location"), Some("/echo"));
    assert!(session_cookie(&entered).is_some());
    let mut leaving = on(&first, 5);
    let left = leaving.post_form("/api/session/logout", &[]).await;
    assert_eq!(left.status, StatusCode::OK);
    assert!(session_cookie(&left).unwrap().starts_with("cerberus_session=;"), "renewed, not ended");
    assert!(on(&first, 5).get("/").await.is_challenge());
}

#[tokio::test(flavor = "multi_thread")]
async fn abuse_12_auth_says_204_401_or_403_to_every_method_and_whose_request_it_is() {
    let test_gate = gate_bed().await;
    let first = member(&test_gate).await;
    let mut subjects = Vec::new();
    for circuit in [1, 2, 2, 3] {
        let reply = on(&first, circuit).get("/_fortify/auth").await;
        assert_eq!((reply.status, reply.body.len()), (StatusCode::NO_CONTENT, 0));
        assert_eq!(reply.header("x-fortify-level"), Some("5"));
        assert_eq!(session_cookie(&reply).is_some(), circuit != 1, "circuit {circuit}");
        assert_eq!(reply.set_cookies().len(), usize::from(circuit != 1), "nginx copies one line");
        subjects.push(reply.header("x-fortify-subject").unwrap().to_owned());
    }
    subjects.dedup();
    assert_eq!(subjects.len(), 1, "a move changes who it is");
    assert!(!first.cookies["cerberus_session"].contains(&subjects[0]));
    let other = on(&member(&test_gate).await, 1).get("/_fortify/auth").await;
    assert_ne!(other.header("x-fortify-subject"), Some(subjects[0].as_str()));

    let original = [("x-original-uri", "/a?b"), ("x-original-method", "DELETE")];
    for method in ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "PROPFIND"] {
        let method: Method = method.parse().unwrap();
        let ask = async |mut visitor: Visitor| {
            visitor.send(method.clone(), "/_fortify/auth", &original, "".into()).await
        };
        assert_eq!(ask(on(&first, 3)).await.status, StatusCode::NO_CONTENT, "{method}");
        let stranger = ask(test_gate.visitor().circuit(&address(9))).await;
        assert_eq!(stranger.status, StatusCode::UNAUTHORIZED, "{method}");
        assert_eq!(stranger.header("x-fortify-subject"), None);
        assert!(stranger.set_cookies().is_empty());
        assert_eq!(ask(test_gate.visitor()).await.status, StatusCode::FORBIDDEN, "{method}");
    }
    let shared = on(&first, 1).get("/_fortify/auth").await;
    assert_eq!(shared.status, StatusCode::UNAUTHORIZED);
    assert_eq!(on(&first, 3).get("/_fortify/auth").await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nginx_denies_is_challenged_at_its_own_address_with_its_form() {
    let test_gate = gate_bed().await;
    let mut visitor = test_gate.visitor().circuit(&address(1));
    let page = visitor.get("/deep/page?x=1").await;
    assert!(page.is_challenge());
    assert_eq!(page.field("return_to"), "/deep/page?x=1");
    let sent = fields(&[("name", "a"), ("message", "b")]);
    let page = visitor.post_form("/guestbook?page=2", &sent).await;
    assert!(page.is_challenge() && page.text().contains("waits here"));
    let resumed = test_gate.solve(&mut visitor, &page).await;
    assert!(resumed.admits() && resumed.text().contains("action=\"/guestbook?page=2\""));
    assert_eq!((resumed.field("name"), resumed.field("message")), ("a".into(), "b".into()));
    for part in [("sec-fetch-dest", "image"), ("accept", "application/json")] {
        let denied = test_gate.visitor().circuit(&address(2)).get_with("/logo.png", &[part]).await;
        assert_eq!(denied.status, StatusCode::FORBIDDEN);
        assert!(!denied.is_challenge());
    }
    assert_eq!(visitor.get("/deep/page").await.status, StatusCode::NOT_FOUND, "nothing behind");
}
