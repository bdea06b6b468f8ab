//! What the site promises to the tests that put it behind the gate.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the failure report")]

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, LOCATION};
use axum::http::{Request, Response, StatusCode};
use axum::{Router, body};
use fortify_demo::{DemoSite, Seen, router};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tower::ServiceExt;

const FORM: &str = "application/x-www-form-urlencoded";

#[tokio::test]
async fn a_signature_is_answered_with_a_303_and_shown_escaped() {
    let site = router(Seen::default());
    let form = "name=Ada&message=%3Cscript%3E";
    let request = Request::post("/guestbook").header(CONTENT_TYPE, FORM);
    let response = send(&site, request.body(form.into()).unwrap()).await;
    assert_eq!(response.status(), StatusCode::SEE_OTHER);
    assert_eq!(response.headers()[LOCATION], "/guestbook");

    let page = text(get(&site, "/guestbook").await).await;
    assert!(page.contains("Ada") && !page.contains("<script>"), "{page}");
}

#[tokio::test]
async fn a_form_without_its_fields_is_a_4xx() {
    let site = router(Seen::default());
    for form in ["", "name=Ada", "name=a&name=b&message=x"] {
        let request = Request::post("/guestbook").header(CONTENT_TYPE, FORM);
        let response = send(&site, request.body(form.into()).unwrap()).await;
        assert!(response.status().is_client_error(), "{form}: {}", response.status());
    }
}

#[tokio::test]
async fn articles_are_numbered_from_one_to_three() {
    let site = router(Seen::default());
    for (path, status) in [
        ("/articles/0", StatusCode::NOT_FOUND),
        ("/articles/1", StatusCode::OK),
        ("/articles/3", StatusCode::OK),
        ("/articles/4", StatusCode::NOT_FOUND),
    ] {
        assert_eq!(get(&site, path).await.status(), status, "{path}");
    }
}

#[tokio::test]
async fn an_upload_larger_than_the_usual_body_limit_is_counted() {
    let site = router(Seen::default());
    let bytes = 5 * 1024 * 1024;
    let request = Request::post("/upload").body(Body::from(vec![1; bytes])).unwrap();
    assert_eq!(text(send(&site, request).await).await, format!("{bytes} bytes received\n"));
}

#[tokio::test]
async fn a_download_has_the_bytes_it_was_asked_for() {
    let site = router(Seen::default());
    let response = get(&site, "/download?bytes=100000").await;
    let bytes = body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
    assert!(bytes.iter().enumerate().all(|(i, byte)| usize::from(*byte) == i % 251));
    assert_eq!(bytes.len(), 100_000);
}

#[tokio::test]
async fn a_stream_has_its_lines_and_no_length() {
    let site = router(Seen::default());
    let response = get(&site, "/stream?lines=3&ms=1").await;
    assert!(!response.headers().contains_key("content-length"));
    assert_eq!(text(response).await, "line 1 of 3\nline 2 of 3\nline 3 of 3\n");
}

#[tokio::test]
async fn an_echo_tells_every_value_of_a_repeated_header() {
    let site = router(Seen::default());
    let request = Request::put("/echo?q=1").header("x-a", "1").header("x-a", "2");
    let echoed = text(send(&site, request.body("four".into()).unwrap()).await).await;
    let echoed: serde_json::Value = serde_json::from_str(&echoed).unwrap();
    assert_eq!(echoed["method"], "PUT");
    assert_eq!(echoed["uri"], "/echo?q=1");
    assert_eq!(echoed["headers"]["x-a"], serde_json::json!(["1", "2"]));
    assert_eq!(echoed["body_bytes"], 4);
}

#[tokio::test]
async fn the_backend_remembers_head_and_body_of_what_reached_it() {
    let seen = Seen::default();
    let site = router(seen.clone());
    let request = Request::post("/echo").header("x-a", "1").body("hello".into()).unwrap();
    send(&site, request).await;
    let request = seen.last().unwrap();
    assert_eq!(request.method, "POST");
    assert_eq!(request.header("x-a"), Some("1"));
    assert_eq!((request.body.as_slice(), request.body_len), (&b"hello"[..], 5));
}

#[tokio::test]
async fn a_socket_message_comes_back() {
    let site = DemoSite::start().await.unwrap();
    let mut stream = TcpStream::connect(site.address()).await.unwrap();
    let hello = "GET /ws HTTP/1.1\r\nHost: demo\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                 Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    stream.write_all(hello.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    assert!(head.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&head));

    // A final text frame of two bytes, masked with zeros (RFC 6455, section 5.2).
    stream.write_all(&[0x81, 0x82, 0, 0, 0, 0, b'h', b'i']).await.unwrap();
    let mut frame = [0; 4];
    stream.read_exact(&mut frame).await.unwrap();
    assert_eq!(frame, [0x81, 0x02, b'h', b'i']);
}

#[tokio::test]
async fn a_stopped_site_gives_its_port_back() {
    let site = DemoSite::start().await.unwrap();
    let address = site.address();
    site.stop().await.unwrap();
    assert!(TcpStream::connect(address).await.is_err());
}

async fn get(site: &Router, path: &str) -> Response<Body> {
    send(site, Request::get(path).body(Body::empty()).unwrap()).await
}

async fn send(site: &Router, request: Request<Body>) -> Response<Body> {
    site.clone().oneshot(request).await.unwrap()
}

async fn text(response: Response<Body>) -> String {
    let bytes = body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
    String::from_utf8(bytes.to_vec()).unwrap()
}
