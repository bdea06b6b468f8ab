//! Bytes on the wire that two programs could read differently.
//!
//! Cases 24 and 26; most of 26 is tested beside the server and the proxy. SECURITY.md, threat model: a bot
//! over Tor, and the protected service.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn abuse_24_odd_bytes_on_the_wire_get_a_clean_4xx_or_a_closed_connection() {
    let test_gate = TestGate::with(|parts| {
        parts.config.server.header_timeout = Duration::from_millis(300);
        parts.config.server.body_timeout = Duration::from_millis(300);
    })
    .await;
    let head = "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n";
    let form = "POST /validate-captcha HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\n";
    for (name, bytes) in [
        ("no HTTP", "\x16\x03\x01\r\n\r\n".to_owned()),
        ("a NUL in a header", format!("{head}X: a\0b\r\n\r\n")),
        ("64 KiB of header", format!("{head}X: {}\r\n\r\n", "a".repeat(64 * 1024))),
        ("10,000 headers", format!("{head}{}\r\n", "X: a\r\n".repeat(10_000))),
        ("slow headers", "GET / HTTP/1.1\r\nHost:".to_owned()),
        ("a slow body", format!("{form}Content-Length: 100\r\n\r\ntoken=")),
        ("a slow chunk", format!("{form}Transfer-Encoding: chunked\r\n\r\n5\r\ntok")),
        ("two lengths", format!("{form}Content-Length: 5\r\nContent-Length: 6\r\n\r\ntoken=")),
        (
            "CL and TE",
            format!("{form}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        ),
    ] {
        let reply = raw(&test_gate, bytes).await;
        let status = reply.split(' ').nth(1).unwrap_or_default();
        let refused = status.starts_with('4') && !reply.contains("name=\"token\"");
        assert!(reply.is_empty() || refused, "{name}: {reply:.80}");
    }
    assert!(test_gate.visitor().get("/").await.is_challenge(), "the gate is gone");
    assert!(test_gate.site.seen().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn abuse_24_strange_and_still_sound_requests_are_treated_like_any_other() {
    let test_gate = TestGate::start().await;
    let member = test_gate.admitted().await;
    let session = &member.cookies["cerberus_session"];
    let long = "a".repeat(8192);
    for target in ["/../../etc/passwd", "/%00", "/a%0d%0ab", "/%", "/\"<>", &format!("/{long}")] {
        let head = format!("GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n");
        let stranger = raw(&test_gate, format!("{head}\r\n")).await;
        assert!(stranger.starts_with("HTTP/1.1 4"), "{target:.20}: {stranger:.80}");
        assert!(!stranger.contains("<>\""), "{target:.20} is in the page as it came");
    }
    assert_eq!(test_gate.site.seen().len(), 0);
    let head =
        b"GET /guestbook HTTP/1.1\r\nHost: x\r\nConnection: close\r\nCookie: city=Z\xfcrich; ";
    let cookie = format!("cerberus_session={session}; \u{e9}=;;\r\n\r\n");
    let admitted = raw(&test_gate, [head.as_slice(), cookie.as_bytes()].concat()).await;
    assert!(admitted.starts_with("HTTP/1.1 200"), "a strange cookie locked out: {admitted:.80}");
}
