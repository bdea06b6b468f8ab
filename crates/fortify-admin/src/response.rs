//! Answers in JSON.

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use serde::Serialize;

/// `body` as JSON, with `status`.
pub(super) fn json<R: Serialize>(status: StatusCode, body: &R) -> Response {
    let mut response = json_text(serde_json::to_vec(body).unwrap_or_default());
    *response.status_mut() = status;
    response
}

/// A text that is JSON already.
pub(super) fn json_text(text: impl Into<Body>) -> Response {
    let mut response = Response::new(text.into());
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}
