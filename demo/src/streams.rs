//! Bodies of any length, in both directions: what a proxy must pass on without holding it.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Query, Request};
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use http_body_util::BodyExt;
use serde::Deserialize;

/// Bytes in one chunk of `/download`.
const CHUNK: u64 = 64 * 1024;

/// Longest `/download`: 1 GiB, enough to show that a proxy does not hold it in memory.
const MAX_DOWNLOAD: u64 = 1024 * 1024 * 1024;

/// Most lines of `/stream`, and the longest pause between two, in milliseconds: 50 s in all.
const MAX_LINES: u32 = 50;
const MAX_PAUSE_MS: u64 = 1000;

/// `POST /upload`: reads a body of any size and says how long it was, without keeping it.
pub(crate) async fn count_bytes(request: Request) -> Response {
    let mut body = request.into_body();
    let mut bytes: u64 = 0;
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(frame) => bytes += frame.data_ref().map_or(0, |data| data.len() as u64),
            Err(_cut_off) => {
                return (StatusCode::BAD_REQUEST, "the upload was cut off\n").into_response();
            }
        }
    }
    format!("{bytes} bytes received\n").into_response()
}

/// What `/stream` may be asked for.
#[derive(Debug, Deserialize)]
pub(crate) struct Pace {
    #[serde(default = "Pace::default_lines")]
    lines: u32,
    #[serde(default = "Pace::default_pause_ms")]
    ms: u64,
}

impl Pace {
    fn default_lines() -> u32 {
        10
    }

    fn default_pause_ms() -> u64 {
        300
    }
}

/// `GET /stream?lines=10&ms=300`: a line at a time, without a length given in advance.
///
/// A proxy that collects the answer first shows nothing until the end.
pub(crate) async fn stream(Query(pace): Query<Pace>) -> Response {
    let lines = pace.lines.min(MAX_LINES);
    let pause = Duration::from_millis(pace.ms.min(MAX_PAUSE_MS));
    let body = stream::unfold(0, move |line| async move {
        if line == lines {
            return None;
        }
        if line > 0 {
            tokio::time::sleep(pause).await;
        }
        let text = format!("line {} of {lines}\n", line + 1);
        Some((Ok::<_, Infallible>(text), line + 1))
    });
    ([(CONTENT_TYPE, "text/plain; charset=utf-8")], Body::from_stream(body)).into_response()
}

/// What `/download` may be asked for.
#[derive(Debug, Deserialize)]
pub(crate) struct Size {
    #[serde(default = "Size::default_bytes")]
    bytes: u64,
}

impl Size {
    fn default_bytes() -> u64 {
        1024 * 1024
    }
}

/// `GET /download?bytes=N`: exactly N bytes, 1 GiB at most, with their length in the head.
///
/// Byte `i` is `i mod 251`: a prime, so that a lost or repeated chunk of any usual size shows.
pub(crate) async fn download(Query(size): Query<Size>) -> Response {
    let total = size.bytes.min(MAX_DOWNLOAD);
    let body = stream::unfold(0_u64, move |sent| async move {
        if sent == total {
            return None;
        }
        let end = total.min(sent + CHUNK);
        let chunk: Bytes = (sent..end).map(|i| (i % 251) as u8).collect();
        Some((Ok::<_, Infallible>(chunk), end))
    });
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static("application/octet-stream")),
        (CONTENT_DISPOSITION, HeaderValue::from_static("attachment; filename=\"demo.bin\"")),
        (CONTENT_LENGTH, HeaderValue::from(total)),
    ];
    (headers, Body::from_stream(body)).into_response()
}
