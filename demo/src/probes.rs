//! Pages for machines: what arrived here, how slowly an answer may come, and a socket.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::Json;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::extract::{Query, Request};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use http_body_util::BodyExt;
use serde::Deserialize;
use serde_json::{Value, json};

/// Longest `/slow`, in milliseconds.
const MAX_DELAY_MS: u64 = 10_000;

/// Longest WebSocket message, in bytes.
const MAX_MESSAGE: usize = 1024 * 1024;

/// `/echo`, any method: the request as JSON, so that a test can see what a proxy did to it.
pub(crate) async fn echo(request: Request) -> Json<Value> {
    let (head, mut body) = request.into_parts();
    let mut bytes: u64 = 0;
    while let Some(Ok(frame)) = body.frame().await {
        bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
    }
    Json(json!({
        "method": head.method.as_str(),
        "uri": head.uri.to_string(),
        "version": format!("{:?}", head.version),
        "headers": listed(&head.headers),
        "body_bytes": bytes,
    }))
}

/// Every value of every header: a proxy that adds a second one instead of replacing must show.
fn listed(headers: &HeaderMap) -> BTreeMap<&str, Vec<String>> {
    let mut all: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (name, value) in headers {
        let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
        all.entry(name.as_str()).or_default().push(value);
    }
    all
}

/// How long `/slow` waits.
#[derive(Debug, Deserialize)]
pub(crate) struct Delay {
    #[serde(default)]
    ms: u64,
}

/// `GET /slow?ms=N`: an answer that takes its time, ten seconds at most.
pub(crate) async fn slow(Query(delay): Query<Delay>) -> String {
    let ms = delay.ms.min(MAX_DELAY_MS);
    tokio::time::sleep(Duration::from_millis(ms)).await;
    format!("answered after {ms} ms\n")
}

/// `/ws`: sends every text or binary message back.
pub(crate) async fn echo_socket(upgrade: WebSocketUpgrade) -> Response {
    upgrade.max_message_size(MAX_MESSAGE).on_upgrade(echo_messages).into_response()
}

async fn echo_messages(mut socket: WebSocket) {
    while let Some(Ok(message)) = socket.recv().await {
        let answer = match message {
            Message::Text(_) | Message::Binary(_) => message,
            Message::Close(_) => return,
            // axum answers pings by itself.
            Message::Ping(_) | Message::Pong(_) => continue,
        };
        if socket.send(answer).await.is_err() {
            return;
        }
    }
}
